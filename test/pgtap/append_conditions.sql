-- Append conditions: every way of calling and of appending, what is refused, tags of all kinds of payloads.
BEGIN;
SELECT no_plan();
\ir helpers.psql
SELECT dugong.create_aggregate_type('Course');
SELECT dugong.create_aggregate_type('Pupil');
SELECT dugong.declare_tags('Course', 'Enrolled', '{"course": "course", "student": ["student", "id"]}');
SELECT dugong.declare_tags('Course', 'Opened', '{}');
CREATE FUNCTION pg_temp.enrol(course text, student text, condition jsonb, after_position bigint DEFAULT NULL) RETURNS bigint LANGUAGE sql
RETURN (SELECT position FROM dugong.append_event('Course', gen_random_uuid(), 'Enrolled', jsonb_build_object('course', course, 'student', jsonb_build_object('id', student)),
    if_none_match => condition, after_position => after_position));
-- Positions that a query finds, from the first event on
CREATE FUNCTION pg_temp.found(query jsonb) RETURNS text LANGUAGE sql
RETURN (SELECT string_agg(COALESCE(payload ->> 'n', '-'), ' ' ORDER BY position) FROM dugong.read_events_matching(query));

-- Every style of call without a condition means what it did
PREPARE p5 AS SELECT sequence_number FROM dugong.append_event($1, $2, $3, $4, $5);
PREPARE p6 AS SELECT sequence_number FROM dugong.append_event($1, $2, $3, $4, $5, $6);
PREPARE p14 AS SELECT sequence_number FROM dugong.append_event($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);
PREPARE e4 AS SELECT sequence_number FROM dugong.append_events($1, $2, $3, $4);
PREPARE e11 AS SELECT sequence_number FROM dugong.append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);
SELECT lives_ok(command, command) FROM (VALUES
    ($$ EXECUTE p5('Pupil', gen_random_uuid(), 'X', '{}', 0) $$),
    ($$ EXECUTE p6('Pupil', gen_random_uuid(), 'X', '{}', 0, gen_random_uuid()) $$),
    ($$ EXECUTE p14('Pupil', gen_random_uuid(), 'X', '{}', 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'T', NULL) $$),
    ($$ EXECUTE e4('Pupil', gen_random_uuid(), '[{"type": "X"}]', 0) $$),
    ($$ EXECUTE e11('Pupil', gen_random_uuid(), '[{"type": "X"}]', 0, NULL, NULL, NULL, NULL, NULL, 'T', NULL) $$),
    ($$ SELECT dugong.append_event('Pupil', 'a0000000-0000-4000-8000-000000000001', 'X') $$),
    ($$ SELECT dugong.append_event('Pupil', 'a0000000-0000-4000-8000-000000000001', 'X', '{}') $$),
    ($$ SELECT dugong.append_event('Pupil', 'a0000000-0000-4000-8000-000000000001', 'X', '{}', NULL) $$),
    ($$ SELECT dugong.append_event('Pupil', 'a0000000-0000-4000-8000-000000000001', 'X', '{}', '3') $$),
    ($$ SELECT dugong.append_event('Pupil', 'a0000000-0000-4000-8000-000000000001', 'X', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL) $$),
    ($$ SELECT dugong.append_event('Pupil'::text, 'a0000000-0000-4000-8000-000000000001'::uuid, 'X'::text, '{}'::jsonb, NULL, NULL, NULL) $$),
    ($$ SELECT dugong.append_event('Pupil'::varchar, 'a0000000-0000-4000-8000-000000000001', 'X'::varchar, '{}', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL) $$),
    ($$ SELECT dugong.append_event('Pupil'::name, 'a0000000-0000-4000-8000-000000000001', 'X', '{}', tenant_id => NULL, if_none_match => '{"types": ["Opened"]}') $$),
    ($$ SELECT dugong.append_event(type => 'X', aggregate_id => 'a0000000-0000-4000-8000-000000000001', aggregate_type => 'Pupil') $$),
    ($$ SELECT dugong.append_events('Pupil', 'a0000000-0000-4000-8000-000000000001', '[]', NULL, NULL, NULL, NULL, NULL, NULL, NULL) $$),
    ($$ SELECT dugong.append_events('Pupil', 'a0000000-0000-4000-8000-000000000001', '[]', metadata => NULL, origin => NULL) $$)) AS v(command);

