-- Values at the edge of what PostgreSQL can hold, or beyond it, on every path into the log: kept exactly, or an error with a code of its own.
BEGIN;
SET LOCAL search_path = public;
SELECT no_plan();
\ir helpers.psql
SET LOCAL dugong.origin = 'here';
SELECT dugong.create_aggregate_type('Thing', fold => 'dugong.row_fold(dugong.domain_event)');
SELECT dugong.create_aggregate_type('Other', origin => 'elsewhere');
SELECT dugong.declare_tags('Thing', 'Made', '{"tag": "tag"}');
CREATE TABLE source (id uuid DEFAULT gen_random_uuid(), doc text);
CREATE TABLE rows (id uuid, doc jsonb);
CREATE TRIGGER record AFTER INSERT ON rows FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Thing', 'id');
CREATE FUNCTION pg_temp.code(command text) RETURNS text LANGUAGE sql AS $$ SELECT split_part(pg_temp.answer(command), ' ', 1) $$;

-- How JSON gets in: %L is a literal
CREATE TEMP TABLE ways AS SELECT * FROM (VALUES
    ('payload', $$ SELECT dugong.append_event('Thing', gen_random_uuid(), 'Made', %1$L) $$),
    ('metadata', $$ SELECT dugong.append_event('Thing', gen_random_uuid(), 'Made', metadata => %1$L) $$),
    ('condition', $$ SELECT dugong.append_event('Thing', gen_random_uuid(), 'Made', if_none_match => '{"types": ["Made"], "tags": {"tag": "x"}}', payload => %1$L) $$),
    ('events', $$ SELECT dugong.append_events('Thing', gen_random_uuid(), jsonb_build_array(jsonb_build_object('type', 'Made', 'payload', %1$L::jsonb))) $$),
    ('setting', $$ SELECT set_config('dugong.metadata', %1$L, true); SELECT dugong.append_event('Thing', gen_random_uuid(), 'Made') $$),
    ('insert', $$ INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload) VALUES ('Thing', gen_random_uuid(), 'Made', %1$L) $$),
    ('row', $$ INSERT INTO rows VALUES (gen_random_uuid(), %1$L) $$),
    ('message', $$ SELECT dugong.receive_message(jsonb_build_object('origin', 'elsewhere', 'aggregateType', 'Other', 'aggregateId', gen_random_uuid(), 'id', gen_random_uuid(),
        'type', 'Made', 'sequenceNumber', 1, 'payload', %1$L::jsonb)) $$),
    ('import', $$ TRUNCATE source; INSERT INTO source (doc) VALUES (%1$L);
        CALL dugong.import_events('source', '{"aggregate_type": "''Thing''", "aggregate_id": "id", "type": "''Made''", "payload": "doc", "order_by": "id"}') $$)) AS v(way, command);

-- What cannot be: the same everywhere
SELECT is(pg_temp.code(format(command, doc)), code, concat_ws(' ', way, left(doc, 20)))
FROM ways, (VALUES ('"\u0000"', '22P05'), ('{"\u0000": 1}', '22P05'), ('"\ud800"', '22P02'), ('"\udc00x"', '22P02'), (repeat('[', 100000), '54001'), (repeat('{"a":', 100000), '54001'),
    ('1e999999999', '22003'), ('NaN', '22P02'), ('Infinity', '22P02')) AS v(doc, code);

