\set account 100000000000 + random(1, 10000)
SELECT write_message(gen_random_uuid()::varchar, ('account-00000000-0000-4000-8000-' || :account)::varchar,
	'MoneyDeposited', '{"amount": 1}');