-- The condition
SELECT pg_temp.enrol('c1', 's1', '{"types": ["Enrolled"], "tags": {"course": "c1"}}') AS first \gset
SELECT is(pg_temp.answer($$ SELECT pg_temp.enrol('c1', 's2', '{"types": ["Enrolled"], "tags": {"course": "c1"}}') $$),
    format('UG001 Event "Enrolled" at position %s matches {"tags": {"course": "c1"}, "types": ["Enrolled"]}.', :first), 'there is one');
SELECT pg_temp.enrol('c1', 's2', '{"tags": {"course": "c1"}}', :first) AS second \gset
SELECT is(pg_temp.answer(format($$ SELECT pg_temp.enrol('c1', 's3', '[{"tags": {"course": "c2"}}, {"tags": {"course": "c1"}}]', %s) $$, :first)),
    format('UG001 Event "Enrolled" at position %s, 1 beyond %s, matches {"tags": {"course": "c1"}}.', :second, :first), 'one has come');
SELECT lives_ok(format($$ SELECT pg_temp.enrol('c2', %L, %L, %s) $$, student, condition, :first), condition) FROM (VALUES
    ('s8', '{"tags": {"course": "c1", "student": "s1"}}'), ('s1', '{"tags": {"student": "s1"}}')) AS v(student, condition);
SELECT is(pg_temp.answer($$ SELECT pg_temp.enrol('c2', 's1', '{"tags": {"course": "c2", "student": "s1"}}') $$) LIKE 'UG001%', true, 'one that has both tags');
SELECT lives_ok($$ SELECT pg_temp.enrol('c2', 's9', '{"tags": {"course": "c2", "student": "s9"}}') $$, 'each of the tags alone is not both');
SELECT is(pg_temp.answer($$ SELECT dugong.append_events('Course', gen_random_uuid(), '[{"type": "Enrolled", "payload": {"course": "c1"}}]', if_none_match => '{"types": ["Enrolled"]}') $$) LIKE 'UG001%', true, 'append_events: all of a type');
SELECT lives_ok($$ SELECT dugong.append_events('Course', gen_random_uuid(), '[{"type": "Opened"}, {"type": "Opened"}]', if_none_match => '{"types": ["Opened"]}') $$, 'append_events: its own do not count');
SELECT is(pg_temp.answer($$ SELECT dugong.append_event('Course', gen_random_uuid(), 'Opened', if_none_match => '{"types": ["Opened"]}') $$) LIKE 'UG001%', true, 'what the transaction itself has appended counts');
SELECT lives_ok($$ SELECT dugong.append_event('Course', pg_temp.id('d'), 'Enrolled', '{"course": "id"}', event_id => pg_temp.id('e'), if_none_match => '{"tags": {"course": "id"}}') FROM generate_series(1, 2) $$, 'a retry is not refused');
SELECT is(pg_temp.answer($$ SELECT dugong.append_event('Course', pg_temp.id('d'), 'Enrolled', '{"course": "id2"}', expected_sequence_number => 7, if_none_match => '{"tags": {"course": "id2"}}') $$),
    'UG001 Expected sequence number 7, actual sequence number 1.', 'both expectations hold, or neither');

-- Refused, and nothing drawn
SELECT pg_temp.refused(code, format($c$ SELECT dugong.append_event('Course', gen_random_uuid(), 'Enrolled', '{"course": "x"}', %s) $c$, arguments)) FROM (VALUES
    ('22004', $$ if_none_match => NULL $$),
    ('22004', $$ after_position => 1 $$),
    ('22003', $$ if_none_match => '{"types": ["Opened"]}', after_position => -1 $$),
    ('22003', $$ if_none_match => '{"types": ["Opened"]}', after_position => 9223372036854775807 $$),
    ('22023', $$ if_none_match => 'null' $$),
    ('22023', $$ if_none_match => '1' $$),
    ('22023', $$ if_none_match => '[]' $$),
    ('22023', $$ if_none_match => '{}' $$),
    ('22023', $$ if_none_match => '[{"types": ["Opened"]}, 1]' $$),
    ('22023', $$ if_none_match => '{"types": "Opened"}' $$),
    ('22023', $$ if_none_match => '{"types": []}' $$),
    ('22023', $$ if_none_match => '{"types": [1]}' $$),
    ('22023', $$ if_none_match => '{"types": ["Opened"], "tag": {}}' $$),
    ('22023', $$ if_none_match => '{"tags": []}' $$),
    ('22023', $$ if_none_match => '{"tags": {"course": null}}' $$),
    ('22023', $$ if_none_match => '{"tags": {"course": ["c1"]}}' $$),
    ('42704', $$ if_none_match => '{"types": ["Nothing"]}' $$),
    ('42704', $$ if_none_match => '{"types": ["Opened"], "tags": {"course": "c1"}}' $$),
    ('42704', $$ if_none_match => '{"tags": {"corse": "c1"}}' $$),
    ('54000', $$ if_none_match => (SELECT jsonb_agg('{"types": ["Opened"]}'::jsonb) FROM generate_series(1, 101)) $$),
    ('54000', $$ if_none_match => jsonb_build_object('tags', (SELECT jsonb_object_agg(n, n) FROM generate_series(1, 21) n)) $$)) AS v(code, arguments);
