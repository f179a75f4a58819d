-- The same as append.sql, into the plain table: its unique key is the check of the sequence number.
\set turn :turn + 1
\set account 100000000000 + :block + :client_id * 100 + :turn % 100
\set expected :turn / 100
\if :expected = 0
INSERT INTO plain_log (aggregate_id, aggregate_type_id, tenant_id, sequence_number, version, type, payload)
VALUES (('00000000-0000-4000-8000-' || :account)::uuid, 1, '', 1, 1,
	'AccountOpened', '{"owner": "Alice", "initialBalance": 100}') RETURNING sequence_number, position;
\else
INSERT INTO plain_log (aggregate_id, aggregate_type_id, tenant_id, sequence_number, version, type, payload)
VALUES (('00000000-0000-4000-8000-' || :account)::uuid, 1, '', :expected + 1, 1,
	'MoneyDeposited', '{"amount": 1}') RETURNING sequence_number, position;
\endif
