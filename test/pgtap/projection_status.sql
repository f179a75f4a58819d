-- The views that show what projections and workers do.
BEGIN;
SELECT no_plan();
\ir helpers.psql

CREATE TYPE sum AS (n bigint);
CREATE FUNCTION sum_apply(sum, dugong.domain_event) RETURNS sum LANGUAGE sql IMMUTABLE
RETURN ROW(coalesce(($1).n, 0) + (($2).payload ->> 'n')::bigint)::sum;
CREATE AGGREGATE sum_fold(dugong.domain_event) (SFUNC = sum_apply, STYPE = sum);
SELECT dugong.create_aggregate_type('Sum', 'sum_fold(dugong.domain_event)');
SELECT dugong.create_aggregate_type('Other');
CREATE TABLE sums (id uuid, tenant_id text, n bigint, PRIMARY KEY (id, tenant_id));
CREATE TABLE sums_inline (LIKE sums INCLUDING ALL);
CREATE FUNCTION on_event(dugong.domain_event) RETURNS void LANGUAGE sql AS '';

SELECT columns_are('dugong', 'projection_status', '{projection,kind,mode,state,position,head,lag_events,lag_seconds,holes,rate,batches,events,updated_at,failures,last_error_code,last_error,
    last_error_at,worker_pid,blocking_pid,blocking_query_age,dead_letters,retrying,replaying,stale}'::name[]);
SELECT columns_are('dugong', 'dead_letters', '{projection,origin,aggregate_type,aggregate_id,tenant_id,event_id,event_type,position,first_sequence_number,last_sequence_number,attempts,
    first_failed_at,last_failed_at,retry_at,given_up,sqlstate,message,detail,context}'::name[]);
SELECT columns_are('dugong', 'worker_status', '{kind,number,pid,started_at,state,activity,xact_start,wait_event_type,wait_event,note}'::name[]);
SELECT columns_are('dugong', 'rebuild_progress', '{projection,phase,done,total,percent,rate,time_left,started_at,updated_at,pid}'::name[]);
SELECT columns_are('dugong', 'consumed_messages', '{consumer,event_id,position}'::name[]);

-- A new one
SELECT dugong.create_projection('sums', 'Sum', 'sums');
SELECT dugong.create_projection('later', 'Sum', event_handler => 'on_event(dugong.domain_event)', start_position => 1000000, on_error => 'stop');
SELECT dugong.create_projection('inline', 'Sum', 'sums_inline', 'inline');
SELECT results_eq($$ SELECT projection, kind, mode, state, failures, worker_pid IS NOT NULL, dead_letters, retrying, replaying, stale FROM dugong.projection_status WHERE projection <> 'bank_account' ORDER BY 1 $$, $$ VALUES
    ('inline', 'query_model', 'inline', 'running', NULL::int, true, 0::bigint, 0::bigint, false, false),
    ('later', 'event', 'async', 'running', NULL, true, 0, 0, NULL, NULL),
    ('sums', 'query_model', 'async', 'running', NULL, true, 0, 0, NULL, NULL) $$, 'new ones; this session has their locks');
SELECT is((SELECT worker_pid FROM dugong.projection_status WHERE projection = 'sums'), pg_backend_pid(), 'whose they are');
SELECT is((SELECT position FROM dugong.projection_status WHERE projection = 'later'), 1000000::bigint, 'one that starts later is there');

-- Behind, and caught up
SELECT dugong.append_event('Sum', pg_temp.id('a'), 'Added', '{"n": 1}', event_id => pg_temp.id('e', 1), event_timestamp => now() - interval '1 hour');
SELECT dugong.append_event('Sum', pg_temp.id('b'), 'Added', '{"n": 1}', event_id => pg_temp.id('e', 2)),
    dugong.append_event('Other', pg_temp.id('b'), 'Added', '{"n": 1}', event_id => pg_temp.id('e', 3));