SELECT is(pg_temp.answer(format('SELECT dugong.read_events_matching(%s)', arguments)), code, arguments) FROM (VALUES
    ('22004', 'NULL'), ('22023', $$ '{}' $$), ('22023', $$ '{"types": ["Opened"]}', max_rows => -1 $$), ('42704', $$ '{"types": ["Nothing"]}' $$)) AS v(code, arguments);

-- What a payload's tags are
SELECT dugong.declare_tags('Pupil', 'Seen', '{"t": "t", "deep": ["a", "b"]}');
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload) SELECT 'Pupil', pg_temp.id('5'), 'Seen', payload::jsonb FROM (VALUES
    ('{"n": 1, "t": "x"}'), ('{"n": 2, "t": ["x", "y", null, "x"]}'), ('{"n": 3, "t": 1.0}'), ('{"n": 4, "t": "1"}'), ('{"n": 5, "t": true}'), ('{"n": 6, "t": null}'),
    ('{"n": 7}'), ('{"n": 8, "a": [{"b": "p"}, {"b": ["q", ["r"]]}, 5, {"c": 1}]}'), ('{"n": 9, "a": {"b": "p"}}'), ('{"n": 10, "t": ""}'), ('{"n": 11, "a": "b"}'),
    ('[{"n": 12}]'), ('"t"'), (NULL), ('{"n": 15, "t": ["1000", 1e3]}')) AS v(payload);
SELECT is(pg_temp.found(query), found, query::text) FROM (VALUES
    ('{"tags": {"t": "x"}}'::jsonb, '1 2'), ('{"tags": {"t": "y"}}', '2'), ('{"tags": {"t": 1}}', '3 4'), ('{"tags": {"t": "true"}}', '5'), ('{"tags": {"t": ""}}', '10'),
    ('{"tags": {"deep": "p"}}', '8 9'), ('{"tags": {"deep": "q"}}', '8'), ('{"tags": {"deep": "r"}}', '8'), ('{"tags": {"deep": 5}}', NULL), ('{"tags": {"t": "X"}}', NULL),
    ('{"tags": {"t": 1000}}', '15'), ('{"types": ["Seen"]}', '1 2 3 4 5 6 7 8 9 10 11 - - - 15'), ('[{"tags": {"t": "x"}}, {"tags": {"t": "y"}}, {"tags": {"deep": "p"}}]', '1 2 8 9')) AS v(query, found);
SELECT lives_ok($$ SELECT dugong.append_event('Pupil', pg_temp.id('5', 2), 'Seen', jsonb_build_object('n', 20, 't', repeat('long', 100000))) $$, 'a value of 400,000 characters');
SELECT is(pg_temp.found(jsonb_build_object('tags', jsonb_build_object('t', repeat('long', 100000)))), '20', 'is found');
SELECT pg_temp.refused('UG008', $$ SELECT dugong.append_event('Pupil', gen_random_uuid(), 'Seen', '{"t": {"a": 1}}') $$);
SELECT pg_temp.refused('UG008', $$ SELECT dugong.append_event('Pupil', gen_random_uuid(), 'Seen', '{"t": [{"a": 1}]}') $$);
SELECT lives_ok($$ SELECT dugong.append_event('Pupil', gen_random_uuid(), 'Seen', jsonb_build_object('t', (SELECT jsonb_agg('h' || n) FROM generate_series(1, 100) n))) $$, 'a hundred tags');
SELECT pg_temp.refused('54000', $$ SELECT dugong.append_event('Pupil', gen_random_uuid(), 'Seen', jsonb_build_object('t', (SELECT jsonb_agg('h' || n) FROM generate_series(1, 1000) n))) $$);
SELECT results_eq($$ SELECT (payload ->> 'n')::int FROM dugong.read_events_matching('{"tags": {"deep": "p"}}', backward => true, max_rows => 1) $$, 'VALUES (9)', 'the last one');
SELECT is_empty($$ SELECT FROM dugong.read_events_matching('{"tags": {"deep": "p"}}', (SELECT max(position) FROM dugong.read_events_matching('{"tags": {"deep": "p"}}'))) $$, 'and nothing after it');

