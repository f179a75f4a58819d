-- What a savepoint takes back was never appended.
\set id '''05000000-0000-4000-8000-000000000001'''
\set other '''05000000-0000-4000-8000-000000000002'''
BEGIN;
SELECT owner, balance FROM bank_open_account('Alice', 500, :id);
SAVEPOINT one;
SELECT owner, balance FROM bank_deposit(:id, 100);
SAVEPOINT two;
SELECT owner, balance FROM bank_open_account('Bob', 1, :other);
SELECT owner, balance FROM bank_transfer(:id, :other, 600);
ROLLBACK TO two;
SELECT owner, balance FROM bank_get_account(:id);
SELECT owner, balance FROM bank_get_account(:other);
SELECT owner, balance FROM bank_withdraw(:id, 601);
ROLLBACK TO one;
SELECT owner, balance FROM bank_withdraw(:id, 1);
SAVEPOINT three;
SELECT owner, balance FROM bank_close_account(:id);
ROLLBACK TO three;
SELECT owner, balance FROM bank_deposit(:id, 2);
COMMIT;
SELECT aggregate_id, sequence_number, type, payload FROM dugong.domain_events
WHERE aggregate_id IN (:id, :other) ORDER BY aggregate_id, sequence_number;
CALL dugong.run_projections();
SELECT id, owner, balance FROM bank_account_query_model WHERE id IN (:id, :other);
