-- What each kind of projection is given, and what it makes of it.
BEGIN;
SELECT no_plan();
\ir helpers.psql

CREATE TYPE sum AS (n bigint, note text);
CREATE FUNCTION sum_apply(sum, dugong.domain_event) RETURNS sum LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT CASE ($2).type
        WHEN 'Gone' THEN NULL
        ELSE ROW(coalesce(($1).n, 0) + coalesce((($2).payload ->> 'n')::bigint, 0), coalesce(($2).payload ->> 'note', ($1).note))::sum
    END;
END;
CREATE AGGREGATE sum_fold(dugong.domain_event) (SFUNC = sum_apply, STYPE = sum);
CREATE FUNCTION json_apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT CASE ($2).type WHEN 'Gone' THEN NULL ELSE coalesce($1, '{}') || ($2).payload END;
END;
CREATE AGGREGATE json_fold(dugong.domain_event) (SFUNC = json_apply, STYPE = jsonb);
SELECT dugong.create_aggregate_type('Sum', 'sum_fold(dugong.domain_event)');
SELECT dugong.create_aggregate_type('Json', 'json_fold(dugong.domain_event)');
SELECT dugong.create_aggregate_type('Plain');

-- append(type, kind, number, event, payload): short for append_event
CREATE FUNCTION pg_temp.append(aggregate_type text, kind text, number int, type text, payload jsonb DEFAULT NULL, tenant text DEFAULT NULL) RETURNS bigint LANGUAGE sql
RETURN (SELECT e.position FROM dugong.append_event(aggregate_type, pg_temp.id(kind, number), type, payload, tenant_id => tenant) e);

-- What handlers saw.  They find it along the search_path of whoever registers them.
CREATE TABLE seen (number bigint GENERATED ALWAYS AS IDENTITY, handler text, what text, tenant text, correlation text, cause text);
CREATE FUNCTION see(handler text, what text) RETURNS void LANGUAGE sql
AS $$ INSERT INTO seen (handler, what, tenant, correlation, cause)
      VALUES (handler, what, current_setting('dugong.tenant_id'), current_setting('dugong.correlation_id'), current_setting('dugong.triggered_by_event_id')) $$;
CREATE FUNCTION pg_temp.saw(name text) RETURNS text[] LANGUAGE sql RETURN (SELECT array_agg(what ORDER BY number) FROM seen WHERE handler = name);

-- The four kinds of handlers, in SQL and PL/pgSQL
CREATE FUNCTION on_event(event dugong.domain_event) RETURNS void LANGUAGE sql
AS $$ SELECT see('event', concat_ws(' ', right((event).aggregate_id::text, 1), (event).sequence_number, (event).type, (event).payload ->> 'n')) $$;
CREATE FUNCTION on_update(id uuid, state sum) RETURNS void LANGUAGE plpgsql
AS $$ BEGIN PERFORM see('state', concat_ws(' ', right(id::text, 1), state.n, state.note)); END $$;
CREATE FUNCTION on_delete(id uuid) RETURNS void LANGUAGE sql
AS $$ SELECT see('state', right(id::text, 1) || ' deleted') $$;
CREATE FUNCTION on_events(events dugong.domain_event[]) RETURNS int LANGUAGE plpgsql
AS $$ BEGIN PERFORM see('events', (SELECT string_agg(concat_ws(' ', right(e.aggregate_id::text, 1), e.sequence_number), ', ' ORDER BY o) FROM unnest(events) WITH ORDINALITY
    AS e (id, origin, aggregate_type, aggregate_id, tenant_id, sequence_number, type, version, payload, "timestamp", correlation_id, triggered_by_event_id, triggered_by_user_id, metadata, position, o))); RETURN 1; END $$;
CREATE FUNCTION on_states(ids uuid[], states sum[]) RETURNS void LANGUAGE sql
AS $$ SELECT see('states', string_agg(right(ids[i]::text, 1) || ' ' || coalesce(states[i].n::text, 'deleted'), ', ' ORDER BY i)) FROM generate_subscripts(ids, 1) i $$;
SELECT dugong.create_projection('e', 'Sum', event_handler => 'on_event(dugong.domain_event)');
SELECT dugong.create_projection('es', 'Sum', set_handler => 'on_events(dugong.domain_event[])');
SELECT dugong.create_projection('s', 'Sum', update_handler => 'on_update(uuid, sum)', delete_handler => 'on_delete(uuid)');
SELECT dugong.create_projection('ss', 'Sum', set_handler => 'on_states(uuid[], sum[])');

