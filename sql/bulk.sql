-- 100,000 accounts in one statement and one transaction, within the default lock table.
\set home :DBNAME
CREATE DATABASE regress_dugong_bulk;
ALTER DATABASE regress_dugong_bulk SET dugong.max_workers = 0;
\c regress_dugong_bulk
CREATE EXTENSION dugong;
SHOW max_locks_per_transaction;
SELECT count(bank_open_account('Owner ' || n, 1, md5(n::text)::uuid)) FROM generate_series(1, 100000) AS n;
BEGIN;
SELECT count(bank_deposit(md5(n::text)::uuid, n)) FROM generate_series(1, 100000) AS n;
SELECT count(*) <= 1100 AS bounded FROM pg_locks WHERE pid = pg_backend_pid();
COMMIT;
SELECT type, count(*), max(sequence_number), count(DISTINCT position) FROM dugong.domain_events GROUP BY type ORDER BY type;
CALL dugong.run_projections();
SELECT count(*), sum(balance) FROM bank_account_query_model;
\c :home
DROP DATABASE regress_dugong_bulk WITH (FORCE);
