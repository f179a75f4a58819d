-- Reading: an aggregate, the log, ids, effects; indexes are used.
BEGIN;
SELECT no_plan();
\ir helpers.psql
SELECT dugong.create_aggregate_type('Cart');
SELECT dugong.create_aggregate_type('Order');
SELECT dugong.create_aggregate_type('Order', origin => 'Other', external => false);
SELECT dugong.append_events('Cart', pg_temp.id('a'), '[{"type": "A"}, {"type": "B"}, {"type": "C"}]', correlation_id => pg_temp.id('c'));
SELECT dugong.append_events('Order', pg_temp.id('b'), '[{"type": "A"}, {"type": "B"}]', origin => current_database());
SELECT dugong.append_event('Order', pg_temp.id('b'), 'Z', origin => 'Other', correlation_id => pg_temp.id('c'));
SELECT dugong.append_event('Cart', pg_temp.id('a'), 'A', tenant_id => 'acme');
SELECT dugong.append_event('Cart', pg_temp.id('d', n), 'A') FROM generate_series(1, 5) n;
SELECT min(position) - 1 AS start FROM dugong.event_log \gset

-- Which rows each call gives: aggregate type initial, type, sequence number
CREATE FUNCTION pg_temp.rows(call text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
    EXECUTE format('SELECT string_agg(left(aggregate_type, 1) || CASE WHEN origin = current_database() THEN '''' ELSE left(origin, 1) END || type || sequence_number || tenant_id, '' '') FROM dugong.%s', call) INTO result;
    RETURN result;
END $$;
SELECT is(pg_temp.rows(call), expected, call) FROM (VALUES
    ('aggregate_events(''Cart'', pg_temp.id(''a''))', 'CA1 CB2 CC3'),
    ('aggregate_events(aggregate_type => ''Cart'', aggregate_id => pg_temp.id(''a''), from_sequence_number => 2, to_sequence_number => 2, tenant_id => '''', origin => current_database())', 'CB2'),
    ('aggregate_events(''Cart'', pg_temp.id(''a''), 2)', 'CB2 CC3'),
    ('aggregate_events(''Cart'', pg_temp.id(''a''), to_sequence_number => 2)', 'CA1 CB2'),
    ('aggregate_events(''Cart'', pg_temp.id(''a''), 4)', NULL),
    ('aggregate_events(''Cart'', pg_temp.id(''a''), tenant_id => ''acme'')', 'CA1acme'),
    ('aggregate_events(''Cart'', pg_temp.id(''9''))', NULL),
    ('aggregate_events(''Order'', pg_temp.id(''b''), origin => ''Other'')', 'OOZ1'),
    ('read_events(max_rows => 4)', 'CA1 CB2 CC3 OA1'),
    ('read_events(max_rows => 0)', NULL),
    ('read_events(max_rows => 3, types => ''{A}'')', 'CA1 OA1 CA1acme'),
    ('read_events(types => ''{B,Z}'')', 'CB2 OB2 OOZ1'),
    ('read_events(types => ''{}'')', NULL),
    ('read_events(aggregate_types => ''{Cart}'', max_rows => 5)', 'CA1 CB2 CC3 CA1acme CA1'),
    ('read_events(aggregate_types => ''{Order}'', origin => ''Other'')', 'OOZ1'),
    ('read_events(correlation_id => pg_temp.id(''c''))', 'CA1 CB2 CC3 OOZ1'),
    ('read_events(correlation_id => pg_temp.id(''c''), backward => true, max_rows => 2)', 'OOZ1 CC3'),
    ('read_events(correlation_id => pg_temp.id(''c''), types => ''{C}'')', 'CC3'),
    ('read_events(tenant_id => ''acme'')', 'CA1acme'),
    ('read_events(backward => true, max_rows => 2)', 'CA1 CA1'),
    ('read_events(after_position => NULL, max_rows => 1, aggregate_types => NULL, types => NULL, correlation_id => NULL, backward => NULL, stop_at_gap => NULL, tenant_id => NULL, origin => NULL)', 'CA1'),
    ('read_events(9223372036854775807)', NULL),
    ('read_events(9223372036854775806)', NULL),
    ('read_events(0, backward => true)', NULL)) AS c (call, expected);