SELECT position AS head FROM dugong.append_event('Sum', pg_temp.id('b'), 'Added', '{"n": 2}', event_id => pg_temp.id('e', 4)) \gset
SELECT results_eq($$ SELECT projection, position, head, lag_events, lag_seconds BETWEEN 3600 AND 3700 FROM dugong.projection_status WHERE projection <> 'bank_account' ORDER BY 1 $$,
    format($$ VALUES ('inline', %1$s::bigint, %1$s::bigint, 0::bigint, false), ('later', 1000000, %1$s, 0, false), ('sums', 0, %1$s, %1$s, true) $$, :head), 'position, head, lag');
SELECT results_eq('SELECT consumer, event_id FROM dugong.consumed_messages ORDER BY position', $$ VALUES ('inline', pg_temp.id('e', 1)), ('inline', pg_temp.id('e', 2)), ('inline', pg_temp.id('e', 4)) $$,
    'what is consumed: by the inline one all of its aggregate type');
CALL dugong.run_projections();
SELECT results_eq($$ SELECT position, lag_events, lag_seconds, batches, events, rate >= 0, updated_at > now(), stale, replaying FROM dugong.projection_status WHERE projection = 'sums' $$,
    format($$ VALUES (%s::bigint, 0::bigint, 0::numeric, 1::bigint, 3::bigint, true, true, false, false) $$, :head), 'caught up');
SELECT results_eq($$ SELECT event_id FROM dugong.consumed_messages WHERE consumer = 'sums' ORDER BY position $$, $$ VALUES (pg_temp.id('e', 1)), (pg_temp.id('e', 2)), (pg_temp.id('e', 4)) $$, 'consumed');
SELECT is((SELECT count(*) FROM dugong.consumed_messages WHERE consumer = 'sums' AND event_id = pg_temp.id('e', 3)), 0::bigint, 'an event of another type is not');
SELECT is((SELECT count(*) FROM dugong.consumed_messages WHERE consumer = 'later'), 0::bigint, 'nor one before the start');

-- Set aside
INSERT INTO dugong.parked_aggregates SELECT 'sums', aggregate_type_id, aggregate_id, tenant_id, 2, 2, id, 8, now(), now(), NULL, '22012', 'division by zero', 'detail', 'context' FROM dugong.event_log WHERE id = pg_temp.id('e', 4);
INSERT INTO dugong.parked_aggregates SELECT 'sums', aggregate_type_id, aggregate_id, tenant_id, 1, 1, id, 3, now(), now(), now() + interval '4 s', '23514', 'violates', NULL, NULL FROM dugong.event_log WHERE id = pg_temp.id('e', 1);
SELECT results_eq($$ SELECT dead_letters, retrying FROM dugong.projection_status WHERE projection = 'sums' $$, 'VALUES (1::bigint, 1::bigint)', 'given up, and tried again');
SELECT results_eq('SELECT projection, origin, aggregate_type, aggregate_id, tenant_id, event_id, event_type, first_sequence_number, last_sequence_number, attempts, given_up, retry_at > now(), sqlstate, message, detail FROM dugong.dead_letters ORDER BY position', $$ VALUES
    ('sums', current_database()::text COLLATE "default", 'Sum', pg_temp.id('a'), '', pg_temp.id('e', 1), 'Added', 1::bigint, 1::bigint, 3, false, true, '23514', 'violates', NULL),
    ('sums', current_database(), 'Sum', pg_temp.id('b'), '', pg_temp.id('e', 4), 'Added', 2, 2, 8, true, NULL, '22012', 'division by zero', 'detail') $$, 'dead letters');
SELECT results_eq($$ SELECT event_id FROM dugong.consumed_messages WHERE consumer = 'sums' ORDER BY position $$, $$ VALUES (pg_temp.id('e', 2)) $$, 'what is set aside is not consumed');
SELECT dugong.discard_dead_letter('sums', pg_temp.id('a')), dugong.discard_dead_letter('sums', pg_temp.id('b'));
SELECT is((SELECT count(*) FROM dugong.consumed_messages WHERE consumer = 'sums'), 3::bigint, 'what was discarded counts as consumed');

