-- append_event() and append_events(): envelope, expectations, event ids, payload types.
BEGIN;
SELECT no_plan();
\ir helpers.psql
SELECT dugong.create_aggregate_type('Cart');
SELECT dugong.create_aggregate_type('Other');

-- The whole envelope
SELECT results_eq($$ SELECT id, origin, aggregate_type, aggregate_id, tenant_id, sequence_number, type, version, payload, "timestamp", correlation_id, triggered_by_event_id, triggered_by_user_id, metadata
    FROM dugong.append_event(aggregate_type => 'Cart', aggregate_id => pg_temp.id('a'), type => 'ItemAdded', payload => '{"sku": "A"}', expected_sequence_number => 0,
        event_id => pg_temp.id('e'), version => 3, metadata => '{"ip": "::1"}', correlation_id => pg_temp.id('c'), triggered_by_event_id => pg_temp.id('f'),
        triggered_by_user_id => 'alice', event_timestamp => '2020-01-01 00:00:00+00', tenant_id => 'acme', origin => current_database()) $$,
    $$ VALUES (pg_temp.id('e'), current_database()::text COLLATE "default", 'Cart', pg_temp.id('a'), 'acme', 1::bigint, 'ItemAdded', 3, '{"sku": "A"}'::jsonb, '2020-01-01 00:00:00+00'::timestamptz,
        pg_temp.id('c'), pg_temp.id('f'), 'alice', '{"ip": "::1"}'::jsonb) $$, 'every argument is in the event');
SELECT results_eq($$ SELECT to_jsonb(e) FROM dugong.event(pg_temp.id('e')) e $$, $$ SELECT to_jsonb(e) FROM dugong.domain_events e WHERE id = pg_temp.id('e') $$, 'and in the log');
SELECT results_eq($$ SELECT tenant_id, sequence_number, version, payload, correlation_id, triggered_by_event_id, triggered_by_user_id, metadata, position > 0, abs(extract(epoch FROM clock_timestamp() - "timestamp")) < 60
    FROM dugong.append_event('Cart', pg_temp.id('a'), 'ItemAdded', NULL) $$,
    $$ VALUES ('', 1::bigint, 1, NULL::jsonb, NULL::uuid, NULL::uuid, NULL, NULL::jsonb, true, true) $$, 'what is left out; another tenant''s aggregate is another one');
SELECT is((SELECT substring(id::text, 15, 1) FROM dugong.append_event('Cart', pg_temp.id('a'), 'ItemAdded')), '7', 'ids made here are of version 7');
SELECT is((SELECT payload FROM dugong.append_event('Cart', pg_temp.id('a'), 'ItemAdded', 'null')), 'null', 'JSON null stays what it is');
SELECT is((SELECT payload FROM dugong.append_event('Cart', pg_temp.id('a'), 'ItemAdded', '[1, "x"]')), '[1, "x"]', 'any JSON');
SET LOCAL dugong.tenant_id = 'acme';
SET LOCAL dugong.correlation_id = 'c0000000-0000-4000-8000-000000000009';
SET LOCAL dugong.metadata = '{"from": "setting"}';
SELECT results_eq($$ SELECT tenant_id, sequence_number, correlation_id, metadata FROM dugong.append_event('Cart', pg_temp.id('a'), 'ItemAdded') $$,
    $$ VALUES ('acme', 2::bigint, pg_temp.id('c', 9), '{"from": "setting"}'::jsonb) $$, 'settings fill what is left out');
SELECT results_eq($$ SELECT tenant_id, correlation_id, metadata FROM dugong.append_event('Cart', pg_temp.id('a'), 'ItemAdded', tenant_id => 'x', correlation_id => pg_temp.id('c'), metadata => '{}') $$,
    $$ VALUES ('x', pg_temp.id('c'), '{}'::jsonb) $$, 'arguments win');
RESET dugong.tenant_id;
RESET dugong.correlation_id;
RESET dugong.metadata;

