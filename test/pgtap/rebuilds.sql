-- Rebuilding within a transaction, for every kind; when a projection is stale.
BEGIN;
SELECT no_plan();
\ir helpers.psql

CREATE TYPE sum AS (n bigint);
CREATE FUNCTION sum_apply(sum, dugong.domain_event) RETURNS sum LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT CASE ($2).type WHEN 'Gone' THEN NULL ELSE ROW(coalesce(($1).n, 0) + (($2).payload ->> 'n')::bigint)::sum END;
END;
CREATE AGGREGATE sum_fold(dugong.domain_event) (SFUNC = sum_apply, STYPE = sum);
SELECT dugong.create_aggregate_type('Sum', 'sum_fold(dugong.domain_event)');
CREATE FUNCTION pg_temp.add(kind text, number int, n int, tenant text DEFAULT '') RETURNS void LANGUAGE sql AS
$$ SELECT dugong.append_event('Sum', pg_temp.id(kind, number), 'Added', jsonb_build_object('n', n), tenant_id => tenant) $$;

CREATE TABLE sums (id uuid, tenant_id text, n bigint, PRIMARY KEY (id, tenant_id));
CREATE TABLE sums_inline (LIKE sums INCLUDING ALL);
CREATE TABLE sums_reset (LIKE sums INCLUDING ALL);
CREATE TABLE seen (number bigint GENERATED ALWAYS AS IDENTITY, handler text, what text, replaying boolean);
CREATE FUNCTION see(handler text, what text) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen (handler, what, replaying) VALUES (handler, what, dugong.is_replaying()) $$;
CREATE FUNCTION pg_temp.saw(name text) RETURNS text[] LANGUAGE sql RETURN (SELECT array_agg(what ORDER BY number) FROM seen WHERE handler = name);
CREATE FUNCTION on_event(event dugong.domain_event) RETURNS void LANGUAGE sql AS $$ SELECT see('event', right((event).aggregate_id::text, 1) || ' ' || (event).sequence_number) $$;
CREATE FUNCTION on_inline_event(event dugong.domain_event) RETURNS void LANGUAGE sql AS $$ SELECT see('inline event', right((event).aggregate_id::text, 1) || ' ' || (event).sequence_number) $$;
CREATE FUNCTION on_events(events dugong.domain_event[]) RETURNS void LANGUAGE sql AS $$ SELECT see('events', cardinality(events)::text) $$;
CREATE FUNCTION on_update(id uuid, state sum) RETURNS void LANGUAGE sql AS $$ SELECT see('state', right(id::text, 1) || ' ' || (state).n) $$;
CREATE FUNCTION on_delete(id uuid) RETURNS void LANGUAGE sql AS $$ SELECT see('state', right(id::text, 1) || ' deleted') $$;
CREATE FUNCTION on_states(ids uuid[], states sum[]) RETURNS void LANGUAGE sql AS $$ SELECT see('states', cardinality(ids)::text) $$;
CREATE FUNCTION reset_events() RETURNS void LANGUAGE sql AS $$ DELETE FROM seen WHERE handler IN ('event', 'events', 'inline event') $$;
CREATE FUNCTION reset_sums() RETURNS void LANGUAGE sql AS $$ DELETE FROM sums_reset; SELECT see('reset', current_setting('dugong.tenant_id')) $$;

SELECT dugong.create_projection('model', 'Sum', 'sums');
SELECT dugong.create_projection('inline', 'Sum', 'sums_inline', 'inline');
SELECT dugong.create_projection('reset model', 'Sum', 'sums_reset', reset_handler => 'reset_sums()');
SELECT dugong.create_projection('event', 'Sum', event_handler => 'on_event(dugong.domain_event)', reset_handler => 'reset_events()');
SELECT dugong.create_projection('inline event', 'Sum', event_handler => 'on_inline_event(dugong.domain_event)', reset_handler => 'reset_events()', mode => 'inline');
SELECT dugong.create_projection('events', 'Sum', set_handler => 'on_events(dugong.domain_event[])', reset_handler => 'reset_events()');
SELECT dugong.create_projection('state', 'Sum', update_handler => 'on_update(uuid, sum)', delete_handler => 'on_delete(uuid)');
SELECT dugong.create_projection('states', 'Sum', set_handler => 'on_states(uuid[], sum[])');
SELECT pg_temp.add('a', 1, 1), pg_temp.add('a', 2, 2), pg_temp.add('a', 1, 10), pg_temp.add('a', 3, 3), pg_temp.add('a', 1, 5, 'T');
SELECT dugong.append_event('Sum', pg_temp.id('a', 3), 'Gone');
CALL dugong.run_projections();
SELECT is((SELECT array_agg(n ORDER BY id, tenant_id) FROM sums), '{11,5,2}'::bigint[], 'before');