SELECT pg_temp.append('Sum', 'a', 1, 'Added', '{"n": 1, "note": "one"}');
SELECT pg_temp.append('Sum', 'a', 2, 'Added', '{"n": 10}');
SELECT pg_temp.append('Sum', 'a', 1, 'Added', '{"n": 2}');
SELECT pg_temp.append('Sum', 'a', 3, 'Added', '{"n": 7}');
SELECT pg_temp.append('Sum', 'a', 3, 'Gone');
CALL dugong.run_projections();
SELECT is(pg_temp.saw('event'), '{1 1 Added 1,2 1 Added 10,1 2 Added 2,3 1 Added 7,3 2 Gone}'::text[], 'an event handler: each event, in the order of the log');
SELECT is(pg_temp.saw('events'), ARRAY['1 1, 2 1, 1 2, 3 1, 3 2'], 'a set handler of events: one call, in the order of the log');
SELECT is(pg_temp.saw('state'), '{1 3 one,2 10,3 deleted}'::text[], 'handlers of states: each aggregate once, by id, as it is now');
SELECT is(pg_temp.saw('states'), ARRAY['1 3, 2 10, 3 deleted'], 'a set handler of states: one call, NULL = deleted');
CALL dugong.run_projections();
SELECT is((SELECT count(*) FROM seen), 10::bigint, 'nothing twice');
SELECT is(current_setting('dugong.correlation_id') || current_setting('dugong.triggered_by_event_id') || current_setting('dugong.tenant_id'), '', 'the settings of handlers are not the session''s');

-- Deleted and there again
TRUNCATE seen;
SELECT pg_temp.append('Sum', 'a', 2, 'Gone'), pg_temp.append('Sum', 'a', 2, 'Added', '{"n": 4}');
CALL dugong.run_projections();
SELECT is(pg_temp.saw('state') || pg_temp.saw('states'), '{2 4,2 4}'::text[], 'an aggregate that was deleted and is back: its state');
TRUNCATE seen;
SELECT pg_temp.append('Sum', 'a', 9, 'Gone');
CALL dugong.run_projections();
SELECT is(pg_temp.saw('state') || pg_temp.saw('states'), '{9 deleted,9 deleted}'::text[], 'one that never was there');

-- Settings are those of what is handled
TRUNCATE seen;
SET LOCAL dugong.tenant_id = 'session';
SET LOCAL dugong.correlation_id = '5e550000-0000-4000-8000-000000000000';
SELECT dugong.append_event('Sum', pg_temp.id('b', 1), 'Added', '{"n": 1}', event_id => pg_temp.id('e', 1), correlation_id => pg_temp.id('c', 1), tenant_id => 'A');
SELECT dugong.append_event('Sum', pg_temp.id('b', 1), 'Added', '{"n": 2}', event_id => pg_temp.id('e', 2), correlation_id => pg_temp.id('c', 2), tenant_id => 'B');
SELECT dugong.append_event('Sum', pg_temp.id('b', 1), 'Added', '{"n": 3}', event_id => pg_temp.id('e', 3), correlation_id => pg_temp.id('c', 3), tenant_id => 'A');
RESET dugong.correlation_id;
SELECT dugong.append_event('Sum', pg_temp.id('b', 2), 'Added', '{"n": 4}', event_id => pg_temp.id('e', 4), tenant_id => '');
CALL dugong.run_projections();
SELECT results_eq($$ SELECT what, tenant, correlation, cause FROM seen WHERE handler = 'event' ORDER BY number $$, $$ VALUES
    ('1 1 Added 1', 'A', pg_temp.id('c', 1)::text, pg_temp.id('e', 1)::text), ('1 1 Added 2', 'B', pg_temp.id('c', 2)::text, pg_temp.id('e', 2)::text),
    ('1 2 Added 3', 'A', pg_temp.id('c', 3)::text, pg_temp.id('e', 3)::text), ('2 1 Added 4', '', '', pg_temp.id('e', 4)::text) $$, 'of the event');
