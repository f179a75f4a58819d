-- The streams of category n are those of the accounts k with k % 16 = n.
\set account 100000000000 + 16 * random(1, 624) + :client_id % 16
\set category :client_id % 16
SELECT write_message(gen_random_uuid()::varchar, ('account' || :category || '-00000000-0000-4000-8000-' || :account)::varchar,
	'MoneyDeposited', '{"amount": 1}');
