-- Projections that run within the append.
BEGIN;
SELECT no_plan();
\ir helpers.psql

CREATE TYPE sum AS (n bigint, name text);
CREATE FUNCTION sum_apply(sum, dugong.domain_event) RETURNS sum LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT CASE ($2).type WHEN 'Gone' THEN NULL
        ELSE ROW(coalesce(($1).n, 0) + coalesce((($2).payload ->> 'n')::bigint, 0), coalesce(($2).payload ->> 'name', ($1).name))::sum END;
END;
CREATE AGGREGATE sum_fold(dugong.domain_event) (SFUNC = sum_apply, STYPE = sum);
SELECT dugong.create_aggregate_type('Sum', 'sum_fold(dugong.domain_event)');
SELECT dugong.create_aggregate_type('Echo');
SELECT dugong.append_event('Sum', pg_temp.id('a', n), 'Added', jsonb_build_object('n', n, 'name', 'old ' || n)) FROM generate_series(1, 3) n;
SELECT dugong.append_event('Sum', pg_temp.id('a', 3), 'Gone');

CREATE TABLE seen (number bigint GENERATED ALWAYS AS IDENTITY, handler text, what text, replaying boolean);
CREATE FUNCTION see(handler text, what text) RETURNS void LANGUAGE sql AS $$ INSERT INTO seen (handler, what, replaying) VALUES (handler, what, dugong.is_replaying()) $$;
CREATE FUNCTION pg_temp.saw(name text) RETURNS text[] LANGUAGE sql RETURN (SELECT array_agg(what ORDER BY number) FROM seen WHERE handler = name);
CREATE FUNCTION on_event(event dugong.domain_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF event.payload ? 'fail' THEN
        RAISE EXCEPTION 'refused' USING ERRCODE = event.payload ->> 'fail', DETAIL = 'by the handler';
    END IF;
    PERFORM see('event', concat_ws(' ', right(event.aggregate_id::text, 1), event.sequence_number));
END $$;
CREATE FUNCTION on_events(events dugong.domain_event[]) RETURNS void LANGUAGE sql AS $$ SELECT see('events', cardinality(events)::text) $$;
CREATE FUNCTION on_update(id uuid, state sum) RETURNS void LANGUAGE sql AS $$ SELECT see('state', right(id::text, 1) || ' ' || (state).n) $$;
CREATE FUNCTION on_delete(id uuid) RETURNS void LANGUAGE sql AS $$ SELECT see('state', right(id::text, 1) || ' deleted') $$;
CREATE FUNCTION on_states(ids uuid[], states sum[]) RETURNS void LANGUAGE sql AS $$ SELECT see('states', cardinality(ids)::text) $$;
CREATE TABLE sums (id uuid, tenant_id text, n bigint CHECK (n >= 0), name text UNIQUE, PRIMARY KEY (id, tenant_id));

-- Created over events that are there
SELECT dugong.create_projection('1 model', 'Sum', 'sums', 'inline');
SELECT dugong.create_projection('2 events', 'Sum', event_handler => 'on_event(dugong.domain_event)', mode => 'inline');
SELECT dugong.create_projection('3 states', 'Sum', update_handler => 'on_update(uuid, sum)', delete_handler => 'on_delete(uuid)', mode => 'inline');
SELECT dugong.create_projection('4 event sets', 'Sum', set_handler => 'on_events(dugong.domain_event[])', mode => 'inline', start_position => NULL);
SELECT dugong.create_projection('5 state sets', 'Sum', set_handler => 'on_states(uuid[], sum[])', mode => 'inline');
SELECT results_eq('SELECT id, n, name FROM sums ORDER BY id', $$ VALUES (pg_temp.id('a', 1), 1::bigint, 'old 1'), (pg_temp.id('a', 2), 2, 'old 2') $$, 'a query model is filled when it is created');
SELECT is(pg_temp.saw('event'), '{1 1,2 1,3 1,3 2}'::text[], 'events that were there');
SELECT is(pg_temp.saw('state'), '{1 1,2 2,3 deleted}'::text[], 'states that were there');
SELECT is(pg_temp.saw('events'), NULL, 'start_position NULL: events from now on');
SELECT is(pg_temp.saw('states'), '{3}'::text[], 'states that were there, in one call');
SELECT is((SELECT bool_and(replaying) FROM seen), true, 'dugong.is_replaying() says so');
SELECT is((SELECT array_agg(lag_events) FROM dugong.projection_status WHERE mode = 'inline'), '{0,0,0,0,0}'::bigint[], 'an inline projection is never behind');

-- Each append
TRUNCATE seen;
SELECT dugong.append_event('Sum', pg_temp.id('a', 1), 'Added', '{"n": 10}');
SELECT is((SELECT n FROM sums WHERE id = pg_temp.id('a', 1)), 11::bigint, 'handled when the append returns');
SELECT is(pg_temp.saw('event') || pg_temp.saw('events') || pg_temp.saw('state') || pg_temp.saw('states'), '{1 2,1,1 11,1}'::text[], 'by all, in the order of their names');
SELECT is((SELECT bool_or(replaying) FROM seen), false, 'that is no replay');
CALL dugong.run_projections();
SELECT is((SELECT count(*) FROM seen), 4::bigint, 'dugong.run_projections() does not handle it again');
SELECT dugong.append_event('Sum', pg_temp.id('a', 1), 'Gone');
SELECT is((SELECT count(*) FROM sums WHERE id = pg_temp.id('a', 1)), 0::bigint, 'a deleted one goes at once');

-- Many at once
TRUNCATE seen;
SELECT count(*) FROM dugong.append_events('Sum', pg_temp.id('b', 1), '[{"type": "Added", "payload": {"n": 1, "name": "b"}}, {"type": "Added", "payload": {"n": 2}}, {"type": "Added", "payload": {"n": 3}}]');
SELECT is(pg_temp.saw('event'), '{1 1,1 2,1 3}'::text[], 'append_events: each event');
SELECT is((SELECT n FROM sums WHERE name = 'b'), 6::bigint, 'append_events: the state after the last');
TRUNCATE seen;
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload) SELECT 'Sum', pg_temp.id('c', n), 'Added', jsonb_build_object('n', n) FROM generate_series(1, 5) n;
SELECT is(pg_temp.saw('event'), '{1 1,2 1,3 1,4 1,5 1}'::text[], 'an INSERT of many rows: each event');
SELECT is((SELECT array_agg(n ORDER BY id) FROM sums WHERE name IS NULL), '{1,2,3,4,5}'::bigint[], 'and each state');
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload) SELECT 'Sum', pg_temp.id('c', 1), 'Added', '{"n": 1}' FROM generate_series(1, 5);
SELECT is((SELECT n FROM sums WHERE id = pg_temp.id('c', 1)), 6::bigint, 'many rows of one aggregate');

