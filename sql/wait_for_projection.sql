-- Read your own writes: wait_for_projection, with a worker and without.
\set home :DBNAME
CREATE DATABASE regress_dugong_wait;
\c regress_dugong_wait
CREATE EXTENSION dugong;
\set a '''a0000000-0000-4000-8000-000000000001'''
\set b '''b0000000-0000-4000-8000-000000000001'''
\set id '''c0000000-0000-4000-8000-000000000001'''
-- With a worker
SELECT owner FROM bank_open_account('Alice', 1, :a);
CALL dugong.wait_for_projection('bank_account', '60s');
SELECT owner, balance FROM bank_account_query_model;
DO $$
BEGIN
    FOR i IN 1 .. 20 LOOP
        PERFORM bank_deposit('a0000000-0000-4000-8000-000000000001', 1);
        COMMIT;
        CALL dugong.wait_for_projection('bank_account', '60s');
        ASSERT (SELECT balance FROM bank_account_query_model) = i + 1;
    END LOOP;
END $$;
SELECT owner, balance FROM bank_account_query_model;
SELECT position AS p FROM dugong.read_events() ORDER BY position LIMIT 1 \gset
CALL dugong.wait_for_projection(projection => 'bank_account', timeout => '60s', target_position => :p);

-- What cannot come
BEGIN;
SELECT owner FROM bank_open_account('Bob', 2, :b);
CALL dugong.wait_for_projection('bank_account');
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
CALL dugong.wait_for_projection('bank_account');
ROLLBACK;
BEGIN;
CALL dugong.wait_for_projection('bank_account', '60s');
COMMIT;
\set VERBOSITY sqlstate
CALL dugong.wait_for_projection('bank_account', '20ms', 1000000);
CALL dugong.wait_for_projection('bank_account', '0', 1000000);
SELECT dugong.pause_projection('bank_account');
CALL dugong.wait_for_projection('bank_account');
SELECT dugong.resume_projection('bank_account');

-- The projection waits for a lock that this session has
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(1202); RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT OR UPDATE ON bank_account_query_model FOR EACH ROW EXECUTE FUNCTION slow();
SELECT pg_advisory_lock(1202);
SELECT owner FROM bank_open_account('Bob', 2, :b);
CALL dugong.wait_for_projection('bank_account', '60s');
SELECT pg_advisory_unlock(1202);
CALL dugong.wait_for_projection('bank_account', '60s');
SELECT owner, balance FROM bank_account_query_model ORDER BY owner;

-- Workers that are stopped
\set VERBOSITY default
SELECT dugong.stop_workers();
SELECT note FROM dugong.worker_status WHERE kind = 'installation';
DO $$
BEGIN
    FOR i IN 1 .. 6000 LOOP
        EXIT WHEN NOT EXISTS (SELECT FROM dugong.worker_status WHERE kind = 'dugong worker');
        PERFORM pg_sleep(0.01);
        COMMIT;
    END LOOP;
END $$;
SELECT count(*) FROM dugong.worker_status WHERE kind = 'dugong worker';
SELECT owner FROM bank_open_account('Carol', 3, :id);
\set VERBOSITY sqlstate
CALL dugong.wait_for_projection('bank_account', '20ms');
\set VERBOSITY default
SELECT owner, balance FROM bank_account_query_model ORDER BY owner;
-- By hand
CALL dugong.run_projections();
CALL dugong.wait_for_projection('bank_account', '60s');
SELECT owner, balance FROM bank_account_query_model ORDER BY owner;
SELECT owner FROM bank_deposit(:id, 1);
SELECT dugong.start_workers();
CALL dugong.wait_for_projection('bank_account', '60s');
SELECT owner, balance FROM bank_account_query_model ORDER BY owner;
SELECT count(*) > 0 AS at_work FROM dugong.worker_status WHERE kind = 'dugong worker';

-- No workers at all
ALTER DATABASE regress_dugong_wait SET dugong.max_workers = 0;
\c -
SELECT note FROM dugong.worker_status WHERE kind = 'installation';
\c :home
DROP DATABASE regress_dugong_wait WITH (FORCE);
