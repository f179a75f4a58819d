-- The registry of aggregate types and event types.
BEGIN;
SELECT no_plan();
\ir helpers.psql

CREATE TYPE cart AS (items int);
CREATE FUNCTION cart_apply(cart, dugong.domain_event) RETURNS cart LANGUAGE sql IMMUTABLE RETURN ROW(coalesce(($1).items, 0) + 1)::cart;
CREATE AGGREGATE cart_fold(dugong.domain_event) (SFUNC = cart_apply, STYPE = cart);
CREATE AGGREGATE count_ints(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE FUNCTION final(cart) RETURNS int LANGUAGE sql RETURN 1;

-- Creating
SELECT lives_ok($$ SELECT dugong.create_aggregate_type('Plain') $$, 'a name is enough');
SELECT lives_ok($$ SELECT dugong.create_aggregate_type(name => 'Cart', fold => 'cart_fold(dugong.domain_event)', snapshot_interval => 10, strict => true) $$, 'by name');
SELECT results_eq($$ SELECT origin, name, owner, fold, snapshot_interval, strict, external FROM dugong.aggregate_types() WHERE name <> 'BankAccount' ORDER BY name $$,
    $$ VALUES (current_database()::text COLLATE "default", 'Cart', current_user::text COLLATE "default", 'public.cart_fold(dugong.domain_event)', 10, true, false),
              (current_database()::text COLLATE "default", 'Plain', current_user::text COLLATE "default", NULL, NULL, false, false) $$, 'the registry');
SELECT results_eq($$ SELECT origin, external FROM dugong.aggregate_types() WHERE name = 'BankAccount' $$,
    $$ VALUES ('BankingContext-AccountService', false) $$, 'the bank account is registered the same way');
SET LOCAL dugong.origin = 'Shop';
SELECT dugong.create_aggregate_type('Order');
SELECT dugong.create_aggregate_type('Order', origin => 'Other');
SELECT dugong.create_aggregate_type('Stock', origin => 'Shop');
SELECT dugong.create_aggregate_type('Stock', origin => 'Store', external => false);
RESET dugong.origin;
SELECT results_eq($$ SELECT origin, name, external FROM dugong.aggregate_types() WHERE name IN ('Order', 'Stock') ORDER BY name, origin $$,
    $$ VALUES ('Other', 'Order', true), ('Shop', 'Order', false), ('Shop', 'Stock', false), ('Store', 'Stock', false) $$,
    'origin from the setting; another origin is external unless said otherwise');
SELECT pg_temp.refused(code, command) FROM (VALUES
    ('22004', $$ SELECT dugong.create_aggregate_type(NULL) $$),
    ('22023', $$ SELECT dugong.create_aggregate_type('') $$),
    ('22023', $$ SELECT dugong.create_aggregate_type('X', origin => '') $$),
    ('22023', $$ SELECT dugong.create_aggregate_type(E'X\nY') $$),
    ('22004', $$ SELECT dugong.create_aggregate_type('X', strict => NULL) $$),
    ('22023', $$ SELECT dugong.create_aggregate_type('X', snapshot_interval => -1) $$),
    ('42710', $$ SELECT dugong.create_aggregate_type('Cart') $$),
    ('42622', $$ SELECT dugong.create_aggregate_type(repeat('x', 60), origin => 'abc') $$),
    ('42710', $$ SELECT dugong.create_aggregate_type('b-c', origin => 'a'), dugong.create_aggregate_type('c', origin => 'a-b') $$),
    ('42883', $$ SELECT dugong.create_aggregate_type('X', fold => 'nothing(int)') $$),
    ('42809', $$ SELECT dugong.create_aggregate_type('X', fold => 'cart_apply(cart, dugong.domain_event)') $$),
    ('42809', $$ SELECT dugong.create_aggregate_type('X', fold => 'count_ints(int)') $$),
    ('42809', $$ SELECT dugong.create_aggregate_type('X', fold => 'percentile_cont(double precision, double precision)') $$)) AS bad (code, command);
SELECT lives_ok($$ SELECT dugong.create_aggregate_type(repeat('x', 59), origin => 'abc') $$, 'a channel of 63 bytes');

-- Altering
SELECT lives_ok($$ SELECT dugong.alter_aggregate_type(name => 'Plain', fold => 'cart_fold(dugong.domain_event)', snapshot_interval => 0, strict => true) $$, 'alter');
SELECT results_eq($$ SELECT fold, snapshot_interval, strict FROM dugong.aggregate_types() WHERE name = 'Plain' $$,
    $$ VALUES ('public.cart_fold(dugong.domain_event)', 0, true) $$, 'altered');
SELECT dugong.alter_aggregate_type('Plain', strict => false);
SELECT results_eq($$ SELECT fold, snapshot_interval, strict FROM dugong.aggregate_types() WHERE name = 'Plain' $$,
    $$ VALUES ('public.cart_fold(dugong.domain_event)', 0, false) $$, 'NULL leaves as it is');
SELECT pg_temp.refused(code, command) FROM (VALUES
    ('42704', $$ SELECT dugong.alter_aggregate_type('Nothing', strict => true) $$),
    ('42P08', $$ SELECT dugong.alter_aggregate_type('Order', strict => true) $$),
    ('42704', $$ SELECT dugong.alter_aggregate_type('Order', strict => true, origin => 'Nobody') $$)) AS bad (code, command);

-- Dropping
SELECT dugong.append_event('Plain', pg_temp.id('a'), 'Noted');
SELECT pg_temp.refused(code, command) FROM (VALUES
    ('2BP01', $$ SELECT dugong.drop_aggregate_type('Plain') $$),
    ('2BP01', $$ SELECT dugong.drop_aggregate_type('BankAccount') $$),
    ('42P08', $$ SELECT dugong.drop_aggregate_type('Order') $$),
    ('42704', $$ SELECT dugong.drop_aggregate_type('Nothing') $$)) AS bad (code, command);
SELECT lives_ok($$ SELECT dugong.drop_aggregate_type(name => 'Order', origin => 'Other') $$, 'one without events');
SELECT lives_ok($$ SELECT dugong.append_event('Order', pg_temp.id('a'), 'Noted') $$, 'the other one is the only one now');
SELECT dugong.create_event_type('Cart', 'ItemAdded');
SELECT dugong.drop_aggregate_type('Cart');
SELECT is((SELECT count(*) FROM dugong.event_types), 0::bigint, 'its event types go with it');

-- Event types
CREATE TYPE item AS (sku text);
CREATE FUNCTION up(jsonb) RETURNS jsonb LANGUAGE sql RETURN $1;
CREATE FUNCTION up_text(text) RETURNS jsonb LANGUAGE sql RETURN '1'::jsonb;
CREATE FUNCTION up_set(jsonb) RETURNS SETOF jsonb LANGUAGE sql RETURN $1;
SELECT dugong.create_aggregate_type('Cart');
SELECT lives_ok($$ SELECT dugong.create_event_type(aggregate_type => 'Cart', type => 'ItemAdded', version => 1, payload_type => 'item', upcast => NULL, origin => current_database()) $$, 'an event type, by name');
SELECT lives_ok($$ SELECT dugong.create_event_type('Cart', 'ItemAdded', 2, 'item', 'up(jsonb)') $$, 'its next version');
SELECT results_eq($$ SELECT type, version, payload_type, upcast FROM dugong.event_types ORDER BY version $$,
    $$ VALUES ('ItemAdded', 1, 'public.item', NULL), ('ItemAdded', 2, 'public.item', 'public.up(pg_catalog.jsonb)') $$, 'as declared');
SELECT pg_temp.refused(code, command) FROM (VALUES
    ('42710', $$ SELECT dugong.create_event_type('Cart', 'ItemAdded', 2) $$),
    ('22023', $$ SELECT dugong.create_event_type('Cart', 'ItemAdded', 4) $$),
    ('22023', $$ SELECT dugong.create_event_type('Cart', 'X', 0) $$),
    ('22004', $$ SELECT dugong.create_event_type('Cart', 'X', NULL) $$),
    ('22004', $$ SELECT dugong.create_event_type('Cart', NULL) $$),
    ('22023', $$ SELECT dugong.create_event_type('Cart', '') $$),
    ('42704', $$ SELECT dugong.create_event_type('Nothing', 'X') $$),
    ('42809', $$ SELECT dugong.create_event_type('Cart', 'X', payload_type => 'int') $$),
    ('42809', $$ SELECT dugong.create_event_type('Cart', 'X', payload_type => 'jsonb') $$),
    ('22023', $$ SELECT dugong.create_event_type('Cart', 'X', 1, upcast => 'up(jsonb)') $$),
    ('42P13', $$ SELECT dugong.create_event_type('Cart', 'X', 2, upcast => 'up_text(text)') $$),
    ('42P13', $$ SELECT dugong.create_event_type('Cart', 'X', 2, upcast => 'up_set(jsonb)') $$),
    ('42P13', $$ SELECT dugong.create_event_type('Cart', 'X', 2, upcast => 'jsonb_agg(anyelement)') $$),
    ('55000', $$ SELECT dugong.drop_event_type('Cart', 'ItemAdded', 1) $$),
    ('42704', $$ SELECT dugong.drop_event_type('Cart', 'Nothing') $$)) AS bad (code, command);
SELECT lives_ok($$ SELECT dugong.drop_event_type(aggregate_type => 'Cart', type => 'ItemAdded', version => 2) $$, 'the latest version goes first');
SELECT lives_ok($$ SELECT dugong.drop_event_type('Cart', 'ItemAdded') $$, 'then the one before');
SELECT pg_temp.refused('42704', $$ SELECT dugong.drop_event_type('Cart', 'ItemAdded') $$);

-- Rolled back, it is forgotten
SAVEPOINT s;
SELECT dugong.create_aggregate_type('Brief');
SELECT lives_ok($$ SELECT dugong.append_event('Brief', pg_temp.id('a'), 'Noted') $$, 'at work');
ROLLBACK TO s;
SELECT pg_temp.refused('42704', $$ SELECT dugong.append_event('Brief', pg_temp.id('a'), 'Noted') $$);

-- Who owns it
CREATE ROLE dugong_test_owner;
CREATE ROLE dugong_test_other;
GRANT USAGE ON SCHEMA dugong TO dugong_test_owner, dugong_test_other;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dugong TO dugong_test_owner, dugong_test_other;
GRANT USAGE ON TYPE dugong.domain_event TO dugong_test_owner;
SET LOCAL ROLE dugong_test_owner;
SELECT dugong.create_aggregate_type('Owned');
SET LOCAL ROLE dugong_test_other;
SELECT throws_ok(command, '42501', NULL, command) FROM (VALUES
    ($$ SELECT dugong.alter_aggregate_type('Owned', strict => true) $$),
    ($$ SELECT dugong.drop_aggregate_type('Owned') $$),
    ($$ SELECT dugong.create_event_type('Owned', 'X') $$)) AS c (command);
SET LOCAL ROLE dugong_test_owner;
SELECT throws_ok($$ SELECT dugong.alter_aggregate_type('Owned', owner => 'dugong_test_other') $$, '42501', NULL, 'to a role that one is no member of');
RESET ROLE;
SELECT lives_ok($$ SELECT dugong.alter_aggregate_type('Owned', owner => 'dugong_test_other') $$, 'a superuser gives it away');
SELECT is((SELECT owner FROM dugong.aggregate_types() WHERE name = 'Owned'), 'dugong_test_other', 'it has the new owner');

SELECT * FROM finish();
ROLLBACK;
