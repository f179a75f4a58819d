-- Importing: what a mapping may say, what becomes of a row, and what is refused before anything is written.
BEGIN;
SELECT no_plan();
\ir helpers.psql
SET LOCAL client_min_messages = warning;

-- What an import is answered with: SQLSTATE and DETAIL, the positions and events that are gone or come.
CREATE FUNCTION pg_temp.imports(source regclass, mapping jsonb DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
BEGIN
    CALL dugong.import_events(source, mapping);
    RETURN (SELECT format('%s of %s', done, total) FROM dugong.import_progress p WHERE p.source = imports.source::text OR p.source = 'public.' || imports.source::text);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
    RETURN trim(format('%s %s %s', SQLSTATE, SQLERRM, detail));
END $$;

SELECT dugong.create_aggregate_type('Thing', origin => 'shop', external => false);

-- DugongJS's table: every column, as it is
CREATE TABLE domain_events (
    id uuid PRIMARY KEY, origin varchar(255) NOT NULL, "aggregateType" varchar(255) NOT NULL, type varchar(255) NOT NULL, version integer NOT NULL,
    "aggregateId" uuid NOT NULL, payload jsonb, "sequenceNumber" integer NOT NULL, "timestamp" timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "tenantId" varchar(255), "correlationId" uuid, "triggeredByEventId" uuid, "triggeredByUserId" uuid, metadata jsonb);
INSERT INTO domain_events VALUES
    (pg_temp.id('e', 1), 'shop', 'Thing', 'Made', 3, pg_temp.id('a', 1), '{"n": 1}', 1, '2024-01-01 10:00Z', 'T', pg_temp.id('c'), NULL, pg_temp.id('d'), '{"m": 1}'),
    (pg_temp.id('e', 2), 'shop', 'Thing', 'Used', 1, pg_temp.id('a', 1), NULL, 2, '2024-01-01 09:00Z', 'T', NULL, pg_temp.id('e', 1), NULL, NULL),
    (pg_temp.id('e', 3), 'shop', 'Thing', 'Made', 1, pg_temp.id('a', 1), '[]', 1, '2024-01-01 09:30Z', NULL, NULL, NULL, NULL, NULL),
    (pg_temp.id('e', 4), 'shop', 'Thing', 'Made', 1, pg_temp.id('a', 2), 'null', 1, '2024-01-01 10:30Z', '', NULL, NULL, NULL, NULL),
    (pg_temp.id('e', 5), 'shop', 'Thing', 'Used', 1, pg_temp.id('a', 1), '{}', 3, '2024-01-01 11:00Z', 'T', NULL, NULL, NULL, NULL);
SET LOCAL dugong.correlation_id = 'c0000000-0000-4000-8000-00000000000c';
SET LOCAL dugong.metadata = '{"of": "the session"}';
SELECT is(pg_temp.imports('domain_events'), '5 of 5', 'DugongJS''s table needs no mapping');
RESET dugong.correlation_id;
RESET dugong.metadata;
SELECT results_eq(
    $$ SELECT id, origin, aggregate_type, aggregate_id, tenant_id, sequence_number, type, version, payload, "timestamp", correlation_id, triggered_by_event_id, triggered_by_user_id, metadata
       FROM dugong.domain_events WHERE origin = 'shop' ORDER BY id $$,
    $$ SELECT id, origin::text, "aggregateType"::text, "aggregateId", COALESCE("tenantId", '')::text, "sequenceNumber"::bigint, type::text, version, payload, "timestamp",
       "correlationId", "triggeredByEventId", "triggeredByUserId"::text, metadata FROM domain_events ORDER BY id $$, 'all is as it was, and the settings add nothing');
SELECT is((SELECT array_agg(right(id::text, 1) ORDER BY position) FROM dugong.domain_events WHERE origin = 'shop'), '{3,1,2,4,5}',
    'in the order of time, but none before its predecessor');
SELECT is((SELECT array_agg(format('%s %s %s', phase, percent, finished_at IS NOT NULL)) FROM dugong.import_progress), '{"done 100.0 t"}', 'it is recorded');

-- Again: nothing twice; what is new comes
SELECT is(pg_temp.imports('domain_events'), '5 of 5', 'again');
INSERT INTO domain_events SELECT pg_temp.id('e', 6), origin, "aggregateType", type, version, "aggregateId", payload, 4, '2024-01-02Z', "tenantId" FROM domain_events WHERE id = pg_temp.id('e', 5);
SELECT is(pg_temp.imports('domain_events'), '6 of 6', 'the source has grown');
SELECT is((SELECT count(*) FROM dugong.domain_events WHERE origin = 'shop'), 6::bigint, 'each event is there once');
SELECT is((SELECT sequence_number FROM dugong.append_event('Thing', pg_temp.id('a', 1), 'Used', tenant_id => 'T')), 5::bigint, 'one can go on with the aggregate here');
SELECT is(pg_temp.imports('domain_events'), '6 of 6', 'which hurts no import');
INSERT INTO domain_events SELECT pg_temp.id('e', 7), origin, "aggregateType", type, version, "aggregateId", payload, 5, '2024-01-03Z', "tenantId" FROM domain_events WHERE id = pg_temp.id('e', 5);
SELECT matches(pg_temp.imports('domain_events'), '^UG001 cannot import public.domain_events Of an aggregate that has other events in the log: 1 of 7 events\s+another event is there, sequence number "5"',
    'unless one goes on there, too');
DELETE FROM domain_events WHERE id = pg_temp.id('e', 7);
UPDATE domain_events SET payload = '{"n": 2}' WHERE id = pg_temp.id('e', 1);
SELECT matches(pg_temp.imports('domain_events'), '^UG006 .* With an id that is in the log for another event: 1 of 6 events\s+id "e0000000-0000-4000-8000-000000000001", sequence number "1"', 'an event that has changed since');
UPDATE domain_events SET payload = '{"n": 1}' WHERE id = pg_temp.id('e', 1);

-- Message DB's table
CREATE TABLE messages (
    global_position bigserial PRIMARY KEY, position bigint NOT NULL, time timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'utc'), stream_name text NOT NULL,
    type text NOT NULL, data jsonb, metadata jsonb, id uuid NOT NULL DEFAULT gen_random_uuid() UNIQUE);