-- What can: it is in the log as it was given
CREATE FUNCTION pg_temp.kept(command text, doc text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(command, doc);
    RETURN (SELECT COALESCE(e.payload -> 'new' -> 'doc', e.payload, e.metadata)::text FROM dugong.domain_events e ORDER BY e.position DESC LIMIT 1);
END $$;
SELECT is(pg_temp.kept(command, doc), doc::jsonb::text, concat_ws(' ', way, left(doc, 20)))
FROM ways, (VALUES ('{"a": 1, "a": 2}'), ('1e131071'), ('1e-16383'), ('-0'), ('{"tag": 1e131071}'), ('{"tag": 1e-16383}'), ('{"tag": "\u0001"}'), ('"NaN"'), ('1.10'), ('12345678901234567890.12'),
    ('{"new": {"a": -0}}'), ('"\ud83d\udc18\u202e\ufeff"'), ('{"": {"": ""}}'), (repeat('[', 1000) || repeat(']', 1000))) AS v(doc);

-- Numbers of a message and of an import
CREATE FUNCTION pg_temp.message(field text, value jsonb) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.code(format('SELECT dugong.receive_message(%L)', jsonb_build_object('origin', 'elsewhere', 'aggregateType', 'Other', 'aggregateId', gen_random_uuid(), 'id', gen_random_uuid(),
        'type', 'Made', 'sequenceNumber', 1) || jsonb_build_object(field, value))) $$;
SELECT is(pg_temp.message(field, value::jsonb), code, concat_ws(' ', 'message with', field, value))
FROM (VALUES ('sequenceNumber', '1e131071', '22003'), ('sequenceNumber', '9223372036854775807', 'UG001'), ('sequenceNumber', '1e-16383', '22023'), ('sequenceNumber', '-0', '22023'),
    ('version', '2147483648', '22003'), ('version', '2147483647', 'accepted'), ('version', '"NaN"', '22023'), ('timestamp', '"infinity"', '22023'), ('timestamp', '"294277-01-01"', '22008'),
    ('timestamp', '"4714-11-24 00:00:00+00 BC"', 'accepted'), ('timestamp', '"294276-12-31T23:59:59.999999Z"', 'accepted'), ('timestamp', '"NaN"', '22007'), ('id', '"x"', '22P02')) AS v(field, value, code);
TRUNCATE source;
INSERT INTO source (doc) VALUES ('{}');
CREATE FUNCTION pg_temp.import(key text, expression text) RETURNS text LANGUAGE sql AS $$
    SELECT pg_temp.code(format('CALL dugong.import_events(''source'', %L)', jsonb_build_object('aggregate_type', '''Thing''', 'aggregate_id', 'gen_random_uuid()', 'type', '''Made''', 'id', 'gen_random_uuid()',
        'payload', 'doc', 'order_by', 'doc') || jsonb_build_object(key, expression))) $$;
SELECT is(pg_temp.import(key, expression), code, concat_ws(' ', 'import of', key, expression))
FROM (VALUES ('sequence_number', '''NaN''::numeric', '0A000'), ('sequence_number', '1e20', '22003'), ('sequence_number', '9223372036854775807', 'UG007'), ('sequence_number', '-9223372036854775808', 'UG007'),
    ('version', '''NaN''::float8', '22003'), ('version', '2147483647', 'accepted'), ('version', '-2147483648', '22023'), ('timestamp', '''infinity''::timestamptz', '22023'),
    ('timestamp', '''4714-11-24 00:00:00+00 BC''::timestamptz', 'accepted'), ('timestamp', '''294276-12-31 23:59:59.999999+00''::timestamptz', 'accepted'), ('id', 'NULL', 'accepted'),
    ('id', '''NaN''::numeric', 'accepted'), ('id', 'ROW(1, 2)', 'accepted'), ('type', 'repeat(''x'', 100000)', 'accepted'), ('type', '''''', '22023'), ('payload', 'ROW(1)', '42846'),
    ('order_by', 'point(1, 1)', '42883'), ('namespace', 'x', '22P02')) AS v(key, expression, code);

-- Times: the aggregate goes on, and the views that compare with now show it
SELECT is(pg_temp.code(format($$ SELECT dugong.append_event('Thing', %1$L, 'Made', event_timestamp => %2$L); SELECT dugong.append_event('Thing', %1$L, 'Made');
        SELECT dugong.build_aggregate('Thing', %1$L, as_of => %2$L); SELECT dugong.aggregate_history('Thing', %1$L); SELECT * FROM dugong.projection_status; SELECT * FROM dugong.outstanding_events $$,
    gen_random_uuid(), "time")), code, "time")
FROM (VALUES ('infinity', '22023'), ('-infinity', '22023'), ('4714-11-24 00:00:00+00 BC', 'accepted'), ('294276-12-31 23:59:59.999999+00', 'accepted'), ('4715-01-01 BC', '22008')) AS v("time", code);

-- Names that are long, and cannot be made short
SELECT is(pg_temp.code(format(command, (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300) i))), code, command)
FROM (VALUES ($$ SELECT dugong.append_event('Thing', gen_random_uuid(), %L) $$, 'accepted'), ($$ SELECT dugong.append_event('Thing', gen_random_uuid(), 'Made', tenant_id => %L) $$, '54000'),
    ($$ SELECT dugong.append_event('Thing', gen_random_uuid(), 'Made', triggered_by_user_id => %L) $$, 'accepted'), ($$ SELECT dugong.create_event_type('Thing', %L) $$, '54000'),
    ($$ SELECT dugong.declare_tags('Thing', %L, '{}') $$, '54000'), ($$ SELECT dugong.create_aggregate_type(%L) $$, '42622'), ($$ SELECT dugong.create_subscription(%L, '{Thing}') $$, '42622'),
    ($$ SELECT dugong.append_event('Thing', gen_random_uuid(), 'Made', jsonb_build_object('tag', %L)) $$, 'accepted')) AS v(command, code);

SELECT * FROM finish();
ROLLBACK;