-- Expected sequence number
SELECT is(pg_temp.answer($$ SELECT dugong.append_event('Cart', pg_temp.id('b'), 'X', NULL, 1) $$), 'UG001 Expected sequence number 1, actual sequence number 0.', 'not there yet');
SELECT is((SELECT sequence_number FROM dugong.append_event('Cart', pg_temp.id('b'), 'X', NULL, 0)), 1::bigint, '0: must not exist');
SELECT is(pg_temp.answer($$ SELECT dugong.append_event('Cart', pg_temp.id('b'), 'X', NULL, 0) $$), 'UG001 Expected sequence number 0, actual sequence number 1.', 'exists already');
SELECT is((SELECT sequence_number FROM dugong.append_event('Cart', pg_temp.id('b'), 'X', NULL, 1)), 2::bigint, 'exact');
SELECT is(pg_temp.answer($$ SELECT dugong.append_event('Cart', pg_temp.id('b'), 'X', NULL, 1) $$), 'UG001 Expected sequence number 1, actual sequence number 2.', 'too low');
SELECT pg_temp.refused(code, format('SELECT dugong.append_event(%s)', arguments)) FROM (VALUES
    ('UG001', $$ 'Cart', pg_temp.id('b'), 'X', NULL, 7 $$),
    ('UG001', $$ 'Cart', pg_temp.id('b'), 'X', NULL, 0 $$),
    ('22003', $$ 'Cart', pg_temp.id('b'), 'X', NULL, -1 $$),
    ('22003', $$ 'Cart', pg_temp.id('b'), 'X', NULL, 9223372036854775807 $$),
    ('UG001', $$ 'Cart', pg_temp.id('b'), 'X', NULL, 9223372036854775806 $$),
    ('42704', $$ 'Nothing', pg_temp.id('b'), 'X' $$),
    ('42704', $$ 'Cart', pg_temp.id('b'), 'X', origin => 'Nobody' $$),
    ('22004', $$ NULL, pg_temp.id('b'), 'X' $$),
    ('22023', $$ '', pg_temp.id('b'), 'X' $$),
    ('22004', $$ 'Cart', NULL, 'X' $$),
    ('22004', $$ 'Cart', pg_temp.id('b'), NULL $$),
    ('22023', $$ 'Cart', pg_temp.id('b'), '' $$),
    ('22023', $$ 'Cart', pg_temp.id('b'), 'X', version => 0 $$),
    ('22023', $$ 'Cart', pg_temp.id('b'), 'X', event_timestamp => 'infinity' $$),
    ('22P02', $$ 'Cart', 'no uuid', 'X' $$),
    ('22P02', $$ 'Cart', pg_temp.id('b'), 'X', '{' $$)) AS bad (code, arguments);

-- Event ids
SELECT dugong.append_event('Cart', pg_temp.id('d'), 'X', '{"n": 1}', event_id => pg_temp.id('e', 2)) \g /dev/null
SELECT is((SELECT (sequence_number, position) FROM dugong.append_event('Cart', pg_temp.id('d'), 'X', '{"n": 1.0}', event_id => pg_temp.id('e', 2))),
    (SELECT (sequence_number, position) FROM dugong.event(pg_temp.id('e', 2))), 'the same id: the stored event');
SELECT is((SELECT sequence_number FROM dugong.append_event('Cart', pg_temp.id('d'), 'X', '{"n": 1}', 0, event_id => pg_temp.id('e', 2))), 1::bigint, 'a retry with its expectation');
SELECT is((SELECT count(*) FROM dugong.aggregate_events('Cart', pg_temp.id('d'))), 1::bigint, 'no second append');
SELECT pg_temp.refused('UG006', format('SELECT dugong.append_event(%s, event_id => pg_temp.id(%L, 2))', arguments, 'e')) FROM (VALUES
    ($$ 'Cart', pg_temp.id('d'), 'X', '{"n": 2}' $$),
    ($$ 'Cart', pg_temp.id('d'), 'X' $$),
    ($$ 'Cart', pg_temp.id('d'), 'Y', '{"n": 1}' $$),
    ($$ 'Cart', pg_temp.id('a'), 'X', '{"n": 1}' $$),
    ($$ 'Other', pg_temp.id('d'), 'X', '{"n": 1}' $$),
    ($$ 'Cart', pg_temp.id('d'), 'X', '{"n": 1}', tenant_id => 'acme' $$),
    ($$ 'Cart', pg_temp.id('d'), 'X', '{"n": 1}', version => 2 $$)) AS other (arguments);

