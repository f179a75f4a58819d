-- on_error 'stop': what fails is not passed over; and what a failure does to other projections.
\set home :DBNAME
CREATE DATABASE regress_dugong_stop_policy;
ALTER DATABASE regress_dugong_stop_policy SET dugong.max_workers = 0;
\c regress_dugong_stop_policy
CREATE EXTENSION dugong;
SELECT dugong.create_aggregate_type('Job');
\set a '''a0000000-0000-4000-8000-000000000001'''
\set b '''b0000000-0000-4000-8000-000000000001'''
CREATE TABLE done (number bigint GENERATED ALWAYS AS IDENTITY, projection text, what text);
CREATE FUNCTION strict_job(event dugong.domain_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO done (projection, what) VALUES ('strict', event.payload ->> 'what');
    PERFORM 1 / (event.payload ->> 'what' <> 'bad')::int;
END $$;
CREATE FUNCTION lax_job(event dugong.domain_event) RETURNS void LANGUAGE sql AS
$$ INSERT INTO done (projection, what) VALUES ('lax', (event).payload ->> 'what') $$;
SELECT dugong.create_projection('1 lax', 'Job', event_handler => 'lax_job(dugong.domain_event)');
SELECT dugong.create_projection('2 strict', 'Job', event_handler => 'strict_job(dugong.domain_event)', on_error => 'stop');
CREATE VIEW what_is_done AS SELECT projection, array_agg(what ORDER BY number) FROM done GROUP BY 1 ORDER BY 1;
CREATE VIEW states AS SELECT projection, state, lag_events, dead_letters + retrying AS aside FROM dugong.projection_status WHERE projection <> 'bank_account' ORDER BY 1;
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload) VALUES
    ('Job', :a, 'Wanted', '{"what": "good"}'), ('Job', :a, 'Wanted', '{"what": "bad"}'), ('Job', :b, 'Wanted', '{"what": "better"}');

-- What comes before it is handled; nobody is set aside, nothing is passed over
CALL dugong.run_projections();
SELECT * FROM what_is_done;
SELECT * FROM states;
CALL dugong.run_projections();
SELECT * FROM what_is_done;

-- One that has stopped is not run (the worker stops it after dugong.max_attempts)
UPDATE dugong.projections SET state = 'stopped' WHERE name = '2 strict';
CALL dugong.run_projections();
SELECT * FROM states;
CALL dugong.wait_for_projection('2 strict');
SELECT dugong.resume_projection('2 strict');
CALL dugong.run_projections();
-- Now it may set the aggregate aside
SELECT dugong.alter_projection('2 strict', on_error => 'park');
CALL dugong.run_projections();
SELECT * FROM what_is_done;
SELECT * FROM states;
-- And back: what is aside stays there
SELECT dugong.alter_projection('2 strict', on_error => 'stop');
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload) VALUES ('Job', :a, 'Wanted', '{"what": "best"}'), ('Job', :b, 'Wanted', '{"what": "more"}');
CALL dugong.run_projections();
SELECT * FROM what_is_done;
SELECT * FROM states;
SELECT first_sequence_number, last_sequence_number, sqlstate FROM dugong.dead_letters;

-- In a transaction block what fails fails it: nothing is set aside, nothing remains
SELECT dugong.alter_projection('2 strict', on_error => 'park');
BEGIN;
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload) VALUES ('Job', :b, 'Wanted', '{"what": "bad"}');
CALL dugong.run_projections();
ROLLBACK;
SELECT * FROM what_is_done;
SELECT * FROM states;
\c :home
DROP DATABASE regress_dugong_stop_policy WITH (FORCE);
