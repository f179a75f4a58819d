-- Append conditions: the wording of errors.
BEGIN;
SELECT dugong.create_aggregate_type('Course');
SELECT dugong.declare_tags('Course', 'Enrolled', '{"course": "course", "student": ["student", "id"]}');
SELECT sequence_number FROM dugong.append_event('Course', 'aaaaaaaa-0000-4000-8000-000000000000', 'Enrolled', '{"course": "c1"}',
    if_none_match => '{"tags": {"course": "c1"}}');
SELECT sequence_number FROM dugong.append_event('Course', 'aaaaaaaa-0000-4000-8000-000000000000', 'Enrolled', '{"course": "c1"}');
-- A condition that does not hold; positions differ from run to run
CREATE FUNCTION pg_temp.said(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    detail text;
    hint text;
BEGIN
    EXECUTE command;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN regexp_replace(concat_ws(E'\n', SQLSTATE || ': ' || SQLERRM, NULLIF(detail, ''), NULLIF(hint, '')), '(position|beyond) \d+', '\1 #', 'g');
END $$;
\pset format unaligned
\pset tuples_only on
SELECT pg_temp.said(format('SELECT dugong.append_event(%L, gen_random_uuid(), %L, %L, %s)', 'Course', 'Enrolled', payload, arguments)) FROM (VALUES
    ('{"course": "c1"}', $$ if_none_match => '{"tags": {"course": "c1"}}' $$),
    ('{"course": "c1"}', $$ if_none_match => '{"tags": {"course": "c1"}}', after_position => (SELECT min(position) FROM dugong.read_events_matching('{"tags": {"course": "c1"}}')) $$),
    ('{"course": "c1"}', $$ if_none_match => NULL $$),
    ('{"course": "c1"}', $$ if_none_match => '{"type": "Enrolled"}' $$),
    ('{"course": "c1"}', $$ if_none_match => '[]' $$),
    ('{"course": "c1"}', $$ if_none_match => '{"types": ["Enroled"]}' $$),
    ('{"course": "c1"}', $$ if_none_match => '{"tags": {"corse": "c1"}}' $$),
    ('{"course": "c1"}', $$ if_none_match => '{"tags": {"course": "c1"}}', after_position => -1 $$),
    ('{"course": {"id": "c1"}}', $$ if_none_match => '{"tags": {"course": "c1"}}' $$),
    (jsonb_build_object('course', (SELECT jsonb_agg(n) FROM generate_series(1, 101) n))::text, $$ if_none_match => '{"tags": {"course": "c1"}}' $$)) AS v(payload, arguments);
SELECT pg_temp.said(command) FROM (VALUES
    ($$ SELECT dugong.declare_tags('Course', 'Enrolled', '[]') $$),
    ($$ SELECT dugong.declare_tags('Course', 'Enrolled', '{"course": 1}') $$),
    ($$ SELECT dugong.drop_tags('Course', 'Left') $$)) AS v(command);
ROLLBACK;
-- Events that are there and do not fit
BEGIN;
SELECT dugong.create_aggregate_type('Course');
SELECT 1 FROM dugong.append_event('Course', 'aaaaaaaa-0000-4000-8000-000000000000', 'Enrolled', '{"course": {}}');
\set VERBOSITY terse
SELECT dugong.declare_tags('Course', 'Enrolled', '{"course": "course"}');
ROLLBACK;
\set VERBOSITY default
-- An old snapshot
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT dugong.create_aggregate_type('Course');
SELECT dugong.declare_tags('Course', 'Enrolled', '{}');
ROLLBACK;