SELECT results_eq($$ SELECT what, tenant, correlation, cause FROM seen WHERE handler = 'state' ORDER BY what $$, $$ VALUES
    ('1 2', 'B', pg_temp.id('c', 2)::text, pg_temp.id('e', 2)::text), ('1 4', 'A', pg_temp.id('c', 3)::text, pg_temp.id('e', 3)::text), ('2 4', '', '', pg_temp.id('e', 4)::text) $$,
    'of the aggregate''s last event');
SELECT results_eq($$ SELECT what, tenant, correlation, cause FROM seen WHERE handler = 'events' ORDER BY what $$, $$ VALUES
    ('1 1', 'B', '', ''), ('1 1, 1 2', 'A', '', ''), ('2 1', '', '', '') $$, 'a set handler is called once for each tenant');
SELECT results_eq($$ SELECT what, tenant, correlation, cause FROM seen WHERE handler = 'states' ORDER BY what $$, $$ VALUES
    ('1 2', 'B', '', ''), ('1 4', 'A', '', ''), ('2 4', '', '', '') $$, 'also one of states');
SELECT is(current_setting('dugong.tenant_id'), 'session', 'the session keeps its own');
RESET dugong.tenant_id;

-- A set handler is called once a batch
TRUNCATE seen;
SET LOCAL dugong.batch_size = 2;
SELECT pg_temp.append('Sum', 'd', n, 'Added', '{"n": 1}') FROM generate_series(1, 5) n;
CALL dugong.run_projections();
SELECT is(pg_temp.saw('events'), '{"1 1, 2 1","3 1, 4 1","5 1"}'::text[], 'batches of dugong.batch_size events');
RESET dugong.batch_size;
SELECT dugong.drop_projection(name) FROM unnest('{e,es,s,ss}'::text[]) name;

-- What a handler appends is caused by what it handles
CREATE FUNCTION react(event dugong.domain_event) RETURNS void LANGUAGE sql
AS $$ SELECT dugong.append_event('Plain', (event).aggregate_id, 'Reacted') $$;
SELECT dugong.create_projection('reaction', 'Sum', event_handler => 'react(dugong.domain_event)', start_position => NULL);
SELECT dugong.append_event('Sum', pg_temp.id('f'), 'Added', '{"n": 1}', event_id => pg_temp.id('ee'), correlation_id => pg_temp.id('cc'), tenant_id => 'T');
CALL dugong.run_projections();
SELECT results_eq($$ SELECT aggregate_id, tenant_id, triggered_by_event_id, correlation_id FROM dugong.domain_events WHERE type = 'Reacted' $$,
    $$ VALUES (pg_temp.id('f'), 'T', pg_temp.id('ee'), pg_temp.id('cc')) $$, 'tenant, cause and correlation');
SELECT dugong.drop_projection('reaction');

-- Query models: other order, defaults, generated and identity columns, reserved words, no tenants
CREATE SCHEMA "Read Side";
CREATE TABLE "Read Side"."select" (
    extra text DEFAULT 'left alone', note text, "user" int GENERATED ALWAYS AS IDENTITY, twice bigint GENERATED ALWAYS AS (n * 2) STORED,
    dropped int, tenant_id text, n bigint, id uuid, UNIQUE (tenant_id, id));
ALTER TABLE "Read Side"."select" DROP COLUMN dropped;
CREATE TYPE reserved AS ("order" bigint, "Table" text, "quo""ted" text[]);
CREATE FUNCTION reserved_apply(reserved, dugong.domain_event) RETURNS reserved LANGUAGE sql IMMUTABLE
RETURN ROW(coalesce(($1)."order", 0) + 1, ($2).type, ($1)."quo""ted" || ($2).type)::reserved;
CREATE AGGREGATE reserved_fold(dugong.domain_event) (SFUNC = reserved_apply, STYPE = reserved);
SELECT dugong.create_aggregate_type('Reserved', 'reserved_fold(dugong.domain_event)');
CREATE TABLE "Group by" (id uuid PRIMARY KEY, "order" bigint, "Table" text, "quo""ted" text[]);
SELECT dugong.create_projection('a; name with "quotes" and ''more''', 'Sum', '"Read Side"."select"');
SELECT dugong.create_projection('reserved', 'Reserved', '"Group by"');
SELECT pg_temp.append('Reserved', 'a', 1, 'One'), pg_temp.append('Reserved', 'a', 1, 'Two'), pg_temp.append('Sum', 'a', 1, 'Noted', '{"note": "again"}');
CALL dugong.run_projections();
SELECT results_eq($$ SELECT id, tenant_id, n, note, twice, extra FROM "Read Side"."select" WHERE id IN (pg_temp.id('a', 1), pg_temp.id('b', 1)) ORDER BY id, tenant_id $$, $$ VALUES
    (pg_temp.id('a', 1), '', 3::bigint, 'again', 6::bigint, 'left alone'), (pg_temp.id('b', 1), 'A', 4, NULL, 8, 'left alone'), (pg_temp.id('b', 1), 'B', 2, NULL, 4, 'left alone') $$,
    'other order, defaults, generated columns, tenants');
