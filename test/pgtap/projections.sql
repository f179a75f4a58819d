-- The registry of projections: creating, altering, pausing, dropping, and who may.
BEGIN;
SELECT no_plan();
\ir helpers.psql

CREATE TYPE counter AS (n bigint, note text);
CREATE FUNCTION counter_apply(counter, dugong.domain_event) RETURNS counter LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT CASE ($2).type WHEN 'Gone' THEN NULL ELSE ROW(coalesce(($1).n, 0) + 1, ($2).type)::counter END;
END;
CREATE AGGREGATE counter_fold(dugong.domain_event) (SFUNC = counter_apply, STYPE = counter);
SELECT dugong.create_aggregate_type('Counter', 'counter_fold(dugong.domain_event)');
SELECT dugong.create_aggregate_type('Other', 'counter_fold(dugong.domain_event)');
SELECT dugong.create_aggregate_type('Foldless');
SELECT dugong.create_aggregate_type('Twice', origin => 'a', external => false);
SELECT dugong.create_aggregate_type('Twice', origin => 'b', external => false);
SELECT dugong.append_event('Counter', pg_temp.id('c'), 'Counted');

CREATE TABLE counters (id uuid, tenant_id text, n bigint, note text, PRIMARY KEY (id, tenant_id));
CREATE FUNCTION on_update(uuid, counter) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION on_delete(uuid) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION on_event(dugong.domain_event) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION on_events(dugong.domain_event[]) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION on_states(uuid[], counter[]) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION on_reset() RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION on_event_2(dugong.domain_event) RETURNS text LANGUAGE sql AS 'SELECT ''a result is ignored''';

CREATE FUNCTION pg_temp.registered(projection text) RETURNS text LANGUAGE sql RETURN (
    SELECT concat_ws(' ', kind, mode, on_error, state, 'from', start_position, types, query_model,
        update_handler, delete_handler, event_handler, set_handler, reset_handler)
    FROM dugong.projections p WHERE p.name = projection);

-- Creating: each kind
SELECT lives_ok($$ SELECT dugong.create_projection('model', 'Counter', 'counters') $$, 'a query model');
SELECT lives_ok($$ SELECT dugong.create_projection('states', 'Counter', update_handler => 'on_update(uuid, counter)', delete_handler => 'on_delete(uuid)') $$, 'handlers of states');
SELECT lives_ok($$ SELECT dugong.create_projection('events', 'Counter', event_handler => 'on_event(dugong.domain_event)') $$, 'a handler of events');
SELECT lives_ok($$ SELECT dugong.create_projection('state_sets', 'Counter', set_handler => 'on_states(uuid[], counter[])') $$, 'a handler of many states');
SELECT lives_ok($$ SELECT dugong.create_projection('event_sets', 'Counter', set_handler => 'on_events(dugong.domain_event[])') $$, 'a handler of many events');
SELECT lives_ok($$ SELECT dugong.create_projection(name => 'all', aggregate_types => ARRAY['Counter', 'Other', 'Counter'], query_model => NULL, mode => 'async', update_handler => NULL,
    delete_handler => NULL, event_handler => 'on_event_2(dugong.domain_event)', set_handler => NULL, reset_handler => 'on_reset()', types => '{Counted,Gone}',
    on_error => 'stop', start_position => 7, origin => NULL) $$, 'every argument by name');
SELECT is(pg_temp.registered('model'), 'query_model async park running from 0 public.counters', 'the defaults');
SELECT is(pg_temp.registered('states'), 'aggregate async park running from 0 public.on_update(pg_catalog.uuid,public.counter) public.on_delete(pg_catalog.uuid)', 'handlers are kept by their signatures');
SELECT is(pg_temp.registered('events'), 'event async park running from 0 public.on_event(dugong.domain_event)', 'event');
SELECT is(pg_temp.registered('state_sets'), 'aggregate_set async park running from 0 public.on_states(pg_catalog.uuid[],public.counter[])', 'aggregate_set');
SELECT is(pg_temp.registered('event_sets'), 'event_set async park running from 0 public.on_events(dugong.domain_event[])', 'event_set');
SELECT is(pg_temp.registered('all'), 'event async stop running from 7 {Counted,Gone} public.on_event_2(dugong.domain_event) public.on_reset()', 'all that was said');
SELECT is((SELECT cardinality(aggregate_type_ids) FROM dugong.projections WHERE name = 'all'), 2, 'a type counts once');
SELECT is((SELECT owner || ' ' || search_path FROM dugong.projections WHERE name = 'events'), current_user || ' "$user", public, pg_temp', 'its owner and search_path are the creator''s');
SELECT lives_ok($$ SELECT dugong.create_projection('from b', 'Twice', event_handler => 'on_event(dugong.domain_event)', origin => 'b') $$, 'a type of an origin');
SELECT lives_ok($$ SELECT dugong.create_projection('now', 'Counter', event_handler => 'on_event(dugong.domain_event)', start_position => NULL) $$, 'from now on');
SELECT lives_ok($$ SELECT dugong.create_projection(repeat('x', 52), 'Counter', event_handler => 'on_event(dugong.domain_event)') $$, 'a name of 52 bytes');
SELECT is((SELECT pg_temp.registered('bank_account')), 'query_model async park running from 0 public.bank_account_query_model', 'the bank account is registered the same way');

