-- What a projection cannot handle is set aside; its later events wait in order, and all else goes on.
\set home :DBNAME
CREATE DATABASE regress_dugong_dead_letters;
ALTER DATABASE regress_dugong_dead_letters SET dugong.max_workers = 0;
\c regress_dugong_dead_letters
CREATE EXTENSION dugong;
SELECT dugong.create_aggregate_type('Job');
SELECT dugong.create_aggregate_type('Task');
\set a '''a0000000-0000-4000-8000-000000000001'''
\set b '''b0000000-0000-4000-8000-000000000001'''
\set c '''c0000000-0000-4000-8000-000000000001'''
CREATE TABLE done (number bigint GENERATED ALWAYS AS IDENTITY, job text, what text);
CREATE TABLE broken (what text PRIMARY KEY, code text DEFAULT 'P0001');
CREATE FUNCTION do_job(event dugong.domain_event) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    problem text := (SELECT code FROM broken WHERE what = event.payload ->> 'what');
BEGIN
    INSERT INTO done (job, what) VALUES (left(event.aggregate_id::text, 1) || event.tenant_id, event.payload ->> 'what');
    IF problem IS NOT NULL THEN
        RAISE EXCEPTION 'cannot %', event.payload ->> 'what' USING ERRCODE = problem, DETAIL = 'It is broken.';
    END IF;
END $$;
CREATE FUNCTION job(id uuid, what text, tenant text DEFAULT '') RETURNS void LANGUAGE sql
AS $$ SELECT dugong.append_event('Job', id, 'Wanted', jsonb_build_object('what', what), tenant_id => tenant) $$;
CREATE VIEW letters AS SELECT projection, aggregate_type AS type, left(aggregate_id::text, 1) || tenant_id AS job, event_type, first_sequence_number AS first, last_sequence_number AS last,
    attempts, given_up, retry_at > last_failed_at AS later, sqlstate, message, detail FROM dugong.dead_letters ORDER BY 1, 3;
CREATE VIEW jobs AS SELECT job, array_agg(what ORDER BY number) FROM done GROUP BY 1 ORDER BY 1;
-- No retry gets in between on a slow machine
\set hold 'UPDATE dugong.parked_aggregates SET retry_at = retry_at + interval ''1 hour'''
SELECT dugong.create_projection('jobs', 'Job', event_handler => 'do_job(dugong.domain_event)');

-- One of many fails: only it is set aside, and what it wrote is undone
INSERT INTO broken VALUES ('a2');
SELECT job(:a, 'a1'), job(:b, 'b1'), job(:a, 'a2'), job(:b, 'b2'), job(:a, 'a3'), job(:c, 'c1');
CALL dugong.run_projections();
SELECT * FROM jobs;
SELECT * FROM letters;
-- The projection runs, and has no failure of its own
SELECT state, failures, last_error_code, last_error, dead_letters, retrying, lag_events FROM dugong.projection_status WHERE projection = 'jobs';
SELECT left(e.aggregate_id::text, 1) AS job, e.payload ->> 'what' AS handled FROM dugong.consumed_messages m JOIN dugong.domain_events e ON e.id = m.event_id WHERE consumer = 'jobs' ORDER BY m.position;

-- Later events of it wait, also in other batches; it is not tried before it is due
:hold;
SELECT job(:a, 'a4'), job(:b, 'b3');
CALL dugong.run_projections();
SELECT * FROM jobs;
SELECT job, first, last, attempts FROM letters;

-- Each try that fails is counted
UPDATE dugong.parked_aggregates SET retry_at = now();
CALL dugong.run_projections();
SELECT job, first, last, attempts, given_up, later FROM letters;
SELECT round(extract(epoch FROM retry_at - last_failed_at)) AS pause FROM dugong.dead_letters;
UPDATE dugong.parked_aggregates SET retry_at = now();
CALL dugong.run_projections();
SELECT attempts, round(extract(epoch FROM retry_at - last_failed_at)) AS pause FROM dugong.dead_letters;

-- After dugong.max_attempts it is given up
UPDATE dugong.parked_aggregates SET retry_at = now(), attempts = 7;
CALL dugong.run_projections();
SELECT job, attempts, given_up, later FROM letters;
SELECT dead_letters, retrying FROM dugong.projection_status WHERE projection = 'jobs';

-- Asked for again, before and after it is mended: all in order
SELECT dugong.retry_dead_letters('jobs');
CALL dugong.run_projections();
SELECT job, first, last, attempts, given_up FROM letters;
DELETE FROM broken;
SELECT dugong.retry_dead_letters('jobs');
CALL dugong.run_projections();
SELECT * FROM jobs;
SELECT * FROM letters;
SELECT job(:a, 'a5');
CALL dugong.run_projections();
SELECT * FROM jobs WHERE job = 'a';

-- The next one behind it may fail, too
TRUNCATE done;
INSERT INTO broken VALUES ('a6'), ('a8');
SELECT job(:a, 'a6'), job(:a, 'a7'), job(:a, 'a8'), job(:a, 'a9');
CALL dugong.run_projections();
SELECT job, first, last, message FROM letters;
DELETE FROM broken WHERE what = 'a6';
SELECT dugong.retry_dead_letters('jobs', :a);
CALL dugong.run_projections();
SELECT * FROM jobs;
SELECT job, first, last, attempts, message FROM letters;

