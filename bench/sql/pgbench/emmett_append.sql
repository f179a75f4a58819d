-- The partition, emt:default, is a variable, because pgbench takes a colon within quotes for one as well.
\set account 100000000000 + random(1, 10000)
SELECT * FROM emt_append_to_stream(ARRAY[gen_random_uuid()::text], ARRAY['{"amount": 1}']::jsonb[], ARRAY['{}']::jsonb[],
	ARRAY['1'], ARRAY['MoneyDeposited'], ARRAY['E'], 'account-00000000-0000-4000-8000-' || :account, 'account', NULL, :partition);
