-- Input that programs send by mistake: numbers that are none, text that is none, too much of it; statements that write in other ways; read-only
-- transactions; parallel plans. Errors are clean, and the session goes on.
BEGIN;
SELECT no_plan();
\ir helpers.psql

SELECT dugong.create_aggregate_type('Row', fold => 'dugong.row_fold(dugong.domain_event)');
CREATE FUNCTION pg_temp.append(payload text) RETURNS text LANGUAGE sql RETURN format($$ SELECT dugong.append_event('Row', %L, 'Noted', %s) $$, pg_temp.id('a'), payload);
CREATE FUNCTION pg_temp.stored() RETURNS text LANGUAGE sql AS $$ SELECT payload::text FROM dugong.domain_events ORDER BY position DESC LIMIT 1 $$;

-- Numbers are exact: as they were written
SELECT is((SELECT (e).payload::text FROM (SELECT dugong.append_event('Row', pg_temp.id('a'), 'Noted', given::jsonb) AS e) x), stored, given) FROM (VALUES
    ('{"n": 1.10}', '{"n": 1.10}'), ('{"n": 1.1}', '{"n": 1.1}'), ('{"n": -0}', '{"n": 0}'), ('{"n": 12345678901234567890.123456789}', '{"n": 12345678901234567890.123456789}'),
    ('{"n": 1e3}', '{"n": 1000}'), ('{"n": "NaN"}', '{"n": "NaN"}')) AS numbers (given, stored);
SELECT is((SELECT length((e).payload ->> 'n') FROM (SELECT dugong.append_event('Row', pg_temp.id('a'), 'Noted', '{"n": 1e131071}') AS e) x), 131072, 'the largest numeric');
SELECT is((SELECT sum((payload ->> 'n')::numeric) FROM dugong.domain_events WHERE payload ->> 'n' IN ('1.10', '1.1')), 2.20, 'sums are exact');
SELECT pg_temp.refused('22003', pg_temp.append($$'{"n": 1e131072}'$$));
SELECT is((SELECT balance FROM bank_open_account('x', '0.1', pg_temp.id('b'))), 0.1, 'a tenth');
SELECT is((SELECT balance FROM bank_deposit(pg_temp.id('b'), 0.2)), 0.3, 'and two are three');
SELECT is((SELECT balance FROM bank_open_account('x', '-0', pg_temp.id('b', 2))), 0::numeric, 'minus nothing is nothing');
-- What no function writes: a deposit that makes a balance that numeric cannot hold
SELECT dugong.append_event('BankAccount', pg_temp.id('b', 2), 'MoneyDeposited', jsonb_build_object('amount', repeat('9', 131072)::numeric)) \g /dev/null
SELECT throws_ok($$ SELECT dugong.append_event('BankAccount', pg_temp.id('b', 2), 'MoneyDeposited', '{"amount": 1e131071}'), bank_deposit(pg_temp.id('b', 2), 1) $$, '22003', NULL, 'a balance that numeric cannot hold');
SELECT pg_temp.refused(code, pg_temp.append(payload)) FROM (VALUES ('22P02', $$'{"n": NaN}'$$), ('22P02', $$'{"n": Infinity}'$$), ('22P02', $$'{"n": 01}'$$), ('22P02', $$'{"n": .5}'$$)) AS bad (code, payload);

-- Text
SELECT pg_temp.refused(code, pg_temp.append(payload)) FROM (VALUES
    ('22P05', $$'{"s": "\u0000"}'$$), ('22P02', $$'{"s": "\ud800"}'$$), ('22P02', $$'{"s": "\udc00\ud800"}'$$), ('22P02', $$'{"s": '$$), ('22P02', $$''$$),
    ('54001', $$repeat('[', 100000)::jsonb$$), ('54000', $$jsonb_build_object('s', repeat('x', 268435456))$$)) AS bad (code, payload);
SELECT is((SELECT (e).payload::text FROM (SELECT dugong.append_event('Row', pg_temp.id('a'), 'Noted', '{"k": 1, "k": 2, "\ud83e\udd9b": "\ud83e\udd9b"}') AS e) x),
    '{"k": 2, "🦛": "🦛"}', 'of a key that comes twice the last counts; what is no letter is text') WHERE getdatabaseencoding() = 'UTF8';