-- A retry appends nothing, so nothing is handled
SELECT dugong.append_event('Sum', pg_temp.id('d'), 'Added', '{"n": 1}', event_id => pg_temp.id('ee'));
TRUNCATE seen;
SELECT dugong.append_event('Sum', pg_temp.id('d'), 'Added', '{"n": 1}', event_id => pg_temp.id('ee'));
SELECT is((SELECT count(*) FROM seen), 0::bigint, 'a retry is not handled again');

-- What fails fails the append, with its SQLSTATE
SELECT is(pg_temp.answer($$ SELECT dugong.append_event('Sum', pg_temp.id('d'), 'Added', '{"fail": "UG004"}') $$), 'UG004 by the handler', 'an error of one''s own');
SELECT is(pg_temp.answer($$ SELECT dugong.append_event('Sum', pg_temp.id('d'), 'Added', '{"fail": "22012"}') $$), '22012 by the handler', 'any error');
SELECT is(pg_temp.answer($$ SELECT count(*) FROM dugong.append_events('Sum', pg_temp.id('d'), '[{"type": "Added", "payload": {"n": 1}}, {"type": "Added", "payload": {"fail": "UG004"}}]') $$),
    'UG004 by the handler', 'append_events: all or none');
SELECT is(pg_temp.answer($$ INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload) VALUES ('Sum', pg_temp.id('d'), 'Added', '{"n": 1}'), ('Sum', pg_temp.id('d'), 'Added', '{"fail": "UG004"}') $$),
    'UG004 by the handler', 'INSERT: all or none');
SELECT alike(pg_temp.answer($$ SELECT dugong.append_event('Sum', pg_temp.id('d'), 'Added', '{"n": -5}') $$), '23514 Failing row contains %', 'a CHECK of the query model');
SELECT is(pg_temp.answer($$ SELECT dugong.append_event('Sum', pg_temp.id('d', 2), 'Added', '{"name": "b"}') $$), '23505 Key (name)=(b) already exists.', 'UNIQUE: a rule across aggregates');
SELECT is((SELECT count(*) FROM dugong.domain_events WHERE aggregate_id IN (pg_temp.id('d'), pg_temp.id('d', 2))), 1::bigint, 'nothing was appended');
SELECT is((SELECT count(*) FROM seen), 0::bigint, 'nothing was handled');
SELECT is((SELECT n FROM sums WHERE id = pg_temp.id('d')), 1::bigint, 'the query model is as before');
SELECT is((SELECT count(*) FROM dugong.dead_letters), 0::bigint, 'nothing is set aside');

