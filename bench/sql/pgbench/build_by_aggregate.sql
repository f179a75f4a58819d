SELECT account_fold(e ORDER BY sequence_number) FROM jsonb_event e
WHERE account_id = ('00000000-0000-4000-8000-' || :account)::uuid;