SELECT pg_temp.refused('22P05', $$ SELECT dugong.receive_message('{"origin": "x", "aggregateType": "y", "type": "\u0000"}') $$);
SELECT is((SELECT (dugong.append_event('Row', pg_temp.id('a', 2), repeat('x', 10000), jsonb_build_object('s', repeat('x', 10000000)))).sequence_number), 1::bigint, 'ten megabytes, and a long name');
SELECT is((SELECT length(dugong.build_aggregate('Row', pg_temp.id('a', 2))::text)), NULL, 'are folded');
SELECT is((SELECT count(*) FROM dugong.append_events('Row', pg_temp.id('a', 3), (SELECT jsonb_agg('{"type": "Noted"}'::jsonb) FROM generate_series(1, 20000)))), 20000::bigint, 'twenty thousand at once');
SELECT is((SELECT max(sequence_number) FROM dugong.aggregate_events('Row', pg_temp.id('a', 3))), 20000::bigint, 'are numbered');

-- Other statements that write rows
\set row 'aggregate_type, aggregate_id, type'
COPY dugong.domain_events (aggregate_type, aggregate_id, type) FROM STDIN;
Row	c0000000-0000-4000-8000-000000000001	Copied
Row	c0000000-0000-4000-8000-000000000001	Copied
\.
SELECT is((SELECT array_agg(sequence_number ORDER BY position) FROM dugong.domain_events WHERE type = 'Copied'), '{1,2}'::bigint[], 'COPY into the view');
SELECT id AS type FROM dugong.aggregate_types() WHERE name = 'Row' \gset
CREATE TEMP TABLE rows AS SELECT :type AS aggregate_type_id, pg_temp.id('c', 2) AS aggregate_id, 'Merged' AS type FROM generate_series(1, 3);
MERGE INTO dugong.event_log l USING rows r ON false WHEN NOT MATCHED THEN INSERT (aggregate_type_id, aggregate_id, type) VALUES (r.aggregate_type_id, r.aggregate_id, r.type);
SELECT is((SELECT array_agg(sequence_number ORDER BY position) FROM dugong.event_log WHERE type = 'Merged'), '{1,2,3}'::bigint[], 'MERGE into the table');
INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type) SELECT * FROM rows ON CONFLICT DO NOTHING;
SELECT is((SELECT max(sequence_number) FROM dugong.event_log WHERE type = 'Merged'), 6::bigint, 'ON CONFLICT DO NOTHING');
INSERT INTO dugong.event_log (id, aggregate_type_id, aggregate_id, type) SELECT pg_temp.id('e'), r.* FROM rows r ON CONFLICT DO NOTHING;
SELECT is((SELECT max(sequence_number) FROM dugong.event_log WHERE type = 'Merged'), 7::bigint, 'of one id there is one event');
WITH i AS (INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type) SELECT * FROM rows RETURNING sequence_number) SELECT is((SELECT array_agg(sequence_number) FROM i), '{8,9,10}'::bigint[], 'RETURNING');
SELECT is((SELECT count(*) FROM (SELECT sequence_number - row_number() OVER (PARTITION BY aggregate_type_id, aggregate_id, tenant_id ORDER BY position) AS d FROM dugong.event_log) x WHERE d <> 0), 0::bigint, 'numbers are without a hole, in the order of positions');

-- Parallel plans: what reads may be in them, what writes may not
SELECT set_eq($$ SELECT proname FROM pg_proc WHERE pronamespace = 'dugong'::regnamespace AND provolatile = 'v' AND proparallel <> 'u' AND proname !~ '^(read_events|sees_tenant)' $$, ARRAY[]::name[], 'what may write is parallel unsafe');
SET LOCAL force_parallel_mode = on;
SET LOCAL parallel_setup_cost = 0;
SET LOCAL parallel_tuple_cost = 0;
SET LOCAL min_parallel_table_scan_size = 0;
SET LOCAL min_parallel_index_scan_size = 0;
SELECT results_eq(query, serial, query) FROM (VALUES
    ($$ SELECT (s).balance FROM (SELECT bank_account_fold(e ORDER BY e.sequence_number) AS s FROM dugong.domain_events e WHERE e.aggregate_id = pg_temp.id('b')) x $$, $$ VALUES (0.3) $$),
    ($$ SELECT balance FROM bank_get_account('b0000000-0000-4000-8000-000000000001') $$, $$ VALUES (0.3) $$),
    ($$ SELECT dugong.build_aggregate('BankAccount', 'b0000000-0000-4000-8000-000000000001') ->> 'balance' $$, $$ VALUES ('0.3') $$),
    ($$ SELECT count(*) FROM dugong.domain_events WHERE type = 'Merged' $$, $$ VALUES (10::bigint) $$),
    ($$ SELECT count(*) FROM dugong.read_events(types => '{Merged}', stop_at_gap => false) $$, $$ VALUES (10::bigint) $$),
    ($$ SELECT max((dugong.append_event('Row', pg_temp.id('d'), 'Appended')).sequence_number) $$, $$ VALUES (1::bigint) $$)) AS q (query, serial);