-- Query models: wrong, missing and superfluous rows
UPDATE sums SET n = -1 WHERE tenant_id = 'T';
DELETE FROM sums WHERE n = 2;
INSERT INTO sums VALUES (pg_temp.id('a', 3), '', 3), (pg_temp.id('f'), '', 4), (pg_temp.id('a', 2), 'nobody', 5);
CALL dugong.rebuild_projection('model');
SELECT results_eq('SELECT id, tenant_id, n FROM sums ORDER BY id, tenant_id',
    $$ VALUES (pg_temp.id('a', 1), '', 11::bigint), (pg_temp.id('a', 1), 'T', 5), (pg_temp.id('a', 2), '', 2) $$, 'a query model');
SELECT is((SELECT count(*) FROM dugong.rebuild_progress), 0::bigint, 'nothing is left of the rebuild');
UPDATE sums_inline SET n = -1;
INSERT INTO sums_inline VALUES (pg_temp.id('f'), '', 4);
CALL dugong.rebuild_projection('inline');
SELECT is_empty('TABLE sums EXCEPT TABLE sums_inline', 'an inline one');
SELECT is((SELECT count(*) FROM sums_inline), 3::bigint, 'without rows that should not be there');
UPDATE sums_reset SET n = -1;
INSERT INTO sums_reset VALUES (pg_temp.id('f'), '', 4);
CALL dugong.rebuild_projection('reset model');
SELECT is_empty('TABLE sums EXCEPT TABLE sums_reset', 'one with a reset_handler');
SELECT is((SELECT count(*) FROM sums_reset), 3::bigint, 'which empties it');
SELECT is(pg_temp.saw('reset'), '{""}'::text[], 'and is called once, without a tenant');

-- Handlers of states: each aggregate again
TRUNCATE seen;
CALL dugong.rebuild_projection('state');
SELECT is((SELECT array_agg(what ORDER BY what) FROM seen), '{"1 11","1 5","2 2","3 deleted"}'::text[], 'handlers of states: each state, and each deleted one');
CALL dugong.rebuild_projection('states');
SELECT is(pg_temp.saw('states'), '{3,1}'::text[], 'a set handler of states: all, once for each tenant');
SELECT is((SELECT bool_and(replaying) FROM seen), true, 'they are told that it is a replay');

-- Events: after the reset_handler, each again
TRUNCATE seen;
SELECT see('event', 'wrong'), see('inline event', 'wrong'), see('events', 'wrong'), see('other', 'stays');
CALL dugong.rebuild_projection('event');
SELECT is(pg_temp.saw('event'), '{1 1,2 1,1 2,3 1,1 1,3 2}'::text[], 'a handler of events');
CALL dugong.rebuild_projection('inline event');
SELECT is(pg_temp.saw('inline event'), '{1 1,2 1,1 2,3 1,1 1,3 2}'::text[], 'an inline one');
CALL dugong.rebuild_projection('events');
SELECT is(pg_temp.saw('events'), '{5,1}'::text[], 'a set handler');
SELECT is((SELECT array_agg(what) FROM seen WHERE replaying IS NOT TRUE), '{stays}'::text[], 'all are told that it is a replay');
TRUNCATE seen;
SELECT pg_temp.add('a', 2, 2);
CALL dugong.run_projections();
SELECT is((SELECT count(*) FROM seen WHERE replaying), 0::bigint, 'what comes after is none');
SELECT is(pg_temp.saw('event') || pg_temp.saw('inline event') || pg_temp.saw('state'), '{2 2,2 2,2 4}'::text[], 'and is handled once');
SELECT is(dugong.is_replaying(), false, 'nor is a session');

