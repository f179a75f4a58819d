-- A command that is repeated with its event id appends nothing; anything else under that id is UG006.
BEGIN;
SELECT plan(63);

CREATE FUNCTION pg_temp.a() RETURNS uuid LANGUAGE sql IMMUTABLE RETURN 'a0000000-0000-4000-8000-00000000000a'::uuid;
CREATE FUNCTION pg_temp.b() RETURNS uuid LANGUAGE sql IMMUTABLE RETURN 'b0000000-0000-4000-8000-00000000000b'::uuid;
-- The event id of a number
CREATE FUNCTION pg_temp.e(n int) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN ('e0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid;

-- What a command answers, and how many events it appends.
CREATE FUNCTION pg_temp.call(command text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    events bigint := (SELECT count(*) FROM dugong.event_log);
    got text;
BEGIN
    BEGIN
        EXECUTE 'SELECT concat(owner, '' '', balance) FROM ' || command INTO got;
    EXCEPTION WHEN OTHERS THEN
        got := SQLSTATE;
    END;
    RETURN got || ', ' || (SELECT count(*) FROM dugong.event_log) - events;
END $$;
CREATE FUNCTION pg_temp.answers(answer text, command text) RETURNS text LANGUAGE sql
BEGIN ATOMIC
    SELECT is(pg_temp.call(replace(replace(replace(command, 'a()', 'pg_temp.a()'), 'b()', 'pg_temp.b()'), 'e(', 'pg_temp.e(')), answer, command);
END;

-- Open
SELECT pg_temp.answers('Alice 500, 1', $$bank_open_account('Alice', 500, a(), e(1))$$);
SELECT pg_temp.answers('Alice 500, 0', $$bank_open_account('Alice', 500, a(), e(1))$$);
SELECT pg_temp.answers('Alice 500, 0', $$bank_open_account('Alice', 500.00, a(), e(1))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_open_account('Alicia', 500, a(), e(1))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_open_account('Alice', 501, a(), e(1))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_open_account('Alice', 500, b(), e(1))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_open_account('Alice', 500, NULL, e(1))$$);
SELECT pg_temp.answers('UG001, 0', $$bank_open_account('Alice', 500, a(), e(2))$$);
SELECT pg_temp.answers('UG001, 0', $$bank_open_account('Alice', 500, a())$$);
SELECT pg_temp.answers('Bob 0, 1', $$bank_open_account('Bob', 0, b(), e(3))$$);
-- Without an account id
SELECT pg_temp.answers('Carol 7, 1', $$bank_open_account('Carol', 7, NULL, e(4))$$);
SELECT pg_temp.answers('Carol 7, 0', $$bank_open_account('Carol', 7, NULL, e(4))$$);
SELECT is((bank_open_account('Carol', 7, NULL, pg_temp.e(4))).id,
    (SELECT aggregate_id FROM dugong.event_log WHERE id = pg_temp.e(4)), 'the same account');
SELECT pg_temp.answers('UG006, 0', $$bank_open_account('Carol', 8, NULL, e(4))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_open_account('Carol', 7, 'c0000000-0000-4000-8000-00000000000c', e(4))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_deposit(a(), 7, e(4))$$);

-- Deposit and withdraw
SELECT pg_temp.answers('Alice 700, 1', $$bank_deposit(a(), 200, e(10))$$);
SELECT pg_temp.answers('Alice 700, 0', $$bank_deposit(a(), 200, e(10))$$);
SELECT pg_temp.answers('Alice 700, 0', $$bank_deposit(a(), 200.0, e(10))$$);
SELECT pg_temp.answers('Alice 400, 1', $$bank_withdraw(a(), 300, e(11))$$);
SELECT pg_temp.answers('Alice 400, 0', $$bank_withdraw(a(), 300, e(11))$$);
SELECT pg_temp.answers('Alice 400, 0', $$bank_deposit(a(), 200, e(10))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_deposit(a(), 201, e(10))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_deposit(b(), 200, e(10))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_withdraw(a(), 200, e(10))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_deposit(a(), 300, e(11))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_close_account(a(), e(10))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_deposit(a(), 500, e(1))$$);
SELECT pg_temp.answers('22023, 0', $$bank_deposit(a(), 'NaN', e(10))$$);
SELECT pg_temp.answers('UG004, 0', $$bank_withdraw(a(), 1000, e(12))$$);
SELECT pg_temp.answers('Alice 1400, 1', $$bank_deposit(a(), 1000, e(12))$$);
-- A withdrawal that the balance no longer covers is still a retry
SELECT pg_temp.answers('Alice 0, 1', $$bank_withdraw(a(), 1400, e(13))$$);
SELECT pg_temp.answers('Alice 0, 0', $$bank_withdraw(a(), 1400, e(13))$$);
SELECT pg_temp.answers('Alice 400, 1', $$bank_deposit(a(), 400)$$);

-- Transfer
SELECT pg_temp.answers('Alice 350, 2', $$bank_transfer(a(), b(), 50, e(20))$$);
SELECT pg_temp.answers('Alice 350, 0', $$bank_transfer(a(), b(), 50, e(20))$$);
SELECT is((SELECT type FROM dugong.event_log WHERE id = pg_temp.e(20)), 'MoneyWithdrawn', 'the event id is the withdrawal''s');
SELECT pg_temp.answers('UG006, 0', $$bank_transfer(a(), b(), 51, e(20))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_transfer(b(), a(), 50, e(20))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_transfer(a(), (SELECT aggregate_id FROM dugong.event_log WHERE id = e(4)), 50, e(20))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_withdraw(a(), 50, e(20))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_deposit(b(), 50, e(20))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_deposit(b(), 50, (SELECT id FROM dugong.event_log WHERE triggered_by_event_id = e(20)))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_transfer(b(), a(), 50, (SELECT id FROM dugong.event_log WHERE triggered_by_event_id = e(20)))$$);
SELECT pg_temp.answers('Alice 340, 1', $$bank_withdraw(a(), 10, e(21))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_transfer(a(), b(), 10, e(21))$$);
SELECT pg_temp.answers('UG004, 0', $$bank_transfer(a(), a(), 50, e(20))$$);
-- Another tenant
SET LOCAL dugong.tenant_id = 'acme';
SELECT pg_temp.answers('UG006, 0', $$bank_open_account('Alice', 500, a(), e(1))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_deposit(a(), 200, e(10))$$);
RESET dugong.tenant_id;

-- After the close: the account as it was
SELECT pg_temp.answers('Alice 340, 1', $$bank_close_account(a(), e(30))$$);
SELECT pg_temp.answers('Alice 340, 0', $$bank_close_account(a(), e(30))$$);
SELECT pg_temp.answers('Alice 340, 0', $$bank_open_account('Alice', 500, a(), e(1))$$);
SELECT pg_temp.answers('Alice 340, 0', $$bank_deposit(a(), 200, e(10))$$);
SELECT pg_temp.answers('Alice 340, 0', $$bank_withdraw(a(), 300, e(11))$$);
SELECT pg_temp.answers('Alice 340, 0', $$bank_transfer(a(), b(), 50, e(20))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_close_account(b(), e(30))$$);
SELECT pg_temp.answers('UG003, 0', $$bank_close_account(a(), e(31))$$);
SELECT pg_temp.answers('UG003, 0', $$bank_deposit(a(), 200, e(32))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_deposit(a(), 201, e(10))$$);

-- A deposit that has taken the id which the transfer's deposit would get
CREATE EXTENSION "uuid-ossp";
SELECT pg_temp.answers('Dan 100, 1', $$bank_open_account('Dan', 100, 'd0000000-0000-4000-8000-00000000000d')$$);
SELECT pg_temp.answers('Bob 60, 1', $$bank_deposit(b(), 10, uuid_generate_v5(e(40), 'bank_transfer'))$$);
SELECT pg_temp.answers('UG006, 0', $$bank_transfer('d0000000-0000-4000-8000-00000000000d', b(), 10, e(40))$$);
SELECT is((SELECT balance FROM bank_get_account('d0000000-0000-4000-8000-00000000000d')), 100::numeric, 'no money is lost');

SELECT * FROM finish();
ROLLBACK;
