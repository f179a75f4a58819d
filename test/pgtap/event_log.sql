-- The log: what an INSERT is given, and what is refused to everybody.
BEGIN;
SELECT plan(81);
\ir helpers.psql

CREATE FUNCTION pg_temp.bank() RETURNS int LANGUAGE sql IMMUTABLE
RETURN dugong.aggregate_type_id('BankingContext-AccountService', 'BankAccount');
-- INSERT into the table
INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type, payload)
VALUES (pg_temp.bank(), 'a0000000-0000-4000-8000-00000000000a', 'AccountOpened', '{"owner": "Alice", "initialBalance": 500}');
INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type, payload)
VALUES (pg_temp.bank(), 'a0000000-0000-4000-8000-00000000000a', 'MoneyDeposited', '{"amount": 1}'),
    (pg_temp.bank(), 'a0000000-0000-4000-8000-00000000000a', 'MoneyDeposited', '{"amount": 2}');
SELECT results_eq($$ SELECT sequence_number, version, tenant_id, position - min(position) OVER (), id IS NOT NULL, "timestamp" <= clock_timestamp(),
            correlation_id, triggered_by_event_id, triggered_by_user_id, metadata
        FROM dugong.event_log WHERE aggregate_id = 'a0000000-0000-4000-8000-00000000000a' ORDER BY position $$,
    $$ SELECT n, 1, '', n - 1, true, true, NULL::uuid, NULL::uuid, NULL::text, NULL::jsonb FROM generate_series(1::bigint, 3) AS n $$,
    'INSERT into the table: numbers, positions, defaults');
SELECT is((SELECT balance FROM bank_get_account('a0000000-0000-4000-8000-00000000000a')), 503::numeric, 'and it is the account''s events');
SELECT ok(bool_and(substring(id::text, 15, 1) = '7'), 'ids are UUIDs of version 7')
FROM dugong.event_log WHERE aggregate_id = 'a0000000-0000-4000-8000-00000000000a';

-- INSERT into the view
PREPARE insert_into_view AS
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload)
VALUES ('BankAccount', 'a0000000-0000-4000-8000-00000000000a', 'MoneyWithdrawn', '{"amount": 3}')
RETURNING sequence_number, origin, version, tenant_id, position = (SELECT last_value FROM dugong.event_log_position_seq), id IS NOT NULL, "timestamp" IS NOT NULL;
SELECT results_eq('insert_into_view', $$ VALUES (4::bigint, 'BankingContext-AccountService', 1, '', true, true, true) $$,
    'INSERT into the view returns what was assigned');
SELECT is((bank_deposit('a0000000-0000-4000-8000-00000000000a', 100)).balance, 600::numeric, 'commands go on behind it');

-- A sequence number is an expectation
SELECT is(pg_temp.answer($$ INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type, sequence_number)
        VALUES (pg_temp.bank(), 'a0000000-0000-4000-8000-00000000000a', 'Noted', 9) $$),
    'UG001 Expected sequence number 8, actual sequence number 5.', 'too high, table');
SELECT is(pg_temp.answer($$ INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, sequence_number)
        VALUES ('BankAccount', 'a0000000-0000-4000-8000-00000000000a', 'Noted', 5) $$),
    'UG001 Expected sequence number 4, actual sequence number 5.', 'too low, view');
SELECT is(pg_temp.answer($$ INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type, sequence_number)
        VALUES (pg_temp.bank(), 'a0000000-0000-4000-8000-00000000000a', 'Noted', 1) $$),
    'UG001 Expected sequence number 0, actual sequence number 5.', 'exists already, table');
SELECT is(pg_temp.answer($$ INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, sequence_number)
        VALUES ('BankAccount', 'b0000000-0000-4000-8000-00000000000b', 'Noted', 2) $$),
    'UG001 Expected sequence number 1, actual sequence number 0.', 'does not exist, view');
SELECT lives_ok($$ INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, sequence_number)
        VALUES ('BankAccount', 'a0000000-0000-4000-8000-00000000000a', 'Noted', 6) $$, 'the right one');

-- Refused events draw no position
SELECT pg_temp.refused(code, format('INSERT INTO dugong.event_log (%s, aggregate_id, type, sequence_number, version, "timestamp") VALUES (%s, %s, %s, %s, %s, %s)',
    'aggregate_type_id', atype, id, type, number, version, stamp))
