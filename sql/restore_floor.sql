-- A restoring transaction that runs the projections itself may not restore below their checkpoint.
BEGIN;
SELECT last_value + 1000 AS place FROM dugong.event_log_position_seq \gset
PREPARE restore (bigint, uuid) AS
INSERT INTO dugong.event_log (position, sequence_number, "timestamp", id, aggregate_id, aggregate_type_id, version, tenant_id, type, payload)
VALUES ($1, 1, now(), gen_random_uuid(), $2,
        dugong.aggregate_type_id('BankingContext-AccountService', 'BankAccount'), 1, '', 'AccountOpened', '{"owner": "Alice", "initialBalance": 500}');
EXECUTE restore (:place, '0fe00000-0000-4000-8000-000000000001');
CALL dugong.run_projections();
\set VERBOSITY sqlstate
EXECUTE restore (:place - 1, '0fe00000-0000-4000-8000-000000000002');
ROLLBACK;