-- Creating: what is refused
CREATE VIEW counters_view AS SELECT * FROM counters;
CREATE TEMP TABLE counters_temp (LIKE counters INCLUDING ALL);
CREATE TABLE no_id (n bigint, note text);
CREATE TABLE id_of_text (id text PRIMARY KEY, n bigint, note text);
CREATE TABLE no_key (id uuid, n bigint, note text);
CREATE TABLE key_of_id_only (id uuid PRIMARY KEY, tenant_id text, n bigint, note text);
CREATE TABLE tenant_of_int (id uuid, tenant_id int, n bigint, note text, PRIMARY KEY (id, tenant_id));
CREATE TABLE deferrable_key (id uuid PRIMARY KEY DEFERRABLE, n bigint, note text);
CREATE TABLE partial_key (id uuid, n bigint, note text);
CREATE UNIQUE INDEX ON partial_key (id) WHERE n > 0;
CREATE TABLE strange_column (id uuid PRIMARY KEY, n bigint, note text, strange int);
CREATE TABLE other_type (id uuid PRIMARY KEY, n int, note text);
CREATE FUNCTION on_events_set(dugong.domain_event) RETURNS SETOF int LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE on_event_procedure(dugong.domain_event) LANGUAGE sql AS 'SELECT';
CREATE FUNCTION on_event_default(dugong.domain_event, int DEFAULT 0) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION on_anything(anyelement) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE FUNCTION on_update_json(uuid, jsonb) RETURNS void LANGUAGE sql AS 'SELECT';
SELECT pg_temp.refused(code, command) FROM (VALUES
    ('22004', $$ SELECT dugong.create_projection(NULL, 'Counter', 'counters') $$),
    ('22023', $$ SELECT dugong.create_projection('', 'Counter', 'counters') $$),
    ('42622', $$ SELECT dugong.create_projection(repeat('x', 53), 'Counter', 'counters') $$),
    ('42710', $$ SELECT dugong.create_projection('model', 'Counter', 'counters') $$),
    ('42710', $$ SELECT dugong.create_projection('bank_account', 'Counter', 'counters') $$),
    ('22004', $$ SELECT dugong.create_projection('x', NULL::text, 'counters') $$),
    ('22004', $$ SELECT dugong.create_projection('x', NULL::text[], 'counters') $$),
    ('22023', $$ SELECT dugong.create_projection('x', '{}'::text[], event_handler => 'on_event(dugong.domain_event)') $$),
    ('22004', $$ SELECT dugong.create_projection('x', ARRAY['Counter', NULL], event_handler => 'on_event(dugong.domain_event)') $$),
    ('42704', $$ SELECT dugong.create_projection('x', 'Nothing', 'counters') $$),
    ('42704', $$ SELECT dugong.create_projection('x', ARRAY['Counter', 'Nothing'], event_handler => 'on_event(dugong.domain_event)') $$),
    ('42704', $$ SELECT dugong.create_projection('x', 'Counter', 'counters', origin => 'Nobody') $$),
    ('42P08', $$ SELECT dugong.create_projection('x', 'Twice', event_handler => 'on_event(dugong.domain_event)') $$),
    ('22004', $$ SELECT dugong.create_projection('x', 'Counter', 'counters', mode => NULL) $$),
    ('22023', $$ SELECT dugong.create_projection('x', 'Counter', 'counters', mode => 'sync') $$),
    ('22004', $$ SELECT dugong.create_projection('x', 'Counter', 'counters', on_error => NULL) $$),
    ('22023', $$ SELECT dugong.create_projection('x', 'Counter', 'counters', on_error => 'skip') $$),
    ('22023', $$ SELECT dugong.create_projection('x', 'Counter', 'counters', types => '{}') $$),
    ('22004', $$ SELECT dugong.create_projection('x', 'Counter', 'counters', types => '{Counted,NULL}') $$),
    ('22023', $$ SELECT dugong.create_projection('x', 'Counter', 'counters', start_position => -1) $$),
    -- kinds that are none
    ('22023', $$ SELECT dugong.create_projection('x', 'Counter') $$),
    ('22023', $$ SELECT dugong.create_projection('x', 'Counter', reset_handler => 'on_reset()') $$),
    ('22023', $$ SELECT dugong.create_projection('x', 'Counter', 'counters', event_handler => 'on_event(dugong.domain_event)') $$),
    ('22023', $$ SELECT dugong.create_projection('x', 'Counter', update_handler => 'on_update(uuid, counter)') $$),
    ('22023', $$ SELECT dugong.create_projection('x', 'Counter', delete_handler => 'on_delete(uuid)') $$),
    ('22023', $$ SELECT dugong.create_projection('x', 'Counter', event_handler => 'on_event(dugong.domain_event)', set_handler => 'on_events(dugong.domain_event[])') $$),
    ('22023', $$ SELECT dugong.create_projection('x', ARRAY['Counter', 'Other'], 'counters') $$),
    ('55000', $$ SELECT dugong.create_projection('x', 'Foldless', 'counters') $$),
    -- handlers of another signature
    ('42883', $$ SELECT dugong.create_projection('x', 'Counter', event_handler => 'nothing(dugong.domain_event)') $$),
    ('42883', $$ SELECT dugong.create_projection('x', 'Counter', event_handler => 1) $$),
    ('42883', $$ SELECT dugong.create_projection('x', 'Counter', set_handler => 1) $$),
    ('42P13', $$ SELECT dugong.create_projection('x', 'Counter', event_handler => 'on_reset()') $$),
    ('42P13', $$ SELECT dugong.create_projection('x', 'Counter', event_handler => 'on_events(dugong.domain_event[])') $$),
    ('42P13', $$ SELECT dugong.create_projection('x', 'Counter', event_handler => 'on_events_set(dugong.domain_event)') $$),
    ('42P13', $$ SELECT dugong.create_projection('x', 'Counter', event_handler => 'on_event_procedure(dugong.domain_event)') $$),
    ('42P13', $$ SELECT dugong.create_projection('x', 'Counter', event_handler => 'on_event_default(dugong.domain_event, int)') $$),
    ('42P13', $$ SELECT dugong.create_projection('x', 'Counter', event_handler => 'on_anything(anyelement)') $$),
    ('42P13', $$ SELECT dugong.create_projection('x', 'Counter', event_handler => 'counter_fold(dugong.domain_event)') $$),
    ('42P13', $$ SELECT dugong.create_projection('x', 'Counter', update_handler => 'on_update_json(uuid, jsonb)', delete_handler => 'on_delete(uuid)') $$),
    ('42P13', $$ SELECT dugong.create_projection('x', 'Counter', update_handler => 'on_update(uuid, counter)', delete_handler => 'on_update(uuid, counter)') $$),
    ('42P13', $$ SELECT dugong.create_projection('x', 'Counter', set_handler => 'on_event(dugong.domain_event)') $$),
    ('42P13', $$ SELECT dugong.create_projection('x', 'Counter', set_handler => 'on_update(uuid, counter)') $$),
    ('42P13', $$ SELECT dugong.create_projection('x', 'Counter', 'counters', reset_handler => 'on_delete(uuid)') $$),
    -- tables that cannot be kept
    ('42P01', $$ SELECT dugong.create_projection('x', 'Counter', 'nothing') $$),
    ('42P01', $$ SELECT dugong.create_projection('x', 'Counter', 1) $$),
    ('42809', $$ SELECT dugong.create_projection('x', 'Counter', 'counters_view') $$),
    ('42809', $$ SELECT dugong.create_projection('x', 'Counter', 'counters_temp') $$),
    ('42703', $$ SELECT dugong.create_projection('x', 'Counter', 'no_id') $$),
    ('42804', $$ SELECT dugong.create_projection('x', 'Counter', 'id_of_text') $$),
    ('42P10', $$ SELECT dugong.create_projection('x', 'Counter', 'no_key') $$),
    ('42P10', $$ SELECT dugong.create_projection('x', 'Counter', 'key_of_id_only') $$),
    ('42804', $$ SELECT dugong.create_projection('x', 'Counter', 'tenant_of_int') $$),
    ('42P10', $$ SELECT dugong.create_projection('x', 'Counter', 'deferrable_key') $$),
    ('42P10', $$ SELECT dugong.create_projection('x', 'Counter', 'partial_key') $$),
    ('42703', $$ SELECT dugong.create_projection('x', 'Counter', 'strange_column') $$),
    ('42804', $$ SELECT dugong.create_projection('x', 'Counter', 'other_type') $$)) AS bad (code, command);
