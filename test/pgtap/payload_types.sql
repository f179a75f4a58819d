-- Payloads that must fit a declared type: composite types, domains, nested types, arrays.
BEGIN;
SELECT no_plan();
\ir helpers.psql
CREATE DOMAIN quantity AS int CHECK (VALUE > 0);
CREATE DOMAIN label AS text NOT NULL CHECK (length(VALUE) <= 5);
CREATE DOMAIN tags AS text[] CHECK (cardinality(VALUE) <= 2);
CREATE TYPE color AS ENUM ('red', 'green');
CREATE TYPE address AS (street text, zip label);
CREATE DOMAIN home AS address CHECK ((VALUE).street <> 'nowhere');
CREATE TYPE item AS (sku text, qty quantity, price numeric(6,2), big bigint, ok boolean, at timestamptz, kind color,
    address address, tags tags, grid int[], lines address[], anything jsonb, old json, home home);
CREATE DOMAIN points AS jsonb CHECK (jsonb_typeof(VALUE) = 'number' AND VALUE::numeric > 0);
CREATE TYPE nothing AS ();
SELECT dugong.create_aggregate_type('Cart');
SELECT dugong.create_event_type('Cart', 'ItemAdded', payload_type => 'item');
SELECT dugong.create_event_type('Cart', 'Scored', payload_type => 'points');
SELECT dugong.create_event_type('Cart', 'Emptied', payload_type => 'nothing');

CREATE FUNCTION pg_temp.good() RETURNS jsonb LANGUAGE sql RETURN '{"sku": "A", "qty": 2, "price": 9.99, "big": 9007199254740993, "ok": true, "at": "2026-01-01T00:00:00Z", "kind": "red",
    "address": {"street": "Main", "zip": "1234"}, "tags": ["x", "y"], "grid": [[1, 2], [3, 4]], "lines": [{"street": null, "zip": "1"}], "anything": {"a": [1, null]}, "old": null, "home": null}'::jsonb;
SELECT is((SELECT payload FROM dugong.append_event('Cart', pg_temp.id('a'), 'ItemAdded', pg_temp.good())), pg_temp.good(), 'a payload that fits is stored as it is');
SELECT lives_ok(format('SELECT dugong.append_event(''Cart'', pg_temp.id(''a''), ''ItemAdded'', pg_temp.good() || %L)', change), change) FROM (VALUES
    ('{"big": "9007199254740993"}'), ('{"qty": "2"}'), ('{"price": null}'), ('{"qty": null}'), ('{"tags": []}'), ('{"tags": null}'), ('{"grid": []}'), ('{"grid": [null, 1]}'),
    ('{"anything": "text"}'), ('{"anything": null}'), ('{"old": [1]}'), ('{"lines": []}'), ('{"address": null}'), ('{"home": {"street": "Main", "zip": "1"}}'), ('{"price": 1e3}')) AS good (change);

CREATE FUNCTION pg_temp.misfit(change text) RETURNS text LANGUAGE sql
RETURN pg_temp.answer(format('SELECT dugong.append_event(''Cart'', pg_temp.id(''a''), ''ItemAdded'', pg_temp.good() || %L)', change));
SELECT is(pg_temp.misfit(change), 'UG008 ' || detail, change) FROM (VALUES
    ('{"extra": 1}', 'Field "extra" is not one of the type.'),
    ('{"sku": 1}', 'Field "sku" must be a string, but is a number.'),
    ('{"sku": {"a": 1}}', 'Field "sku" must be a string, but is an object.'),
    ('{"qty": "two"}', 'Field "qty": invalid input syntax for type integer: "two".'),
    ('{"qty": 1.5}', 'Field "qty": invalid input syntax for type integer: "1.5".'),
    ('{"qty": 0}', 'Field "qty": value for domain quantity violates check constraint "quantity_check".'),
    ('{"qty": [1]}', 'Field "qty" must be a number, but is an array.'),
    ('{"qty": true}', 'Field "qty" must be a number, but is a boolean.'),
    ('{"price": 123456.78}', 'Field "price": numeric field overflow.'),
    ('{"big": 1e30}', 'Field "big": value "1000000000000000000000000000000" is out of range for type bigint.'),
    ('{"ok": "true"}', 'Field "ok" must be a boolean, but is a string.'),
    ('{"ok": 1}', 'Field "ok" must be a boolean, but is a number.'),
    ('{"at": "soon"}', 'Field "at": invalid input syntax for type timestamp with time zone: "soon".'),
    ('{"kind": "blue"}', 'Field "kind": invalid input value for enum color: "blue".'),
    ('{"address": {"street": "Main"}}', 'Field "address.zip" is missing.'),
    ('{"address": {"street": "Main", "zip": "123456"}}', 'Field "address.zip": value for domain label violates check constraint "label_check".'),
    ('{"address": {"street": "Main", "zip": null}}', 'Field "address.zip": domain label does not allow null values.'),
    ('{"address": {"street": "Main", "zip": "1", "city": "x"}}', 'Field "address.city" is not one of the type.'),
    ('{"address": "Main"}', 'Field "address" must be an object, but is a string.'),
    ('{"tags": ["a", "b", "c"]}', 'Field "tags": value for domain tags violates check constraint "tags_check".'),
    ('{"tags": "a"}', 'Field "tags" must be an array, but is a string.'),
    ('{"tags": ["a", 1]}', 'Field "tags[1]" must be a string, but is a number.'),
    ('{"grid": [[1, 2], [3]]}', 'Field "grid[1]" is not a rectangular array.'),
    ('{"grid": [1, [2]]}', 'Field "grid[1]" is not of the array''s depth.'),
    ('{"grid": [[1], 2]}', 'Field "grid[1]" is not of the array''s depth.'),
    ('{"lines": [{"street": "x", "zip": "1"}, {"street": "x"}]}', 'Field "lines[1].zip" is missing.'),
    ('{"home": {"street": "nowhere", "zip": "1"}}', 'Field "home": value for domain home violates check constraint "home_check".')) AS bad (change, detail);