INSERT INTO messages (position, stream_name, type, data, metadata, time) VALUES
    (0, 'Thing-123', 'Made', '{"n": 1}', '{"properties": 1}', '2024-03-01'),
    (0, 'Thing-b0000000-0000-4000-8000-00000000000B', 'Made', '{"n": 2}', NULL, '2024-03-02'),
    (1, 'Thing-123', 'Used', NULL, '[7]', '2024-02-01'),
    (0, 'Thing-with-hyphens', 'Made', NULL, NULL, '2024-03-03'),
    (1, 'Thing-b0000000-0000-4000-8000-00000000000b', 'Used', NULL, NULL, '2024-03-04'),
    (0, 'Thing:position-x', 'Read', NULL, NULL, '2024-03-05');
SELECT $$ {"origin": "'shop'", "aggregate_type": "split_part(stream_name, '-', 1)", "aggregate_id": "substr(stream_name, strpos(stream_name, '-') + 1)",
    "sequence_number": "position + 1", "payload": "data", "timestamp": "time AT TIME ZONE 'UTC'", "order_by": "global_position",
    "where": "split_part(stream_name, '-', 1) NOT LIKE '%:%' -- streams of consumers"} $$ AS message_db \gset
SELECT is(pg_temp.imports('messages', :'message_db'), '5 of 5', 'Message DB''s table');
SELECT results_eq(
    $$ SELECT e.sequence_number, e.aggregate_id::text, e.payload, e.metadata, e."timestamp" FROM dugong.domain_events e JOIN messages USING (id) ORDER BY e.position $$,
    $$ VALUES (1::bigint, 'bb37ff80-51e1-5a11-bac0-866bf9977883', '{"n": 1}'::jsonb, '{"properties": 1, "sourceAggregateId": "123"}'::jsonb, '2024-03-01 00:00Z'::timestamptz),
        (1, 'b0000000-0000-4000-8000-00000000000b', '{"n": 2}', NULL, '2024-03-02 00:00Z'),
        (2, 'bb37ff80-51e1-5a11-bac0-866bf9977883', NULL, '{"metadata": [7], "sourceAggregateId": "123"}', '2024-02-01 00:00Z'),
        (1, '45bc51b3-1eb3-51dc-92d4-1767882f040f', NULL, '{"sourceAggregateId": "with-hyphens"}', '2024-03-03 00:00Z'),
        (2, 'b0000000-0000-4000-8000-00000000000b', NULL, NULL, '2024-03-04 00:00Z') $$,
    'names become UUIDs, capitals make no other one, the order is that of order_by, metadata stays');