-- The name is free again when its owner is gone, or has another
SELECT lives_ok($$ SELECT dugong.append_event('Sum', pg_temp.id('b', 1), 'Added', '{"name": "not b"}') $$, 'renamed');
SELECT lives_ok($$ SELECT dugong.append_event('Sum', pg_temp.id('d', 2), 'Added', '{"name": "b"}') $$, 'now another can have it');
SELECT lives_ok($$ SELECT dugong.append_event('Sum', pg_temp.id('d', 2), 'Gone'), dugong.append_event('Sum', pg_temp.id('d', 3), 'Added', '{"name": "b"}') $$, 'and when that is gone, a third');

-- Savepoints
TRUNCATE seen;
SAVEPOINT s;
SELECT dugong.append_event('Sum', pg_temp.id('f'), 'Added', '{"n": 1, "name": "f"}');
SELECT is((SELECT n FROM sums WHERE name = 'f'), 1::bigint, 'within a savepoint');
ROLLBACK TO s;
SELECT is((SELECT count(*) FROM sums WHERE name = 'f') + (SELECT count(*) FROM seen), 0::bigint, 'rolled back to the savepoint');
SELECT dugong.append_event('Sum', pg_temp.id('f', 2), 'Added', '{"n": 2, "name": "f"}');
SELECT is(pg_temp.saw('event'), '{2 1}'::text[], 'what was rolled back is not handled later');
DO $$
BEGIN
    FOR i IN 1 .. 4 LOOP
        BEGIN
            PERFORM dugong.append_event('Sum', ('0f000000-0000-4000-8000-00000000000' || i)::uuid, 'Added', '{"n": 1}');
            IF i % 2 = 0 THEN
                RAISE EXCEPTION 'undone';
            END IF;
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
    END LOOP;
END $$;
SELECT is((SELECT array_agg(right(id::text, 1) ORDER BY id) FROM sums WHERE id::text LIKE '0f%'), '{1,3}'::text[], 'subtransactions in a loop');

-- A statement that fails after its rows were collected leaves none of them to the next
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = 'UG004'; END $$;
CREATE TRIGGER zzz AFTER INSERT ON dugong.event_log FOR EACH ROW WHEN (NEW.type = 'Refused') EXECUTE FUNCTION refuse();
TRUNCATE seen;
SELECT is(left(pg_temp.answer($$ SELECT dugong.append_event('Sum', pg_temp.id('f', 7), 'Refused', '{"n": 1}') $$), 5), 'UG004', 'another trigger of the log fails');
DROP TRIGGER zzz ON dugong.event_log;
SELECT dugong.append_event('Sum', pg_temp.id('f', 8), 'Added', '{"n": 1}');
SELECT is(pg_temp.saw('event'), '{8 1}'::text[], 'what failed is not handled with the next append');

-- Another trigger appends, in a subtransaction that fails: what was handled within that is handled again, once
CREATE FUNCTION derive() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        PERFORM dugong.append_event('Sum', NEW.aggregate_id, 'Derived', '{"n": 5}');
        IF NEW.payload ? 'undo' THEN RAISE EXCEPTION 'undone'; END IF;
    EXCEPTION WHEN raise_exception THEN NULL;
    END;
    RETURN NULL;
END $$;
CREATE TRIGGER zzz AFTER INSERT ON dugong.event_log FOR EACH ROW WHEN (NEW.type = 'Added') EXECUTE FUNCTION derive();
TRUNCATE seen;
SELECT dugong.append_event('Sum', pg_temp.id('10', 0), 'Added', '{"n": 1}');
SELECT is(pg_temp.saw('event'), '{0 1,0 2}'::text[], 'a trigger that appends in a subtransaction');
INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, tenant_id, type, payload)
    SELECT id, pg_temp.id('10', n), '', 'Added', '{"n": 1, "undo": true}' FROM dugong.aggregate_types(), generate_series(1, 3) n WHERE name = 'Sum';
