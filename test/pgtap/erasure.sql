-- Erasing an aggregate, an event's payload, or some of its keys.
BEGIN;
SELECT no_plan();
\ir helpers.psql

CREATE TYPE person AS (name text, email text, points int);
CREATE FUNCTION person_apply(person, dugong.domain_event) RETURNS person LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF ($2).type = 'Registered' THEN
        IF ($2).payload ->> 'name' IS NULL THEN
            RAISE EXCEPTION 'no name';
        END IF;
        RETURN ROW(($2).payload ->> 'name', ($2).payload ->> 'email', 0)::person;
    ELSIF ($2).type IN ('Earned', 'Noted') THEN
        RETURN ROW(($1).name, ($1).email, ($1).points + coalesce((($2).payload ->> 'points')::int, 0))::person;
    ELSIF ($2).type = 'Left' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'an event of type % is not for a fold', ($2).type;
END $$;
CREATE AGGREGATE person_fold(dugong.domain_event) (SFUNC = person_apply, STYPE = person);
SELECT dugong.create_aggregate_type('Person', 'person_fold(dugong.domain_event)', snapshot_interval => 2) \g /dev/null
CREATE TABLE persons (id uuid PRIMARY KEY, name text, email text, points int);
CREATE TABLE mailed (id uuid, email text);
CREATE TABLE seen (nth serial, projection text, sequence_number bigint, type text, payload jsonb);
CREATE FUNCTION mail(person_id uuid, p person) RETURNS void LANGUAGE sql AS 'DELETE FROM mailed WHERE id = $1; INSERT INTO mailed VALUES ($1, ($2).email)';
CREATE FUNCTION unmail(person_id uuid) RETURNS void LANGUAGE sql AS 'DELETE FROM mailed WHERE id = $1';
CREATE FUNCTION note(e dugong.domain_event) RETURNS void LANGUAGE sql AS $$
    INSERT INTO seen (projection, sequence_number, type, payload) VALUES ('note', (e).sequence_number, (e).type, (e).payload) $$;