SELECT is((SELECT count(*) FROM "Read Side"."select" WHERE id = pg_temp.id('a', 3)), 0::bigint, 'no row of a deleted one');
SELECT results_eq($$ SELECT "order", "Table", "quo""ted" FROM "Group by" $$, $$ VALUES (2::bigint, 'Two', '{One,Two}'::text[]) $$, 'reserved words and quotes');
UPDATE "Read Side"."select" SET extra = 'mine', n = 1000;
SELECT pg_temp.append('Sum', 'a', 1, 'Added', '{"n": 1}'), pg_temp.append('Sum', 'b', 1, 'Gone', tenant => 'B');
CALL dugong.run_projections();
SELECT results_eq($$ SELECT tenant_id, n, extra FROM "Read Side"."select" WHERE id IN (pg_temp.id('a', 1), pg_temp.id('b', 1)) ORDER BY id, tenant_id $$,
    $$ VALUES ('', 4::bigint, 'mine'), ('A', 1000, 'mine') $$, 'an update leaves other columns and other rows alone; deleting keeps to the tenant');
CREATE FUNCTION set_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := upper(NEW.note) || coalesce(current_setting('dugong.tenant_id'), '?'); RETURN NEW; END $$;
CREATE TRIGGER set_note BEFORE UPDATE ON "Read Side"."select" FOR EACH ROW EXECUTE FUNCTION set_note();
SELECT pg_temp.append('Sum', 'a', 1, 'Added', '{"n": 1}');
CALL dugong.run_projections();
SELECT is((SELECT note FROM "Read Side"."select" WHERE id = pg_temp.id('a', 1)), 'AGAIN', 'triggers of the table fire');
ALTER TABLE "Read Side"."select" ADD later text DEFAULT 'new', ALTER note TYPE varchar(20);
SELECT throws_ok('CALL dugong.run_projections()', '42804', NULL, 'a column of another type: the projection fails')
FROM pg_temp.append('Sum', 'a', 1, 'Added', '{"n": 1}');
ALTER TABLE "Read Side"."select" DISABLE TRIGGER set_note, ALTER note TYPE text;
CALL dugong.run_projections();
SELECT is((SELECT concat_ws(' ', n, note, later) FROM "Read Side"."select" WHERE id = pg_temp.id('a', 1)), '6 again new', 'and goes on when that is mended; a new column with a default is left alone');
SELECT dugong.drop_projection('a; name with "quotes" and ''more''');

-- A partitioned table, one with the key alone, one without tenants
CREATE TABLE parts (id uuid PRIMARY KEY, n bigint, note text) PARTITION BY HASH (id);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE keys (id uuid PRIMARY KEY);
SELECT dugong.create_aggregate_type('Sum 2', 'sum_fold(dugong.domain_event)');
SELECT dugong.create_projection('parts', 'Sum 2', 'parts'), dugong.create_projection('keys', 'Sum 2', 'keys');
SELECT pg_temp.append('Sum 2', 'a', n, 'Added', '{"n": 1}') FROM generate_series(1, 20) n;
SELECT pg_temp.append('Sum 2', 'a', n, CASE WHEN n > 8 THEN 'Gone' ELSE 'Added' END, '{"n": 1}') FROM generate_series(5, 12) n;
CALL dugong.run_projections();
SELECT results_eq('SELECT n, count(*) FROM parts GROUP BY n ORDER BY n', 'VALUES (1::bigint, 12::bigint), (2, 4)', 'a partitioned table');
SELECT is((SELECT count(*) FROM keys), 16::bigint, 'a table of the key alone');
SELECT throws_ok('CALL dugong.run_projections()', '42703', NULL, 'a tenant, and the table has no tenant_id') FROM pg_temp.append('Sum 2', 'a', 1, 'Added', '{"n": 1}', 'T');
SELECT dugong.drop_projection('parts'), dugong.drop_projection('keys');