-- Many at once
SELECT results_eq($$ SELECT id = pg_temp.id('e', 11), sequence_number, type, version, payload, metadata, correlation_id
    FROM dugong.append_events(aggregate_type => 'Cart', aggregate_id => pg_temp.id('1'), expected_sequence_number => 0, metadata => '{"all": true}', correlation_id => pg_temp.id('c'), events =>
        '[{"type": "A", "payload": {"n": 1}, "eventId": "e0000000-0000-4000-8000-000000000011", "version": 2, "metadata": {"own": 1}}, {"type": "B"}, {"type": "C", "payload": null}]') $$,
    $$ VALUES (true, 1::bigint, 'A', 2, '{"n": 1}'::jsonb, '{"own": 1}'::jsonb, pg_temp.id('c')), (false, 2, 'B', 1, NULL, '{"all": true}', pg_temp.id('c')), (false, 3, 'C', 1, NULL, '{"all": true}', pg_temp.id('c')) $$,
    'an array of events');
SELECT is((SELECT array_agg(sequence_number) FROM dugong.append_events('Cart', pg_temp.id('1'), '[{"type": "D"}, {"type": "E"}]')), '{4,5}', 'any sequence number');
SELECT is((SELECT array_agg(sequence_number) FROM dugong.append_events('Cart', pg_temp.id('2'), '[{"type": "D"}, {"type": "E"}]')), '{1,2}', 'of a new aggregate');
SELECT is((SELECT count(*) FROM dugong.append_events('Cart', pg_temp.id('2'), '[]', 2)), 0::bigint, 'none');
SELECT is(pg_temp.answer($$ SELECT dugong.append_events('Cart', pg_temp.id('1'), '[{"type": "F"}]', 4) $$), 'UG001 Expected sequence number 4, actual sequence number 5.', 'an expectation that fails');
SELECT pg_temp.refused(code, format('SELECT dugong.append_events(%s)', arguments)) FROM (VALUES
    ('UG001', $$ 'Cart', pg_temp.id('2'), '[]', 3 $$),
    ('UG001', $$ 'Cart', pg_temp.id('2'), '[{"type": "X"}]', 0 $$),
    ('22023', $$ 'Cart', pg_temp.id('2'), '{}' $$),
    ('22023', $$ 'Cart', pg_temp.id('2'), '1' $$),
    ('22023', $$ 'Cart', pg_temp.id('2'), '[1]' $$),
    ('22023', $$ 'Cart', pg_temp.id('2'), '[[]]' $$),
    ('22023', $$ 'Cart', pg_temp.id('2'), '[{"type": "X"}, {"type": "Y", "extra": 1}]' $$),
    ('22004', $$ 'Cart', pg_temp.id('2'), '[{"type": "X"}, {}]' $$),
    ('22004', $$ 'Cart', pg_temp.id('2'), '[{"type": null}]' $$),
    ('22023', $$ 'Cart', pg_temp.id('2'), '[{"type": 1}]' $$),
    ('22023', $$ 'Cart', pg_temp.id('2'), '[{"type": "X", "eventId": 1}]' $$),
    ('22P02', $$ 'Cart', pg_temp.id('2'), '[{"type": "X", "eventId": "1"}]' $$),
    ('22023', $$ 'Cart', pg_temp.id('2'), '[{"type": "X", "version": "1"}]' $$),
    ('22023', $$ 'Cart', pg_temp.id('2'), '[{"type": "X", "version": 1.5}]' $$),
    ('22003', $$ 'Cart', pg_temp.id('2'), '[{"type": "X", "version": 1e10}]' $$),
    ('22023', $$ 'Cart', pg_temp.id('2'), '[{"type": "X", "eventId": "e0000000-0000-4000-8000-000000000077"}, {"type": "X", "eventId": "e0000000-0000-4000-8000-000000000077"}]' $$),
    ('22004', $$ 'Cart', pg_temp.id('2'), NULL $$),
    ('42704', $$ 'Nothing', pg_temp.id('2'), '[]' $$)) AS bad (code, arguments);