FROM (VALUES
    ('22004', 'NULL', 'gen_random_uuid()', '''Noted''', 'NULL', '1', 'NULL'),
    ('22004', 'pg_temp.bank()', 'NULL', '''Noted''', 'NULL', '1', 'NULL'),
    ('22004', 'pg_temp.bank()', 'gen_random_uuid()', 'NULL', 'NULL', '1', 'NULL'),
    ('42704', '1', 'gen_random_uuid()', '''Noted''', 'NULL', '1', 'NULL'),
    ('UG001', 'pg_temp.bank()', 'gen_random_uuid()', '''Noted''', '7', '1', 'NULL'),
    ('22023', 'pg_temp.bank()', 'gen_random_uuid()', '''Noted''', 'NULL', '1', '''infinity'''),
    ('22023', 'pg_temp.bank()', 'gen_random_uuid()', '''Noted''', '0', '1', 'NULL'),
    ('22023', 'pg_temp.bank()', 'gen_random_uuid()', '''Noted''', '-1', '1', 'NULL'),
    ('22023', 'pg_temp.bank()', 'gen_random_uuid()', '''Noted''', 'NULL', '0', 'NULL'),
    ('22023', 'pg_temp.bank()', 'gen_random_uuid()', '''''', 'NULL', '1', 'NULL')) AS bad (code, atype, id, type, number, version, stamp);
SELECT pg_temp.refused('42704', $$INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES ('Nothing', gen_random_uuid(), 'Noted')$$);
SELECT pg_temp.refused('42704', $$INSERT INTO dugong.domain_events (origin, aggregate_type, aggregate_id, type) VALUES ('Nobody', 'BankAccount', gen_random_uuid(), 'Noted')$$);
SELECT pg_temp.refused('22004', $$INSERT INTO dugong.domain_events (aggregate_id, type) VALUES (gen_random_uuid(), 'Noted')$$);

-- An id that is in the log
INSERT INTO dugong.domain_events (id, aggregate_type, aggregate_id, type, payload)
VALUES ('e0000000-0000-4000-8000-000000000001', 'BankAccount', 'a0000000-0000-4000-8000-00000000000a', 'Noted', '{"n": 1}');
PREPARE repeat_in_view AS
INSERT INTO dugong.domain_events (id, aggregate_type, aggregate_id, type, payload)
VALUES ('e0000000-0000-4000-8000-000000000001', 'BankAccount', 'a0000000-0000-4000-8000-00000000000a', 'Noted', '{"n": 1.0}')
RETURNING sequence_number;
SELECT results_eq('repeat_in_view', ARRAY[7::bigint], 'the view answers with the stored event');
PREPARE repeat_in_table AS
INSERT INTO dugong.event_log (id, aggregate_type_id, aggregate_id, type, payload)
VALUES ('e0000000-0000-4000-8000-000000000001', pg_temp.bank(), 'a0000000-0000-4000-8000-00000000000a', 'Noted', '{"n": 1}')
RETURNING sequence_number;
SELECT is_empty('repeat_in_table', 'the table skips the row');
SELECT is((SELECT max(sequence_number) FROM dugong.event_log WHERE aggregate_id = 'a0000000-0000-4000-8000-00000000000a'), 7::bigint, 'nothing was appended');
SELECT pg_temp.refused('UG006', format('INSERT INTO dugong.domain_events (id, aggregate_type, aggregate_id, type, version, payload) VALUES (%L, %L, %L, %L, %s, %L)',
    'e0000000-0000-4000-8000-000000000001', 'BankAccount', id, type, version, payload))
FROM (VALUES
    ('b0000000-0000-4000-8000-00000000000b', 'Noted', 1, '{"n": 1}'),
    ('a0000000-0000-4000-8000-00000000000a', 'Notes', 1, '{"n": 1}'),
    ('a0000000-0000-4000-8000-00000000000a', 'Noted', 2, '{"n": 1}'),
    ('a0000000-0000-4000-8000-00000000000a', 'Noted', 1, '{"n": 2}'),
    ('a0000000-0000-4000-8000-00000000000a', 'Noted', 1, NULL)) AS other (id, type, version, payload);

