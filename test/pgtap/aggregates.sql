-- Folds of all kinds, building aggregates, commands in PL/pgSQL, history.
BEGIN;
SELECT no_plan();
\ir helpers.psql

-- Folds in SQL, PL/pgSQL and C; states jsonb, composite and scalar; initial values, final functions, strictness
CREATE TYPE cart AS (items jsonb, open boolean);
CREATE FUNCTION cart_apply(state cart, event dugong.domain_event) RETURNS cart LANGUAGE plpgsql AS $$
BEGIN
    CASE (event).type
        WHEN 'Added' THEN RETURN ROW(coalesce((state).items, '{}') || ((event).payload), true)::cart;
        WHEN 'Closed' THEN RETURN ROW((state).items, false)::cart;
        WHEN 'Discarded' THEN RETURN NULL;
        WHEN 'Broken' THEN RAISE EXCEPTION 'cannot apply this' USING ERRCODE = 'P0077';
        ELSE RETURN state;
    END CASE;
END $$;
CREATE AGGREGATE cart_fold(dugong.domain_event) (SFUNC = cart_apply, STYPE = cart);
CREATE FUNCTION list_apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE sql IMMUTABLE STRICT RETURN $1 || to_jsonb(($2).type);
CREATE AGGREGATE list_fold(dugong.domain_event) (SFUNC = list_apply, STYPE = jsonb, INITCOND = '[]');
CREATE FUNCTION list_final(jsonb) RETURNS int LANGUAGE sql IMMUTABLE RETURN nullif(jsonb_array_length($1), 3);
CREATE AGGREGATE length_fold(dugong.domain_event) (SFUNC = list_apply, STYPE = jsonb, INITCOND = '[]', FINALFUNC = list_final);
CREATE FUNCTION extra_final(jsonb, dugong.domain_event) RETURNS text LANGUAGE sql IMMUTABLE RETURN coalesce(($2).type, 'no event') || $1;
CREATE AGGREGATE extra_fold(dugong.domain_event) (SFUNC = list_apply, STYPE = jsonb, INITCOND = '[]', FINALFUNC = extra_final, FINALFUNC_EXTRA);
CREATE FUNCTION sum_apply(bigint, dugong.domain_event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN coalesce($1, 0) + (($2).payload ->> 'n')::int;
CREATE AGGREGATE sum_fold(dugong.domain_event) (SFUNC = sum_apply, STYPE = bigint);
CREATE FUNCTION last_apply(dugong.domain_event, dugong.domain_event) RETURNS dugong.domain_event LANGUAGE sql IMMUTABLE RETURN $2;
CREATE AGGREGATE last_fold(dugong.domain_event) (SFUNC = last_apply, STYPE = dugong.domain_event);
CREATE FUNCTION first_apply(dugong.domain_event, dugong.domain_event) RETURNS dugong.domain_event LANGUAGE sql IMMUTABLE STRICT
    RETURN CASE WHEN ($2).payload -> 'n' = '3' THEN $2 ELSE $1 END;
CREATE AGGREGATE first_fold(dugong.domain_event) (SFUNC = first_apply, STYPE = dugong.domain_event);
CREATE AGGREGATE events_fold(dugong.domain_event) (SFUNC = array_append, STYPE = dugong.domain_event[]);
CREATE FUNCTION any_apply(state anyelement, event dugong.domain_event) RETURNS anyelement LANGUAGE plpgsql AS $$
DECLARE total state%TYPE := state;
BEGIN
    total := coalesce(total + ((event).payload ->> 'n')::numeric, 7);
    RETURN total;
END $$;
CREATE AGGREGATE any_fold(dugong.domain_event) (SFUNC = any_apply, STYPE = numeric);
CREATE AGGREGATE json_fold(dugong.domain_event) (SFUNC = cart_apply, STYPE = cart, FINALFUNC = to_jsonb);
CREATE FUNCTION any_final(anyelement) RETURNS anyarray LANGUAGE plpgsql AS $$ BEGIN RETURN ARRAY[$1, $1]; END $$;
CREATE AGGREGATE twice_fold(dugong.domain_event) (SFUNC = any_apply, STYPE = float8, FINALFUNC = any_final);

-- What cannot be driven
CREATE AGGREGATE anyfold(anycompatible) (SFUNC = array_append, STYPE = anycompatiblearray, INITCOND = '{}');
CREATE FUNCTION two(jsonb, dugong.domain_event, int) RETURNS jsonb LANGUAGE sql RETURN $1;
CREATE AGGREGATE two_fold(dugong.domain_event, int) (SFUNC = two, STYPE = jsonb);
CREATE FUNCTION var(jsonb, VARIADIC dugong.domain_event[]) RETURNS jsonb LANGUAGE sql RETURN $1;
CREATE AGGREGATE var_fold(VARIADIC dugong.domain_event[]) (SFUNC = var, STYPE = jsonb);
CREATE AGGREGATE writing_fold(dugong.domain_event) (SFUNC = list_apply, STYPE = jsonb, INITCOND = '[]', FINALFUNC = list_final, FINALFUNC_MODIFY = READ_WRITE);
CREATE FUNCTION pg_temp.why(fold text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text;
BEGIN
    PERFORM dugong.create_aggregate_type('Refused', fold => fold::regprocedure);
    RETURN 'accepted';
EXCEPTION WHEN wrong_object_type THEN GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL; RETURN detail;
END $$;
SELECT is(pg_temp.why(fold), detail, fold) FROM (VALUES
    ('cart_apply(cart, dugong.domain_event)', 'It is not an aggregate function.'),
    ('anyfold(anycompatible)', 'It is polymorphic.'),
    ('two_fold(dugong.domain_event, int)', 'It does not have one argument.'),
    ('var_fold(dugong.domain_event[])', 'It is variadic.'),
    ('writing_fold(dugong.domain_event)', 'Its final function is not read-only.'),
    ('string_agg(text, text)', 'It does not have one argument.'),
    ('array_agg(anynonarray)', 'It is polymorphic.'),
    ('percentile_disc(double precision, anyelement)', 'It is an ordered-set aggregate.'),
    ('rank("any")', 'It is a hypothetical-set aggregate.'),
    ('max(int)', 'Its argument is not dugong.domain_event.')) AS c (fold, detail);

SELECT dugong.create_aggregate_type(name, fold => fold::regprocedure) FROM (VALUES
    ('Cart', 'cart_fold(dugong.domain_event)'), ('List', 'list_fold(dugong.domain_event)'), ('Length', 'length_fold(dugong.domain_event)'),
    ('Extra', 'extra_fold(dugong.domain_event)'), ('Sum', 'sum_fold(dugong.domain_event)'), ('Last', 'last_fold(dugong.domain_event)'),
    ('First', 'first_fold(dugong.domain_event)'), ('Events', 'events_fold(dugong.domain_event)'), ('Any', 'any_fold(dugong.domain_event)'), ('Json', 'json_fold(dugong.domain_event)'), ('Twice', 'twice_fold(dugong.domain_event)')) AS t (name, fold);
SELECT dugong.create_aggregate_type('None');

-- The engine gives what the aggregate function gives
SELECT dugong.append_event(t, pg_temp.id('a'), 'Added', jsonb_build_object('n', n)) FROM unnest(ARRAY['Cart', 'List', 'Length', 'Extra', 'Sum', 'Last', 'First', 'Events', 'Any', 'Json', 'Twice']) t, generate_series(1, 4) n;
SELECT is(dugong.build_aggregate('Cart', pg_temp.id('a')), to_jsonb((SELECT cart_fold(e ORDER BY e.sequence_number) FROM dugong.aggregate_events('Cart', pg_temp.id('a')) e)), 'composite state, PL/pgSQL');
SELECT is(dugong.build_aggregate('List', pg_temp.id('a')), (SELECT list_fold(e ORDER BY e.sequence_number) FROM dugong.aggregate_events('List', pg_temp.id('a')) e), 'jsonb state, strict, with an initial value');
SELECT is(dugong.build_aggregate('Length', pg_temp.id('a')), to_jsonb((SELECT length_fold(e ORDER BY e.sequence_number) FROM dugong.aggregate_events('Length', pg_temp.id('a')) e)), 'final function');
SELECT is(dugong.build_aggregate('Extra', pg_temp.id('a')), to_jsonb((SELECT extra_fold(e ORDER BY e.sequence_number) FROM dugong.aggregate_events('Extra', pg_temp.id('a')) e)), 'final function with extra arguments');
SELECT is(dugong.build_aggregate('Sum', pg_temp.id('a')), '10', 'a state that is passed by value');
SELECT is(dugong.build_aggregate('Last', pg_temp.id('a')) -> 'sequence_number', '4', 'a state that is an event');
SELECT is(dugong.build_aggregate('First', pg_temp.id('a'), n), to_jsonb((SELECT first_fold(e ORDER BY e.sequence_number) FROM dugong.aggregate_events('First', pg_temp.id('a'), to_sequence_number => n) e)), 'strict without an initial value: the first event is the state, ' || n) FROM generate_series(1, 4) n;
SELECT is((dugong.build_aggregate(NULL::dugong.domain_event, 'First', pg_temp.id('a'), 2)).sequence_number, 1::bigint, 'typed');
SELECT is(dugong.build_aggregate('Events', pg_temp.id('a'), n), to_jsonb((SELECT events_fold(e ORDER BY e.sequence_number) FROM dugong.aggregate_events('Events', pg_temp.id('a'), to_sequence_number => n) e)), 'array_append, ' || n) FROM generate_series(1, 4) n;
SELECT is(dugong.build_aggregate('Any', pg_temp.id('a'), n), to_jsonb((SELECT any_fold(e ORDER BY e.sequence_number) FROM dugong.aggregate_events('Any', pg_temp.id('a'), to_sequence_number => n) e)), 'a polymorphic transition function, ' || n) FROM generate_series(1, 4) n;
SELECT is(dugong.build_aggregate('Json', pg_temp.id('a')), (SELECT json_fold(e ORDER BY e.sequence_number) FROM dugong.aggregate_events('Json', pg_temp.id('a')) e), 'to_jsonb as the final function');
SELECT is(dugong.build_aggregate('Twice', pg_temp.id('a')), to_jsonb((SELECT twice_fold(e ORDER BY e.sequence_number) FROM dugong.aggregate_events('Twice', pg_temp.id('a')) e)), 'a polymorphic final function');
SELECT is(dugong.take_snapshot(t, pg_temp.id('a')), true, t || ' has snapshots') FROM unnest(ARRAY['First', 'Events', 'Any', 'Json', 'Twice']) t;
SELECT is(dugong.build_aggregate(t, pg_temp.id('a')), dugong.build_aggregate(t, pg_temp.id('a'), skip_snapshot => true), t || ' from its snapshot') FROM unnest(ARRAY['First', 'Events', 'Any', 'Json', 'Twice']) t;
SELECT is(dugong.build_aggregate(NULL::cart, 'Cart', pg_temp.id('a')), ROW('{"n": 4}', true)::cart, 'typed');
SELECT is(dugong.build_aggregate(NULL::int, 'Length', pg_temp.id('a')), 4, 'typed by the final function');
SELECT is(dugong.build_aggregate(aggregate_type => 'Length', aggregate_id => pg_temp.id('a'), to_sequence_number => 2, as_of => NULL, return_deleted => NULL, skip_snapshot => NULL, tenant_id => '', origin => current_database()), '2', 'by name');
SELECT is(dugong.build_aggregate(state => NULL::bigint, aggregate_type => 'Sum', aggregate_id => pg_temp.id('a'), to_sequence_number => 3, as_of => 'infinity', return_deleted => true, skip_snapshot => true, tenant_id => '', origin => current_database()), 6::bigint, 'by name, typed');

-- Missing, deleted, limits
SELECT is(dugong.build_aggregate('List', pg_temp.id('b')), NULL, 'no event: NULL, whatever the initial value');
SELECT is(dugong.build_aggregate('List', pg_temp.id('a'), 0), NULL, 'before the first');
SELECT is(dugong.build_aggregate('List', pg_temp.id('a'), -5), NULL, 'long before');
SELECT is(dugong.build_aggregate('Sum', pg_temp.id('a'), 99), '10', 'behind the last');
SELECT dugong.append_event('Cart', pg_temp.id('a'), 'Discarded');
SELECT is(dugong.build_aggregate('Cart', pg_temp.id('a')), NULL, 'deleted');
SELECT is(dugong.build_aggregate('Cart', pg_temp.id('a'), return_deleted => true), '{"items": {"n": 4}, "open": true}', 'the last living state');
SELECT dugong.append_event('Cart', pg_temp.id('a'), 'Added', '{"new": 1}');
SELECT is(dugong.build_aggregate('Cart', pg_temp.id('a'), return_deleted => true), '{"items": {"new": 1}, "open": true}', 'alive again');
SELECT is(dugong.build_aggregate('Length', pg_temp.id('a'), 3), NULL, 'a final function that says deleted');
SELECT is(dugong.build_aggregate('Length', pg_temp.id('a'), 3, return_deleted => true), '2', 'and the last state that it did not');
SELECT is(pg_temp.answer(call), code, call) FROM (VALUES
    ('SELECT dugong.build_aggregate(''None'', pg_temp.id(''a''))', '55000'),
    ('SELECT dugong.build_aggregate(''Nothing'', pg_temp.id(''a''))', '42704'),
    ('SELECT dugong.build_aggregate(NULL, pg_temp.id(''a''))', '22004'),
    ('SELECT dugong.build_aggregate(''Cart'', NULL)', '22004'),
    ('SELECT dugong.build_aggregate(NULL::jsonb, ''Cart'', pg_temp.id(''a''))', '42804'),
    ('SELECT dugong.build_aggregate(NULL::int, ''Cart'', pg_temp.id(''a''))', '42804')) AS c (call, code);
-- Deleted by its first event: there was no living state, whatever the initial value
CREATE FUNCTION stillborn_apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE sql IMMUTABLE
    RETURN CASE WHEN ($2).type <> 'Deleted' THEN coalesce($1, '[]') || to_jsonb(($2).type) END;
CREATE AGGREGATE stillborn_fold(dugong.domain_event) (SFUNC = stillborn_apply, STYPE = jsonb, INITCOND = '[]');
SELECT dugong.create_aggregate_type('Stillborn', 'stillborn_fold(dugong.domain_event)');
SELECT dugong.append_event('Stillborn', pg_temp.id('a'), 'Deleted');
SELECT is(dugong.build_aggregate('Stillborn', pg_temp.id('a'), return_deleted => true), NULL, 'never alive');
SELECT dugong.append_event('Stillborn', pg_temp.id('a'), type) FROM unnest(ARRAY['Found', 'Deleted']) type;
SELECT is(dugong.build_aggregate('Stillborn', pg_temp.id('a'), return_deleted => true), '["Found"]', 'alive once');

-- Folds see the same formats whatever the session's are, and leave these as they were
CREATE FUNCTION format_apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    RETURN jsonb_build_array(current_setting('TimeZone'), current_setting('DateStyle'), current_setting('IntervalStyle'), current_setting('extra_float_digits'),
        '2026-07-01 12:00+00'::timestamptz::text, '01/02/2026'::date::text, '1 day 02:00'::interval::text, (0.1::float8 + 0.2)::text);
END $$;
CREATE AGGREGATE format_fold(dugong.domain_event) (SFUNC = format_apply, STYPE = jsonb);
SELECT dugong.create_aggregate_type('Format', 'format_fold(dugong.domain_event)', snapshot_interval => 2);
CREATE FUNCTION pg_temp.formats() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT concat_ws(' ', current_setting('TimeZone'), current_setting('DateStyle'), current_setting('IntervalStyle'), current_setting('extra_float_digits')) $$;
CREATE FUNCTION pg_temp.formatted(command text, zone text, dates text, intervals text, digits text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE before text; got text;
BEGIN
    PERFORM set_config('TimeZone', zone, true), set_config('DateStyle', dates, true), set_config('IntervalStyle', intervals, true), set_config('extra_float_digits', digits, true);
    before := pg_temp.formats();
    EXECUTE command INTO got;
    RETURN got || CASE WHEN pg_temp.formats() = before THEN '' ELSE ' but the settings are ' || pg_temp.formats() || ', not ' || before END;
END $$;
SELECT dugong.append_event('Format', pg_temp.id('a'), 'One');
SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, MDY', true), set_config('IntervalStyle', 'postgres', true), set_config('extra_float_digits', '1', true);
SELECT dugong.build_aggregate('Format', pg_temp.id('a'))::text AS formatted \gset
SELECT is((:'formatted'::jsonb - 0)::text, '["ISO, MDY", "postgres", "1", "2026-07-01 12:00:00+00", "2026-01-02", "1 day 02:00:00", "0.30000000000000004"]', 'the formats of folds');
SELECT is(pg_temp.formatted(command, zone, dates, intervals, digits), :'formatted', concat_ws(' ', command, zone, dates, intervals, digits)) FROM
    (VALUES ('Asia/Tokyo', 'German, DMY', 'iso_8601', '-5'), ('UTC', 'ISO, DMY', 'postgres', '1'), ('UTC', 'ISO, MDY', 'postgres', '0'), ('UTC', 'ISO, MDY', 'postgres_verbose', '1'), ('Europe/Berlin', 'ISO, MDY', 'postgres', '1'), ('UTC', 'ISO, MDY', 'postgres', '1')) AS s (zone, dates, intervals, digits),
    (VALUES ('SELECT dugong.build_aggregate(''Format'', pg_temp.id(''a''))'), ('SELECT dugong.load_for_update(NULL::jsonb, ''Format'', pg_temp.id(''a''))'), ('SELECT state FROM dugong.aggregate_history(''Format'', pg_temp.id(''a''))')) AS c (command);
SELECT pg_temp.formatted('SELECT dugong.append_event(''Format'', pg_temp.id(''a''), ''Two'')', 'Asia/Tokyo', 'German, DMY', 'iso_8601', '-5');
SELECT is(pg_temp.formats(), 'Asia/Tokyo German, DMY iso_8601 -5', 'the settings after an append that took a snapshot');
SELECT is(dugong.build_aggregate('Format', pg_temp.id('a'))::text, :'formatted', 'which holds the same formats');
SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, MDY', true), set_config('IntervalStyle', 'postgres', true), set_config('extra_float_digits', '1', true);

-- Time
SELECT dugong.append_event('List', pg_temp.id('7'), type, event_timestamp => at::timestamptz) FROM (VALUES ('one', '2026-01-01'), ('two', '2026-01-02'), ('three', '2026-01-04'), ('four', '2026-01-03')) AS e (type, at);
SELECT is(dugong.build_aggregate('List', pg_temp.id('7'), as_of => at::timestamptz), state::jsonb, at) FROM (VALUES
    ('2025-01-01', NULL), ('2026-01-01', '["one"]'), ('2026-01-02 12:00', '["one", "two"]'), ('2026-01-03', '["one", "two"]'), ('2026-01-04', '["one", "two", "three", "four"]'), ('infinity', '["one", "two", "three", "four"]')) AS c (at, state);

-- A fold that fails names the event
SELECT dugong.append_event('Cart', pg_temp.id('8'), 'Added', '{}') FROM generate_series(1, 499);
SELECT dugong.append_event('Cart', pg_temp.id('8'), 'Broken', event_id => pg_temp.id('e'));
CREATE FUNCTION pg_temp.context_of(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE context text;
BEGIN EXECUTE command; EXCEPTION WHEN SQLSTATE 'P0077' THEN GET STACKED DIAGNOSTICS context = PG_EXCEPTION_CONTEXT; RETURN context; END $$;
SELECT matches(pg_temp.context_of($$ SELECT dugong.build_aggregate('Cart', pg_temp.id('8')) $$), 'folding event "e0000000-0000-4000-8000-000000000001" of type "Broken", sequence number 500 of aggregate "Cart" with id "80000000-0000-4000-8000-000000000001", position \d+', 'its 500th event');
SELECT is((dugong.build_aggregate(NULL::cart, 'Cart', pg_temp.id('8'), 499)).open, true, 'the state before it');

-- So does its final function, which names the aggregate; the type of the state is looked at first
CREATE FUNCTION failing_final(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no end' USING ERRCODE = 'P0077'; END $$;
CREATE AGGREGATE endless_fold(dugong.domain_event) (SFUNC = list_apply, STYPE = jsonb, INITCOND = '[]', FINALFUNC = failing_final);
SELECT dugong.create_aggregate_type('Endless', 'endless_fold(dugong.domain_event)');
SELECT dugong.append_event('Endless', pg_temp.id('a'), type) FROM unnest(ARRAY['One', 'Two', 'Three']) type;
SELECT matches(pg_temp.context_of($$ SELECT dugong.build_aggregate('Endless', pg_temp.id('a')) $$), 'building aggregate "Endless" with id "a0000000-0000-4000-8000-000000000001" from its events up to sequence number 3', 'a final function that fails');
SELECT matches(pg_temp.context_of($$ SELECT dugong.build_aggregate('Endless', pg_temp.id('a'), 2) $$), 'up to sequence number 2', 'earlier');
SELECT is(pg_temp.answer($$ SELECT dugong.build_aggregate(NULL::int, 'Cart', pg_temp.id('8')) $$), '42804', 'a state of the wrong type is refused before anything is folded');
SELECT is(pg_temp.answer($$ SELECT dugong.load_for_update(NULL::int, 'Cart', pg_temp.id('8')) $$), '42804', 'for a command, too');

-- A fold that is replaced
CREATE OR REPLACE FUNCTION list_apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE sql IMMUTABLE STRICT RETURN $1 || to_jsonb('x'::text);
SELECT is(dugong.build_aggregate('List', pg_temp.id('7'), 2), '["x", "x"]', 'applies at once');
SELECT dugong.alter_aggregate_type('List', fold => 'length_fold(dugong.domain_event)');
SELECT is(dugong.build_aggregate('List', pg_temp.id('7'), 2), '2', 'altered');
DROP AGGREGATE length_fold(dugong.domain_event);
SELECT is(pg_temp.answer($$ SELECT dugong.build_aggregate('List', pg_temp.id('7')) $$), '42883', 'gone');

-- Commands: load, check, append, return
CREATE FUNCTION add_item(cart_id uuid, item jsonb) RETURNS cart LANGUAGE plpgsql AS $$
DECLARE state cart := dugong.load_for_update(NULL::cart, 'Cart', cart_id, missing_ok => true);
BEGIN
    IF NOT coalesce(state.open, true) THEN RAISE EXCEPTION 'closed' USING ERRCODE = 'UG004'; END IF;
    PERFORM dugong.append_event('Cart', cart_id, 'Added', item);
    RETURN dugong.load_for_update(NULL::cart, 'Cart', cart_id);
END $$;
SELECT is(add_item(pg_temp.id('c'), '{"a": 1}'), ROW('{"a": 1}', true)::cart, 'a command opens');
SELECT is(add_item(pg_temp.id('c'), '{"b": 2}'), ROW('{"a": 1, "b": 2}', true)::cart, 'and goes on');
SELECT dugong.append_event('Cart', pg_temp.id('c'), 'Closed');
SELECT is(pg_temp.answer($$ SELECT add_item(pg_temp.id('c'), '{}') $$), 'UG004', 'its rule');
SELECT is(dugong.load_for_update(state => NULL::cart, aggregate_type => 'Cart', aggregate_id => pg_temp.id('0'), missing_ok => true, tenant_id => '', origin => current_database()), NULL, 'missing_ok, by name');
SELECT dugong.append_event('Cart', pg_temp.id('f'), 'Discarded');
SELECT dugong.create_aggregate_type('Foreign', fold => 'sum_fold(dugong.domain_event)', origin => 'Elsewhere');
SELECT is(pg_temp.answer(call), code, call) FROM (VALUES
    ('SELECT dugong.load_for_update(NULL::cart, ''Cart'', pg_temp.id(''0''))', 'UG002'),
    ('SELECT dugong.load_for_update(NULL::cart, ''Cart'', pg_temp.id(''f''))', 'UG003'),
    ('SELECT dugong.load_for_update(NULL::cart, ''Cart'', pg_temp.id(''f''), true)', 'UG003'),
    ('SELECT dugong.load_for_update(NULL::bigint, ''Foreign'', pg_temp.id(''f''))', 'UG009'),
    ('SELECT dugong.load_for_update(NULL::bigint, ''Foreign'', pg_temp.id(''f''), true)', 'UG009'),
    ('SELECT dugong.load_for_update(NULL::int, ''Cart'', pg_temp.id(''c''))', '42804'),
    ('SELECT dugong.load_for_update(NULL::cart, ''Cart'', NULL)', '22004')) AS c (call, code);
SELECT is((SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = -10751 AND pid = pg_backend_pid()) > 0, true, 'the aggregate is locked');

-- History
SELECT results_eq($$ SELECT sequence_number, (event).type, state, changes FROM dugong.aggregate_history(aggregate_type => 'Cart', aggregate_id => pg_temp.id('a'), tenant_id => '', origin => current_database()) WHERE sequence_number IN (1, 2, 5, 6) $$,
    $$ VALUES (1::bigint, 'Added', '{"items": {"n": 1}, "open": true}'::jsonb, '{"items": {"new": {"n": 1}}, "open": {"new": true}}'::jsonb),
        (2, 'Added', '{"items": {"n": 2}, "open": true}', '{"items": {"old": {"n": 1}, "new": {"n": 2}}}'),
        (5, 'Discarded', NULL, '{"items": {"old": {"n": 4}}, "open": {"old": true}}'),
        (6, 'Added', '{"items": {"new": 1}, "open": true}', '{"items": {"new": {"new": 1}}, "open": {"new": true}}') $$, 'states and what changed');
SELECT is((SELECT array_agg(changes) FROM dugong.aggregate_history('Sum', pg_temp.id('a')))::text, ARRAY['{"state": {"new": 1}}', '{"state": {"old": 1, "new": 3}}', '{"state": {"old": 3, "new": 6}}', '{"state": {"old": 6, "new": 10}}']::jsonb[]::text, 'a state that is no object');
SELECT is((SELECT count(*) FROM dugong.aggregate_history('Sum', pg_temp.id('0'))), 0::bigint, 'of none');
SELECT is((SELECT array_agg(state ORDER BY sequence_number) FROM dugong.aggregate_history('Sum', pg_temp.id('a'))), (SELECT array_agg(to_jsonb(s) ORDER BY sequence_number) FROM (SELECT sequence_number, sum_fold(e) OVER (ORDER BY e.sequence_number) AS s FROM dugong.domain_events e WHERE aggregate_type = 'Sum' AND aggregate_id = pg_temp.id('a')) AS w), 'history is the window function');

-- Keys that come and go, null values
SELECT dugong.create_aggregate_type('Row', 'dugong.row_fold(dugong.domain_event)');
SELECT dugong.append_event('Row', pg_temp.id('a'), 'RowUpdated', jsonb_build_object('new', new)) FROM unnest(ARRAY['{"a": null, "b": 1}', '{"a": 1, "c": null}', '{"a": null, "b": null}']::jsonb[]) new;
SELECT results_eq($$ SELECT changes FROM dugong.aggregate_history('Row', pg_temp.id('a')) $$, $$ VALUES
    ('{"a": {"new": null}, "b": {"new": 1}}'::jsonb), ('{"a": {"old": null, "new": 1}, "c": {"new": null}}'), ('{"a": {"old": 1, "new": null}, "b": {"old": 1, "new": null}}') $$, 'null is a value');
CREATE FUNCTION payload_apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE sql IMMUTABLE RETURN ($2).payload;
CREATE AGGREGATE payload_fold(dugong.domain_event) (SFUNC = payload_apply, STYPE = jsonb);
SELECT dugong.create_aggregate_type('Payload', 'payload_fold(dugong.domain_event)');
SELECT dugong.append_event('Payload', pg_temp.id('a'), 'Changed', new) FROM unnest(ARRAY['{"a": null, "b": 1}', '{"b": 1, "c": null}', '[1]', '{"state": [1]}']::jsonb[]) new;
SELECT results_eq($$ SELECT changes FROM dugong.aggregate_history('Payload', pg_temp.id('a')) $$, $$ VALUES
    ('{"a": {"new": null}, "b": {"new": 1}}'::jsonb), ('{"a": {"old": null}, "c": {"new": null}}'), ('{"b": {"old": 1}, "c": {"old": null}, "state": {"new": [1]}}'), ('{}') $$, 'a key that appears has no old value, one that disappears no new one');

-- States of many kB
SELECT count(dugong.append_event('Row', pg_temp.id('b'), 'RowUpdated', jsonb_build_object('new', jsonb_build_object('n', n, 'body', (SELECT string_agg(md5((n * 1000 + i)::text), '') FROM generate_series(1, (n * 37) % 311) i))))) FROM generate_series(1, 200) n;
SELECT is((SELECT count(*) FROM
    (SELECT h.changes, (h.event).payload -> 'new' AS new, h.state, lag((h.event).payload -> 'new') OVER (ORDER BY h.sequence_number) AS old FROM dugong.aggregate_history('Row', pg_temp.id('b')) h) AS h
    WHERE state = new AND changes = CASE WHEN old IS NULL THEN jsonb_build_object('n', jsonb_build_object('new', new -> 'n'), 'body', jsonb_build_object('new', new -> 'body'))
        ELSE jsonb_build_object('n', jsonb_build_object('old', old -> 'n', 'new', new -> 'n'), 'body', jsonb_build_object('old', old -> 'body', 'new', new -> 'body')) END), 200::bigint, 'each change is right');

SELECT * FROM finish();
ROLLBACK;
