-- Old events are read as their type is now, on every path.
BEGIN;
SELECT no_plan();
\ir helpers.psql
CREATE FUNCTION fold_payload(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE sql IMMUTABLE RETURN coalesce($1, '[]') || jsonb_build_array(($2).version, ($2).payload);
CREATE AGGREGATE payloads(dugong.domain_event) (SFUNC = fold_payload, STYPE = jsonb);
SELECT dugong.create_aggregate_type('Cart', fold => 'payloads(dugong.domain_event)');
SELECT dugong.append_event('Cart', pg_temp.id('a'), 'ItemAdded', '{"name": "x"}', event_id => pg_temp.id('e', 1), correlation_id => pg_temp.id('c'));
SELECT dugong.append_event('Cart', pg_temp.id('a'), 'ItemAdded', '{"sku": "y"}', version => 2, event_id => pg_temp.id('e', 2), correlation_id => pg_temp.id('c'), triggered_by_event_id => pg_temp.id('e', 1));
SELECT dugong.append_event('Cart', pg_temp.id('a'), 'Other', '{"name": "z"}');

CREATE FUNCTION to_v2(jsonb) RETURNS jsonb LANGUAGE sql RETURN jsonb_build_object('sku', $1 -> 'name');
CREATE FUNCTION to_v3(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN $1 || '{"qty": 1}'; END $$;
CREATE TYPE item AS (sku text, qty int);
SELECT dugong.create_event_type('Cart', 'ItemAdded', 2, upcast => 'to_v2(jsonb)');
SELECT dugong.create_event_type('Cart', 'ItemAdded', 3, 'item', 'to_v3(jsonb)');

CREATE FUNCTION pg_temp.shown(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN EXECUTE format('SELECT string_agg(version || '' '' || (payload)::text, '' | '' ORDER BY position) FROM (%s) AS e WHERE type = ''ItemAdded''', query) INTO result; RETURN result; END $$;
SELECT is(pg_temp.shown(query), '3 {"qty": 1, "sku": "x"} | 3 {"qty": 1, "sku": "y"}', query) FROM (VALUES
    ('SELECT * FROM dugong.domain_events'),
    ('SELECT * FROM dugong.aggregate_events(''Cart'', pg_temp.id(''a''))'),
    ('SELECT * FROM dugong.read_events()'),
    ('SELECT * FROM dugong.read_events(stop_at_gap => false)'),
    ('SELECT * FROM dugong.read_events(backward => true)'),
    ('SELECT * FROM dugong.read_events(correlation_id => pg_temp.id(''c''))'),
    ('SELECT * FROM dugong.event(pg_temp.id(''e'', 1)) UNION ALL SELECT * FROM dugong.event(pg_temp.id(''e'', 2))'),
    ('SELECT * FROM dugong.event(pg_temp.id(''e'', 1)) UNION ALL SELECT * FROM dugong.effects_of(pg_temp.id(''e'', 1))')) AS paths (query);
SELECT is((SELECT payloads(e ORDER BY e.sequence_number) FROM dugong.domain_events e WHERE aggregate_id = pg_temp.id('a')),
    '[3, {"qty": 1, "sku": "x"}, 3, {"qty": 1, "sku": "y"}, 1, {"name": "z"}]', 'a fold over the view');
SELECT is((SELECT (version, payload) FROM dugong.append_event('Cart', pg_temp.id('a'), 'ItemAdded', '{"name": "x"}', version => 1, event_id => pg_temp.id('e', 1))), (3, '{"qty": 1, "sku": "x"}'::jsonb), 'an append that finds its event');
SELECT is((SELECT dugong.to_message(e) -> 'payload' FROM dugong.event(pg_temp.id('e', 1)) e), '{"qty": 1, "sku": "x"}', 'a message');
SELECT is((SELECT (version, payload) FROM dugong.event_log WHERE id = pg_temp.id('e', 1)), (1, '{"name": "x"}'::jsonb), 'the log keeps what was appended');
SELECT is((SELECT version FROM dugong.append_event('Cart', pg_temp.id('a'), 'ItemAdded', '{"name": "x"}', event_id => pg_temp.id('e', 1))), 3, 'a retry that names no version');
SELECT is((SELECT version FROM dugong.append_event('Cart', pg_temp.id('a'), 'ItemAdded', '{"sku": "w", "qty": 2}')), 3, 'a new event has the declared version');

-- A function that is replaced applies at once, also in the transaction that replaces it
CREATE OR REPLACE FUNCTION to_v2(jsonb) RETURNS jsonb LANGUAGE sql RETURN jsonb_build_object('sku', 'new ' || ($1 ->> 'name'));
SELECT is((SELECT payload FROM dugong.event(pg_temp.id('e', 1))), '{"qty": 1, "sku": "new x"}', 'replaced');

-- NULL payloads
SELECT dugong.append_event('Cart', pg_temp.id('b'), 'Cleared', NULL, event_id => pg_temp.id('e', 5));
CREATE FUNCTION clear_v2(jsonb) RETURNS jsonb LANGUAGE sql RETURN coalesce($1, '{"empty": true}');
CREATE FUNCTION clear_v3(jsonb) RETURNS jsonb LANGUAGE sql STRICT RETURN $1;
CREATE FUNCTION clear_v4(jsonb) RETURNS jsonb LANGUAGE sql RETURN NULL::jsonb;
CREATE FUNCTION clear_v5(jsonb) RETURNS jsonb LANGUAGE sql STRICT RETURN '1'::jsonb;
SELECT dugong.create_event_type('Cart', 'Cleared', 2, upcast => 'clear_v2(jsonb)');
SELECT dugong.create_event_type('Cart', 'Cleared', 3, upcast => 'clear_v3(jsonb)');
SELECT is((SELECT payload FROM dugong.event(pg_temp.id('e', 5))), '{"empty": true}', 'an upcast gets NULL');
SELECT dugong.create_event_type('Cart', 'Cleared', 4, upcast => 'clear_v4(jsonb)');
SELECT dugong.create_event_type('Cart', 'Cleared', 5, upcast => 'clear_v5(jsonb)');
SELECT is((SELECT payload FROM dugong.event(pg_temp.id('e', 5))), NULL, 'may return NULL, and a strict one is not called for it');

-- Where no chain leads
SELECT dugong.append_event('Cart', pg_temp.id('b'), 'Late', '1', event_id => pg_temp.id('e', 6));
SELECT dugong.append_event('Cart', pg_temp.id('b'), 'Late', '9', version => 9, event_id => pg_temp.id('e', 7));
SELECT dugong.create_event_type('Cart', 'Late', 3, upcast => 'to_v3(jsonb)');
SELECT results_eq($$ SELECT version, payload FROM dugong.domain_events WHERE type = 'Late' ORDER BY position $$, $$ VALUES (1, '1'::jsonb), (9, '9') $$, 'shown as stored');

-- check_event_types
SELECT results_eq($$ SELECT aggregate_type, type, version, current_version, events, failed, event_id, sqlstate::text, detail FROM dugong.check_event_types() ORDER BY type, version $$,
    $$ VALUES ('Cart', 'Cleared', 1, 5, 1::bigint, 0::bigint, NULL::uuid, NULL, NULL), ('Cart', 'ItemAdded', 1, 3, 1, 0, NULL, NULL, NULL), ('Cart', 'ItemAdded', 2, 3, 1, 0, NULL, NULL, NULL),
        ('Cart', 'ItemAdded', 3, 3, 1, 0, NULL, NULL, NULL), ('Cart', 'Late', 1, 3, 1, 1, pg_temp.id('e', 6), '42883', NULL), ('Cart', 'Late', 9, 3, 1, 0, NULL, NULL, NULL), ('Cart', 'Other', 1, NULL, 1, 0, NULL, NULL, NULL) $$,
    'every stored type and version');
SELECT dugong.append_event('Cart', pg_temp.id('b'), 'ItemAdded', '{"name": "second"}', version => 1);
SELECT dugong.append_event('Cart', pg_temp.id('b'), 'ItemAdded', '{"name": "third"}', version => 1);
CREATE OR REPLACE FUNCTION to_v2(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN IF $1 ->> 'name' = 'second' THEN RAISE EXCEPTION 'no second'; END IF; RETURN '{"sku": 5}'; END $$;
SELECT results_eq($$ SELECT version, events, failed, sqlstate::text, message FROM dugong.check_event_types() WHERE type = 'ItemAdded' ORDER BY version $$,
    $$ VALUES (1, 3::bigint, 3::bigint, 'UG008', 'payload of event type "ItemAdded" version 3 does not fit type public.item'), (2, 1, 0, NULL, NULL), (3, 1, 0, NULL, NULL) $$, 'a chain that makes a payload which does not fit, and one that fails');
SELECT is(pg_temp.answer('SELECT payload FROM dugong.domain_events'), 'P0001', 'an upcast that fails fails the read');
DROP FUNCTION to_v2;
SELECT results_eq($$ SELECT failed, sqlstate::text FROM dugong.check_event_types() WHERE type = 'ItemAdded' AND version = 1 $$, $$ VALUES (3::bigint, '42883') $$, 'an upcast that is gone');
SELECT lives_ok($$ SELECT count(*) FROM dugong.domain_events WHERE type = 'ItemAdded' AND position > 0 $$, 'who does not look at payloads does not need upcasts');

-- The greatest version that there is has no next one
SELECT dugong.create_aggregate_type('Last', fold => 'dugong.row_fold(dugong.domain_event)');
SELECT dugong.create_event_type('Last', 'Made', 2147483646);
SELECT dugong.create_event_type('Last', 'Made', 2147483647, upcast => 'to_v3(jsonb)');
SELECT dugong.append_event('Last', pg_temp.id('c'), 'Made', '{"new": {"a": 1}}', version => 2147483646);
SELECT results_eq($$ SELECT version FROM dugong.domain_events WHERE aggregate_type = 'Last' $$, 'VALUES (2147483647)', 'upcast to the greatest version');
SELECT lives_ok($$ SELECT dugong.take_snapshot('Last', pg_temp.id('c')) $$, 'and what is made of it is stored with its fingerprint');

SELECT * FROM finish();
ROLLBACK;