-- Tenants
SELECT dugong.append_event('Pupil', pg_temp.id('5', 3), 'Seen', '{"n": 30, "t": "x"}', tenant_id => 'acme') \g /dev/null
SELECT is(pg_temp.found('{"tags": {"t": "x"}}'), '1 2', 'another tenant''s are not found');
SET LOCAL dugong.tenant_id = 'acme';
SELECT is(pg_temp.found('{"tags": {"t": "x"}}'), '30', 'one''s own are');
SELECT lives_ok($$ SELECT dugong.append_event('Pupil', pg_temp.id('5', 3), 'Seen', '{}', if_none_match => '{"tags": {"t": "y"}}') $$, 'a condition is on the events of the tenant');
RESET dugong.tenant_id;

-- Every way into the log
CREATE FUNCTION pg_temp.entries() RETURNS bigint LANGUAGE sql RETURN (SELECT count(*) FROM dugong.event_tags);
CREATE TEMP TABLE pupil (id uuid, t text);
CREATE TRIGGER pupil AFTER INSERT ON pupil FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Pupil', 'id');
SELECT dugong.declare_tags('Pupil', 'PupilInserted', '{"t": ["new", "t"]}');
SELECT dugong.create_aggregate_type('Other', origin => 'elsewhere');
SELECT dugong.declare_tags('Other', 'Made', '{"t": "t"}', origin => 'elsewhere');
SELECT dugong.declare_tags('BankAccount', 'MoneyDeposited', '{"amount": "amount"}');
SELECT bank_open_account('Alice', 500, pg_temp.id('ba')) \g /dev/null
SELECT pg_temp.entries() AS before \gset
SELECT lives_ok(command, command) FROM (VALUES
    ($$ INSERT INTO pupil VALUES (pg_temp.id('6'), 'trigger') $$),
    ($$ INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type, payload) SELECT id, pg_temp.id('6', 2), 'Seen', '{"t": "plain"}' FROM dugong.aggregate_types WHERE name = 'Pupil' $$),
    ($$ SELECT dugong.receive_message('{"origin": "elsewhere", "aggregateType": "Other", "type": "Made", "sequenceNumber": 1, "id": "e0000000-0000-4000-8000-0000000000e8",
        "aggregateId": "a0000000-0000-4000-8000-00000000000a", "timestamp": "2020-01-01T00:00:00Z", "payload": {"t": "received"}}') $$),
    ($$ SELECT bank_deposit(pg_temp.id('ba'), 12.50) $$)) AS v(command);
SELECT is((SELECT count(*) FROM dugong.read_events_matching(query)), 1::bigint, query::text) FROM (VALUES ('{"tags": {"t": "trigger"}}'::jsonb), ('{"tags": {"t": "plain"}}'),
    ('{"tags": {"t": "received"}}'), ('{"tags": {"amount": 12.5}}')) AS v(query);
SELECT is(pg_temp.entries() - :before, 8::bigint, 'two entries for each');
SAVEPOINT s;
SELECT dugong.append_event('Pupil', pg_temp.id('6', 2), 'Seen', '{"t": "gone"}') \g /dev/null
ROLLBACK TO s;
SELECT is(pg_temp.entries() - :before, 8::bigint, 'none of what is rolled back');
INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type, payload, sequence_number) SELECT id, pg_temp.id('6', 3), 'Seen', '{"t": "refused"}', 1 FROM dugong.aggregate_types WHERE name = 'Pupil' ON CONFLICT DO NOTHING;
CREATE UNIQUE INDEX one_refused ON dugong.event_log ((payload ->> 't')) WHERE payload ->> 't' = 'refused';
INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type, payload) SELECT id, pg_temp.id('6', 4), 'Seen', '{"t": "refused"}' FROM dugong.aggregate_types WHERE name = 'Pupil' ON CONFLICT DO NOTHING;
SELECT is((SELECT count(*) FROM dugong.read_events_matching('{"tags": {"t": "refused"}}')), 1::bigint, 'an entry whose event was not inserted is none');
SELECT lives_ok(format($$ SELECT dugong.append_event('Course', gen_random_uuid(), 'Opened', if_none_match => '{"tags": {"t": "refused"}}', after_position => %s) $$, (SELECT position FROM dugong.read_events_matching('{"tags": {"t": "refused"}}'))), 'nor for a condition');

