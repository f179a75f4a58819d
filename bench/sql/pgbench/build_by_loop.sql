SELECT * FROM account_by_loop(('00000000-0000-4000-8000-' || :account)::uuid);