-- States of jsonb
CREATE TABLE docs (id uuid, tenant_id text, title text, stars int DEFAULT 5, tags text[], body jsonb, at timestamptz, PRIMARY KEY (id, tenant_id));
SELECT dugong.create_projection('docs', 'Json', 'docs');
SELECT pg_temp.append('Json', 'a', 1, 'Written', '{"id": "no uuid", "tenant_id": "no tenant", "title": "Ant", "stars": 3, "tags": ["x", "y"], "body": {"a": [1]}, "at": "2024-06-14T10:00:00Z", "other": 1}');
SELECT pg_temp.append('Json', 'a', 2, 'Written', '{"title": "Bee", "stars": "4"}', 'T'), pg_temp.append('Json', 'a', 3, 'Written', '{}'), pg_temp.append('Json', 'a', 3, 'Gone');
CALL dugong.run_projections();
SELECT results_eq('SELECT id, tenant_id, title, stars, tags, body, at FROM docs ORDER BY id', $$ VALUES
    (pg_temp.id('a', 1), '', 'Ant', 3, '{x,y}'::text[], '{"a": [1]}'::jsonb, '2024-06-14 10:00+00'::timestamptz), (pg_temp.id('a', 2), 'T', 'Bee', 4, NULL, NULL, NULL) $$, 'keys are columns');
SELECT throws_ok('CALL dugong.run_projections()', '22P02', NULL, 'a value that does not fit its column') FROM pg_temp.append('Json', 'a', 2, 'Written', '{"stars": "many"}', 'T');
SELECT pg_temp.append('Json', 'a', 2, 'Written', '{"stars": null}', 'T');
CALL dugong.run_projections();
SELECT is((SELECT stars FROM docs WHERE title = 'Bee'), NULL, 'a key that is null');
SELECT pg_temp.append('Json', 'a', 4, 'Written', '{"title": "Cow"}');
CALL dugong.run_projections();
SELECT is((SELECT stars FROM docs WHERE title = 'Cow'), NULL, 'a key that is missing is NULL, whatever the default');
SELECT pg_temp.append('Json', 'a', 4, 'Gone');
SELECT dugong.drop_projection('docs');
CREATE TABLE json_seen (id uuid, state jsonb);
CREATE FUNCTION json_update(uuid, jsonb) RETURNS void LANGUAGE sql AS 'INSERT INTO json_seen VALUES ($1, $2)';
CREATE FUNCTION json_delete(uuid) RETURNS void LANGUAGE sql AS 'INSERT INTO json_seen VALUES ($1, NULL)';
CREATE FUNCTION json_sets(uuid[], jsonb[]) RETURNS void LANGUAGE sql AS 'INSERT INTO json_seen SELECT u.id, u.state FROM unnest($1, $2) u (id, state)';
SELECT dugong.create_projection('j', 'Json', update_handler => 'json_update(uuid, jsonb)', delete_handler => 'json_delete(uuid)');
SELECT dugong.create_projection('js', 'Json', set_handler => 'json_sets(uuid[], jsonb[])');
CALL dugong.run_projections();
SELECT results_eq('SELECT id, state ->> ''title'', count(*) FROM json_seen GROUP BY 1, 2 ORDER BY 1', $$ VALUES
    (pg_temp.id('a', 1), 'Ant', 2::bigint), (pg_temp.id('a', 2), 'Bee', 2), (pg_temp.id('a', 3), NULL, 2), (pg_temp.id('a', 4), NULL, 2) $$, 'handlers of jsonb states');
SELECT dugong.drop_projection('j'), dugong.drop_projection('js');