-- Read-only transactions
SELECT dugong.create_subscription('reader', '{Row}');
SELECT dugong.create_aggregate_type('Foreign', origin => 'Elsewhere');
CREATE TABLE models (id uuid PRIMARY KEY);
SELECT dugong.create_projection('models', 'Row', 'models', mode => 'inline');
SET LOCAL transaction_read_only = on;
SELECT throws_ok(command, '25006', NULL, command) FROM (VALUES
    ($$ SELECT bank_deposit('b0000000-0000-4000-8000-000000000001', 1) $$),
    ($$ SELECT bank_open_account('x') $$),
    ($$ SELECT dugong.append_event('Row', 'a0000000-0000-4000-8000-000000000001', 'Noted') $$),
    ($$ SELECT dugong.append_events('Row', 'a0000000-0000-4000-8000-000000000001', '[{"type": "Noted"}]') $$),
    ($$ SELECT dugong.receive_message('{"origin": "Elsewhere", "aggregateType": "Foreign", "type": "x", "id": "0190163d-8694-739b-aea5-966c26f8ad90",
        "aggregateId": "0190163d-8694-739b-aea5-000000000001", "sequenceNumber": 1}') $$),
    ($$ INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES ('Row', 'a0000000-0000-4000-8000-000000000001', 'Noted') $$),
    ($$ SELECT dugong.load_for_update(NULL::bank_account_state, 'BankAccount', 'b0000000-0000-4000-8000-000000000001') $$),
    ($$ SELECT dugong.erase_aggregate('Row', 'a0000000-0000-4000-8000-000000000001', 'x') $$),
    ($$ SELECT dugong.take_snapshot('BankAccount', 'b0000000-0000-4000-8000-000000000001') $$),
    ($$ SELECT dugong.drop_snapshots('BankAccount') $$),
    ($$ SELECT dugong.verify_snapshots('BankAccount') $$),
    ($$ SELECT dugong.verify_projection('models', repair => true) $$),
    ($$ CALL dugong.run_projections() $$),
    ($$ CALL dugong.rebuild_projection('models') $$),
    ($$ CALL dugong.import_events('rows', '{"aggregate_id": "aggregate_id", "type": "type"}') $$),
    ($$ SELECT dugong.fetch_events('reader') $$),
    ($$ SELECT dugong.ack('reader', ARRAY[pg_temp.id('e')]) $$),
    ($$ SELECT dugong.create_aggregate_type('y') $$),
    ($$ SELECT dugong.create_projection('y', 'Row', 'models') $$),
    ($$ SELECT dugong.alter_projection('models', mode => 'async') $$),
    ($$ SELECT dugong.drop_projection('models') $$),
    ($$ SELECT dugong.grant_tenant('postgres', 'a') $$),
    ($$ SELECT dugong.declare_tags('Row', 'x', '{}') $$),
    ($$ SELECT dugong.start_workers() $$),
    ($$ SELECT dugong.stop_workers() $$)) AS c (command);
SELECT lives_ok(query, query) FROM (VALUES
    ($$ SELECT * FROM bank_get_account('b0000000-0000-4000-8000-000000000001') $$),
    ($$ SELECT dugong.build_aggregate('BankAccount', 'b0000000-0000-4000-8000-000000000001') $$),
    ($$ SELECT * FROM dugong.aggregate_history('BankAccount', 'b0000000-0000-4000-8000-000000000001') $$),
    ($$ SELECT * FROM dugong.read_events() $$),
    ($$ SELECT * FROM dugong.query_model_as_of(NULL::models) $$),
    ($$ SELECT * FROM dugong.verify_projection('models') $$),
    ($$ SELECT * FROM dugong.projection_status, dugong.subscription_status, dugong.worker_status $$),
    ($$ SELECT * FROM dugong.check_event_types() $$)) AS q (query);

SELECT * FROM finish();
ROLLBACK;