SELECT is(pg_temp.saw('event'), '{0 1,0 2,1 1,2 1,3 1}'::text[], 'in one that is rolled back');
SELECT is((SELECT array_agg(n ORDER BY id) FROM sums WHERE id::text LIKE '10%'), '{6,1,1,1}'::bigint[], 'and the states');
DROP TRIGGER zzz ON dugong.event_log;

-- A restore, rolled back or not, is of the rows that bring their positions
SELECT last_value + 1000 AS place FROM dugong.event_log_position_seq \gset
CREATE FUNCTION pg_temp.restore(place bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO dugong.event_log (position, sequence_number, "timestamp", id, aggregate_id, aggregate_type_id, version, tenant_id, type, payload)
    SELECT place, 1, now(), gen_random_uuid(), gen_random_uuid(), id, 1, '', 'Added', '{"n": 1}' FROM dugong.aggregate_types() WHERE name = 'Sum' $$;
TRUNCATE seen;
SAVEPOINT s;
SELECT pg_temp.restore(:place);
ROLLBACK TO s;
SELECT dugong.append_event('Sum', pg_temp.id('20', 0), 'Added', '{"n": 1}');
SELECT is(pg_temp.saw('event'), '{0 1}'::text[], 'an append after a restore that was rolled back is handled');
SELECT pg_temp.restore(:place);
SELECT dugong.append_event('Sum', pg_temp.id('20', 0), 'Added', '{"n": 1}');
INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, tenant_id, type, payload) SELECT id, pg_temp.id('20', 0), '', 'Added', '{"n": 1}' FROM dugong.aggregate_types() WHERE name = 'Sum';
SELECT is(pg_temp.saw('event'), '{0 1,0 2,0 3}'::text[], 'so are appends after one that was not; the restored row is not');

-- A handler that appends: what it appends is handled within, too
CREATE FUNCTION echo(event dugong.domain_event) RETURNS void LANGUAGE sql AS $$
    SELECT dugong.append_event('Echo', (event).aggregate_id, 'Echoed', (event).payload) $$;