CREATE FUNCTION note_set(e dugong.domain_event[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO seen (projection, sequence_number, type, payload) SELECT 'set', sequence_number, type, payload FROM unnest(e) $$;
CREATE FUNCTION forget() RETURNS void LANGUAGE sql AS 'DELETE FROM seen WHERE projection = ''note''';
SELECT dugong.create_projection('persons', 'Person', 'persons') \g /dev/null
SELECT dugong.create_projection('mail', 'Person', update_handler => 'mail(uuid, person)', delete_handler => 'unmail(uuid)', types => '{Registered}') \g /dev/null
SELECT dugong.create_projection('note', 'Person', event_handler => 'note(dugong.domain_event)', reset_handler => 'forget()', types => '{Registered,Earned}') \g /dev/null
SELECT dugong.create_projection('set', 'Person', set_handler => 'note_set(dugong.domain_event[])') \g /dev/null
SELECT dugong.create_subscription('out', '{Person}', types => '{Registered}') \g /dev/null

-- ann: 4 events; bob and cid: 3
SELECT dugong.append_event('Person', pg_temp.id(p), 'Registered', jsonb_build_object('name', p, 'email', p || '@example.org'), event_id => pg_temp.id(p, 1), metadata => '{"ip": "10.0.0.1"}')
FROM unnest(ARRAY['a', 'b', 'c']) AS p \g /dev/null
SELECT dugong.append_event('Person', pg_temp.id(p), 'Earned', jsonb_build_object('points', 3, 'shop', 'Main Street'), event_id => pg_temp.id(p, 2))
FROM unnest(ARRAY['a', 'b', 'c']) AS p \g /dev/null
SELECT dugong.append_event('Person', pg_temp.id(p), 'Noted', '["not", "an object"]', event_id => pg_temp.id(p, 3)) FROM unnest(ARRAY['a', 'b', 'c']) AS p \g /dev/null
SELECT dugong.append_event('Person', pg_temp.id('a'), 'Earned', '{"points": 4}', event_id => pg_temp.id('a', 4)) \g /dev/null
CALL dugong.run_projections();
SELECT results_eq('SELECT left(id::text, 1), name, email, points FROM persons ORDER BY id',
    $$VALUES ('a', 'a', 'a@example.org', 7), ('b', 'b', 'b@example.org', 3), ('c', 'c', 'c@example.org', 3)$$, 'the query model');
SELECT set_eq('SELECT left(aggregate_id::text, 1) FROM dugong.snapshots', ARRAY['a', 'b', 'c'], 'there are snapshots');

CREATE FUNCTION pg_temp.events(kind text) RETURNS SETOF text LANGUAGE sql AS $$
    SELECT concat_ws(' ', sequence_number, type, CASE WHEN type = '$erased' THEN payload - 'eventIds' ELSE payload END, metadata)
    FROM dugong.domain_events WHERE aggregate_id = pg_temp.id(kind) ORDER BY sequence_number $$;
CREATE FUNCTION pg_temp.person(kind text) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s, %s without snapshot', dugong.build_aggregate(NULL::person, 'Person', pg_temp.id(kind)),
        dugong.build_aggregate(NULL::person, 'Person', pg_temp.id(kind), skip_snapshot => true)) $$;

-- What is refused
SELECT pg_temp.refused('22004', $$ SELECT dugong.erase_aggregate('Person', pg_temp.id('a'), NULL) $$);
SELECT pg_temp.refused('22023', $$ SELECT dugong.erase_aggregate('Person', pg_temp.id('a'), '') $$);
SELECT pg_temp.refused('22023', $$ SELECT dugong.erase_aggregate('Person', pg_temp.id('a'), E' \n') $$);
SELECT pg_temp.refused('42704', $$ SELECT dugong.erase_aggregate('Nobody', pg_temp.id('a'), 'why') $$);
SELECT pg_temp.refused('UG002', $$ SELECT dugong.erase_aggregate('Person', pg_temp.id('d'), 'why') $$);
SELECT pg_temp.refused('UG002', $$ SELECT dugong.erase_aggregate('Person', pg_temp.id('a'), 'why', tenant_id => 'other') $$);
SELECT pg_temp.refused('42704', $$ SELECT dugong.erase_payload(gen_random_uuid(), NULL, 'why') $$);
SELECT pg_temp.refused('22004', $$ SELECT dugong.erase_payload(pg_temp.id('a', 1), NULL, NULL) $$);
SELECT pg_temp.refused('22023', $$ SELECT dugong.erase_payload(pg_temp.id('a', 1), '{}', 'why') $$);
SELECT pg_temp.refused('22004', $$ SELECT dugong.erase_payload(pg_temp.id('a', 1), '{email,NULL}', 'why') $$);
SELECT pg_temp.refused('22023', $$ SELECT dugong.erase_payload(pg_temp.id('a', 1), '{emial}', 'why') $$);
SELECT pg_temp.refused('22023', $$ SELECT dugong.erase_payload(pg_temp.id('a', 3), '{not}', 'why') $$);
SELECT pg_temp.refused('22023', $$ SELECT dugong.erase_payload(pg_temp.id('a', 1), '{$erased}', 'why') $$);
SELECT throws_ok($$ SELECT dugong.erase_payload(pg_temp.id('a', 1), '{name}', 'why') $$, 'P0001', 'no name', 'a key that the fold needs');
SELECT throws_ok($$ SELECT dugong.erase_payload(pg_temp.id('a', 1), NULL, 'why') $$, 'P0001', 'no name', 'a payload that the fold needs');
SELECT throws_ok($$ UPDATE dugong.event_log SET payload = NULL $$, 'UG005', NULL, 'the guard stands, also after an erasure that was refused');
SELECT is(pg_temp.person('a'), '(a,a@example.org,7), (a,a@example.org,7) without snapshot', 'nothing of that has changed anything');

-- Keys of an event
SET LOCAL dugong.triggered_by_user_id = 'officer';
SET LOCAL dugong.metadata = '{"private": true}';
CREATE TEMP TABLE report AS SELECT * FROM dugong.erase_payload(pg_temp.id('a', 1), '{email,ip,fax}', 'Article 17');
RESET dugong.triggered_by_user_id;
RESET dugong.metadata;
SELECT results_eq($$ SELECT what, name, count FROM report WHERE what NOT IN ('not reached', 'error') ORDER BY what, name $$,
    $$ VALUES ('event', '$erased', 1::bigint), ('events', 'Person', 1), ('key', 'email', 1), ('key', 'fax', 0), ('key', 'ip', 1), ('projection', 'mail', 1),
    ('projection', 'note', NULL), ('projection', 'persons', 1), ('projection', 'set', NULL), ('snapshot', 'Person', 1), ('subscription', 'out', NULL) $$, 'the report');
SELECT set_has($$ SELECT name FROM report WHERE what = 'not reached' $$, $$ VALUES ('backups'), ('WAL'), ('old row versions') $$, 'the report says what is out of reach');
SELECT results_eq($$ SELECT pg_temp.events('a') $$, $$ VALUES ('1 Registered {"name": "a"} {"$erased": "keys"}'), ('2 Earned {"shop": "Main Street", "points": 3}'),
    ('3 Noted ["not", "an object"]'), ('4 Earned {"points": 4}'), ('5 $erased {"keys": ["email", "ip", "fax"]}') $$, 'the keys are gone');
SELECT is((SELECT payload -> 'eventIds' ->> 0 FROM dugong.domain_events WHERE type = '$erased')::uuid, pg_temp.id('a', 1), 'the event tells which');
SELECT is(pg_temp.person('a'), '(a,,7), (a,,7) without snapshot', 'the state is without it');
SELECT results_eq($$ SELECT email, points FROM persons WHERE id = pg_temp.id('a') $$, $$ VALUES (NULL::text, 7) $$, 'the query model is without it');
SELECT results_eq($$ SELECT email FROM mailed WHERE id = pg_temp.id('a') $$, $$ VALUES (NULL::text) $$, 'so is what a handler writes, though it does not read that type');
SELECT results_eq($$ SELECT aggregate_type, aggregate_id, event_id, keys, reason, erased_by = session_user, triggered_by_user_id, first_sequence_number, last_sequence_number, events FROM dugong.erasures $$,
    $$ VALUES ('Person', pg_temp.id('a'), pg_temp.id('a', 1), '{email,ip,fax}'::text[], 'Article 17', true, 'officer', 1::bigint, 1::bigint, 1::bigint) $$, 'it is recorded');
SELECT is((SELECT id FROM dugong.erasures), (SELECT id FROM dugong.domain_events WHERE type = '$erased'), 'under the id of the event');
SELECT pg_temp.refused('22023', $$ SELECT dugong.erase_payload(pg_temp.id('a', 1), '{email,ip}', 'again') $$);
SELECT pg_temp.refused('22023', format('SELECT dugong.erase_payload(%L, NULL, ''why'')', (SELECT id FROM dugong.erasures)));

-- A retry of the append finds its event, whatever was in it
SELECT is((SELECT sequence_number FROM dugong.append_event('Person', pg_temp.id('a'), 'Registered', '{"name": "a", "email": "a@example.org"}', event_id => pg_temp.id('a', 1))), 1::bigint, 'a retry');
SELECT throws_ok($$ SELECT dugong.append_event('Person', pg_temp.id('a'), 'Earned', '{}', event_id => pg_temp.id('a', 1)) $$, 'UG006', NULL, 'another event under that id');

-- All of an event
SELECT lives_ok($$ SELECT dugong.erase_payload(pg_temp.id('b', 2), NULL, 'why') $$, 'a payload that the fold can do without');
SELECT lives_ok($$ SELECT dugong.erase_payload(pg_temp.id('b', 3), NULL, 'why') $$, 'a payload that is no object');
SELECT results_eq($$ SELECT pg_temp.events('b') $$, $$ VALUES ('1 Registered {"name": "b", "email": "b@example.org"} {"ip": "10.0.0.1"}'), ('2 Earned {"$erased": "payload"}'),
    ('3 Noted {"$erased": "payload"}'), ('4 $erased {"keys": null}'), ('5 $erased {"keys": null}') $$, 'they are gone');
SELECT is((SELECT points FROM persons WHERE id = pg_temp.id('b')), 0, 'the query model is what the fold makes of it');
SELECT pg_temp.refused('22023', $$ SELECT dugong.erase_payload(pg_temp.id('b', 2), NULL, 'again') $$);
SELECT pg_temp.refused('22023', $$ SELECT dugong.erase_payload(pg_temp.id('b', 2), '{points}', 'again') $$);
SELECT lives_ok($$ SELECT dugong.append_event('Person', pg_temp.id('b'), 'Earned', '{"points": 5}') $$, 'the aggregate lives on');
SELECT is(pg_temp.person('b'), '(b,b@example.org,5), (b,b@example.org,5) without snapshot', 'and is folded on');

-- The aggregate
DELETE FROM report;
INSERT INTO report SELECT * FROM dugong.erase_aggregate('Person', pg_temp.id('a'), 'asked to');
SELECT results_eq($$ SELECT name, count FROM report WHERE what = 'events' $$, $$ VALUES ('Person', 4::bigint) $$, 'how many events');
SELECT results_eq($$ SELECT pg_temp.events('a') $$, $$ VALUES ('1 Registered {"$erased": "aggregate"}'), ('2 Earned {"$erased": "aggregate"}'), ('3 Noted {"$erased": "aggregate"}'),
    ('4 Earned {"$erased": "aggregate"}'), ('5 $erased {"keys": ["email", "ip", "fax"]}'), ('6 $erased {"keys": null}') $$, 'skeletons are left');
SELECT is((SELECT payload FROM dugong.domain_events WHERE aggregate_id = pg_temp.id('a') AND sequence_number = 6), '{"keys": null, "eventIds": null}', 'the event says all');
SELECT is_empty($$ SELECT FROM dugong.snapshots WHERE aggregate_id = pg_temp.id('a') $$, 'no snapshot is left');
SELECT is_empty($$ SELECT FROM persons WHERE id = pg_temp.id('a') $$, 'nor a row of the query model');
SELECT is_empty($$ SELECT FROM mailed WHERE id = pg_temp.id('a') $$, 'nor what a handler wrote');
SELECT is(dugong.build_aggregate(NULL::person, 'Person', pg_temp.id('a'), return_deleted => deleted, skip_snapshot => skip, to_sequence_number => n, as_of => t), NULL,
    format('it has no state: %s %s %s %s', deleted, skip, n, t))
FROM unnest(ARRAY[true, false]) AS deleted, unnest(ARRAY[true, false]) AS skip, unnest(ARRAY[NULL, 1, 5, 6]) AS n, unnest(ARRAY[NULL, now()]) AS t;
SELECT is_empty($$ SELECT FROM dugong.aggregate_history('Person', pg_temp.id('a')) WHERE state IS NOT NULL OR changes <> '{}' $$, 'its history has no state');
SELECT is(count(*), 6::bigint, 'but its events') FROM dugong.aggregate_history('Person', pg_temp.id('a'));
SELECT results_eq($$ SELECT erased, event_count FROM dugong.aggregates WHERE aggregate_id IN (pg_temp.id('a'), pg_temp.id('b')) ORDER BY aggregate_id $$,
    $$ VALUES (true, 6::bigint), (false, 6) $$, 'the view of aggregates tells');
SELECT is(dugong.take_snapshot('Person', pg_temp.id('a')), false, 'it has no snapshot');
SELECT pg_temp.refused('UG003', command) FROM (VALUES
    ($$ SELECT dugong.load_for_update(NULL::person, 'Person', pg_temp.id('a')) $$),
    ($$ SELECT dugong.load_for_update(NULL::person, 'Person', pg_temp.id('a'), missing_ok => true) $$),
    ($$ SELECT dugong.append_event('Person', pg_temp.id('a'), 'Registered', '{"name": "x"}') $$),
    ($$ SELECT dugong.append_event('Person', pg_temp.id('a'), 'Registered', '{"name": "x"}', 0) $$),
    ($$ SELECT dugong.append_event('Person', pg_temp.id('a'), 'Registered', '{"name": "x"}', 6) $$),
    ($$ SELECT dugong.append_event('Person', pg_temp.id('a'), 'Registered', '{"name": "x"}', 99, gen_random_uuid()) $$),
    ($$ SELECT dugong.append_events('Person', pg_temp.id('a'), '[{"type": "Earned"}, {"type": "Earned"}]') $$),
    ($$ SELECT dugong.append_events('Person', pg_temp.id('a'), '[{"type": "Earned"}]', 0) $$),
    ($$ INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES ('Person', pg_temp.id('a'), 'Earned') $$),
    ($$ INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type) SELECT aggregate_type_id, aggregate_id, type FROM dugong.event_log WHERE id = pg_temp.id('a', 1) $$),
    ($$ SELECT dugong.erase_aggregate('Person', pg_temp.id('a'), 'again') $$),
    ($$ SELECT dugong.erase_payload(pg_temp.id('a', 1), NULL, 'again') $$)) AS v(command);

