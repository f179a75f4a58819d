-- The helper for testing one's own aggregates: what it accepts, and that what goes wrong is a failed test, not the end of the file.
BEGIN;
SELECT no_plan();
\ir helpers.psql
\ir ../../testing/dugong_testing.sql

CREATE FUNCTION note_apply(state jsonb, event dugong.domain_event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF (event).type = 'Broken' THEN RAISE EXCEPTION 'cannot fold this'; END IF;
    RETURN coalesce(state, '[]') || to_jsonb((event).type);
END $$;
CREATE AGGREGATE note_fold(dugong.domain_event) (SFUNC = note_apply, STYPE = jsonb);
SELECT dugong.create_aggregate_type('Note', 'note_fold(dugong.domain_event)');
SELECT dugong.create_aggregate_type('Other', 'note_fold(dugong.domain_event)');
CREATE FUNCTION note(type text, payload jsonb DEFAULT NULL) RETURNS void LANGUAGE sql AS $$ SELECT dugong.append_event('Note', pg_temp.id('a'), $1, $2) $$;
CREATE FUNCTION note_both() RETURNS void LANGUAGE sql AS $$
    SELECT dugong.append_event('Other', pg_temp.id('b'), 'First', '{"n": 1}', tenant_id => 'acme');
    SELECT dugong.append_event('Note', pg_temp.id('a'), 'Second', '{}');
    SELECT dugong.append_event('Other', pg_temp.id('b'), 'Third', '{"n": 3}', tenant_id => 'acme', metadata => '{"m": 1}') $$;

-- What a scenario says, without its being counted here: 'ok' or 'not ok' of each test, and the lines of diagnostics
CREATE FUNCTION pg_temp.said(arguments text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text;
    failed int := _get('failed');
    number bigint := (SELECT last_value FROM __tresults___numb_seq);
    called boolean := (SELECT is_called FROM __tresults___numb_seq);
BEGIN
    EXECUTE format('SELECT string_agg(t, E''\n'') FROM dugong_testing.scenario(%s) t', arguments) INTO said;
    PERFORM setval('__tresults___numb_seq', number, called), _set('failed', failed);
    RETURN regexp_replace(said, 'ok \d+ - ', 'ok - ', 'g');
END $$;
CREATE FUNCTION pg_temp.verdict(arguments text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(line, ', ' ORDER BY n) FROM regexp_split_to_table(pg_temp.said(arguments), E'\n') WITH ORDINALITY AS t (line, n) WHERE line ~ '^(not )?ok' $$;

-- Payloads: none is {}
SELECT dugong_testing.scenario('no payload is an empty one', 'Note', pg_temp.id('a'), '[]', $$ SELECT note('One', '{}'), note('Two') $$, then_events => '[{"type": "One"}, {"type": "Two"}]');
SELECT dugong_testing.scenario('and the other way round', 'Note', pg_temp.id('a'), '[]', $$ SELECT note('One', '{}'), note('Two') $$, then_events => '[{"type": "One", "payload": {}}, {"type": "Two", "payload": {}}]');
SELECT is(pg_temp.verdict($$ 's', 'Note', pg_temp.id('a'), '[]', $c$ SELECT note('One', '{"a": 1}') $c$, then_events => '[{"type": "One"}]' $$), 'ok - s: error, not ok - s: events', 'but no other');

-- Which events are compared
SELECT dugong_testing.scenario('those of the aggregate', 'Note', pg_temp.id('a'), '[{"type": "Given"}]', 'SELECT note_both()', then_events => '[{"type": "Second"}]', then_state => '["Given", "Second"]');
SELECT dugong_testing.scenario('all', 'Note', pg_temp.id('a'), '[{"type": "Given"}]', 'SELECT note_both()', all_events => true,
    then_events => '[{"type": "First", "payload": {"n": 1}}, {"type": "Second"}, {"type": "Third", "payload": {"n": 3}}]', then_state => '["Given", "Second"]');
SELECT dugong_testing.scenario('whose', 'Note', pg_temp.id('a'), NULL, 'SELECT note_both()', all_events => true,
    then_events => '[{"type": "First", "payload": {"n": 1}, "aggregateType": "Other", "aggregateId": "b0000000-0000-4000-8000-000000000001", "tenantId": "acme"},
        {"type": "Second", "aggregateType": "Note"}, {"type": "Third", "payload": {"n": 3}, "metadata": {"m": 1}, "sequenceNumber": 2}]');
SELECT dugong_testing.scenario('none', 'Note', pg_temp.id('a'), '[{"type": "Given"}]', 'SELECT 1', all_events => true);
SELECT is(pg_temp.verdict($$ 's', 'Note', pg_temp.id('a'), '[]', 'SELECT note_both()', all_events => true, then_events => '[{"type": "Second"}]' $$), 'ok - s: error, not ok - s: events', 'too many');
SELECT is(pg_temp.verdict($$ 's', 'Note', pg_temp.id('a'), '[]', 'SELECT note_both()', then_events => '[{"type": "Second"}, {"type": "Third"}]' $$), 'ok - s: error, not ok - s: events', 'too few');
SELECT is(pg_temp.verdict($$ 's', 'Note', pg_temp.id('a'), '[]', 'SELECT note_both()', then_events => '[{"type": "Second", "aggregateType": "Other"}]' $$), 'ok - s: error, not ok - s: events', 'another''s');
SELECT is(pg_temp.verdict($$ 's', 'Note', pg_temp.id('a'), '[]', 'SELECT note_both()' $$), 'ok - s: error, not ok - s: events', 'not expected');
SELECT matches(pg_temp.said($$ 's', 'Note', pg_temp.id('a'), '[]', 'SELECT note_both()', all_events => true $$), '"aggregateId": "b0000000-', 'it says whose they are');

-- Errors
SELECT is(pg_temp.verdict($$ 's', 'Note', pg_temp.id('a'), '[]', 'SELECT 1 / 0', then_error => '22012', then_state => 'null' $$), 'ok - s: error, ok - s: events, ok - s: state', 'the one that is expected');
SELECT is(pg_temp.verdict($$ 's', 'Note', pg_temp.id('a'), '[]', 'SELECT 1 / 0' $$), 'not ok - s: error, ok - s: events', 'one that is not');
SELECT matches(pg_temp.said($$ 's', 'Note', pg_temp.id('a'), '[]', 'SELECT 1 / 0' $$), '# division by zero', 'its message');
SELECT is(pg_temp.verdict($$ 's', 'Note', pg_temp.id('a'), '[]', 'DO $d$ BEGIN ASSERT false; END $d$', then_error => 'P0004' $$), 'ok - s: error, ok - s: events', 'an assertion');
SELECT is(pg_temp.verdict($$ 's', 'Note', pg_temp.id('a'), '[]', 'SELECT 1', then_error => 'UG004' $$), 'not ok - s: error, ok - s: events', 'none');

-- What goes wrong in the scenario itself
SELECT is(pg_temp.verdict($$ 's', 'Note', pg_temp.id('a'), '{"type": "One"}', 'SELECT 1', then_state => '[]' $$), 'not ok - s: error, not ok - s: events, not ok - s: state', 'given events that are no array');
SELECT matches(pg_temp.said($$ 's', 'Note', pg_temp.id('a'), '{"type": "One"}', 'SELECT 1' $$), '# given: 22023 ', 'the reason');
SELECT is(pg_temp.verdict($$ 's', 'Nothing', pg_temp.id('a'), '[]', 'SELECT 1' $$), 'not ok - s: error, not ok - s: events', 'an aggregate type that does not exist');
SELECT is(pg_temp.verdict($$ 's', 'Note', pg_temp.id('a'), '[]', 'SELECT 1', then_events => '{"type": "One"}', then_state => 'null' $$), 'ok - s: error, not ok - s: events, not ok - s: state', 'expected events that are no array');
SELECT is(pg_temp.verdict($$ 's', 'Note', pg_temp.id('a'), '[{"type": "Broken"}]', 'SELECT 1', then_state => '[]' $$), 'ok - s: error, ok - s: events, not ok - s: state', 'a fold that fails');
SELECT matches(pg_temp.said($$ 's', 'Note', pg_temp.id('a'), '[{"type": "Broken"}]', 'SELECT 1', then_state => '[]' $$), '# then_state: P0001 cannot fold this\n(.*\n)*# folding event ', 'the reason, and which event');
SELECT is(pg_temp.verdict($$ 's', 'Note', pg_temp.id('a'), '[{"type": "Broken"}]', 'SELECT 1' $$), 'ok - s: error, ok - s: events', 'it is not folded if no state is expected');
SELECT is((SELECT count(*) FROM dugong.event_log WHERE aggregate_type_id IN (SELECT id FROM dugong.aggregate_types WHERE name IN ('Note', 'Other'))), 0::bigint, 'nothing is left behind');

SELECT * FROM finish();
ROLLBACK;
