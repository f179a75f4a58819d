-- Emmett's streams: 10,000 of 20 messages.
SELECT count(*) FROM generate_series(1, 10000) k, LATERAL emt_append_to_stream(
	ARRAY(SELECT gen_random_uuid()::text FROM generate_series(1, 20) WHERE k > 0), array_fill('{"amount": 1}'::jsonb, ARRAY[20]),
	array_fill('{}'::jsonb, ARRAY[20]), array_fill('1'::text, ARRAY[20]), array_fill('MoneyDeposited'::text, ARRAY[20]),
	array_fill('E'::text, ARRAY[20]), 'account-00000000-0000-4000-8000-' || (100000000000 + k), 'account', 0, 'emt:default');
VACUUM ANALYZE;
CHECKPOINT;