-- Append-only
SET LOCAL client_min_messages = warning;
SELECT is(current_setting('is_superuser'), 'on', 'as superuser');
CREATE FUNCTION pg_temp.append_only(relation text) RETURNS SETOF text LANGUAGE sql AS $f$
    SELECT pg_temp.refused('UG005', command)
    FROM (VALUES
        ('UPDATE dugong.event_log SET type = ''x'''),
        ('UPDATE dugong.event_log SET type = ''x'' WHERE false'),
        ('DELETE FROM dugong.event_log'),
        ('DELETE FROM dugong.event_log WHERE false'),
        ('TRUNCATE dugong.event_log CASCADE'),
        ('MERGE INTO dugong.event_log l USING (SELECT 1) AS one ON true WHEN MATCHED THEN DELETE'),
        ('MERGE INTO dugong.event_log l USING (SELECT 1) AS one ON true WHEN MATCHED THEN UPDATE SET type = ''x'''),
        ('INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type) VALUES (pg_temp.bank(), gen_random_uuid(), ''Noted'') ON CONFLICT (id) DO UPDATE SET type = ''x'''),
        ('UPDATE dugong.domain_events SET type = ''x'''),
        ('UPDATE dugong.domain_events SET type = ''x'' WHERE false'),
        ('DELETE FROM dugong.domain_events'),
        ('DELETE FROM dugong.domain_events WHERE false')) AS forbidden (command)
    WHERE strpos(command, relation) > 0
    UNION ALL
    -- PostgreSQL itself has no TRUNCATE, ON CONFLICT or (before 17) MERGE for such a view
    SELECT matches(pg_temp.answer(command), '^(42809|42P10|0A000|UG005)', command)
    FROM (VALUES
        ('TRUNCATE dugong.domain_events'),
        ('MERGE INTO dugong.domain_events l USING (SELECT 1) AS one ON true WHEN MATCHED THEN DELETE'),
        ('INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES (''BankAccount'', gen_random_uuid(), ''Noted'') ON CONFLICT (id) DO UPDATE SET type = ''x''')) AS forbidden (command)
    WHERE strpos(command, relation) > 0
$f$;
SELECT pg_temp.append_only('dugong');
SET LOCAL session_replication_role = replica;
SELECT pg_temp.append_only('dugong.event_log');
-- A view's triggers cannot be enabled always; without them a change of the view does nothing
CREATE TEMP TABLE events_before AS TABLE dugong.domain_events;
UPDATE dugong.domain_events SET type = 'x';
DELETE FROM dugong.domain_events;
SELECT results_eq('SELECT * FROM dugong.domain_events ORDER BY position',
    'SELECT * FROM events_before ORDER BY position', 'the view changes nothing in replica mode');
SELECT pg_temp.refused('UG001', $$INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type, sequence_number)
    VALUES (pg_temp.bank(), 'a0000000-0000-4000-8000-00000000000a', 'Noted', 1)$$);
RESET session_replication_role;

-- Context from settings
SET LOCAL dugong.tenant_id = 'acme';
SET LOCAL dugong.correlation_id = 'c0000000-0000-4000-8000-000000000001';
SET LOCAL dugong.triggered_by_event_id = 'c0000000-0000-4000-8000-000000000002';
SET LOCAL dugong.triggered_by_user_id = 'alice@example.org';
SET LOCAL dugong.metadata = '{"ip": "::1"}';
SELECT is(bank_open_account('Acme', 1, 'a0000000-0000-4000-8000-00000000000a')::text, '(a0000000-0000-4000-8000-00000000000a,Acme,1)', 'one id in another tenant is another account');
SELECT results_eq($$ SELECT tenant_id, sequence_number, correlation_id, triggered_by_event_id, triggered_by_user_id, metadata
        FROM dugong.domain_events ORDER BY position DESC LIMIT 1 $$,
    $$ VALUES ('acme', 1::bigint, 'c0000000-0000-4000-8000-000000000001'::uuid, 'c0000000-0000-4000-8000-000000000002'::uuid, 'alice@example.org', '{"ip": "::1"}'::jsonb) $$,
    'the settings are in the event');
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, tenant_id, correlation_id, triggered_by_event_id, triggered_by_user_id, metadata)
VALUES ('BankAccount', 'a0000000-0000-4000-8000-00000000000a', 'Noted', 'other', 'c0000000-0000-4000-8000-000000000003', 'c0000000-0000-4000-8000-000000000004', 'bob', '[]');
SELECT results_eq($$ SELECT tenant_id, sequence_number, correlation_id, triggered_by_event_id, triggered_by_user_id, metadata
        FROM dugong.domain_events ORDER BY position DESC LIMIT 1 $$,
    $$ VALUES ('other', 1::bigint, 'c0000000-0000-4000-8000-000000000003'::uuid, 'c0000000-0000-4000-8000-000000000004'::uuid, 'bob', '[]'::jsonb) $$,
    'what the event brings wins');