SELECT is((SELECT count(*) FROM dugong.projections WHERE name = 'x'), 0::bigint, 'and none of them is registered');

-- Altering: the checkpoint stays
CALL dugong.run_projections();
SELECT position AS head FROM dugong.checkpoints WHERE projection = 'events' \gset
SELECT lives_ok($$ SELECT dugong.alter_projection('events', event_handler => 'on_event_2(dugong.domain_event)') $$, 'another handler');
SELECT lives_ok($$ SELECT dugong.alter_projection('events', reset_handler => 'on_reset()', types => '{Counted}', on_error => 'stop') $$, 'more of it');
SELECT is(pg_temp.registered('events'), 'event async stop running from 0 {Counted} public.on_event_2(dugong.domain_event) public.on_reset()', 'altered, and what was not said stays');
SELECT is((SELECT position FROM dugong.checkpoints WHERE projection = 'events'), :head::bigint, 'it goes on where it is');
SELECT lives_ok($$ SELECT dugong.alter_projection(name => 'states', update_handler => 'on_update(uuid, counter)', delete_handler => 'on_delete(uuid)', event_handler => NULL,
    set_handler => NULL, reset_handler => NULL, types => NULL, on_error => NULL, owner => NULL, accept => NULL) $$, 'every argument by name');
SELECT lives_ok($$ SELECT dugong.alter_projection('event_sets') $$, 'nothing to change');
SELECT is(pg_temp.registered('event_sets'), 'event_set async park running from 0 public.on_events(dugong.domain_event[])', 'so it is as it was');
SELECT pg_temp.refused(code, command) FROM (VALUES
    ('22004', $$ SELECT dugong.alter_projection(NULL) $$),
    ('42704', $$ SELECT dugong.alter_projection('nothing') $$),
    ('22023', $$ SELECT dugong.alter_projection('events', on_error => 'skip') $$),
    ('22004', $$ SELECT dugong.alter_projection('events', types => '{NULL}') $$),
    ('22023', $$ SELECT dugong.alter_projection('model', event_handler => 'on_event(dugong.domain_event)') $$),
    ('22023', $$ SELECT dugong.alter_projection('events', update_handler => 'on_update(uuid, counter)') $$),
    ('22023', $$ SELECT dugong.alter_projection('states', set_handler => 'on_states(uuid[], counter[])') $$),
    ('42P13', $$ SELECT dugong.alter_projection('state_sets', set_handler => 'on_events(dugong.domain_event[])') $$),
    ('42P13', $$ SELECT dugong.alter_projection('event_sets', set_handler => 'on_states(uuid[], counter[])') $$),
    ('42P13', $$ SELECT dugong.alter_projection('events', event_handler => 'on_reset()') $$),
    ('42P13', $$ SELECT dugong.alter_projection('events', reset_handler => 'on_event(dugong.domain_event)') $$),
    ('42883', $$ SELECT dugong.alter_projection('events', event_handler => 'nothing()') $$)) AS bad (code, command);