CREATE FUNCTION count_down(event dugong.domain_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM see('echo', event.payload ->> 'n');
    IF (event.payload ->> 'n')::int > 0 THEN
        PERFORM dugong.append_event('Echo', event.aggregate_id, 'Echoed', jsonb_build_object('n', (event.payload ->> 'n')::int - 1));
    END IF;
END $$;
SELECT dugong.create_projection('6 echo', 'Sum', event_handler => 'echo(dugong.domain_event)', mode => 'inline', start_position => NULL);
SELECT dugong.create_projection('7 count down', 'Echo', event_handler => 'count_down(dugong.domain_event)', mode => 'inline');
SELECT dugong.append_event('Sum', pg_temp.id('9'), 'Added', '{"n": 3}', event_id => pg_temp.id('99'), tenant_id => 'T', correlation_id => pg_temp.id('cc'));
SELECT is(pg_temp.saw('echo'), '{3,2,1,0}'::text[], 'handlers that append');
SELECT is((SELECT count(*) FROM dugong.domain_events WHERE aggregate_type = 'Echo' AND tenant_id = 'T' AND correlation_id = pg_temp.id('cc')), 4::bigint, 'with tenant and correlation of what they handle');
SELECT is((SELECT count(*) FROM dugong.effects_of(pg_temp.id('99'))), 4::bigint, 'each caused by what it was handled for');
CREATE FUNCTION endless(event dugong.domain_event) RETURNS void LANGUAGE sql AS $$ SELECT dugong.append_event('Echo', (event).aggregate_id, 'Echoed') $$;
SELECT dugong.create_projection('8 endless', 'Echo', event_handler => 'endless(dugong.domain_event)', mode => 'inline', types => '{Started}');
SELECT lives_ok($$ SELECT dugong.append_event('Echo', pg_temp.id('8'), 'Started', '{"n": 0}') $$, 'one whose event types keep it from its own events');
SELECT dugong.drop_projection(name) FROM dugong.projections WHERE mode = 'inline' AND name <> '1 model';

-- A deferred constraint of the query model is refused: the caller's transaction would have to fire it
CREATE TABLE names (name text PRIMARY KEY);
INSERT INTO names VALUES ('known');
ALTER TABLE sums ADD CONSTRAINT known_name FOREIGN KEY (name) REFERENCES names DEFERRABLE INITIALLY DEFERRED NOT VALID;
SELECT is(left(pg_temp.answer($$ SELECT dugong.append_event('Sum', pg_temp.id('5'), 'Added', '{"name": "known"}') $$), 5), '42501', 'a deferred foreign key');
ALTER TABLE sums ALTER CONSTRAINT known_name DEFERRABLE INITIALLY IMMEDIATE;
SELECT lives_ok($$ SELECT dugong.append_event('Sum', pg_temp.id('5'), 'Added', '{"name": "known"}') $$, 'one that is checked at once');
SELECT is(left(pg_temp.answer($$ SELECT dugong.append_event('Sum', pg_temp.id('5', 2), 'Added', '{"name": "unknown"}') $$), 5), '23503', 'and which holds');
ALTER TABLE sums DROP CONSTRAINT known_name;

-- A projection whose creation fails over what is there
CREATE TABLE few (id uuid, tenant_id text, n bigint CHECK (n < 3), name text, PRIMARY KEY (id, tenant_id));
SELECT pg_temp.refused('23514', $$ SELECT dugong.create_projection('few', 'Sum', 'few', 'inline') $$);
SELECT is((SELECT count(*) FROM dugong.projections WHERE name = 'few') + (SELECT count(*) FROM few), 0::bigint, 'is not there, nor its rows');

-- A dropped one, a handler that is gone
SELECT dugong.create_projection('gone', 'Echo', event_handler => 'on_event(dugong.domain_event)', mode => 'inline', start_position => NULL);
DROP FUNCTION on_event(dugong.domain_event);
SELECT is(left(pg_temp.answer($$ SELECT dugong.append_event('Echo', pg_temp.id('7'), 'X') $$), 5), '42883', 'its handler is gone: appends fail');
SELECT lives_ok($$ SELECT dugong.append_event('Sum', pg_temp.id('7'), 'Added', '{"n": 1}') $$, 'those of its aggregate type');
SELECT dugong.drop_projection('gone');
SELECT lives_ok($$ SELECT dugong.append_event('Echo', pg_temp.id('7'), 'X') $$, 'without the projection they succeed');

-- Whose rights: the handler runs as the projection's owner, whoever appends
CREATE ROLE regress_dugong_appender;
GRANT USAGE ON SCHEMA dugong TO regress_dugong_appender;
GRANT EXECUTE ON FUNCTION dugong.append_event(text,uuid,text,jsonb,bigint,uuid,int,jsonb,uuid,uuid,text,timestamptz,text,text) TO regress_dugong_appender;
CREATE FUNCTION who(event dugong.domain_event) RETURNS void LANGUAGE sql AS $$ SELECT see('who', current_user || ' for ' || session_user) $$;
SELECT dugong.create_projection('who', 'Echo', event_handler => 'who(dugong.domain_event)', mode => 'inline', start_position => NULL);
SET LOCAL ROLE regress_dugong_appender;
SELECT lives_ok($$ SELECT dugong.append_event('Echo', '70000000-0000-4000-8000-000000000002', 'X') $$, 'EXECUTE on append_event is enough');
RESET ROLE;
SELECT is(pg_temp.saw('who'), ARRAY[session_user || ' for ' || session_user], 'the handler has its owner''s rights');

-- A trigger of the owner's appends between the rows of a statement, and takes that back: what was handled with it is handled again
CREATE FUNCTION on_row(event dugong.domain_event) RETURNS void LANGUAGE sql AS $$ SELECT see('row', concat_ws(' ', event.type, event.sequence_number)) $$;
CREATE FUNCTION also() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        PERFORM dugong.append_event('Sum', pg_temp.id('9'), 'Inner') WHERE NEW.type = 'Outer';
        IF NEW.payload ? 'back' THEN
            RAISE 'taken back' USING ERRCODE = 'P0002';
        END IF;
    EXCEPTION WHEN no_data_found THEN
    END;
    RETURN NULL;
END $$;
SELECT dugong.create_aggregate_type('Row');
SELECT dugong.create_projection('row', ARRAY['Row', 'Sum'], event_handler => 'on_row(dugong.domain_event)', mode => 'inline', start_position => NULL);
CREATE TRIGGER zalso AFTER INSERT ON dugong.event_log FOR EACH ROW EXECUTE FUNCTION also();
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload) SELECT 'Row', pg_temp.id('8'), 'Outer', payload FROM unnest(ARRAY['{}', '{"back": 1}', '{"back": 1}', '{}']::jsonb[]) payload;
SELECT is(pg_temp.saw('row'), ARRAY['Outer 1', 'Inner 1', 'Outer 2', 'Outer 3', 'Outer 4', 'Inner 2'], 'a trigger that appends, and takes it back: every event is handled, in its order');

SELECT * FROM finish();
ROLLBACK;
