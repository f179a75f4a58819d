-- What each command of the bank account does, and what it refuses.
BEGIN;
SELECT plan(103);
\ir helpers.psql

\set a '''a0000000-0000-4000-8000-00000000000a'''
\set b '''b0000000-0000-4000-8000-00000000000b'''
\set closed '''c0000000-0000-4000-8000-00000000000c'''
\set unknown '''d0000000-0000-4000-8000-00000000000d'''

-- Calls a command within a block that fails afterwards.
CREATE FUNCTION pg_temp.take_back(command text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    events bigint := (SELECT count(*) FROM dugong.event_log);
BEGIN
    BEGIN
        EXECUTE command;
        PERFORM 1 / 0;
    EXCEPTION WHEN division_by_zero THEN
        NULL;
    END;
    RETURN (SELECT count(*) FROM dugong.event_log) - events;
END $$;

-- Open
SELECT results_eq($$ SELECT id, owner, balance FROM bank_open_account('Alice', 500, 'a0000000-0000-4000-8000-00000000000a') $$,
    $$ VALUES ('a0000000-0000-4000-8000-00000000000a'::uuid, 'Alice', 500::numeric) $$, 'open returns the account');
SELECT results_eq($$ SELECT owner, balance FROM bank_open_account('Bob', account_id => 'b0000000-0000-4000-8000-00000000000b') $$,
    $$ VALUES ('Bob', 0::numeric) $$, 'the initial balance is zero by default');
SELECT isnt((bank_open_account('Carol')).id, NULL, 'open makes an id by default');
SELECT isnt((bank_open_account('Carol')).id, (bank_open_account('Carol')).id, 'each time another');
SELECT is(length((bank_open_account(repeat('ä', 100))).owner), 100, 'an owner of 100 characters, 200 bytes');
SELECT is((bank_open_account('Dora', 999999999999999.9999)).balance, 999999999999999.9999, 'the greatest balance');
SELECT is((bank_open_account('Dora', 1.50000)).balance::text, '1.5000', 'zeros after the fourth digit are no digits');
SELECT is((bank_open_account(E'Robert"); DROP TABLE x; \\ \n')).owner, E'Robert"); DROP TABLE x; \\ \n', 'an owner is only text');

SELECT pg_temp.refused('UG001', format('SELECT bank_open_account(%L, 1, %L)', 'Alice', :a));
SELECT pg_temp.refused('UG001', format('SELECT bank_open_account(%L, 0, %L)', 'Mallory', :a));
SELECT pg_temp.refused(code, format('SELECT bank_open_account(%L, %s, %s)', owner, balance, id))
FROM (VALUES
    ('22004', NULL, '1', 'NULL'),
    ('22023', '', '1', 'NULL'),
    ('22023', '   ', '1', 'NULL'),
    ('22023', E'\t\n', '1', 'NULL'),
    ('22023', repeat('x', 101), '1', 'NULL'),
    ('22023', repeat('ä', 101), '1', 'NULL'),
    ('22023', repeat('x', 10000000), '1', 'NULL'),
    ('22004', 'x', 'NULL', 'NULL'),
    ('22023', 'x', '''NaN''', 'NULL'),
    ('22023', 'x', '''Infinity''', 'NULL'),
    ('22023', 'x', '''-Infinity''', 'NULL'),
    ('22023', 'x', '-1', 'NULL'),
    ('22023', 'x', '-0.0001', 'NULL'),
    ('22023', 'x', '1e30', 'NULL'),
    ('22023', 'x', '1000000000000000', 'NULL'),
    ('22023', 'x', '1.00001', 'NULL'),
    ('22023', 'x', '1e-16000', 'NULL'),
    ('22P02', 'x', '1', '''no-uuid'''),
    ('22P02', 'x', '''no number''', 'NULL')) AS bad (code, owner, balance, id);

-- Deposit and withdraw
SELECT is((bank_deposit(:a, 200)).balance, 700::numeric, 'deposit returns the new balance');
SELECT is((bank_withdraw(:a, 300)).balance, 400::numeric, 'withdraw returns the new balance');
SELECT is((bank_withdraw(:a, 400)).balance, 0::numeric, 'the whole balance can be withdrawn');
SELECT is((bank_deposit(:a, 0.0001)).balance, 0.0001, 'the smallest amount');
SELECT pg_temp.refused('UG004', format('SELECT bank_withdraw(%L, 0.0002)', :a));
SELECT is((bank_deposit(:a, 999.9999)).balance, 1000::numeric, 'cents add up');

SELECT bank_open_account('Closed', 100, :closed) \g /dev/null
SELECT is(bank_close_account(:closed)::text, '(c0000000-0000-4000-8000-00000000000c,Closed,100)', 'close returns the account as it was');

SELECT pg_temp.refused(code, format('SELECT %s(%s, %s)', command, id, amount))
FROM (VALUES ('bank_deposit'), ('bank_withdraw')) AS command (command),
    (VALUES
    ('22004', 'NULL', '1'),
    ('22004', quote_literal(:a), 'NULL'),
    ('22023', quote_literal(:a), '''NaN'''),
    ('22023', quote_literal(:a), '''Infinity'''),
    ('22023', quote_literal(:a), '''-Infinity'''),
    ('22023', quote_literal(:a), '0'),
    ('22023', quote_literal(:a), '-1'),
    ('22023', quote_literal(:a), '1e30'),
    ('22023', quote_literal(:a), '1000000000000000'),
    ('22023', quote_literal(:a), '0.00001'),
    ('22P02', '''no-uuid''', '1'),
    ('UG002', quote_literal(:unknown), '1'),
    ('UG003', quote_literal(:closed), '1')) AS bad (code, id, amount);
SELECT pg_temp.refused('UG004', format('SELECT bank_withdraw(%L, 1000.0001)', :a));

-- Transfer
SELECT is(bank_transfer(:a, :b, 250)::text, '(a0000000-0000-4000-8000-00000000000a,Alice,750.0000)', 'transfer returns the paying account');
SELECT results_eq($$ SELECT balance FROM bank_get_account('b0000000-0000-4000-8000-00000000000b') $$, ARRAY[250::numeric], 'the other one has the money');
SELECT results_eq($$ SELECT count(*), count(DISTINCT correlation_id), count(correlation_id) FROM (
        SELECT correlation_id FROM dugong.domain_events ORDER BY position DESC LIMIT 2) AS transfer $$,
    $$ VALUES (2::bigint, 1::bigint, 2::bigint) $$, 'one correlation id joins the two events');
SELECT results_eq($$ SELECT type, payload FROM (
        SELECT * FROM dugong.domain_events ORDER BY position DESC LIMIT 2) AS transfer ORDER BY position $$,
    $$ VALUES ('MoneyWithdrawn', '{"amount": 250}'::jsonb), ('MoneyDeposited', '{"amount": 250}') $$, 'withdrawal, then deposit');

SELECT pg_temp.refused(code, format('SELECT bank_transfer(%s, %s, %s)', payer, payee, amount))
FROM (VALUES
    ('22004', 'NULL', quote_literal(:b), '1'),
    ('22004', quote_literal(:a), 'NULL', '1'),
    ('22004', quote_literal(:a), quote_literal(:b), 'NULL'),
    ('22023', quote_literal(:a), quote_literal(:b), '''NaN'''),
    ('22023', quote_literal(:a), quote_literal(:b), '''Infinity'''),
    ('22023', quote_literal(:a), quote_literal(:b), '0'),
    ('22023', quote_literal(:a), quote_literal(:b), '-5'),
    ('22023', quote_literal(:a), quote_literal(:b), '1e30'),
    ('22023', quote_literal(:a), quote_literal(:b), '0.00001'),
    ('UG004', quote_literal(:a), quote_literal(:b), '750.0001'),
    ('UG004', quote_literal(:a), quote_literal(:a), '1'),
    ('UG002', quote_literal(:a), quote_literal(:unknown), '1'),
    ('UG002', quote_literal(:unknown), quote_literal(:a), '1'),
    ('UG003', quote_literal(:a), quote_literal(:closed), '1'),
    ('UG003', quote_literal(:closed), quote_literal(:a), '1'),
    ('22P02', quote_literal(:a), '''no-uuid''', '1')) AS bad (code, payer, payee, amount);

-- Close and get
SELECT pg_temp.refused('22004', 'SELECT bank_close_account(NULL)');
SELECT pg_temp.refused('22P02', 'SELECT bank_close_account(''no-uuid'')');
SELECT pg_temp.refused('UG002', format('SELECT bank_close_account(%L)', :unknown));
SELECT pg_temp.refused('UG003', format('SELECT bank_close_account(%L)', :closed));
SELECT pg_temp.refused('UG001', format('SELECT bank_open_account(%L, 1, %L)', 'Closed', :closed));
SELECT pg_temp.refused('22004', 'SELECT bank_get_account(NULL)');
SELECT is_empty($$ SELECT * FROM bank_get_account('d0000000-0000-4000-8000-00000000000d') $$, 'get: no row for an unknown account');
SELECT is_empty($$ SELECT * FROM bank_get_account('c0000000-0000-4000-8000-00000000000c') $$, 'get: no row for a closed account');
SELECT results_eq($$ SELECT * FROM bank_get_account('a0000000-0000-4000-8000-00000000000a') $$,
    $$ VALUES ('a0000000-0000-4000-8000-00000000000a'::uuid, 'Alice', 750::numeric) $$, 'get: the account');

-- The events
SELECT results_eq($$ SELECT origin, aggregate_type, sequence_number, type, version, payload, tenant_id
        FROM dugong.domain_events WHERE aggregate_id = 'c0000000-0000-4000-8000-00000000000c' ORDER BY position $$,
    $$ VALUES ('BankingContext-AccountService', 'BankAccount', 1::bigint, 'AccountOpened', 1, '{"owner": "Closed", "initialBalance": 100}'::jsonb, ''),
        ('BankingContext-AccountService', 'BankAccount', 2, 'AccountClosed', 1, '{}', '') $$, 'AccountOpened and AccountClosed');
SELECT results_eq($$ SELECT sequence_number, type, payload
        FROM dugong.domain_events WHERE aggregate_id = 'a0000000-0000-4000-8000-00000000000a' ORDER BY position LIMIT 3 $$,
    $$ VALUES (1::bigint, 'AccountOpened', '{"owner": "Alice", "initialBalance": 500}'::jsonb),
        (2, 'MoneyDeposited', '{"amount": 200}'), (3, 'MoneyWithdrawn', '{"amount": 300}') $$, 'MoneyDeposited and MoneyWithdrawn');

-- Taken back by an EXCEPTION block, by a savepoint
SELECT is(pg_temp.take_back(command), 0::bigint, 'nothing is left of ' || command)
FROM (VALUES ('SELECT bank_open_account(''Eve'', 1, ''e0000000-0000-4000-8000-00000000000e'')'),
    (format('SELECT bank_deposit(%L, 1)', :a)),
    (format('SELECT bank_withdraw(%L, 1)', :a)),
    (format('SELECT bank_transfer(%L, %L, 1)', :a, :b)),
    (format('SELECT bank_close_account(%L)', :a))) AS command (command);
SAVEPOINT s;
SELECT bank_deposit(:a, 1) \g /dev/null
SELECT bank_close_account(:b) \g /dev/null
ROLLBACK TO s;
SELECT is((SELECT balance FROM bank_get_account(:a)), 750::numeric, 'the deposit went with the savepoint');
SELECT is((SELECT balance FROM bank_get_account(:b)), 250::numeric, 'and so did the closing');
SELECT is((bank_deposit(:a, 1)).balance, 751::numeric, 'the account goes on');
SELECT is((SELECT array_agg(sequence_number ORDER BY position) FROM dugong.event_log WHERE aggregate_id = :a),
    (SELECT array_agg(n) FROM generate_series(1::bigint, 8) AS n), 'without a hole in its numbers');

SELECT * FROM finish();
ROLLBACK;
