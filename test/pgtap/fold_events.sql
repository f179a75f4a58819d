-- What a fold may do with its event: the engine gives the same state as a query that calls the aggregate function.
BEGIN;
SELECT no_plan();
\ir helpers.psql

-- The first and the last event are stored out of line
CREATE FUNCTION pg_temp.noise(n int) RETURNS text LANGUAGE sql AS $$ SELECT string_agg(md5(n || ' ' || i), '') FROM generate_series(1, 1000) i $$;
CREATE FUNCTION pg_temp.fill(name text, count int) RETURNS void LANGUAGE sql AS $$
    SELECT dugong.append_event(name, pg_temp.id('a'), 'E', jsonb_build_object('n', n, 'noise', CASE WHEN n IN (1, count) THEN pg_temp.noise(n) END),
        metadata => CASE WHEN n > 1 THEN '{"by": "test"}'::jsonb END, correlation_id => CASE WHEN n = 2 THEN pg_temp.id('c') END)
    FROM generate_series(1, count) n $$;
-- What the engine builds, and a query
CREATE FUNCTION pg_temp.built(name text) RETURNS jsonb LANGUAGE sql AS $$ SELECT dugong.build_aggregate(name, pg_temp.id('a'), skip_snapshot => true) $$;
CREATE FUNCTION pg_temp.queried(fold text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE result jsonb;
BEGIN
    EXECUTE format('SELECT to_jsonb(%s(e ORDER BY e.sequence_number)) FROM dugong.domain_events e WHERE e.aggregate_type = %L', fold, fold) INTO result;
    RETURN result;
END $$;
CREATE FUNCTION pg_temp.same(fold text, count int DEFAULT 5) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM dugong.create_aggregate_type(fold, (fold || '(dugong.domain_event)')::regprocedure, snapshot_interval => 2);
    PERFORM pg_temp.fill(fold, count);
    RETURN NEXT ok(pg_temp.built(fold) = pg_temp.queried(fold), fold);
    RETURN NEXT ok(dugong.build_aggregate(fold, pg_temp.id('a')) = pg_temp.queried(fold), fold || ', from a snapshot');
END $$;

-- Functions of the system that keep the event
CREATE AGGREGATE kept_in_array(dugong.domain_event) (SFUNC = array_append, STYPE = dugong.domain_event[]);
SELECT pg_temp.same('kept_in_array');
CREATE AGGREGATE kept_in_array_from(dugong.domain_event) (SFUNC = array_append, STYPE = dugong.domain_event[], INITCOND = '{}');
SELECT pg_temp.same('kept_in_array_from');

-- The first event is the first state; the larger one stays
CREATE FUNCTION larger(dugong.domain_event, dugong.domain_event) RETURNS dugong.domain_event LANGUAGE sql STRICT AS 'SELECT greatest($1, $2)';
CREATE AGGREGATE largest(dugong.domain_event) (SFUNC = larger, STYPE = dugong.domain_event);
SELECT pg_temp.same('largest');
CREATE FUNCTION former(dugong.domain_event, dugong.domain_event) RETURNS dugong.domain_event LANGUAGE plpgsql STRICT AS 'BEGIN RETURN $1; END';
CREATE AGGREGATE the_first(dugong.domain_event) (SFUNC = former, STYPE = dugong.domain_event);
SELECT pg_temp.same('the_first');
CREATE FUNCTION latter(dugong.domain_event, dugong.domain_event) RETURNS dugong.domain_event LANGUAGE sql AS 'SELECT $2';
CREATE AGGREGATE the_last(dugong.domain_event) (SFUNC = latter, STYPE = dugong.domain_event);
SELECT pg_temp.same('the_last');

-- SQL: whole, in parts, compared, passed on
CREATE FUNCTION passed_on(dugong.domain_event) RETURNS text LANGUAGE plpgsql AS $$ DECLARE e dugong.domain_event := $1; f dugong.domain_event; BEGIN f := e; e.payload := NULL; RETURN md5(f::text) || md5(e::text); END $$;
CREATE FUNCTION sql_apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE sql AS $$
    SELECT $1 || jsonb_build_array(to_jsonb($2), $2 IS NOT NULL, $2 IS NULL, ($2).payload, ($2).correlation_id, $2 = $2, $2 *= $2, md5($2::text), public.passed_on($2), hash_record($2),
        (SELECT jsonb_agg(r) FROM (SELECT ($2).*) r), (SELECT count(*) FROM unnest(ARRAY[$2, $2]))) $$;
CREATE AGGREGATE sql_fold(dugong.domain_event) (SFUNC = sql_apply, STYPE = jsonb, INITCOND = '[]');
SELECT pg_temp.same('sql_fold');

-- PL/pgSQL: variables, a table, an error that is caught in between
CREATE TABLE stored (LIKE dugong.domain_events);
CREATE TABLE stored_whole (event dugong.domain_event);
CREATE FUNCTION plpgsql_apply(jsonb, event dugong.domain_event) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    before dugong.domain_event := event;
    r record := event;
BEGIN
    event.type := 'Other';
    BEGIN
        event.payload := '{}';
        PERFORM 1 / (event.sequence_number - 2);
    EXCEPTION WHEN division_by_zero THEN
        event.metadata := to_jsonb(before);
    END;
    INSERT INTO public.stored SELECT before.*;
    INSERT INTO public.stored_whole VALUES (before), (event);
    RETURN $1 || jsonb_build_array(to_jsonb(before), to_jsonb(event), to_jsonb(r), before = event, r = before);
END $$;
CREATE AGGREGATE plpgsql_fold(dugong.domain_event) (SFUNC = plpgsql_apply, STYPE = jsonb, INITCOND = '[]');
SELECT pg_temp.same('plpgsql_fold');
SELECT is((SELECT count(*) FROM stored s JOIN dugong.domain_events e USING (id) WHERE s.payload = e.payload), (SELECT count(*) FROM stored), 'what it has stored is what is in the log');
SELECT is((SELECT count(*) FROM stored_whole s JOIN dugong.domain_events e ON (s.event).id = e.id WHERE (s.event).payload = e.payload), (SELECT count(*) FROM stored), 'also whole');

-- A final function, and upcasts
CREATE FUNCTION last_of(dugong.domain_event[]) RETURNS dugong.domain_event LANGUAGE sql AS 'SELECT $1[cardinality($1)]';
CREATE AGGREGATE finished(dugong.domain_event) (SFUNC = array_append, STYPE = dugong.domain_event[], FINALFUNC = last_of);
SELECT pg_temp.same('finished');
CREATE FUNCTION upcast(jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT $1 || jsonb_build_object('version', 2) $$;
SELECT dugong.create_event_type(name, 'E', version => 2, upcast => 'upcast(jsonb)') FROM unnest(ARRAY['finished', 'sql_fold', 'kept_in_array', 'largest']) name;
SELECT ok(pg_temp.built(name) = pg_temp.queried(name), name || ' with an upcast') FROM unnest(ARRAY['finished', 'sql_fold', 'kept_in_array', 'largest']) name;

-- A fold that builds another aggregate of its own type
CREATE FUNCTION nested_apply(int, dugong.domain_event) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    RETURN coalesce($1, 0) + CASE WHEN ($2).sequence_number > 1
        THEN dugong.build_aggregate('nested', ($2).aggregate_id, to_sequence_number => ($2).sequence_number - 1)::int ELSE 1 END;
END $$;
CREATE AGGREGATE nested(dugong.domain_event) (SFUNC = nested_apply, STYPE = int);
SELECT dugong.create_aggregate_type('nested', 'nested(dugong.domain_event)', snapshot_interval => 0);
SELECT pg_temp.fill('nested', 6);
SELECT is(pg_temp.built('nested'), '32', 'a fold that builds an aggregate of its own type');

-- Memory: events that are stored out of line, and wanted flat.  The state is the memory used at the 10th event and at the last
CREATE FUNCTION memory_apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE sql AS $$
    SELECT CASE WHEN to_jsonb($2) IS NULL THEN NULL WHEN ($2).sequence_number IN (10, 200) THEN $1 || to_jsonb((SELECT sum(total_bytes) FROM pg_backend_memory_contexts)) ELSE $1 END $$;
CREATE AGGREGATE memory_fold(dugong.domain_event) (SFUNC = memory_apply, STYPE = jsonb, INITCOND = '[]');
SELECT dugong.create_aggregate_type('Memory', 'memory_fold(dugong.domain_event)', snapshot_interval => 0);
SELECT dugong.append_event('Memory', pg_temp.id('a'), 'E', to_jsonb(pg_temp.noise(n))) FROM generate_series(1, 200) n;
SELECT cmp_ok((s ->> 1)::bigint - (s ->> 0)::bigint, '<', 1000000::bigint, 'memory does not grow with the events') FROM pg_temp.built('Memory') s;

SELECT * FROM finish();
ROLLBACK;