SELECT is(pg_temp.rows(format('read_events(%s, 2)', :start + 2)), 'CC3 OA1', 'after a position');
SELECT is(pg_temp.rows(format('read_events(%s, 2, backward => true)', :start + 3)), 'CB2 CA1', 'before a position');
SELECT is(pg_temp.rows(format('read_events(%s, 2, stop_at_gap => false)', :start + 2)), 'CC3 OA1', 'gaps or not');
SELECT is((SELECT count(*) FROM dugong.read_events(max_rows => NULL)), (SELECT count(*) FROM dugong.event_log), 'no limit');
SET LOCAL dugong.tenant_id = 'acme';
SELECT is(pg_temp.rows('read_events()'), 'CA1acme', 'the session''s tenant');
RESET dugong.tenant_id;
SELECT pg_temp.refused(code, format('SELECT dugong.%s', call)) FROM (VALUES
    ('42P08', 'read_events(aggregate_types => ''{Order}'')'),
    ('42704', 'read_events(aggregate_types => ''{Nothing}'')'),
    ('22004', 'read_events(types => ''{NULL}'')'),
    ('22023', 'read_events(max_rows => -1)'),
    ('22004', 'aggregate_events(NULL, pg_temp.id(''a''))'),
    ('22004', 'aggregate_events(''Cart'', NULL)'),
    ('42704', 'aggregate_events(''Nothing'', pg_temp.id(''a''))'),
    ('22004', 'event(NULL)'),
    ('22004', 'aggregate_ids(NULL)'),
    ('22023', 'aggregate_ids(''Cart'', max_rows => -1)')) AS bad (code, call);

-- event, aggregate_ids, aggregates
SELECT is((SELECT count(*) FROM dugong.event(id => gen_random_uuid())), 0::bigint, 'no row for an unknown id');
SELECT is((SELECT array_agg(i) FROM dugong.aggregate_ids('Cart') i), ARRAY[pg_temp.id('a'), pg_temp.id('d', 1), pg_temp.id('d', 2), pg_temp.id('d', 3), pg_temp.id('d', 4), pg_temp.id('d', 5)], 'ids, ascending');
SELECT is((SELECT array_agg(i) FROM dugong.aggregate_ids(aggregate_type => 'Cart', after => pg_temp.id('d', 1), max_rows => 2, tenant_id => '', origin => current_database()) i), ARRAY[pg_temp.id('d', 2), pg_temp.id('d', 3)], 'the next page');
SELECT is((SELECT array_agg(i) FROM dugong.aggregate_ids('Cart', tenant_id => 'acme') i), ARRAY[pg_temp.id('a')], 'of a tenant');
SELECT is((SELECT count(*) FROM dugong.aggregate_ids('Cart', max_rows => NULL)), 6::bigint, 'all');
SELECT results_eq($$ SELECT aggregate_type, tenant_id, event_count, first_event_type, last_event_type, last_position - first_position, last_timestamp >= first_timestamp FROM dugong.aggregates WHERE aggregate_id IN (pg_temp.id('a'), pg_temp.id('b')) ORDER BY origin = 'Other', aggregate_type, tenant_id $$,
    $$ VALUES ('Cart', '', 3::bigint, 'A', 'C', 2::bigint, true), ('Cart', 'acme', 1, 'A', 'A', 0, true), ('Order', '', 2, 'A', 'B', 1, true), ('Order', '', 1, 'Z', 'Z', 0, true) $$, 'the view of aggregates');
SELECT results_eq($$ SELECT first_event_id, last_event_id FROM dugong.aggregates WHERE aggregate_id = pg_temp.id('a') AND tenant_id = '' $$,
    $$ SELECT (array_agg(id ORDER BY sequence_number))[1], (array_agg(id ORDER BY sequence_number DESC))[1] FROM dugong.aggregate_events('Cart', pg_temp.id('a')) $$, 'its events');