-- Discarded: what waits is never handled, what comes then is
SELECT dugong.discard_dead_letter('jobs', :a, 'another tenant');
SELECT dugong.discard_dead_letter('jobs', :a);
SELECT job(:a, 'a10');
CALL dugong.run_projections();
SELECT * FROM jobs;
SELECT * FROM letters;

-- Tenants are other aggregates; one of several is asked for
TRUNCATE done;
INSERT INTO broken VALUES ('x');
SELECT job(:b, 'x', 'T'), job(:b, 'b4'), job(:c, 'x'), job(:b, 'b5', 'T');
CALL dugong.run_projections();
SELECT * FROM jobs;
SELECT job, first, last FROM letters;
:hold;
DELETE FROM broken;
SELECT dugong.retry_dead_letters('jobs', :c);
CALL dugong.run_projections();
SELECT * FROM jobs;
SET dugong.tenant_id = 'T';
SELECT dugong.discard_dead_letter('jobs', :b);
RESET dugong.tenant_id;
SELECT * FROM letters;

-- What is no fault of the event: nobody is set aside, and the projection stays where it is
TRUNCATE done;
INSERT INTO broken VALUES ('y', '55P03');
SELECT job(:a, 'a11'), job(:a, 'y'), job(:b, 'b6');
CALL dugong.run_projections();
SELECT * FROM jobs;
SELECT * FROM letters;
UPDATE broken SET code = '40001';
CALL dugong.run_projections();
SELECT * FROM jobs;
SELECT job, sqlstate FROM letters;
:hold;
DELETE FROM broken;
ALTER FUNCTION do_job(dugong.domain_event) RENAME TO do_work;
SELECT job(:a, 'a12'), job(:c, 'c3');
CALL dugong.run_projections();
SELECT * FROM jobs;
SELECT job, sqlstate FROM letters;
SELECT dugong.alter_projection('jobs', event_handler => 'do_work(dugong.domain_event)');
SELECT dugong.retry_dead_letters('jobs');
CALL dugong.run_projections();
SELECT * FROM jobs;
SELECT * FROM letters;

-- Every other kind
TRUNCATE done;
CREATE TYPE task AS (n int, name text);
CREATE FUNCTION task_apply(task, dugong.domain_event) RETURNS task LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT ROW(coalesce(($1).n, 0) + 1, coalesce(($2).payload ->> 'name', ($1).name))::task;
END;
CREATE AGGREGATE task_fold(dugong.domain_event) (SFUNC = task_apply, STYPE = task);
SELECT dugong.alter_aggregate_type('Task', fold => 'task_fold(dugong.domain_event)');
CREATE TABLE tasks (id uuid PRIMARY KEY, n int, name text UNIQUE CHECK (name <> 'bad'));
CREATE FUNCTION on_update(uuid, task) RETURNS void LANGUAGE sql AS $$ INSERT INTO done (job, what) SELECT left($1::text, 1), 1 / (($2).name <> 'bad')::int || ' ' || ($2).n || ' ' || ($2).name $$;
CREATE FUNCTION on_delete(uuid) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION on_states(ids uuid[], states task[]) RETURNS void LANGUAGE sql AS $$ SELECT on_update(ids[i], states[i]) FROM generate_subscripts(ids, 1) i $$;
CREATE FUNCTION on_events(events dugong.domain_event[]) RETURNS void LANGUAGE sql AS
$$ INSERT INTO done (job, what) SELECT left(e.aggregate_id::text, 1), 1 / (e.payload ->> 'name' <> 'bad')::int || ' ' || e.sequence_number FROM unnest(events) e $$;
SELECT dugong.create_projection('1 model', 'Task', 'tasks');
SELECT dugong.create_projection('2 states', 'Task', update_handler => 'on_update(uuid, task)', delete_handler => 'on_delete(uuid)');
SELECT dugong.create_projection('3 state sets', 'Task', set_handler => 'on_states(uuid[], task[])');
SELECT dugong.create_projection('4 event sets', 'Task', set_handler => 'on_events(dugong.domain_event[])');
SELECT type, payload ->> 'name' AS name FROM dugong.append_events('Task', :a, '[{"type": "Named", "payload": {"name": "good"}}, {"type": "Named", "payload": {"name": "bad"}}]');
SELECT type, payload ->> 'name' AS name FROM dugong.append_event('Task', :b, 'Named', '{"name": "fine"}');
CALL dugong.run_projections();
SELECT projection, type, job, first, last, sqlstate FROM letters;
SELECT n, name FROM tasks;
SELECT * FROM jobs;
:hold;
-- A state is good again after a later event; a handler of events needs the event that failed
SELECT type, payload ->> 'name' AS name FROM dugong.append_event('Task', :a, 'Named', '{"name": "better"}');
CALL dugong.run_projections();
SELECT projection, job, first, last FROM letters;
SELECT count(dugong.retry_dead_letters(name)) FROM dugong.projections WHERE name <> 'bank_account';
CALL dugong.run_projections();
SELECT projection, job, first, last FROM letters;
SELECT n, name FROM tasks ORDER BY name;
SELECT * FROM jobs;
-- A dropped projection takes its dead letters along
SELECT dugong.drop_projection('4 event sets');
SELECT * FROM letters;

\c :home
DROP DATABASE regress_dugong_dead_letters WITH (FORCE);