SELECT is((SELECT count(*) FROM dugong.aggregate_events('Cart', pg_temp.id('2'))), 2::bigint, 'all or none');
\set batch '''[{"type": "R", "eventId": "e0000000-0000-4000-8000-000000000021"}, {"type": "S", "eventId": "e0000000-0000-4000-8000-000000000022"}]'''
SELECT is((SELECT array_agg(sequence_number) FROM dugong.append_events('Cart', pg_temp.id('3'), :batch, 0)), '{1,2}', 'a batch with ids');
SELECT is((SELECT array_agg(sequence_number) FROM dugong.append_events('Cart', pg_temp.id('3'), :batch, 0)), '{1,2}', 'again: the stored events');
SELECT is((SELECT event_count FROM dugong.aggregates WHERE aggregate_id = pg_temp.id('3')), 2::bigint, 'nothing twice');
SELECT pg_temp.refused('UG006', format('SELECT dugong.append_events(''Cart'', pg_temp.id(''3''), %L)', events)) FROM (VALUES
    ('[{"type": "R", "eventId": "e0000000-0000-4000-8000-000000000021"}, {"type": "S"}]'),
    ('[{"type": "Q", "eventId": "e0000000-0000-4000-8000-000000000020"}, {"type": "R", "eventId": "e0000000-0000-4000-8000-000000000021"}]'),
    ('[{"type": "R", "eventId": "e0000000-0000-4000-8000-000000000021", "payload": 1}]')) AS other (events);
SELECT is((SELECT count(*) FROM dugong.append_events('Cart', pg_temp.id('4'), (SELECT jsonb_agg(jsonb_build_object('type', 'N', 'payload', n)) FROM generate_series(1, 5000) n), 0)), 5000::bigint, '5,000 in one call');
SELECT ok((SELECT bool_and(payload = to_jsonb(sequence_number)) FROM dugong.aggregate_events('Cart', pg_temp.id('4'))), 'in their order');

-- External aggregate types
SELECT dugong.create_aggregate_type('Parcel', origin => 'Shipping');
SELECT pg_temp.refused('UG009', command) FROM (VALUES
    ($$ SELECT dugong.append_event('Parcel', pg_temp.id('1'), 'Sent') $$),
    ($$ SELECT dugong.append_events('Parcel', pg_temp.id('1'), '[{"type": "Sent"}]') $$),
    ($$ INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES ('Parcel', pg_temp.id('1'), 'Sent') $$),
    ($$ INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type) VALUES (dugong.aggregate_type_id('Shipping', 'Parcel'), pg_temp.id('1'), 'Sent') $$)) AS c (command);

-- Strict types
SELECT dugong.create_aggregate_type('Strict', strict => true);
SELECT dugong.create_event_type('Strict', 'Known');
SELECT lives_ok($$ SELECT dugong.append_event('Strict', pg_temp.id('1'), 'Known') $$, 'declared');
SELECT pg_temp.refused('UG008', command) FROM (VALUES
    ($$ SELECT dugong.append_event('Strict', pg_temp.id('1'), 'Unknown') $$),
    ($$ SELECT dugong.append_event('Strict', pg_temp.id('1'), 'Known', version => 2) $$),
    ($$ INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type) VALUES (dugong.aggregate_type_id(current_database(), 'Strict'), pg_temp.id('1'), 'Unknown') $$)) AS c (command);

SELECT * FROM finish();
ROLLBACK;
