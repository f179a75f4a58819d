-- Events as messages, to other services and from them.
BEGIN;
SELECT no_plan();
\ir helpers.psql
SELECT dugong.create_aggregate_type('Cart', origin => 'Shop', external => false);
SELECT dugong.create_aggregate_type('Parcel', origin => 'Shipping');
SELECT dugong.append_event('Cart', pg_temp.id('a'), 'ItemAdded', '{"n": 1}', event_id => pg_temp.id('e', 1), event_timestamp => '2026-01-02 03:04:05.678901+00');
SELECT dugong.append_event('Cart', pg_temp.id('a'), 'ItemAdded', NULL, event_id => pg_temp.id('e', 2), version => 2, correlation_id => pg_temp.id('c'), triggered_by_event_id => pg_temp.id('e', 1),
    triggered_by_user_id => 'bob', metadata => '{"deep": {"null": null}}', tenant_id => 'acme', event_timestamp => '2026-01-02 03:04:05+00');

SELECT is(dugong.to_message(event => e), '{"origin": "Shop", "aggregateType": "Cart", "type": "ItemAdded", "version": 1, "id": "e0000000-0000-4000-8000-000000000001", "aggregateId": "a0000000-0000-4000-8000-000000000001",
    "payload": {"n": 1}, "sequenceNumber": 1, "timestamp": "2026-01-02T03:04:05.678901Z"}', 'what is not set is absent') FROM dugong.event(pg_temp.id('e', 1)) e;
SET LOCAL timezone = 'Asia/Tokyo';
SET LOCAL datestyle = 'German';
SELECT is(dugong.to_message(e), '{"origin": "Shop", "aggregateType": "Cart", "type": "ItemAdded", "version": 2, "id": "e0000000-0000-4000-8000-000000000002", "aggregateId": "a0000000-0000-4000-8000-000000000001",
    "payload": null, "sequenceNumber": 1, "timestamp": "2026-01-02T03:04:05.000000Z", "tenantId": "acme", "correlationId": "c0000000-0000-4000-8000-000000000001", "triggeredByEventId": "e0000000-0000-4000-8000-000000000001",
    "triggeredByUserId": "bob", "metadata": {"deep": {"null": null}}}', 'everything; the session''s settings change nothing') FROM dugong.event(pg_temp.id('e', 2)) e;
SELECT is(dugong.to_message(NULL), NULL, 'NULL');
SELECT dugong.append_event('Cart', pg_temp.id('a', 9), 'Old', 'null', event_id => pg_temp.id('e', 9), event_timestamp => '0044-03-15 12:00:00+00 BC');
SELECT is((SELECT id FROM dugong.receive_message((SELECT dugong.to_message(e) FROM dugong.event(pg_temp.id('e', 9)) e))), pg_temp.id('e', 9), 'a null payload comes back');
SELECT is((dugong.to_message(e) ->> 'timestamp')::timestamptz, e."timestamp", 'a time before Christ, too') FROM dugong.read_events(backward => true, max_rows => 1) e;
SELECT is((SELECT count(dugong.to_message(e)) FROM dugong.domain_events e), 3::bigint, 'rows of the view');