-- A table of one's own: no sequence numbers, ids of its own kind
CREATE TABLE happened (number bigint, ref text, what text, body text, cause bigint, session text);
INSERT INTO happened VALUES (10, 'x', 'Made', '{"n": 1}', NULL, 's1'), (20, 'y', 'Made', NULL, 10, 's1'), (5, 'y', 'Ordered', NULL, NULL, NULL), (30, 'x', 'Used', '2', NULL, NULL);
SELECT $$ {"id": "number", "aggregate_type": "'Thing'", "aggregate_id": "ref", "type": "what", "payload": "body", "correlation_id": "session", "triggered_by_event_id": "cause", "order_by": "number"} $$ AS own \gset
SELECT is(pg_temp.imports('happened', :'own'), '4 of 4', 'a table of one''s own');
SELECT results_eq($$ SELECT sequence_number, type, payload, metadata - 'sourceCorrelationId' FROM dugong.domain_events WHERE metadata ? 'sourceEventId' ORDER BY position $$,
    $$ VALUES (1::bigint, 'Ordered', NULL::jsonb, '{"sourceEventId": "5", "sourceAggregateId": "y"}'::jsonb), (1, 'Made', '{"n": 1}', '{"sourceEventId": "10", "sourceAggregateId": "x"}'),
        (2, 'Made', NULL, '{"sourceEventId": "20", "sourceAggregateId": "y", "sourceTriggeredByEventId": "10"}'), (2, 'Used', '2', '{"sourceEventId": "30", "sourceAggregateId": "x"}') $$,
    'is numbered, in its order');
SELECT is((SELECT e.metadata ->> 'sourceEventId' FROM dugong.domain_events e JOIN dugong.domain_events f ON f.triggered_by_event_id = e.id WHERE f.metadata ->> 'sourceEventId' = '20'), '10',
    'a cause is found by its new id');
SELECT is((SELECT count(DISTINCT correlation_id) FROM dugong.domain_events WHERE metadata ->> 'sourceCorrelationId' = 's1'), 1::bigint, 'what belongs together still does');
SELECT is(pg_temp.imports('happened', :'own'), '4 of 4', 'the ids are the same the next time');
SELECT is(pg_temp.imports('happened', :'own'::jsonb || '{"namespace": "a0000000-0000-4000-8000-000000000001"}'), '4 of 4', 'in another namespace they are others');
SELECT is((SELECT count(*) FROM dugong.domain_events WHERE metadata ? 'sourceEventId'), 8::bigint, 'so all comes once more');
CREATE TABLE without_ids AS SELECT number, ref || '!' AS aggregate_id, what AS type, 'Thing' AS aggregate_type, repeat('x', 200000) AS metadata FROM happened WHERE false;
INSERT INTO without_ids VALUES (1, 'k', 'Made', 'Thing', to_jsonb((SELECT string_agg(md5(n::text), '') FROM generate_series(1, 5000) n))::text), (2, 'k', 'Made', 'Thing', 'null');
SELECT is(pg_temp.imports('without_ids', '{"order_by": "number"}'), '2 of 2', 'without ids, with a large value; columns of an attribute''s name need no mapping');
SELECT is(pg_temp.imports('without_ids', '{"order_by": "number"}'), '2 of 2', 'ids that were made are the same');
SELECT is((SELECT length(metadata ->> 'metadata') FROM dugong.domain_events WHERE metadata ->> 'sourceAggregateId' = 'k' AND sequence_number = 1), 160000, 'a large value is whole');
SELECT is((SELECT max("timestamp") >= now() FROM dugong.domain_events WHERE metadata ->> 'sourceAggregateId' = 'k'), true, 'without a timestamp it is now');
CREATE VIEW shown AS SELECT * FROM happened;
SELECT is(pg_temp.imports('shown', :'own'::jsonb || '{"aggregate_id": "ref || ''@view''"}'), '4 of 4', 'a view');
CREATE TABLE nothing (LIKE domain_events);
SELECT is(pg_temp.imports('nothing'), '0 of 0', 'an empty table');
CREATE TABLE "Odd ""Name""" AS SELECT number AS "the Number", 'odd' AS "aggregateId" FROM happened;
SELECT lives_ok($$ CALL dugong.import_events('"Odd ""Name"""', '{"aggregate_type": "''Thing''", "type": "''Made''", "order_by": "\"the Number\""}') $$, 'names that need quotes');