-- A deleted aggregate is erased as well
SELECT dugong.append_event('Person', pg_temp.id('c'), 'Left') \g /dev/null
SELECT lives_ok($$ SELECT dugong.erase_aggregate('Person', pg_temp.id('c'), 'why') $$, 'one that is deleted');
SELECT is(dugong.build_aggregate(NULL::person, 'Person', pg_temp.id('c'), return_deleted => true), NULL, 'it has no last living state any more');

-- Who reads on: projections of events get what tells of it, and no skeletons
DELETE FROM seen;
CALL dugong.run_projections();
SELECT results_eq($$ SELECT sequence_number, type FROM seen WHERE projection = 'note' ORDER BY nth $$,
    $$ VALUES (5::bigint, '$erased'), (4, '$erased'), (5, '$erased'), (6, 'Earned'), (6, '$erased'), (5, '$erased') $$, 'a handler of events');
SELECT results_eq($$ SELECT sequence_number, type FROM seen WHERE projection = 'set' ORDER BY nth $$,
    $$ VALUES (5::bigint, '$erased'), (4, '$erased'), (5, '$erased'), (6, 'Earned'), (6, '$erased'), (5, '$erased') $$, 'a handler of many: the event before an erasure is a skeleton');
SELECT is((SELECT string_agg(left(id::text, 1), '') FROM persons), 'b', 'the query model stays what it is');
SELECT is_empty('SELECT FROM dugong.dead_letters', 'nothing fails over it');
SELECT set_eq($$ SELECT left(aggregate_id::text, 1) || type || coalesce(payload ->> 'name', '') FROM dugong.fetch_events('out') $$,
    ARRAY['aRegistered', 'bRegisteredb', 'cRegistered', 'a$erased', 'b$erased', 'c$erased'], 'a subscription gets what is left, and is told');