-- Event types
SELECT dugong.create_projection('typed', ARRAY['Sum', 'Other'], event_handler => 'on_event(dugong.domain_event)', types => '{Removed}');
SELECT dugong.append_event('Other', pg_temp.id('b'), 'Removed', event_id => pg_temp.id('e', 5));
CALL dugong.run_projections();
SELECT results_eq($$ SELECT event_id FROM dugong.consumed_messages WHERE consumer = 'typed' $$, $$ VALUES (pg_temp.id('e', 5)) $$, 'only of the event types that it reads');

-- A change of mode waits for nothing, and does not make what old code has written new
SAVEPOINT s;
SELECT dugong.append_event('Sum', pg_temp.id('f'), 'Added', '{"n": 1}');
ROLLBACK TO s;
SELECT dugong.append_event('Sum', pg_temp.id('f'), 'Added', '{"n": 1}');
CALL dugong.run_projections();
SELECT ok((SELECT holes > 0 FROM dugong.projection_status WHERE projection = 'typed'), 'a hole that this transaction may fill');
CREATE OR REPLACE FUNCTION on_event(event dugong.domain_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN RETURN; END';
CREATE TEMP TABLE before AS SELECT projection, batches, events FROM dugong.projection_status WHERE projection = 'typed';
SELECT dugong.alter_projection('typed', mode => 'inline');
SELECT results_eq($$ SELECT mode, holes, stale FROM dugong.projection_status WHERE projection = 'typed' $$, $$ VALUES ('inline', 0::bigint, true) $$, 'is none when it is inline');
SELECT dugong.alter_projection('typed', mode => 'async');
SELECT results_eq($$ SELECT mode, lag_events, stale, s.events = before.events FROM dugong.projection_status s JOIN before USING (projection) $$, $$ VALUES ('async', 0::bigint, true, true) $$, 'and async again it is as stale as it was');

-- States and stops
SELECT dugong.pause_projection('sums');
UPDATE dugong.projections SET state = 'stopped' WHERE name = 'later';
SELECT results_eq($$ SELECT projection, state FROM dugong.projection_status WHERE state <> 'running' ORDER BY 1 $$, $$ VALUES ('later', 'stopped'), ('sums', 'paused') $$, 'paused, stopped');

-- Workers: none but what the view says of them
SELECT is((SELECT count(*) FROM dugong.worker_status WHERE kind = 'installation' AND started_at = pg_postmaster_start_time()), 1::bigint, 'a row for the installation');
SELECT dugong.stop_workers();
SELECT alike((SELECT note FROM dugong.worker_status WHERE kind = 'installation'), 'stopped by dugong.stop_workers()%', 'stopped');
SELECT dugong.start_workers();
SELECT unalike((SELECT note FROM dugong.worker_status WHERE kind = 'installation'), 'stopped by %', 'not stopped');

-- Rights: SELECT on the view and EXECUTE on what it calls
CREATE ROLE regress_dugong_watcher;
GRANT USAGE ON SCHEMA dugong TO regress_dugong_watcher;
GRANT SELECT ON dugong.projection_status, dugong.dead_letters, dugong.worker_status, dugong.rebuild_progress, dugong.consumed_messages TO regress_dugong_watcher;
GRANT EXECUTE ON FUNCTION dugong.projection_lock_key, dugong.projection_is_stale, dugong.is_preloaded TO regress_dugong_watcher;
SET LOCAL ROLE regress_dugong_watcher;
SELECT ok((SELECT count(*) FROM dugong.projection_status) >= 5, 'a role that watches: projection_status');
SELECT lives_ok('SELECT * FROM dugong.' || view, view) FROM unnest('{dead_letters,worker_status,rebuild_progress,consumed_messages}'::text[]) view;
RESET ROLE;

SELECT * FROM finish();
ROLLBACK;