-- Aggregate types
SELECT matches(pg_temp.imports('happened', :'own'::jsonb || '{"aggregate_type": "''Other''"}'), '^42704 .* Of an aggregate type that does not exist: 4 of 4 events\s+origin NULL, .*\.\.\.$', 'a type must exist');
CALL dugong.import_events(source => 'happened', mapping => :'own'::jsonb || '{"aggregate_type": "''Other''", "namespace": "b0000000-0000-4000-8000-000000000001"}', create_aggregate_types => true, batch_size => 1);
SELECT is((SELECT array_agg(format('%s %s', owner, external)) FROM dugong.aggregate_types WHERE name = 'Other'), ARRAY[format('%s f', CURRENT_USER)], 'or is created, if one says so, as the caller''s');
CALL dugong.import_events('happened', :'own'::jsonb || '{"origin": "''elsewhere''", "namespace": "b0000000-0000-4000-8000-000000000002"}', true);
SELECT is((SELECT external FROM dugong.aggregate_types WHERE name = 'Thing' AND origin = 'elsewhere'), true, 'of another origin it is external');
SELECT matches(pg_temp.imports('happened', :'own'), '^42P08', 'a name that several origins have');
CALL dugong.import_events('happened', :'own'::jsonb || '{"origin": "''elsewhere''", "aggregate_id": "ref || ''2''", "namespace": "b0000000-0000-4000-8000-000000000003"}');
SELECT is((SELECT count(*) FROM dugong.domain_events WHERE origin = 'elsewhere'), 8::bigint, 'an external type''s events are imported');