-- Rebuilt from the log, all is as it was
CREATE TABLE before AS SELECT * FROM persons;
CALL dugong.rebuild_projection('persons');
SELECT set_eq('SELECT * FROM persons', 'SELECT * FROM before', 'a query model rebuilt');
DELETE FROM seen;
CALL dugong.rebuild_projection('note');
SELECT results_eq($$ SELECT sequence_number, type, payload ->> 'name' FROM seen WHERE projection = 'note' AND type <> '$erased' ORDER BY nth $$,
    $$ VALUES (1::bigint, 'Registered', 'b'), (2, 'Earned', NULL), (6, 'Earned', NULL) $$, 'a replay has no skeletons');

-- A fold in a query of one's own
SELECT results_eq($$ SELECT left(aggregate_id::text, 1), person_fold(e ORDER BY e.sequence_number) FILTER (WHERE NOT dugong.is_skeleton(e))
    FROM dugong.domain_events e WHERE aggregate_type = 'Person' GROUP BY aggregate_id ORDER BY 1 $$,
    $$ VALUES ('a', NULL::person), ('b', ROW('b', 'b@example.org', 5)::person), ('c', NULL) $$, 'a fold without skeletons');
SELECT bank_open_account('Dora', 1, pg_temp.id('d')) \g /dev/null
SELECT lives_ok($$ SELECT dugong.erase_aggregate('BankAccount', pg_temp.id('d'), 'why') $$, 'a bank account');
SELECT is(bank_account_fold(e ORDER BY e.sequence_number), NULL, 'the bank account''s fold knows skeletons') FROM dugong.domain_events e WHERE aggregate_id = pg_temp.id('d');
SELECT throws_ok($$ SELECT bank_deposit(pg_temp.id('d'), 1) $$, 'UG003', NULL, 'a command');
SELECT throws_ok($$ SELECT bank_open_account('Dora', 1, pg_temp.id('d')) $$, 'UG003', NULL, 'its id is not used again');
SELECT is_empty($$ SELECT bank_get_account(pg_temp.id('d')) $$, 'it is not found');