-- Pausing, resuming
SELECT dugong.create_projection('counted', 'Counter', 'counters');
CALL dugong.run_projections();
SELECT lives_ok($$ SELECT dugong.pause_projection('counted') $$, 'pause');
SELECT is(pg_temp.registered('counted'), 'query_model async park paused from 0 public.counters', 'it is paused');
SELECT lives_ok($$ SELECT dugong.pause_projection('counted') $$, 'twice');
SELECT dugong.pause_projection('model');
SELECT dugong.append_event('Counter', pg_temp.id('c'), 'Counted');
CALL dugong.run_projections();
SELECT is((SELECT n FROM counters WHERE id = pg_temp.id('c')), 1::bigint, 'while paused nothing is handled');
SELECT lives_ok($$ SELECT dugong.resume_projection('counted') $$, 'resume');
CALL dugong.run_projections();
SELECT is((SELECT n FROM counters WHERE id = pg_temp.id('c')), 2::bigint, 'it goes on where it was');
SELECT lives_ok($$ SELECT dugong.resume_projection('counted') $$, 'one that runs');
SELECT pg_temp.refused(code, command) FROM (VALUES
    ('42704', $$ SELECT dugong.pause_projection('nothing') $$),
    ('22004', $$ SELECT dugong.pause_projection(NULL) $$),
    ('42704', $$ SELECT dugong.resume_projection('nothing') $$),
    ('22004', $$ SELECT dugong.resume_projection(NULL) $$)) AS bad (code, command);