SELECT is(pg_temp.answer(format('SELECT dugong.append_event(''Cart'', pg_temp.id(''a''), %L, %L)', type, payload)), answer, type || ' ' || coalesce(payload, 'NULL')) FROM (VALUES
    ('ItemAdded', NULL, 'UG008 The payload must be an object, but is null.'),
    ('ItemAdded', 'null', 'UG008 The payload must be an object, but is null.'),
    ('ItemAdded', '[]', 'UG008 The payload must be an object, but is an array.'),
    ('ItemAdded', '"x"', 'UG008 The payload must be an object, but is a string.'),
    ('ItemAdded', '{}', 'UG008 Field "sku" is missing.'),
    ('Scored', '5', 'accepted'),
    ('Scored', '-5', 'UG008 The payload: value for domain points violates check constraint "points_check".'),
    ('Scored', '"x"', 'UG008 The payload: value for domain points violates check constraint "points_check".'),
    ('Emptied', '{}', 'accepted'),
    ('Emptied', '{"a": 1}', 'UG008 Field "a" is not one of the type.'),
    ('Undeclared', '{"a": 1}', 'accepted')) AS c (type, payload, answer);
SELECT pg_temp.refused('UG008', $$ SELECT dugong.append_event('Cart', pg_temp.id('a'), 'ItemAdded', '{}') $$);
SELECT pg_temp.refused('UG008', $$ SELECT dugong.append_events('Cart', pg_temp.id('a'), '[{"type": "Scored", "payload": 1}, {"type": "Scored", "payload": 0}]') $$);
SELECT pg_temp.refused('UG008', $$ INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload) VALUES ('Cart', pg_temp.id('a'), 'Scored', '0') $$);
SELECT pg_temp.refused('UG008', $$ INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type, payload) VALUES (dugong.aggregate_type_id(current_database(), 'Cart'), pg_temp.id('a'), 'Scored', '0') $$);

-- Another version is another type; a type that changes applies at once
SELECT lives_ok($$ SELECT dugong.append_event('Cart', pg_temp.id('a'), 'Scored', '0', version => 7) $$, 'a version that is not declared is not checked');
ALTER TYPE address ADD ATTRIBUTE city text;
SELECT is(pg_temp.misfit('{}'), 'UG008 Field "address.city" is missing.', 'an attribute that was added');
ALTER TYPE address DROP ATTRIBUTE city;
ALTER TYPE address DROP ATTRIBUTE street CASCADE;
SELECT is(pg_temp.misfit('{"lines": []}'), 'UG008 Field "address.street" is not one of the type.', 'an attribute that was dropped');

-- The field that is named is the one that fails
CREATE FUNCTION careful(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'looking'; PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN RETURN true; END $$;
CREATE DOMAIN careful_text AS text CHECK (careful(VALUE));
CREATE DOMAIN ints AS int[];
CREATE DOMAIN anything AS jsonb;
CREATE TYPE misc AS (a careful_text, b int, c ints[], d anything[]);
SELECT dugong.create_event_type('Cart', 'Misc', payload_type => 'misc');
SET LOCAL client_min_messages = warning;
SELECT is(pg_temp.answer($$ SELECT dugong.append_event('Cart', pg_temp.id('a'), 'Misc', '{"a": "x", "b": "zz", "c": [], "d": []}') $$), 'UG008 Field "b": invalid input syntax for type integer: "zz".', 'not one whose CHECK caught an error');
SELECT is(pg_temp.answer($$ SELECT dugong.append_event('Cart', pg_temp.id('a'), 'Misc', '{"a": "x", "b": 1, "c": [[1, 2], [3]], "d": [[1], {}]}') $$), 'accepted', 'arrays of domains over arrays and JSON');

-- What a CHECK raises itself is not disguised
CREATE FUNCTION picky(jsonb) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'picky' USING ERRCODE = 'P0042'; END $$;
CREATE DOMAIN picked AS jsonb CHECK (picky(VALUE));
SELECT dugong.create_event_type('Cart', 'Picked', payload_type => 'picked');
SELECT pg_temp.refused('P0042', $$ SELECT dugong.append_event('Cart', pg_temp.id('a'), 'Picked', '{}') $$);
DROP DOMAIN picked;
SELECT pg_temp.refused('42704', $$ SELECT dugong.append_event('Cart', pg_temp.id('a'), 'Picked', '{}') $$);

SELECT * FROM finish();
ROLLBACK;