-- Names that are dugong's
SELECT pg_temp.refused('22023', command) FROM (VALUES
    ($$ SELECT dugong.append_event('Person', pg_temp.id('b'), '$erased') $$),
    ($$ SELECT dugong.append_event('Person', pg_temp.id('b'), '$') $$),
    ($$ SELECT dugong.append_events('Person', pg_temp.id('b'), '[{"type": "$other"}]') $$),
    ($$ INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES ('Person', pg_temp.id('b'), '$erased') $$),
    ($$ INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type) SELECT aggregate_type_id, aggregate_id, '$erased' FROM dugong.event_log WHERE id = pg_temp.id('b', 1) $$),
    ($$ SELECT dugong.append_event('Person', pg_temp.id('b'), 'Earned', metadata => '{"$erased": "aggregate"}') $$),
    ($$ SELECT dugong.append_events('Person', pg_temp.id('b'), '[{"type": "Earned", "metadata": {"$erased": "keys"}}]') $$),
    ($$ SELECT dugong.create_event_type('Person', '$erased') $$)) AS v(command);
SELECT lives_ok($$ SELECT dugong.append_event('Person', pg_temp.id('b'), 'Earned', metadata => '["$erased"]') $$, 'metadata that is no object');

-- Declared types: fields stay, as null; upcasts do not see what was erased
CREATE DOMAIN needed AS text NOT NULL;
CREATE TYPE visit AS (room needed, guest text);
CREATE FUNCTION up(jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT jsonb_build_object('room', $1 ->> 'room', 'guest', $1 ->> 'guest') $$;
CREATE FUNCTION visit_apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$ SELECT coalesce($1, '{}') || coalesce(($2).payload, '{"erased": true}') $$;
CREATE AGGREGATE visit_fold(dugong.domain_event) (SFUNC = visit_apply, STYPE = jsonb, INITCOND = '{}');
SELECT dugong.create_aggregate_type('Visit', 'visit_fold(dugong.domain_event)', strict => true) \g /dev/null
SELECT dugong.create_event_type('Visit', 'Visited') \g /dev/null
SELECT dugong.append_event('Visit', pg_temp.id('e'), 'Visited', '{"room": "1", "guest": "Eve"}', event_id => pg_temp.id('e', 1)) \g /dev/null
SELECT dugong.append_event('Visit', pg_temp.id('f'), 'Visited', '{"room": "1", "guest": "Fay"}', event_id => pg_temp.id('f', 1)) \g /dev/null
SELECT dugong.create_event_type('Visit', 'Visited', 2, payload_type => 'visit', upcast => 'up(jsonb)') \g /dev/null
SELECT dugong.append_event('Visit', pg_temp.id('e'), 'Visited', '{"room": "2", "guest": "Eve"}', event_id => pg_temp.id('e', 2)) \g /dev/null
SELECT throws_ok($$ SELECT dugong.erase_payload(pg_temp.id('e', 2), '{room}', 'why') $$, 'UG008', NULL, 'a field that the payload type needs');
SELECT throws_ok($$ SELECT dugong.erase_payload(pg_temp.id('e', 1), '{room}', 'why') $$, 'UG008', NULL, 'a field that it needs after the upcast');
SELECT lives_ok($$ SELECT dugong.erase_payload(pg_temp.id('e', 2), '{guest}', 'why') $$, 'one that may be null, in a strict type');
SELECT is((SELECT payload FROM dugong.event(pg_temp.id('e', 2))), '{"room": "2", "guest": null}', 'it is null');
SELECT lives_ok($$ SELECT dugong.erase_payload(pg_temp.id('e', 1), NULL, 'why') $$, 'all of a payload that is upcast');
SELECT results_eq($$ SELECT payload FROM dugong.event(pg_temp.id('e', 1)) UNION ALL SELECT payload FROM dugong.domain_events WHERE id = pg_temp.id('e', 1) $$,
    $$ VALUES (NULL::jsonb), (NULL) $$, 'the upcast makes nothing up');
SELECT is(dugong.build_aggregate('Visit', pg_temp.id('e')), '{"room": "2", "guest": null, "erased": true}', 'the fold gets the event without a payload');
SELECT lives_ok($$ SELECT dugong.erase_aggregate('Visit', pg_temp.id('f'), 'why') $$, 'an aggregate of a fold with an initial value');
SELECT is(dugong.build_aggregate('Visit', pg_temp.id('f')), NULL, 'it has no state');
SELECT is_empty('SELECT FROM dugong.check_event_types() WHERE failed > 0', 'no event fails its check');

-- Another service's
SELECT dugong.create_aggregate_type('Parcel', origin => 'elsewhere') \g /dev/null
CREATE FUNCTION pg_temp.message(n int, type text DEFAULT 'Sent') RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_build_object('origin', 'elsewhere', 'aggregateType', 'Parcel', 'type', type, 'sequenceNumber', n, 'id', pg_temp.id('91', n), 'aggregateId', pg_temp.id('9'),
        'payload', '{"to": "Ann"}'::jsonb, 'timestamp', '2020-01-01T00:00:00Z') $$;
SELECT dugong.receive_message(pg_temp.message(1)) \g /dev/null
SELECT pg_temp.refused('22023', $$ SELECT dugong.receive_message(pg_temp.message(2, '$other')) $$);
SELECT pg_temp.refused('UG009', $$ SELECT dugong.erase_payload(pg_temp.id('91', 1), NULL, 'why') $$);
SELECT lives_ok($$ SELECT dugong.erase_aggregate('Parcel', pg_temp.id('9'), 'why') $$, 'an aggregate of another service, without a fold');
SELECT pg_temp.refused('UG003', $$ SELECT dugong.receive_message(pg_temp.message(2)) $$);
SELECT is((SELECT payload FROM dugong.receive_message(pg_temp.message(1))), NULL, 'its message received again is known');

-- What its origin erases
CREATE FUNCTION pg_temp.parcel(n int, type text DEFAULT 'Sent', payload jsonb DEFAULT '{"to": "Ann", "weight": 2}', metadata jsonb DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
    SELECT pg_temp.message(n, type) || jsonb_build_object('id', pg_temp.id('92', n), 'aggregateId', pg_temp.id('8'), 'payload', payload, 'metadata', metadata) $$;
CREATE FUNCTION pg_temp.erased(n int, event uuid, keys text[] DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS $$
    SELECT pg_temp.parcel(n, '$erased', jsonb_build_object('eventIds', CASE WHEN event IS NOT NULL THEN jsonb_build_array(event) END, 'keys', to_jsonb(keys))) $$;
SELECT dugong.alter_aggregate_type('Parcel', fold => 'visit_fold(dugong.domain_event)', strict => true, origin => 'elsewhere') \g /dev/null
CREATE TYPE parcel AS ("to" needed, weight int);
SELECT dugong.create_event_type('Parcel', 'Sent', payload_type => 'parcel') \g /dev/null
CREATE TABLE parcels (id uuid PRIMARY KEY, "to" text, weight int);
SELECT dugong.create_projection('parcels', 'Parcel', 'parcels') \g /dev/null
SELECT dugong.receive_message(pg_temp.parcel(n)) FROM generate_series(1, 2) n \g /dev/null
CALL dugong.run_projections();
SELECT pg_temp.refused('UG001', $$ SELECT dugong.receive_message(pg_temp.erased(5, pg_temp.id('92', 1))) $$);
SELECT pg_temp.refused('22023', $$ SELECT dugong.receive_message(pg_temp.erased(3, pg_temp.id('b', 1))) $$);
SELECT pg_temp.refused('22023', format('SELECT dugong.receive_message(pg_temp.parcel(3, ''$erased'', %L))', payload))
FROM unnest(ARRAY['1', '[]', '{"eventIds": 1}', '{"eventIds": []}', '{"eventIds": [1]}', '{"eventIds": {"a": 1}}', '{"eventIds": ["a0000000-0000-4000-8000-000000000001"], "keys": 1}',
    '{"eventIds": ["a0000000-0000-4000-8000-000000000001"], "keys": [1]}', '{"eventIds": ["a0000000-0000-4000-8000-000000000001"], "keys": []}']) AS payload;
SELECT is((SELECT type FROM dugong.receive_message(pg_temp.erased(3, pg_temp.id('92', 1), '{weight}'))), '$erased', 'keys of an event: the message is received');
SELECT is((SELECT payload FROM dugong.event(pg_temp.id('92', 1))), '{"to": "Ann", "weight": null}', 'and erases');
SELECT lives_ok($$ SELECT dugong.receive_message(pg_temp.erased(4, pg_temp.id('92', 2))) $$, 'an event');
SELECT results_eq('SELECT "to", weight FROM parcels', $$ VALUES ('Ann', NULL::int) $$, 'the query model is corrected');
SELECT is((SELECT sequence_number FROM dugong.receive_message(pg_temp.erased(4, pg_temp.id('92', 2)))), 4::bigint, 'the message again is known');
SELECT lives_ok($$ SELECT dugong.receive_message(pg_temp.parcel(5)) $$, 'the next message comes');
SELECT lives_ok($$ SELECT dugong.receive_message(pg_temp.erased(6, pg_temp.id('92', 99))) $$, 'an event that is not here');
SELECT lives_ok($$ SELECT dugong.receive_message(pg_temp.erased(7, NULL)) $$, 'the aggregate');
SELECT is_empty('SELECT FROM parcels', 'it is deleted');
SELECT is(dugong.build_aggregate('Parcel', pg_temp.id('8')), NULL, 'it has no state');
SELECT results_eq($$ SELECT event_id, keys, reason, events FROM dugong.erasures WHERE aggregate_id = pg_temp.id('8') ORDER BY erased_at $$,
    $$ VALUES (pg_temp.id('92', 1), '{weight}'::text[], 'erased at its origin', 1::bigint), (pg_temp.id('92', 2), NULL, 'erased at its origin', 1),
    (pg_temp.id('92', 99), NULL, 'erased at its origin', 0), (NULL, NULL, 'erased at its origin', 3) $$, 'all of that is recorded');
SELECT pg_temp.refused('UG003', $$ SELECT dugong.receive_message(pg_temp.parcel(8)) $$);
-- Who comes late receives what is left
SELECT lives_ok($$ SELECT dugong.receive_message(pg_temp.message(n, type) || jsonb_build_object('id', pg_temp.id('93', n), 'aggregateId', pg_temp.id('7'), 'payload', payload, 'metadata', metadata))
    FROM (VALUES (1, 'Sent', NULL, '{"$erased": "aggregate"}'::jsonb), (2, '$erased', '{"eventIds": null, "keys": null}'::jsonb, NULL)) AS v (n, type, payload, metadata) ORDER BY n $$, 'skeletons');
SELECT is(dugong.build_aggregate('Parcel', pg_temp.id('7')), NULL, 'make no state');
SELECT lives_ok($$ SELECT dugong.receive_message(pg_temp.message(n, type) || jsonb_build_object('id', pg_temp.id('95', n), 'aggregateId', pg_temp.id('95'), 'payload', payload, 'metadata', metadata))
    FROM (VALUES (1, 'Sent', NULL, '{"$erased": "aggregate"}'::jsonb), (2, 'Sent', NULL, '{"$erased": "payload"}'),
        (3, '$erased', jsonb_build_object('eventIds', jsonb_build_array(pg_temp.id('95', 1)), 'keys', '["weight"]'::jsonb), NULL),
        (4, '$erased', jsonb_build_object('eventIds', jsonb_build_array(pg_temp.id('95', 1))), NULL),
        (5, '$erased', jsonb_build_object('eventIds', jsonb_build_array(pg_temp.id('95', 2)), 'keys', '["weight"]'::jsonb), NULL)) AS v (n, type, payload, metadata) ORDER BY n $$,
    'what was erased of it before is told, too');
SELECT results_eq($$ SELECT metadata ->> '$erased' FROM dugong.aggregate_events('Parcel', pg_temp.id('95')) WHERE type = 'Sent' $$, $$ VALUES ('aggregate'), ('payload') $$, 'and takes nothing back');

-- Metadata that are no object make room for the mark
SELECT dugong.create_aggregate_type('Plain') \g /dev/null
SELECT dugong.append_event('Plain', pg_temp.id('6'), 'Said', '{"who": "Ann", "n": 1}', event_id => pg_temp.id('96', n), metadata => metadata)
FROM (VALUES (1, NULL::jsonb), (2, 'null'), (3, '["x"]'), (4, '"x"'), (5, '{"who": "Ann", "x": 1}')) AS v (n, metadata) \g /dev/null
SELECT dugong.erase_payload(pg_temp.id('96', n), '{who}', 'why') FROM generate_series(1, 5) AS n \g /dev/null
SELECT results_eq($$ SELECT metadata FROM dugong.aggregate_events('Plain', pg_temp.id('6'), 1, 5) $$, $$ VALUES ('{"$erased": "keys"}'::jsonb), ('{"$erased": "keys"}'),
    ('{"metadata": ["x"], "$erased": "keys"}'), ('{"metadata": "x", "$erased": "keys"}'), ('{"x": 1, "$erased": "keys"}') $$, 'each is marked');
SELECT lives_ok($$ SELECT dugong.append_event('Plain', pg_temp.id('6'), 'Said', '{"who": "Ann", "n": 1}', event_id => pg_temp.id('96', n)) FROM generate_series(1, 5) AS n $$,
    'so a command that is repeated finds its event');

-- Rows
CREATE TABLE orders (id int PRIMARY KEY, customer text);
SELECT dugong.create_aggregate_type('Order', 'dugong.row_fold(dugong.domain_event)') \g /dev/null
CREATE TRIGGER append_row_event AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Order', 'id');
INSERT INTO orders VALUES (1, 'Ann'), (2, 'Ben');
SELECT dugong.erase_aggregate('Order', dugong.aggregate_id('Order', '1'), 'why') \g /dev/null
SELECT throws_ok($$ UPDATE orders SET customer = 'x' WHERE id = 1 $$, 'UG003', NULL, 'a row whose events were erased is not updated');
SELECT lives_ok('DELETE FROM orders', 'it may go');
SELECT throws_ok($$ INSERT INTO orders VALUES (1, 'Ann') $$, 'UG003', NULL, 'it does not come back');
SELECT results_eq($$ SELECT type FROM dugong.domain_events WHERE aggregate_type = 'Order' ORDER BY position $$,
    $$ VALUES ('OrderInserted'), ('OrderInserted'), ('$erased'), ('OrderDeleted') $$, 'nothing is told of it');

-- The record
SELECT throws_ok($$ UPDATE dugong.erasure_log SET reason = 'x' $$, 'UG005', NULL, 'is not updated');
SELECT throws_ok($$ DELETE FROM dugong.erasure_log $$, 'UG005', NULL, 'nor deleted from');
SELECT throws_ok($$ TRUNCATE dugong.erasure_log $$, 'UG005', NULL, 'nor emptied');
SELECT throws_ok($$ UPDATE dugong.event_log SET payload = NULL $$, 'UG005', NULL, 'the log is not updated by anybody else');
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE dugong.event_log SET payload = NULL; RETURN NEW; END';
CREATE TRIGGER meddle BEFORE UPDATE ON dugong.event_log FOR EACH ROW EXECUTE FUNCTION meddle();
SELECT throws_ok($$ SELECT dugong.erase_payload(pg_temp.id('b', 1), '{email}', 'why') $$, 'UG005', NULL, 'nor by a trigger on its way');

SELECT * FROM finish();
ROLLBACK;
