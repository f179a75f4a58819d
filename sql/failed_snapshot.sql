-- A snapshot that is cancelled, or told to try again, fails the append like any error: one rollback, and the session goes on.
\set id '''0fa50000-0000-4000-8000-000000000001'''
\set VERBOSITY terse
CREATE FUNCTION fragile_apply(int, dugong.domain_event) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    IF ($2).type = 'Slow' THEN PERFORM pg_sleep(60); END IF;
    IF ($2).type = 'Retry' THEN RAISE 'try again' USING ERRCODE = '40001'; END IF;
    RETURN coalesce($1, 0) + 1;
END $$;
CREATE AGGREGATE fragile_fold(dugong.domain_event) (SFUNC = fragile_apply, STYPE = int);
SELECT dugong.create_aggregate_type('Fragile', 'fragile_fold(dugong.domain_event)', snapshot_interval => 2);
SELECT sequence_number FROM dugong.append_event('Fragile', :id, 'One');
SELECT dugong.append_event('Fragile', :id, 'Retry');
SELECT count(*) AS events, current_user = session_user AS myself FROM dugong.aggregate_events('Fragile', :id);
SET statement_timeout = '300ms';
SELECT dugong.append_event('Fragile', :id, 'Slow');
RESET statement_timeout;
SELECT count(*) AS events, current_user = session_user AS myself FROM dugong.aggregate_events('Fragile', :id);
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES ('Fragile', :id, 'Retry');
BEGIN;
SELECT dugong.append_event('Fragile', :id, 'Retry');
SELECT 1 AS not_reached;
ROLLBACK;
SELECT sequence_number FROM dugong.append_event('Fragile', :id, 'Two');
SELECT sequence_number, valid FROM dugong.snapshots WHERE aggregate_type = 'Fragile';