-- effects_of: a tree, and a cycle
SELECT dugong.append_event('Cart', pg_temp.id('e', n), 'E', event_id => pg_temp.id('e', n), triggered_by_event_id => pg_temp.id('e', n / 2)) FROM generate_series(1, 7) n;
SELECT dugong.append_event('Cart', pg_temp.id('f', n), 'F', event_id => pg_temp.id('f', n), triggered_by_event_id => pg_temp.id('f', 3 - n)) FROM generate_series(1, 2) n;
SELECT dugong.append_event('Cart', pg_temp.id('f', 3), 'F', event_id => pg_temp.id('f', 3), triggered_by_event_id => pg_temp.id('f', 3));
SELECT is((SELECT array_agg(id) FROM dugong.effects_of(event_id => pg_temp.id('e', 1))), ARRAY[pg_temp.id('e', 2), pg_temp.id('e', 3), pg_temp.id('e', 4), pg_temp.id('e', 5), pg_temp.id('e', 6), pg_temp.id('e', 7)], 'the tree below the root');
SELECT is((SELECT array_agg(id) FROM dugong.effects_of(pg_temp.id('e', 3))), ARRAY[pg_temp.id('e', 6), pg_temp.id('e', 7)], 'a branch');
SELECT is((SELECT count(*) FROM dugong.effects_of(pg_temp.id('e', 7))), 0::bigint, 'a leaf');
SELECT is((SELECT array_agg(id) FROM dugong.effects_of(pg_temp.id('f', 1))), ARRAY[pg_temp.id('f', 2)], 'a cycle ends');
SELECT is((SELECT count(*) FROM dugong.effects_of(pg_temp.id('f', 3))), 0::bigint, 'an event that names itself');
SELECT is((SELECT count(*) FROM dugong.effects_of(NULL)), 0::bigint, 'NULL has none');

-- Ordinary SQL over functions and views
SELECT is((SELECT count(*) FROM dugong.aggregate_ids('Cart') i CROSS JOIN LATERAL dugong.aggregate_events('Cart', i) e WHERE e.type = 'A'), 6::bigint, 'functions join');
SELECT is((SELECT count(*) FROM dugong.aggregates a JOIN dugong.domain_events e ON e.id = a.last_event_id), (SELECT count(*) FROM dugong.aggregates), 'views join');

-- Indexes, where a page read at random costs little more than the next one
SET LOCAL random_page_cost = 1.1;
SELECT dugong.append_events('Cart', gen_random_uuid(), (SELECT jsonb_agg('{"type": "Many"}'::jsonb) FROM generate_series(1, 20)), correlation_id => gen_random_uuid(), triggered_by_event_id => gen_random_uuid()) FROM generate_series(1, 300) \g /dev/null
ANALYZE dugong.event_log;
ANALYZE dugong.aggregate_types;
CREATE FUNCTION pg_temp.plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (COSTS off) ' || query; END $$;
SELECT matches(string_agg(line, E'\n'), index, query) FROM (VALUES
    ('SELECT * FROM dugong.domain_events WHERE id = pg_temp.id(''e'')', 'event_log_id_idx'),
    ('SELECT * FROM dugong.domain_events WHERE aggregate_id = pg_temp.id(''a'') ORDER BY sequence_number', 'event_log_stream_idx'),
    ('SELECT * FROM dugong.domain_events WHERE aggregate_type = ''Cart'' AND aggregate_id = pg_temp.id(''a'')', 'event_log_stream_idx'),
    ('SELECT * FROM dugong.domain_events WHERE position > 100 ORDER BY position LIMIT 10', 'event_log_pkey'),
    ('SELECT * FROM dugong.domain_events WHERE triggered_by_event_id = pg_temp.id(''e'')', 'event_log_triggered_by_idx'),
    ('SELECT * FROM dugong.aggregates WHERE aggregate_id = pg_temp.id(''a'')', 'event_log_(stream|first)_idx'),
    ('SELECT * FROM dugong.aggregates WHERE aggregate_type = ''Order''', 'event_log_first_idx')) AS q (query, index)
    CROSS JOIN LATERAL pg_temp.plan_of(query) AS line GROUP BY query, index;
SET LOCAL enable_seqscan = off;
SELECT ok(EXISTS (SELECT FROM pg_temp.plan_of('SELECT * FROM dugong.domain_events WHERE correlation_id = pg_temp.id(''c'')') AS line WHERE line LIKE '%event_log_correlation_idx%'), 'a condition on correlation ids can use their index');
RESET enable_seqscan;
SELECT ok(NOT EXISTS (SELECT FROM pg_temp.plan_of('SELECT * FROM dugong.aggregates WHERE aggregate_type = ''Order''') AS line WHERE line LIKE '%Seq Scan on event_log%'), 'no scan of the log for aggregates');
SELECT is((SELECT count(*) FROM dugong.aggregate_ids('Order', origin => current_database())), 1::bigint, 'a type with few aggregates in a log of another');

SELECT * FROM finish();
ROLLBACK;