SELECT is((SELECT balance FROM bank_get_account('a0000000-0000-4000-8000-00000000000a')), 1::numeric, 'this tenant''s account');
SET LOCAL dugong.metadata = '{';
SELECT pg_temp.refused('22P02', $$SELECT bank_deposit('a0000000-0000-4000-8000-00000000000a', 1)$$);
RESET dugong.metadata;
RESET dugong.tenant_id;
RESET dugong.correlation_id;
RESET dugong.triggered_by_event_id;
RESET dugong.triggered_by_user_id;
SELECT is((SELECT balance FROM bank_get_account('a0000000-0000-4000-8000-00000000000a')), 600::numeric, 'the account without a tenant');
SELECT throws_ok($$ SET dugong.correlation_id = 'x' $$, '22023', NULL, 'a correlation id is a UUID');
SELECT throws_ok($$ SET dugong.triggered_by_event_id = '{c0000000-0000-4000-8000-000000000003}' $$, '22023', NULL, 'in its usual form');

-- Time does not run backwards
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, "timestamp")
VALUES ('BankAccount', 'a0000000-0000-4000-8000-00000000000a', 'Noted', '2999-01-01 00:00:00+00');
SELECT bank_deposit('a0000000-0000-4000-8000-00000000000a', 1) \g /dev/null
SELECT is((SELECT "timestamp" FROM dugong.event_log ORDER BY position DESC LIMIT 1), '2999-01-01 00:00:00+00', 'no event is before its predecessor');
SELECT is((SELECT count(*) FROM (SELECT "timestamp" < lag("timestamp") OVER (PARTITION BY aggregate_id, tenant_id ORDER BY sequence_number) AS backwards FROM dugong.event_log) AS e WHERE backwards), 0::bigint, 'timestamps grow');

-- A row that brings its position is restored
SELECT last_value AS last FROM dugong.event_log_position_seq \gset
CREATE FUNCTION pg_temp.restore(place bigint, number bigint) RETURNS text LANGUAGE sql RETURN format(
    $$INSERT INTO dugong.event_log (position, sequence_number, "timestamp", id, aggregate_id, aggregate_type_id, version, tenant_id, type, payload)
      VALUES (%s, %s, '2001-01-01', gen_random_uuid(), 'f0000000-0000-4000-8000-00000000000f', pg_temp.bank(), 1, '', %L, %L)$$,
    place, number, CASE number WHEN 1 THEN 'AccountOpened' ELSE 'MoneyDeposited' END, '{"owner": "Fay", "initialBalance": 5, "amount": 1}');
SELECT lives_ok(pg_temp.restore(:last + 1000, 2), 'a restored row is accepted');
SELECT lives_ok(pg_temp.restore(:last + 500, 1), 'in any order');
SELECT is((SELECT "timestamp" FROM dugong.event_log WHERE position = :last + 500), '2001-01-01'::timestamptz, 'as it is');
SELECT is((SELECT balance FROM bank_get_account('f0000000-0000-4000-8000-00000000000f')), 6::numeric, 'the account is there');
SELECT is((bank_deposit('f0000000-0000-4000-8000-00000000000f', 1)).balance, 7::numeric, 'and goes on');
SELECT is((SELECT max(position) FROM dugong.event_log), (:last + 1001)::bigint, 'behind the restored positions');
SELECT throws_ok(pg_temp.restore(:last + 1000, 9), '23505', NULL, 'a position is unique');
SELECT throws_ok(pg_temp.restore(0, 9), '22023', NULL, 'a position is greater than zero');
SELECT throws_ok(pg_temp.restore(9223372036854775807, 9), '22023', NULL, 'and leaves room for those that are drawn');
SELECT throws_ok(pg_temp.restore(:last + 2000, 9223372036854775807), '22023', NULL, 'and so does a sequence number');
CALL dugong.run_projections();
SELECT is((SELECT max(position) FROM dugong.checkpoints), (:last + 1001)::bigint, 'the projection has handled all');
SELECT throws_ok(pg_temp.restore(:last + 1001, 9), '55000', NULL, 'refused at the checkpoint');
SELECT throws_ok(pg_temp.restore(:last + 600, 9), '55000', NULL, 'refused below the checkpoint');
SELECT lives_ok(pg_temp.restore(:last + 1002, 4), 'accepted behind it');

SELECT * FROM finish();
ROLLBACK;
