-- A close that fails after appending, inside its transaction, leaves the account, and no event.
\set id '''0c000000-0000-4000-8000-000000000001'''
SELECT owner, balance FROM bank_open_account('Alice', 500, :id);
BEGIN;
SELECT owner, balance FROM bank_close_account(:id);
SELECT 1 / 0;
COMMIT;
SELECT owner, balance FROM bank_get_account(:id);
SELECT sequence_number, type FROM dugong.domain_events WHERE aggregate_id = :id;
CALL dugong.run_projections();
SELECT owner, balance FROM bank_account_query_model WHERE id = :id;
-- One that succeeds
SELECT owner, balance FROM bank_close_account(:id);