-- Receiving
CREATE FUNCTION pg_temp.message(number int, change jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE sql
RETURN jsonb_build_object('origin', 'Shipping', 'aggregateType', 'Parcel', 'type', 'Sent', 'version', 2, 'id', pg_temp.id('d', number), 'aggregateId', pg_temp.id('b'),
    'payload', jsonb_build_object('n', number), 'sequenceNumber', number, 'timestamp', '2026-01-02T03:04:05.678Z') || change;
SET LOCAL dugong.correlation_id = 'c0000000-0000-4000-8000-000000000009';
SET LOCAL dugong.metadata = '{"mine": true}';
SET LOCAL dugong.tenant_id = 'mine';
SELECT results_eq($$ SELECT id, origin, aggregate_type, aggregate_id, tenant_id, sequence_number, type, version, payload, "timestamp", correlation_id, triggered_by_event_id, triggered_by_user_id, metadata FROM dugong.receive_message(message => pg_temp.message(1)) $$,
    $$ VALUES (pg_temp.id('d', 1), 'Shipping', 'Parcel', pg_temp.id('b'), '', 1::bigint, 'Sent', 2, '{"n": 1}'::jsonb, '2026-01-02 03:04:05.678+00'::timestamptz, NULL::uuid, NULL::uuid, NULL, NULL::jsonb) $$, 'a message is stored as it is: settings add nothing');
RESET dugong.correlation_id;
RESET dugong.metadata;
RESET dugong.tenant_id;
SELECT is((SELECT position FROM dugong.receive_message(pg_temp.message(1))), (SELECT position FROM dugong.event(pg_temp.id('d', 1))), 'again: the stored event');
SELECT is(pg_temp.answer($$ SELECT dugong.receive_message(pg_temp.message(3)) $$), 'UG001 Expected sequence number 2, actual sequence number 1.', 'a gap');
SELECT is((SELECT sequence_number FROM dugong.receive_message(pg_temp.message(2, '{"tenantId": null, "correlationId": "c0000000-0000-4000-8000-000000000001", "triggeredByEventId": "d0000000-0000-4000-8000-000000000001",
    "triggeredByUserId": "eve", "metadata": {"m": 1}, "later": "ignored"}'))), 2::bigint, 'the next');
SELECT is((SELECT dugong.to_message(e) FROM dugong.event(pg_temp.id('d', 2)) e), pg_temp.message(2, '{"correlationId": "c0000000-0000-4000-8000-000000000001", "triggeredByEventId": "d0000000-0000-4000-8000-000000000001",
    "triggeredByUserId": "eve", "metadata": {"m": 1}, "timestamp": "2026-01-02T03:04:05.678000Z"}'), 'there and back again');
SELECT is((SELECT sequence_number FROM dugong.receive_message(pg_temp.message(3))), 3::bigint, 'redelivered');
SELECT is((SELECT tenant_id FROM dugong.receive_message(pg_temp.message(1, '{"tenantId": "acme", "id": "d0000000-0000-4000-8000-000000000091"}'))), 'acme', 'a tenant');
SELECT is((SELECT (sequence_number, version) FROM dugong.receive_message('{"origin": "Shipping", "aggregateType": "Parcel", "type": "Sent", "id": "d0000000-0000-4000-8000-000000000092", "aggregateId": "b0000000-0000-4000-8000-000000000002", "sequenceNumber": 1}')),
    (1::bigint, 1), 'the least that is needed');
SELECT pg_temp.refused(code, format('SELECT dugong.receive_message(%s)', message)) FROM (VALUES
    ('UG001', 'pg_temp.message(9)'),
    ('UG001', 'pg_temp.message(3, ''{"id": "d0000000-0000-4000-8000-000000000093"}'')'),
    ('UG006', 'pg_temp.message(3, ''{"payload": 1}'')'),
    ('UG006', 'pg_temp.message(3, ''{"type": "Lost"}'')'),
    ('UG006', 'pg_temp.message(3, ''{"sequenceNumber": 4}'')'),
    ('UG009', 'pg_temp.message(1, ''{"origin": "Shop", "aggregateType": "Cart"}'') || jsonb_build_object(''id'', gen_random_uuid())'),
    ('42704', 'pg_temp.message(4, ''{"origin": "Nobody"}'')'),
    ('42704', 'pg_temp.message(4, ''{"aggregateType": "Nothing"}'')'),
    ('22023', 'pg_temp.message(4, ''{"sequenceNumber": "4"}'')'),
    ('22023', 'pg_temp.message(4, ''{"sequenceNumber": 4.5}'')'),
    ('22023', 'pg_temp.message(4, ''{"version": 0}'')'),
    ('22P02', 'pg_temp.message(4, ''{"id": "x"}'')'),
    ('22023', 'pg_temp.message(4, ''{"id": 4}'')'),
    ('22P02', 'pg_temp.message(4, ''{"correlationId": "x"}'')'),
    ('22007', 'pg_temp.message(4, ''{"timestamp": "soon"}'')'),
    ('22023', 'pg_temp.message(4, ''{"timestamp": 1767322445}'')'),
    ('22023', 'pg_temp.message(4, ''{"triggeredByUserId": 7}'')'),
    ('22004', 'NULL'),
    ('22023', '''[]'''),
    ('22023', '''"x"''')) AS bad (code, message);
SELECT pg_temp.refused('22004', format('SELECT dugong.receive_message(pg_temp.message(4) - %L)', key)) FROM unnest(ARRAY['origin', 'aggregateType', 'type', 'id', 'aggregateId', 'sequenceNumber']) AS key;
SELECT is((SELECT id FROM dugong.receive_message((SELECT dugong.to_message(e) FROM dugong.event(pg_temp.id('e', 1)) e))), pg_temp.id('e', 1), 'one''s own event that comes back is known');

-- A declared payload type holds for what comes in, too; upcasts work on it
CREATE TYPE sent AS (n int);
SELECT dugong.create_event_type('Parcel', 'Sent', 2, 'sent');
SELECT pg_temp.refused('UG008', $$ SELECT dugong.receive_message(pg_temp.message(4, '{"payload": {"n": "x"}}')) $$);
SELECT lives_ok($$ SELECT dugong.receive_message(pg_temp.message(4)) $$, 'one that fits');
SELECT is((SELECT version FROM dugong.receive_message(pg_temp.message(4, '{"version": 3, "payload": {"m": 4}}'))), 2, 'a sender that has upcast it since sends the same event');
CREATE FUNCTION up(jsonb) RETURNS jsonb LANGUAGE sql RETURN '{"up": true}'::jsonb;
SELECT dugong.create_event_type('Cart', 'ItemAdded', 2, upcast => 'up(jsonb)');
SELECT is((SELECT version FROM dugong.receive_message((SELECT dugong.to_message(e) FROM dugong.event(pg_temp.id('e', 1)) e))), 2, 'one''s own, too');

SELECT * FROM finish();
ROLLBACK;