-- Declaring: what is there is found, anew and no more; upcast payloads
SELECT dugong.append_event('Pupil', pg_temp.id('7'), 'Moved', jsonb_build_object('n', n, 'town', 'T' || n % 2)) FROM generate_series(1, 4) n \g /dev/null
SELECT dugong.declare_tags('Pupil', 'Moved', '{"town": "town"}');
SELECT is(pg_temp.found('{"tags": {"town": "T1"}}'), '1 3', 'events that were there');
CREATE FUNCTION pg_temp.moved_2(jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE RETURN $1 - 'town' || jsonb_build_object('place', jsonb_build_object('town', $1 -> 'town'));
SELECT dugong.create_event_type('Pupil', 'Moved');
SELECT dugong.create_event_type('Pupil', 'Moved', 2, upcast => 'pg_temp.moved_2(jsonb)');
SELECT dugong.declare_tags('Pupil', 'Moved', '{"town": ["place", "town"], "n": "n"}');
SELECT is(pg_temp.found('{"tags": {"town": "T1"}}'), '1 3', 'as they are shown');
SELECT dugong.append_event('Pupil', pg_temp.id('7'), 'Moved', '{"n": 5, "town": "T1"}', version => 1) \g /dev/null
SELECT dugong.append_event('Pupil', pg_temp.id('7'), 'Moved', '{"n": 6, "place": {"town": "T1"}}') \g /dev/null
SELECT is(pg_temp.found('{"tags": {"town": "T1"}}'), '1 3 5 6', 'of either version');
SELECT is(pg_temp.found('{"tags": {"town": "T1", "n": 5}}'), '5', 'another tag');
SELECT is((SELECT tags::text FROM dugong.declared_tags WHERE type = 'Moved'), '{"n": "n", "town": ["place", "town"]}', 'the view');
SELECT pg_temp.entries() AS before \gset
SELECT dugong.drop_tags('Pupil', 'Moved');
SELECT is(:before - pg_temp.entries(), 18::bigint, 'the entries go with the declaration');
SELECT is(pg_temp.answer($$ SELECT dugong.read_events_matching('{"tags": {"town": "T1"}}') $$), '42704', 'and nothing can be found by them');
SELECT is(pg_temp.answer(command), code, command) FROM (VALUES
    ('42704', $$ SELECT dugong.drop_tags('Pupil', 'Moved') $$),
    ('42704', $$ SELECT dugong.declare_tags('Nothing', 'X', '{}') $$),
    ('22004', $$ SELECT dugong.declare_tags('Pupil', 'X', NULL) $$),
    ('22004', $$ SELECT dugong.declare_tags('Pupil', NULL, '{}') $$),
    ('22023', $$ SELECT dugong.declare_tags('Pupil', '', '{}') $$),
    ('22023', $$ SELECT dugong.declare_tags('Pupil', 'X', '[]') $$),
    ('22023', $$ SELECT dugong.declare_tags('Pupil', 'X', '"x"') $$),
    ('22023', $$ SELECT dugong.declare_tags('Pupil', 'X', '{"a": 1}') $$),
    ('22023', $$ SELECT dugong.declare_tags('Pupil', 'X', '{"a": []}') $$),
    ('22023', $$ SELECT dugong.declare_tags('Pupil', 'X', '{"a": ["b", 1]}') $$),
    ('22023', $$ SELECT dugong.declare_tags('Pupil', 'X', '{"": "b"}') $$),
    ('54000', $$ SELECT dugong.declare_tags('Pupil', 'X', (SELECT jsonb_object_agg(n, 'x') FROM generate_series(1, 101) n)) $$),
    ('UG008', $$ SELECT dugong.declare_tags('Pupil', 'PupilInserted', '{"row": "new"}') $$)) AS v(code, command);
SELECT dugong.create_aggregate_type('Empty');
SELECT dugong.declare_tags('Empty', 'X', '{}');
SELECT dugong.drop_aggregate_type('Empty');
SELECT is_empty($$ SELECT type FROM dugong.tag_declarations WHERE aggregate_type_id = dugong.aggregate_type_id(current_database(), 'Empty') $$, 'declarations go with the aggregate type');
SELECT * FROM finish();
ROLLBACK;
