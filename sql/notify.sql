-- Under dugong.notify = always: one notification per transaction, after its commit.
\set home :DBNAME
CREATE DATABASE regress_dugong_notify;
ALTER DATABASE regress_dugong_notify SET dugong.max_workers = 0;
ALTER DATABASE regress_dugong_notify SET dugong.notify = always;
\c regress_dugong_notify
CREATE EXTENSION dugong;
LISTEN "BankingContext-AccountService-BankAccount";
\o |sed 's/PID [0-9]*/PID n/'
SELECT owner FROM bank_open_account('Alice', 500, '0e000000-0000-4000-8000-000000000001');
\o
\echo the three deposits of one transaction
\o |sed 's/PID [0-9]*/PID n/'
BEGIN;
SELECT balance FROM bank_deposit('0e000000-0000-4000-8000-000000000001', 1);
SELECT balance FROM bank_deposit('0e000000-0000-4000-8000-000000000001', 1);
SAVEPOINT s;
SELECT balance FROM bank_deposit('0e000000-0000-4000-8000-000000000001', 1);
RELEASE s;
SELECT 'not yet' AS committed;
COMMIT;
\o
\echo a savepoint that is rolled back does not count
\o |sed 's/PID [0-9]*/PID n/'
BEGIN;
SELECT balance FROM bank_deposit('0e000000-0000-4000-8000-000000000001', 1);
SAVEPOINT s;
SELECT balance FROM bank_deposit('0e000000-0000-4000-8000-000000000001', 1);
ROLLBACK TO s;
COMMIT;
\o
\echo no event, no notification: a rollback, a refusal, a retry, a restored row
\o |sed 's/PID [0-9]*/PID n/'
BEGIN;
SELECT balance FROM bank_deposit('0e000000-0000-4000-8000-000000000001', 1);
ROLLBACK;
BEGIN;
SELECT owner FROM bank_close_account('0e000000-0000-4000-8000-000000000001');
SELECT 1 / 0;
COMMIT;
SELECT bank_withdraw('0e000000-0000-4000-8000-000000000001', 1000000);
INSERT INTO dugong.event_log (position, sequence_number, "timestamp", id, aggregate_id, aggregate_type_id, version, tenant_id, type, payload)
VALUES (100, 1, now(), gen_random_uuid(), '0e000000-0000-4000-8000-000000000002',
        dugong.aggregate_type_id('BankingContext-AccountService', 'BankAccount'), 1, '', 'AccountOpened', '{"owner": "Bob", "initialBalance": 1}');
\o
\echo what is appended beside a restored row, and after one that was taken back
\o |sed 's/PID [0-9]*/PID n/'
BEGIN;
INSERT INTO dugong.event_log (position, sequence_number, "timestamp", id, aggregate_id, aggregate_type_id, version, tenant_id, type, payload)
VALUES (200, 1, now(), gen_random_uuid(), '0e000000-0000-4000-8000-000000000003',
        dugong.aggregate_type_id('BankingContext-AccountService', 'BankAccount'), 1, '', 'AccountOpened', '{"owner": "Carol", "initialBalance": 1}');
SELECT balance FROM bank_deposit('0e000000-0000-4000-8000-000000000003', 1);
COMMIT;
BEGIN;
SAVEPOINT s;
INSERT INTO dugong.event_log (position, sequence_number, "timestamp", id, aggregate_id, aggregate_type_id, version, tenant_id, type, payload)
VALUES (300, 1, now(), gen_random_uuid(), '0e000000-0000-4000-8000-000000000004',
        dugong.aggregate_type_id('BankingContext-AccountService', 'BankAccount'), 1, '', 'AccountOpened', '{"owner": "Dave", "initialBalance": 1}');
ROLLBACK TO s;
SELECT balance FROM bank_deposit('0e000000-0000-4000-8000-000000000003', 1);
COMMIT;
\o
\echo a plain INSERT, a transfer
\o |sed 's/PID [0-9]*/PID n/'
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload)
VALUES ('BankAccount', '0e000000-0000-4000-8000-000000000001', 'MoneyDeposited', '{"amount": 1}');
SELECT balance FROM bank_transfer('0e000000-0000-4000-8000-000000000001', '0e000000-0000-4000-8000-000000000002', 4, '0e000000-0000-4000-8000-0000000000e1');
SELECT balance FROM bank_transfer('0e000000-0000-4000-8000-000000000001', '0e000000-0000-4000-8000-000000000002', 4, '0e000000-0000-4000-8000-0000000000e1');
\o
\c :home
DROP DATABASE regress_dugong_notify WITH (FORCE);