-- What is wrong is found before anything is written, and all of it is counted
CREATE TABLE wrong (LIKE domain_events);
CREATE FUNCTION pg_temp.wrong(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    events bigint := (SELECT count(*) FROM dugong.event_log);
    got text;
BEGIN
    TRUNCATE wrong;
    INSERT INTO wrong SELECT pg_temp.id('f', a * 10 + n), 'shop', 'Thing', 'Made', 1, pg_temp.id('b', a), '{"n": 1}', n, '2024-01-01'::timestamptz + n * interval '1 s'
    FROM generate_series(1, 2) a, generate_series(1, 3) n;
    EXECUTE change;
    got := pg_temp.imports('wrong');
    RETURN regexp_replace(got, 'cannot import public.wrong ', '') || CASE WHEN (SELECT count(*) FROM dugong.event_log) = events THEN '' ELSE ' WRITTEN' END;
END $$;
ALTER TABLE wrong ALTER "aggregateType" DROP NOT NULL, ALTER type DROP NOT NULL, ALTER "aggregateId" DROP NOT NULL, ALTER "sequenceNumber" DROP NOT NULL, ALTER "timestamp" DROP NOT NULL, ALTER version DROP NOT NULL;
SELECT matches(pg_temp.wrong($$ DELETE FROM wrong WHERE "sequenceNumber" = 2 AND "aggregateId" = pg_temp.id('b', 1) $$),
    '^UG007 Not behind their predecessor: 1 of 5 events\s+where 2 belongs, sequence number "3" of aggregate "b0000000-0000-4000-8000-000000000001" of type "Thing"$', 'a gap');
SELECT matches(pg_temp.wrong($$ DELETE FROM wrong WHERE "sequenceNumber" = 1 $$), '^UG007 Not behind .*: 4 of 4 events.*\.\.\.$', 'no first event');
SELECT matches(pg_temp.wrong($$ UPDATE wrong SET "sequenceNumber" = "sequenceNumber" - 1 $$), '^UG007 .*: 6 of 6 .*where 1 belongs, sequence number "0"', 'sequences from 0');
SELECT matches(pg_temp.wrong($$ UPDATE wrong SET "sequenceNumber" = 1 WHERE "sequenceNumber" = 2 $$), '^UG007 .*: 2 of 6 ', 'the same number twice');
SELECT matches(pg_temp.wrong(format('UPDATE wrong SET %I = NULL WHERE id = pg_temp.id(''f'', 13)', name)), '^22004 Without a value that is needed: 1 of 6 events\s+without an? ' || said, name || ' is null')
FROM (VALUES ('aggregateType', 'aggregate type'), ('aggregateId', 'aggregate id'), ('type', 'type'), ('sequenceNumber', 'sequence number'), ('timestamp', 'timestamp')) AS v(name, said);
SELECT matches(pg_temp.wrong($$ UPDATE wrong SET id = pg_temp.id('f', 12) WHERE id = pg_temp.id('f', 23) $$), '^UG006 With an id that another one has, too: 1 of 6 events\s+id "f0000000-0000-4000-8000-000000000012"$', 'an id twice');
SELECT matches(pg_temp.wrong($$ UPDATE wrong SET id = pg_temp.id('e', 1) WHERE id = pg_temp.id('f', 23) $$), '^UG006 With an id that is in the log.*: 1 of 6 events', 'an id that is in the log');
SELECT matches(pg_temp.wrong($$ SELECT dugong.append_event('Thing', pg_temp.id('b', 2), 'Made', origin => 'shop', event_id => pg_temp.id('9')); UPDATE wrong SET "aggregateId" = pg_temp.id('b', 2) WHERE false $$),
    '^UG001 Of an aggregate that has other events.*: 1 of 6 events', 'an aggregate that is there');
SELECT matches(pg_temp.wrong($$ UPDATE wrong SET version = 0 WHERE id = pg_temp.id('f', 13) $$), '^22023 Refused by the log: 1 of 6 events\s+version of a domain event must be greater', 'a version of 0');
SELECT matches(pg_temp.wrong($$ UPDATE wrong SET type = '' WHERE id = pg_temp.id('f', 13) $$), '^22023 .*type of a domain event must not be empty', 'an empty type');
SELECT matches(pg_temp.wrong($$ UPDATE wrong SET "timestamp" = 'infinity' WHERE id = pg_temp.id('f', 13) $$), '^22023 .*timestamp of a domain event must be finite', 'no end of time');
SELECT matches(pg_temp.wrong($$ UPDATE wrong SET "aggregateType" = 'Nothing', version = 0 WHERE "sequenceNumber" = 3; UPDATE wrong SET version = -1 WHERE id = pg_temp.id('f', 11) $$),
    '^42704 Of an aggregate type .*: 2 of 6 events.*Refused by the log: 1 of 6 events', 'several kinds are all told');
CREATE TYPE made AS (n int);
SELECT dugong.create_event_type('Thing', 'Made', payload_type => 'made', origin => 'shop');
SELECT matches(pg_temp.wrong($$ UPDATE wrong SET payload = '{"n": "x"}' WHERE "sequenceNumber" = 2; DELETE FROM wrong WHERE "aggregateId" = pg_temp.id('b', 2) $$), '^UG008 Refused by the log: 1 of 3 events', 'a payload that does not fit');
SELECT dugong.drop_event_type('Thing', 'Made', origin => 'shop');
INSERT INTO happened VALUES (30, 'x', 'Used', NULL);
SELECT matches(pg_temp.imports('happened', :'own'::jsonb || '{"origin": "''shop''", "id": null}'), 'UG007 .*Without a place of their own by order_by.*: 1 of 5 events', 'order_by says the same of two');
SELECT matches(pg_temp.imports('messages', :'message_db'::jsonb || '{"order_by": "-global_position", "aggregate_id": "lower(stream_name) || ''?''", "id": null}'), '^UG007 .*Without a place.*: 4 of 5 events', 'order_by and sequence numbers disagree');

-- Mappings
SELECT is(split_part(pg_temp.imports('happened', :'own'::jsonb || change), ' ', 1), code, change::text) FROM (VALUES
    ('{"aggregate_type": "''Thing''), (1"}'::jsonb, '42601'), ('{"aggregate_type": "''Thing'' FROM happened; DROP TABLE happened"}', '42601'), ('{"where": "true) OR (true"}', '42601'),
    ('{"where": "true) UNION SELECT (1"}', '42601'), ('{"aggregate_id": "ref) FROM happened WHERE (true"}', '42601'), ('{"aggregate_id": "ref AS x"}', '42601'), ('{"order_by": ""}', '42601'),
    ('{"aggregate_id": "1 +"}', '42601'), ('{"aggregate_id": "/* "}', '42601'), ('{"aggregate_id": "nowhere"}', '42703'), ('{"aggregate_id": "$1"}', '42P02'), ('{"unknown": "ref"}', '22023'), ('{"type": 1}', '22023'),
    ('{"type": null}', '22023'), ('{"aggregate_id": null}', '22023'), ('{"order_by": null}', '22023'), ('{"namespace": "x"}', '22P02'), ('{"sequence_number": "ref"}', '22P02'),
    ('{"payload": "ref"}', '22P02'), ('{"where": "ref"}', '42804'), ('{"order_by": "1 / (number - 10)"}', '22012')) AS v(change, code);
SELECT is(split_part(pg_temp.imports('happened', '[]'), ' ', 1), '22023', 'a mapping that is no object');
SELECT is((SELECT count(*) FROM happened), 5::bigint, 'nothing got out of its place');
SELECT pg_temp.refused('22004', $$ CALL dugong.import_events(NULL) $$);
SELECT pg_temp.refused('22023', $$ CALL dugong.import_events('domain_events', batch_size => 0) $$);
SELECT pg_temp.refused('22004', $$ CALL dugong.import_events('domain_events', batch_size => NULL) $$);
SELECT pg_temp.refused('22004', $$ CALL dugong.import_events('domain_events', create_aggregate_types => NULL) $$);
SELECT pg_temp.refused('42P01', $$ CALL dugong.import_events(1::oid::regclass) $$);

-- Whose rights: the source and its expressions are the caller's, the log is the owner's
CREATE ROLE regress_dugong_importer;
GRANT USAGE ON SCHEMA dugong TO regress_dugong_importer;
SET LOCAL ROLE regress_dugong_importer;
SELECT is(pg_temp.answer($$ CALL dugong.import_events('nothing') $$), '42501', 'who may not');
RESET ROLE;
GRANT EXECUTE ON PROCEDURE dugong.import_events TO regress_dugong_importer;
CREATE TABLE seen (who text);
GRANT INSERT ON seen TO PUBLIC;
CREATE FUNCTION see(what text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES (CURRENT_USER); RETURN what; END $$;
SET LOCAL ROLE regress_dugong_importer;
SELECT is(pg_temp.answer($$ CALL dugong.import_events('happened', '{"aggregate_type": "''Thing''", "aggregate_id": "ref", "type": "what", "order_by": "number"}') $$), '42501', 'who may not read the source');
SELECT is(pg_temp.answer($$ CALL dugong.import_events('domain_events') $$), '42501', 'nor another one');
RESET ROLE;
GRANT SELECT ON happened TO regress_dugong_importer;
DELETE FROM happened WHERE what = 'Used';
SET LOCAL ROLE regress_dugong_importer;
SELECT is(pg_temp.answer($$ CALL dugong.import_events('happened', '{"origin": "''shop''", "aggregate_type": "''Thing''", "aggregate_id": "see(ref || ''3'')", "type": "what", "order_by": "number"}') $$), 'accepted', 'who may');
SELECT is(pg_temp.answer($$ CALL dugong.import_events('happened', '{"aggregate_type": "''Third''", "aggregate_id": "ref", "type": "what", "order_by": "number"}', true) $$), '42501', 'to create types is another right');
SELECT is(pg_temp.answer($$ CALL dugong.import_events('happened', '{"aggregate_type": "(SELECT name FROM dugong.aggregate_types LIMIT 1)", "aggregate_id": "ref", "type": "what", "order_by": "number"}') $$), '42501', 'an expression has no more rights');
RESET ROLE;
SELECT is((SELECT array_agg(DISTINCT who) FROM seen), '{regress_dugong_importer}', 'what expressions call runs as the caller');

-- Tags: what cannot be entered is found before anything is written
CREATE TABLE tagged (number int, payload jsonb);
INSERT INTO tagged VALUES (1, '{"t": "one"}'), (2, '{"t": {"an": "object"}}');
SELECT dugong.declare_tags('Thing', 'Tagged', '{"t": "t"}', origin => 'shop');
\set tagged '{"origin": "''shop''", "aggregate_type": "''Thing''", "aggregate_id": "''tagged'' || number", "type": "''Tagged''", "order_by": "number"}'
SELECT matches(pg_temp.imports('tagged', :'tagged'), '^UG008 cannot import public.tagged Refused by the log: 1 of 2 events\s+tag "t" of event "Tagged" cannot be an object, sequence number "1"',
    'a tag that is an object is refused');
DELETE FROM tagged WHERE number = 2;
SELECT is(pg_temp.imports('tagged', :'tagged'), '1 of 1', 'others are taken');
SELECT is((SELECT count(*) FROM dugong.read_events_matching('{"tags": {"t": "one"}}')), 1::bigint, 'and found by their tags');

-- All or nothing within a transaction
SELECT is((SELECT count(*) FROM dugong.domain_events WHERE metadata ->> 'sourceAggregateId' LIKE 'z%'), 0::bigint, 'before');
SAVEPOINT s;
INSERT INTO happened SELECT n, 'z' || n, 'Made' FROM generate_series(1, 1500) n;
CALL dugong.import_events('happened', :'own'::jsonb || '{"origin": "''shop''", "where": "ref LIKE ''z%''", "namespace": "b0000000-0000-4000-8000-000000000009"}', batch_size => 100);
SELECT is((SELECT count(*) FROM dugong.domain_events WHERE metadata ->> 'sourceAggregateId' LIKE 'z%'), 1500::bigint, 'past 1,000 aggregates in a transaction');
ROLLBACK TO s;
SELECT is((SELECT count(*) FROM dugong.domain_events WHERE metadata ->> 'sourceAggregateId' LIKE 'z%'), 0::bigint, 'taken back');

-- An inline projection sees what comes
CREATE TABLE handled (id uuid);
CREATE FUNCTION on_event(event dugong.domain_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO public.handled VALUES ((event).id) $$;
SELECT dugong.create_projection('handled', 'Thing', event_handler => 'on_event(dugong.domain_event)', mode => 'inline', origin => 'shop');
TRUNCATE handled;
CALL dugong.import_events('happened', :'own'::jsonb || '{"origin": "''shop''", "namespace": "b0000000-0000-4000-8000-00000000000a"}');
SELECT is((SELECT count(*) FROM handled), (SELECT count(*) FROM happened), 'an inline projection handles what is imported');
CREATE OR REPLACE FUNCTION on_event(event dugong.domain_event) RETURNS void LANGUAGE sql AS $$
    SELECT dugong.append_event('Thing', (event).aggregate_id, 'Answered', origin => 'shop') WHERE (event).type = 'Ordered' $$;
SELECT matches(pg_temp.imports('happened', :'own'::jsonb || '{"origin": "''shop''", "namespace": "b0000000-0000-4000-8000-00000000000b"}'), '^UG001 .*not at the expected sequence number',
    'a handler that appends to what is being imported');

SET LOCAL transaction_read_only = on;
SELECT is(pg_temp.answer($$ CALL dugong.import_events('domain_events') $$), '25006', 'not in a read-only transaction');
SELECT * FROM finish();
ROLLBACK;