-- A state that is no row cannot fill columns, but a handler can have it
CREATE FUNCTION count_apply(bigint, dugong.domain_event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN $1 + 1;
CREATE AGGREGATE count_fold(dugong.domain_event) (SFUNC = count_apply, STYPE = bigint, INITCOND = '0');
SELECT dugong.create_aggregate_type('Count', 'count_fold(dugong.domain_event)');
CREATE TABLE counts (id uuid PRIMARY KEY, n bigint);
SELECT pg_temp.refused('42703', $$ SELECT dugong.create_projection('counts', 'Count', 'counts') $$);
CREATE FUNCTION count_sets(uuid[], bigint[]) RETURNS void LANGUAGE sql AS 'INSERT INTO counts SELECT * FROM unnest($1, $2) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n';
SELECT dugong.create_projection('counts', 'Count', set_handler => 'count_sets(uuid[], bigint[])');
SELECT pg_temp.append('Count', 'a', n, 'Counted') FROM generate_series(1, 3) n, generate_series(1, n) i;
CALL dugong.run_projections();
SELECT is((SELECT array_agg(n ORDER BY id) FROM counts), '{1,2,3}'::bigint[], 'a scalar state');

-- Event types, several aggregate types
CREATE FUNCTION on_some(event dugong.domain_event) RETURNS void LANGUAGE sql AS $$ SELECT see('some', (event).aggregate_type || ' ' || (event).type) $$;
SELECT dugong.create_projection('some', ARRAY['Plain', 'Count'], event_handler => 'on_some(dugong.domain_event)', types => '{Counted,Mattered}', start_position => NULL);
SELECT pg_temp.append('Plain', 'a', 1, 'Mattered'), pg_temp.append('Sum', 'a', 1, 'Mattered', '{}'), pg_temp.append('Count', 'a', 1, 'Ignored'), pg_temp.append('Count', 'a', 1, 'Counted');
CALL dugong.run_projections();
SELECT is(pg_temp.saw('some'), '{Plain Mattered,Count Counted}'::text[], 'the event types and aggregate types that it reads');
SELECT dugong.alter_projection('some', types => '{Ignored}');
SELECT pg_temp.append('Count', 'a', 1, 'Ignored'), pg_temp.append('Count', 'a', 1, 'Counted');
CALL dugong.run_projections();
SELECT is(pg_temp.saw('some'), '{Plain Mattered,Count Counted,Count Ignored}'::text[], 'other event types from now on');
CREATE TABLE sums (id uuid, tenant_id text, n bigint, note text, PRIMARY KEY (id, tenant_id));
SELECT dugong.create_projection('rare', 'Sum', 'sums', types => '{Published}', start_position => NULL);
SELECT pg_temp.append('Sum', 'aa', 1, 'Added', '{"n": 1}'), pg_temp.append('Sum', 'aa', 2, 'Published', '{"n": 2}'), pg_temp.append('Sum', 'aa', 2, 'Added', '{"n": 3}');
CALL dugong.run_projections();
SELECT results_eq('SELECT id, n FROM sums', $$ VALUES (pg_temp.id('aa', 2), 5::bigint) $$, 'event types say when a state is written; it is the state of then, of all events');

-- Where it starts
CREATE FUNCTION on_start(event dugong.domain_event) RETURNS void LANGUAGE sql AS $$ SELECT see('start', (event).payload ->> 'n') $$;
SELECT dugong.create_aggregate_type('Start');
SELECT pg_temp.append('Start', 'a', 1, 'A', '{"n": 1}'), pg_temp.append('Start', 'a', 1, 'A', '{"n": 2}') AS second \gset
SELECT pg_temp.append('Start', 'a', 1, 'A', '{"n": 3}');
SELECT dugong.create_projection('from the first', 'Start', event_handler => 'on_start(dugong.domain_event)');
CALL dugong.run_projections();
SELECT is(pg_temp.saw('start'), '{1,2,3}'::text[], 'start_position 0: all events');
SELECT dugong.drop_projection('from the first');
TRUNCATE seen;
SELECT dugong.create_projection('from the third', 'Start', event_handler => 'on_start(dugong.domain_event)', start_position => :second);
CALL dugong.run_projections();
SELECT is(pg_temp.saw('start'), '{3}'::text[], 'a number: events after that position');
SELECT dugong.drop_projection('from the third');
TRUNCATE seen;
SELECT dugong.create_projection('beyond', 'Start', event_handler => 'on_start(dugong.domain_event)', start_position => 1000000000);
CALL dugong.run_projections();
SELECT is(pg_temp.saw('start'), NULL, 'a number that the log has not come to');
SELECT dugong.drop_projection('beyond');

SELECT * FROM finish();
ROLLBACK;