-- One aggregate
UPDATE sums SET n = -1;
INSERT INTO sums VALUES (pg_temp.id('f'), '', 4);
CALL dugong.rebuild_projection('model', pg_temp.id('a', 1));
SELECT is((SELECT array_agg(n ORDER BY id, tenant_id) FROM sums), '{11,-1,-1,4}'::bigint[], 'one aggregate, of no tenant');
CALL dugong.rebuild_projection('model', pg_temp.id('a', 1), 'T');
SET LOCAL dugong.tenant_id = 'T';
UPDATE sums SET n = -2 WHERE tenant_id = 'T';
CALL dugong.rebuild_projection('model', pg_temp.id('a', 1));
RESET dugong.tenant_id;
SELECT is((SELECT array_agg(n ORDER BY id, tenant_id) FROM sums), '{11,5,-1,4}'::bigint[], 'of a tenant, given or set');
CALL dugong.rebuild_projection('model', pg_temp.id('f'));
SELECT is((SELECT count(*) FROM sums WHERE id = pg_temp.id('f')), 0::bigint, 'one that the log does not know');
UPDATE sums_inline SET n = -1;
CALL dugong.rebuild_projection(projection => 'inline', aggregate_id => pg_temp.id('a', 2), tenant_id => NULL, offline => false);
SELECT is((SELECT array_agg(n ORDER BY id, tenant_id) FROM sums_inline), '{-1,-1,4}'::bigint[], 'of an inline projection');
TRUNCATE seen;
CALL dugong.rebuild_projection('state', pg_temp.id('a', 3));
SELECT is(pg_temp.saw('state'), '{3 deleted}'::text[], 'of handlers');
CALL dugong.rebuild_projection('model');

-- What makes a projection stale, and what does not
CREATE FUNCTION pg_temp.stale() RETURNS text[] LANGUAGE sql RETURN (SELECT array_agg(projection ORDER BY projection) FROM dugong.projection_status WHERE stale);
SELECT is(pg_temp.stale(), NULL, 'what was made with today''s code is not stale');
CREATE OR REPLACE FUNCTION on_event(event dugong.domain_event) RETURNS void LANGUAGE sql AS $$ SELECT see('event', (event).type) $$;
SELECT is(pg_temp.stale(), '{event}'::text[], 'a handler has changed');
SELECT pg_temp.add('a', 2, 2);
CALL dugong.run_projections();
SELECT is(pg_temp.stale(), '{event}'::text[], 'handling more does not change that');
CALL dugong.rebuild_projection('event');
SELECT is(pg_temp.stale(), NULL, 'a rebuild does');
ALTER TABLE sums ADD later int DEFAULT 0;
SELECT is(pg_temp.stale(), '{model}'::text[], 'the query model has another column');
SELECT dugong.alter_projection('model', accept => true);
SELECT is(pg_temp.stale(), NULL, 'accepted as it is');
CREATE FUNCTION on_update_2(id uuid, state sum) RETURNS void LANGUAGE sql AS $$ SELECT see('state', 'other') $$;
SELECT dugong.alter_projection('state', update_handler => 'on_update_2(uuid, sum)');
SELECT is(pg_temp.stale(), '{state}'::text[], 'another handler');
CALL dugong.rebuild_projection('state', pg_temp.id('a', 1));
SELECT is(pg_temp.stale(), '{state}'::text[], 'to rebuild one aggregate is not enough');
CALL dugong.rebuild_projection('state');
SELECT dugong.alter_projection('event', types => '{Added}');
SELECT is(pg_temp.stale(), '{event}'::text[], 'other event types');
CALL dugong.rebuild_projection('event');
CREATE OR REPLACE FUNCTION sum_apply(sum, dugong.domain_event) RETURNS sum LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT CASE ($2).type WHEN 'Gone' THEN NULL ELSE ROW(coalesce(($1).n, 0) - (($2).payload ->> 'n')::bigint)::sum END;
END;
SELECT is(pg_temp.stale(), '{inline,model,"reset model",state,states}'::text[], 'the fold has changed: all that get states');
CALL dugong.rebuild_projection('model');
CALL dugong.rebuild_projection('inline');
SELECT is(pg_temp.stale(), '{"reset model",state,states}'::text[], 'rebuilt');
SELECT is((SELECT array_agg(n ORDER BY id, tenant_id) FROM sums), '{-11,-5,-6}'::bigint[], 'with the new fold');

-- What fails fails all of it
CREATE OR REPLACE FUNCTION reset_events() RETURNS void LANGUAGE sql AS $$ DELETE FROM seen; SELECT 1 / (count(*))::int FROM seen $$;
SELECT pg_temp.refused('22012', $$ CALL dugong.rebuild_projection('event') $$);
SELECT isnt(pg_temp.saw('event'), NULL, 'a reset_handler that fails leaves all as it was');

SELECT * FROM finish();
ROLLBACK;