-- Inline ones cannot be paused
SELECT dugong.create_projection('within', 'Other', event_handler => 'on_event(dugong.domain_event)', mode => 'inline');
SELECT is(pg_temp.registered('within'), 'event inline park running from 0 public.on_event(dugong.domain_event)', 'inline');
SELECT pg_temp.refused('55000', $$ SELECT dugong.pause_projection('within') $$);
SELECT lives_ok($$ SELECT dugong.resume_projection('within') $$, 'to resume one does nothing');

-- Dropping
SELECT pg_temp.refused('2BP01', $$ SELECT dugong.drop_aggregate_type('Twice', 'b') $$);
SELECT lives_ok($$ SELECT dugong.drop_projection('from b') $$, 'drop');
SELECT lives_ok($$ SELECT dugong.drop_aggregate_type('Twice', 'b') $$, 'now its type can be dropped');
SELECT dugong.drop_projection('counted');
SELECT is((SELECT count(*) FROM counters), 1::bigint, 'the query model stays');
SELECT is((SELECT count(*) FROM dugong.checkpoints WHERE projection = 'counted'), 0::bigint, 'the checkpoint goes');
SELECT lives_ok($$ SELECT dugong.create_projection('counted', 'Counter', 'counters') $$, 'the name can be used again');
SELECT pg_temp.refused(code, command) FROM (VALUES
    ('42704', $$ SELECT dugong.drop_projection('nothing') $$),
    ('22004', $$ SELECT dugong.drop_projection(NULL) $$)) AS bad (code, command);

-- Dead letters and rebuilds of none
SELECT is(dugong.retry_dead_letters('counted'), 0::bigint, 'nothing to retry');
SELECT is(dugong.retry_dead_letters('counted', pg_temp.id('c')), 0::bigint, 'nothing of an aggregate');
SELECT is(dugong.discard_dead_letter('counted', pg_temp.id('c')), 0::bigint, 'nothing to discard');
SELECT pg_temp.refused(code, command) FROM (VALUES
    ('42704', $$ SELECT dugong.retry_dead_letters('nothing') $$),
    ('22004', $$ SELECT dugong.retry_dead_letters(NULL) $$),
    ('42704', $$ SELECT dugong.discard_dead_letter('nothing', pg_temp.id('c')) $$),
    ('22004', $$ SELECT dugong.discard_dead_letter('counted', NULL) $$),
    ('42704', $$ CALL dugong.rebuild_projection('nothing') $$),
    ('22004', $$ CALL dugong.rebuild_projection(NULL) $$),
    ('55000', $$ CALL dugong.rebuild_projection('event_sets') $$),
    ('0A000', $$ CALL dugong.rebuild_projection('events', pg_temp.id('c')) $$),
    ('0A000', $$ CALL dugong.rebuild_projection('counted', offline => true) $$),
    ('0A000', $$ CALL dugong.rebuild_projection('all', offline => true) $$),
    ('42704', $$ CALL dugong.wait_for_projection('nothing') $$),
    ('22004', $$ CALL dugong.wait_for_projection(NULL) $$),
    ('22004', $$ CALL dugong.wait_for_projection('counted', NULL) $$),
    ('UG010', $$ CALL dugong.wait_for_projection('counted') $$)) AS bad (code, command);
SELECT lives_ok($$ CALL dugong.wait_for_projection('within') $$, 'an inline projection is not waited for');

-- Who is refused.  Somebody who may create projections, but owns nothing of this
CREATE ROLE regress_dugong_projector;
GRANT USAGE ON SCHEMA dugong TO regress_dugong_projector;
GRANT USAGE ON TYPE dugong.domain_event TO regress_dugong_projector;
GRANT CREATE ON SCHEMA public TO regress_dugong_projector;
SELECT pg_temp.refused('42501', 'SET LOCAL ROLE regress_dugong_projector; ' || command) FROM (VALUES
    ($$ SELECT dugong.create_projection('x', 'Counter', event_handler => 'on_event(dugong.domain_event)') $$),
    ($$ SELECT dugong.create_projection('x', ARRAY['Counter'], event_handler => 'on_event(dugong.domain_event)') $$),
    ($$ SELECT dugong.alter_projection('counted') $$),
    ($$ SELECT dugong.drop_projection('counted') $$),
    ($$ SELECT dugong.pause_projection('counted') $$),
    ($$ SELECT dugong.resume_projection('counted') $$),
    ($$ SELECT dugong.retry_dead_letters('counted') $$),
    ($$ SELECT dugong.discard_dead_letter('counted', NULL) $$),
    ($$ SELECT dugong.is_replaying() $$),
    ($$ SELECT dugong.start_workers() $$),
    ($$ SELECT dugong.stop_workers() $$),
    ($$ CALL dugong.rebuild_projection('counted') $$),
    ($$ CALL dugong.wait_for_projection('counted') $$),
    ($$ CALL dugong.run_projections() $$),
    ($$ SELECT * FROM dugong.projection_status $$),
    ($$ SELECT * FROM dugong.dead_letters $$),
    ($$ SELECT * FROM dugong.worker_status $$),
    ($$ SELECT * FROM dugong.rebuild_progress $$),
    ($$ SELECT * FROM dugong.consumed_messages $$)) AS without_grant (command);
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA dugong TO regress_dugong_projector;
REVOKE EXECUTE ON FUNCTION on_event_2(dugong.domain_event) FROM PUBLIC;
SELECT pg_temp.refused('42501', 'SET LOCAL ROLE regress_dugong_projector; ' || command) FROM (VALUES
    ($$ SELECT dugong.create_projection('x', 'Counter', 'counters') $$),
    ($$ SELECT dugong.create_projection('x', 'Counter', event_handler => 'on_event_2(dugong.domain_event)') $$),
    ($$ SELECT dugong.create_projection('x', 'Counter', event_handler => 'on_event(dugong.domain_event)', mode => 'inline') $$),
    ($$ SELECT dugong.alter_projection('counted', on_error => 'stop') $$),
    ($$ SELECT dugong.drop_projection('counted') $$),
    ($$ SELECT dugong.pause_projection('counted') $$),
    ($$ SELECT dugong.resume_projection('counted') $$),
    ($$ SELECT dugong.retry_dead_letters('counted') $$),
    ($$ SELECT dugong.discard_dead_letter('counted', pg_temp.id('c')) $$),
    ($$ CALL dugong.rebuild_projection('counted') $$),
    ($$ CALL dugong.rebuild_projection('counted', pg_temp.id('c')) $$)) AS not_owned (command);
SET LOCAL ROLE regress_dugong_projector;
SELECT dugong.create_projection('mine', 'Counter', event_handler => 'on_event(dugong.domain_event)');
SELECT dugong.create_projection('mine from now', 'Counter', event_handler => 'on_event(dugong.domain_event)', start_position => NULL);
RESET ROLE;
SELECT is((SELECT owner FROM dugong.projections WHERE name = 'mine'), 'regress_dugong_projector', 'who creates it owns it');
SELECT pg_temp.refused('42501', $$ SET LOCAL ROLE regress_dugong_projector; SELECT dugong.alter_projection('mine', event_handler => 'on_event_2(dugong.domain_event)') $$);
SELECT pg_temp.refused('42501', $$ SET LOCAL ROLE regress_dugong_projector; SELECT dugong.alter_projection('mine', owner => session_user::regrole) $$);
SET LOCAL ROLE regress_dugong_projector;
SELECT dugong.alter_projection('mine', on_error => 'stop'), dugong.pause_projection('mine');
RESET ROLE;
SELECT is(pg_temp.registered('mine'), 'event async stop paused from 0 public.on_event(dugong.domain_event)', 'the owner changes it');
SELECT dugong.alter_projection('mine', owner => current_user::regrole);
SELECT is((SELECT owner FROM dugong.projections WHERE name = 'mine'), current_user::text, 'a superuser gives it to another');
SELECT pg_temp.refused('42501', $$ SET LOCAL ROLE regress_dugong_projector; SELECT dugong.drop_projection('mine') $$);

SELECT * FROM finish();
ROLLBACK;
