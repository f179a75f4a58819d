-- Snapshots: taken by appends, never stale, gone with their transaction.
BEGIN;
SELECT no_plan();
\ir helpers.psql
CREATE TYPE colour AS ENUM ('red', 'green');
CREATE TYPE counter AS (n int, names text[], at timestamptz, amount numeric, doc jsonb, colours colour[]);
CREATE FUNCTION step() RETURNS int LANGUAGE sql IMMUTABLE RETURN 1;
CREATE FUNCTION plus(numeric, numeric) RETURNS numeric LANGUAGE sql IMMUTABLE RETURN $1 + $2;
CREATE OPERATOR @+@ (FUNCTION = plus, LEFTARG = numeric, RIGHTARG = numeric);
CREATE FUNCTION counter_apply(counter, dugong.domain_event) RETURNS counter LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT ROW(coalesce(($1).n, 0) + step(), ($1).names || ARRAY[($2).type], ($2)."timestamp", coalesce(($1).amount, 0) @+@ 0.10, ($2).payload, ARRAY['red']::colour[])::counter;
END;
CREATE AGGREGATE counter_fold(dugong.domain_event) (SFUNC = counter_apply, STYPE = counter);
CREATE FUNCTION list_apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF ($2).type = 'Deleted' THEN RETURN NULL; END IF;
    IF ($2).type = 'Broken' THEN RAISE 'broken'; END IF;
    RETURN coalesce($1, '[]') || coalesce(($2).payload, 'null');
END $$;
CREATE AGGREGATE list_fold(dugong.domain_event) (SFUNC = list_apply, STYPE = jsonb);
SELECT dugong.create_aggregate_type('Counter', fold => 'counter_fold(dugong.domain_event)', snapshot_interval => 10);
SELECT dugong.create_aggregate_type('List', fold => 'list_fold(dugong.domain_event)', snapshot_interval => 5);
SELECT dugong.create_aggregate_type('Off', fold => 'list_fold(dugong.domain_event)', snapshot_interval => 0);
SELECT dugong.create_aggregate_type('Default', fold => 'list_fold(dugong.domain_event)');

-- Which snapshots there are
CREATE FUNCTION pg_temp.snapshots() RETURNS text LANGUAGE sql RETURN
    (SELECT string_agg(t.name || s.sequence_number, ' ' ORDER BY t.name, s.aggregate_id) FROM dugong.aggregate_snapshots s JOIN dugong.aggregate_types t ON t.id = s.aggregate_type_id);
-- Makes the snapshots of a type visible: a state that the events would not give
CREATE FUNCTION pg_temp.uses_snapshot(name text, id uuid) RETURNS boolean LANGUAGE sql
RETURN dugong.build_aggregate(name, id) IS DISTINCT FROM dugong.build_aggregate(name, id, skip_snapshot => true);
CREATE FUNCTION pg_temp.append(name text, id uuid, count int) RETURNS void LANGUAGE sql AS $$
    SELECT dugong.append_event($1, $2, 'Counted', to_jsonb(n)) FROM generate_series(1, $3) n $$;

SELECT pg_temp.append('Counter', pg_temp.id('a'), 9);
SELECT is(pg_temp.snapshots(), NULL, 'below the interval: none');
SELECT pg_temp.append('Counter', pg_temp.id('a'), 1);
SELECT is(pg_temp.snapshots(), 'Counter10', 'at the interval');
SELECT pg_temp.append('Counter', pg_temp.id('a'), 15);
SELECT is(pg_temp.snapshots(), 'Counter20', 'one row for each aggregate');
SELECT is(dugong.build_aggregate('Counter', pg_temp.id('a')), dugong.build_aggregate('Counter', pg_temp.id('a'), skip_snapshot => true), 'the state is the same');
SELECT is(dugong.build_aggregate(NULL::counter, 'Counter', pg_temp.id('a')), (SELECT counter_fold(e ORDER BY e.sequence_number) FROM dugong.aggregate_events('Counter', pg_temp.id('a')) e), 'and the aggregate function''s');
SELECT is((SELECT count(*) FROM generate_series(1, 25) n WHERE dugong.build_aggregate('Counter', pg_temp.id('a'), n) IS DISTINCT FROM dugong.build_aggregate('Counter', pg_temp.id('a'), n, skip_snapshot => true)), 0::bigint, 'at every sequence number');
SELECT dugong.append_events('Counter', pg_temp.id('b'), (SELECT jsonb_agg('{"type": "Counted"}'::jsonb) FROM generate_series(1, 57)));
SELECT is(pg_temp.snapshots(), 'Counter20 Counter57', 'many at once take one, of the last');
SELECT pg_temp.append('Off', pg_temp.id('a'), 100), pg_temp.append('Default', pg_temp.id('a'), 50);
SELECT is(pg_temp.snapshots(), 'Counter20 Counter57 Default40', 'the default; 0 = off');

-- A snapshot is what builds start from
UPDATE dugong.aggregate_snapshots SET state = (SELECT state FROM dugong.aggregate_snapshots WHERE sequence_number = 57) WHERE sequence_number = 20;
SELECT ok(pg_temp.uses_snapshot('Counter', pg_temp.id('a')), 'it is used');
SELECT is((SELECT state ->> 'n' FROM dugong.aggregate_history('Counter', pg_temp.id('a')) WHERE sequence_number = 25), '25', 'history does without');
SELECT is(dugong.build_aggregate('Counter', pg_temp.id('a'), 15) ->> 'n', '15', 'so does what lies before it');
SELECT is(dugong.build_aggregate('Counter', pg_temp.id('a'), as_of => 'infinity') ->> 'n', '62', 'all of time is no time');
SELECT is(dugong.build_aggregate('Counter', pg_temp.id('a'), as_of => '2999-01-01') ->> 'n', '25', 'as of a time: all events');

-- Whatever makes states: a change makes old snapshots invisible at once, in its own transaction
CREATE FUNCTION pg_temp.survives(change text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE used boolean;
BEGIN
    EXECUTE change;
    used := pg_temp.uses_snapshot('Counter', pg_temp.id('a'));
    RAISE EXCEPTION USING MESSAGE = used::text, ERRCODE = 'P0099';
EXCEPTION WHEN SQLSTATE 'P0099' THEN RETURN SQLERRM::boolean;
END $$;
SELECT is(pg_temp.survives(change), survives, change) FROM (VALUES
    ('SELECT 1', true),
    ('CREATE TABLE unrelated (i int)', true),
    ('CREATE FUNCTION unrelated() RETURNS int LANGUAGE sql RETURN 1', true),
    ('CREATE OR REPLACE FUNCTION counter_apply(counter, dugong.domain_event) RETURNS counter LANGUAGE sql IMMUTABLE AS $f$ SELECT ROW(coalesce(($1).n, 0) + 1, NULL, NULL, NULL, NULL, NULL)::counter $f$', false),
    ('CREATE OR REPLACE FUNCTION step() RETURNS int LANGUAGE sql IMMUTABLE RETURN 2', false),
    ('CREATE OR REPLACE AGGREGATE counter_fold(dugong.domain_event) (SFUNC = counter_apply, STYPE = counter, INITCOND = ''(0,{},,0,,)'')', false),
    ('CREATE OR REPLACE FUNCTION plus(numeric, numeric) RETURNS numeric LANGUAGE sql IMMUTABLE RETURN $1 - $2', false),
    ('ALTER TYPE colour RENAME VALUE ''green'' TO ''blue''', false),
    ('ALTER TYPE colour ADD VALUE ''blue''', false),
    ('CREATE TYPE unrelated_colour AS ENUM (''a''); ALTER TYPE unrelated_colour RENAME VALUE ''a'' TO ''b''', true),
    ('ALTER TYPE counter ADD ATTRIBUTE more int', false),
    ('ALTER TYPE counter RENAME ATTRIBUTE doc TO document', false),
    ('ALTER FUNCTION counter_apply(counter, dugong.domain_event) SET search_path = public', false),
    ('CREATE FUNCTION up(jsonb) RETURNS jsonb LANGUAGE sql RETURN $1; SELECT dugong.create_event_type(''Counter'', ''Counted'', 2, upcast => ''up(jsonb)'')', false),
    ('CREATE AGGREGATE other_fold(dugong.domain_event) (SFUNC = counter_apply, STYPE = counter); SELECT dugong.alter_aggregate_type(''Counter'', fold => ''other_fold(dugong.domain_event)'')', false),
    ('SELECT dugong.alter_aggregate_type(''Counter'', snapshot_interval => 0)', false)) AS c (change, survives);
SELECT ok(pg_temp.uses_snapshot('Counter', pg_temp.id('a')), 'what was rolled back has changed nothing');

-- What a body calls and names, deep down: aggregate functions, and types that are not in the state
CREATE FUNCTION add(int, int) RETURNS int LANGUAGE sql IMMUTABLE RETURN $1 + $2;
CREATE AGGREGATE total(int) (SFUNC = add, STYPE = int, INITCOND = '0');
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TYPE pair AS (x int, y mood);
CREATE FUNCTION deep_help(int) RETURNS text LANGUAGE sql IMMUTABLE RETURN ((SELECT total(n) FROM generate_series(1, $1) n), 'good')::pair::text;
CREATE FUNCTION deep_apply(text, dugong.domain_event) RETURNS text LANGUAGE sql IMMUTABLE RETURN coalesce($1, '') || deep_help(3);
CREATE AGGREGATE deep_fold(dugong.domain_event) (SFUNC = deep_apply, STYPE = text);
SELECT dugong.create_aggregate_type('Deep', 'deep_fold(dugong.domain_event)', snapshot_interval => 2);
SELECT pg_temp.append('Deep', pg_temp.id('a'), 2);
SELECT is(dugong.build_aggregate('Deep', pg_temp.id('a')), '"(6,good)(6,good)"', 'a state');
CREATE FUNCTION pg_temp.deep_after(change text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE change;
    RAISE EXCEPTION USING MESSAGE = (dugong.build_aggregate('Deep', pg_temp.id('a')) = dugong.build_aggregate('Deep', pg_temp.id('a'), skip_snapshot => true))
        || ' ' || (SELECT valid FROM dugong.snapshots WHERE aggregate_type = 'Deep'), ERRCODE = 'P0099';
EXCEPTION WHEN SQLSTATE 'P0099' THEN RETURN SQLERRM;
END $$;
SELECT is(pg_temp.deep_after(change), 'true ' || valid, change) FROM (VALUES
    ('SELECT 1', true),
    ('CREATE TYPE unrelated AS ENUM ()', true),
    ('CREATE OR REPLACE AGGREGATE total(int) (SFUNC = add, STYPE = int, INITCOND = ''100'')', false),
    ('CREATE OR REPLACE FUNCTION add(int, int) RETURNS int LANGUAGE sql IMMUTABLE RETURN $1 - $2', false),
    ('ALTER TYPE mood RENAME VALUE ''good'' TO ''well''', false)) AS c (change, valid);

-- Domains and ranges that a state holds
CREATE DOMAIN price AS numeric;
CREATE DOMAIN deep AS price;
CREATE TYPE span AS RANGE (SUBTYPE = int4);
CREATE TYPE offer AS (n int, prices deep[], span span);
CREATE FUNCTION offer_apply(offer, dugong.domain_event) RETURNS offer LANGUAGE plpgsql AS $$ BEGIN RETURN ROW(coalesce(($1).n, 0) + 1, '{1}', '[1,2)')::offer; END $$;
CREATE AGGREGATE offer_fold(dugong.domain_event) (SFUNC = offer_apply, STYPE = offer);
SELECT dugong.create_aggregate_type('Offer', 'offer_fold(dugong.domain_event)');
SELECT pg_temp.append('Offer', pg_temp.id('a'), 20);
CREATE FUNCTION pg_temp.offer_after(change text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE change;
    RAISE EXCEPTION USING MESSAGE = (SELECT valid FROM dugong.snapshots WHERE aggregate_type = 'Offer')::text, ERRCODE = 'P0099';
EXCEPTION WHEN SQLSTATE 'P0099' THEN RETURN SQLERRM::boolean;
END $$;
SELECT is(pg_temp.offer_after(change), valid, change) FROM (VALUES
    ('SELECT 1', true),
    ('CREATE DOMAIN unrelated_price AS int; ALTER DOMAIN unrelated_price ADD CHECK (VALUE > 0)', true),
    ('ALTER DOMAIN deep ADD CHECK (VALUE > 0)', false),
    ('ALTER DOMAIN deep ADD CHECK (VALUE > 0) NOT VALID', false),
    ('ALTER DOMAIN price ADD CONSTRAINT positive CHECK (VALUE > 0)', false)) AS c (change, valid);
ALTER DOMAIN price ADD CONSTRAINT positive CHECK (VALUE > 0);
SELECT dugong.take_snapshot('Offer', pg_temp.id('a'));
SELECT is(pg_temp.offer_after('ALTER DOMAIN price DROP CONSTRAINT positive'), false, 'a constraint that is dropped');

CREATE OR REPLACE FUNCTION step() RETURNS int LANGUAGE sql IMMUTABLE RETURN 2;
SELECT is(dugong.build_aggregate('Counter', pg_temp.id('a')) ->> 'n', '50', 'never stale');
SELECT pg_temp.append('Counter', pg_temp.id('a'), 5);
SELECT is((SELECT sequence_number FROM dugong.aggregate_snapshots WHERE aggregate_id = pg_temp.id('a') AND sequence_number = 30), 30::bigint, 'the next one replaces it');
SELECT is(pg_temp.uses_snapshot('Counter', pg_temp.id('a')), false, 'and is right');

-- Deleted, broken, rolled back
SELECT dugong.append_event('List', pg_temp.id('a'), t) FROM unnest(ARRAY['A', 'B', 'C', 'D', 'Deleted']) t;
SELECT is((SELECT count(*) FROM dugong.aggregate_snapshots s WHERE aggregate_type_id = dugong.aggregate_type_id(current_database(), 'List')), 0::bigint, 'none of a deleted aggregate');
SELECT pg_temp.append('List', pg_temp.id('b'), 7);
SELECT dugong.append_event('List', pg_temp.id('b'), 'Deleted');
SELECT is(dugong.build_aggregate('List', pg_temp.id('b')), NULL, 'deleted after its snapshot');
SELECT is(dugong.build_aggregate('List', pg_temp.id('b'), return_deleted => true), '[1, 2, 3, 4, 5, 6, 7]', 'its last living state');
SELECT dugong.append_event('List', pg_temp.id('c'), 'Broken');
SELECT pg_temp.append('List', pg_temp.id('c'), 3);
SELECT lives_ok($$ SELECT dugong.append_event('List', pg_temp.id('c'), 'Fifth') $$, 'a fold that fails does not fail the append');
SAVEPOINT s;
SELECT pg_temp.append('List', pg_temp.id('d'), 5);
SELECT is((SELECT sequence_number FROM dugong.aggregate_snapshots WHERE aggregate_id = pg_temp.id('d')), 5::bigint, 'in a savepoint');
ROLLBACK TO s;
SELECT is((SELECT count(*) FROM dugong.aggregate_snapshots WHERE aggregate_id = pg_temp.id('d')), 0::bigint, 'that is rolled back');
SELECT pg_temp.append('List', pg_temp.id('d'), 4);
SELECT is(dugong.build_aggregate('List', pg_temp.id('d')), '[1, 2, 3, 4]', 'the state without it');
SELECT is(dugong.take_snapshot(aggregate_type => 'List', aggregate_id => pg_temp.id('d'), tenant_id => '', origin => current_database()), true, 'taken by hand');
SELECT is((SELECT sequence_number FROM dugong.aggregate_snapshots WHERE aggregate_id = pg_temp.id('d')), 4::bigint, 'at the head');
SELECT is(dugong.take_snapshot('List', pg_temp.id('0')), false, 'nothing to take');
DELETE FROM dugong.aggregate_snapshots;
SELECT is(dugong.build_aggregate('List', pg_temp.id('d')), '[1, 2, 3, 4]', 'they may vanish at any time');

-- A state that cannot be stored: a warning once, no snapshot, and the aggregate works
CREATE TYPE odd AS (n int, acl aclitem);
CREATE FUNCTION odd_apply(odd, dugong.domain_event) RETURNS odd LANGUAGE sql RETURN ROW(coalesce(($1).n, 0) + 1, NULL)::odd;
CREATE AGGREGATE odd_fold(dugong.domain_event) (SFUNC = odd_apply, STYPE = odd);
SELECT dugong.create_aggregate_type('Odd', fold => 'odd_fold(dugong.domain_event)', snapshot_interval => 2);
SELECT pg_temp.append('Odd', pg_temp.id('a'), 7);
SELECT is((SELECT count(*) FROM dugong.snapshots WHERE aggregate_type = 'Odd'), 0::bigint, 'no snapshot of a state without a binary form');
SELECT is(dugong.build_aggregate('Odd', pg_temp.id('a')) ->> 'n', '7', 'its state');

-- Seeing, verifying, dropping
SELECT dugong.take_snapshot('List', pg_temp.id('d')), dugong.take_snapshot('Counter', pg_temp.id('b'));
SELECT results_eq($$ SELECT aggregate_type, aggregate_id, tenant_id, sequence_number, bytes > 0, valid FROM dugong.snapshots ORDER BY 1 $$,
    $$ VALUES ('Counter', pg_temp.id('b'), '', 57::bigint, true, true), ('List', pg_temp.id('d'), '', 4, true, true) $$, 'the view');
SELECT is((SELECT count(*) FROM dugong.verify_snapshots('Counter')), 0::bigint, 'all are right');
UPDATE dugong.aggregate_snapshots SET sequence_number = 56 WHERE sequence_number = 57;
SELECT results_eq($$ SELECT aggregate_id, tenant_id, sequence_number FROM dugong.verify_snapshots(aggregate_type => 'Counter', origin => current_database()) $$, $$ VALUES (pg_temp.id('b'), '', 56::bigint) $$, 'one that is wrong');
SELECT ok(NOT pg_temp.uses_snapshot('Counter', pg_temp.id('b')), 'is repaired');
SELECT is((SELECT count(*) FROM dugong.verify_snapshots('Counter')), 0::bigint, 'once');
SELECT dugong.take_snapshot('Counter', pg_temp.id('b'));
CREATE OR REPLACE FUNCTION step() RETURNS int LANGUAGE sql IMMUTABLE RETURN 3;
SELECT is((SELECT valid FROM dugong.snapshots WHERE aggregate_type = 'Counter'), false, 'another fold''s is shown as such');
SELECT is((SELECT count(*) FROM dugong.verify_snapshots('Counter')), 0::bigint, 'and is not in use');
SELECT is(dugong.drop_snapshots(aggregate_type => 'Counter', origin => current_database()), 1::bigint, 'of a type');
SELECT is(dugong.drop_snapshots('List'), 1::bigint, 'of another');

-- What a body in a string calls is not recorded; it can be declared
CREATE FUNCTION hidden(OUT n int) LANGUAGE sql IMMUTABLE RETURN 1;
CREATE FUNCTION opaque_apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RETURN coalesce($1, '[]') || to_jsonb(hidden()); END $$;
CREATE AGGREGATE opaque_fold(dugong.domain_event) (SFUNC = opaque_apply, STYPE = jsonb);
SELECT dugong.create_aggregate_type('Opaque', 'opaque_fold(dugong.domain_event)', snapshot_interval => 2);
SELECT pg_temp.append('Opaque', pg_temp.id('a'), 2);
CREATE FUNCTION pg_temp.valid() RETURNS boolean LANGUAGE sql RETURN (SELECT valid FROM dugong.snapshots WHERE aggregate_type = 'Opaque');
CREATE OR REPLACE FUNCTION hidden(OUT n int) LANGUAGE sql IMMUTABLE RETURN 2;
SELECT ok(pg_temp.valid(), 'a change behind its back');
SELECT dugong.alter_aggregate_type('Opaque', depends_on => '{hidden(),step()}');
SELECT ok(NOT pg_temp.valid(), 'a declaration voids what is there');
SELECT dugong.take_snapshot('Opaque', pg_temp.id('a'));
SELECT ok(pg_temp.valid(), 'good again');
CREATE OR REPLACE FUNCTION hidden(OUT n int) LANGUAGE sql IMMUTABLE RETURN 3;
SELECT ok(NOT pg_temp.valid(), 'a change of a declared function');
SELECT is(dugong.build_aggregate('Opaque', pg_temp.id('a')), '[3, 3]', 'is seen at once');
SELECT dugong.take_snapshot('Opaque', pg_temp.id('a'));
DROP FUNCTION hidden;
SELECT ok(NOT pg_temp.valid(), 'it is gone');
SELECT dugong.alter_aggregate_type('Opaque', depends_on => '{}');
SELECT is((SELECT depends_on FROM dugong.aggregate_types WHERE name = 'Opaque'), '{}', 'no longer declared');
SELECT dugong.create_aggregate_type('Opaque2', 'opaque_fold(dugong.domain_event)', depends_on => '{step()}');
SELECT is((SELECT depends_on FROM dugong.aggregate_types WHERE name = 'Opaque2'), '{public.step()}', 'declared at creation');
SELECT pg_temp.refused('22004', $$ SELECT dugong.create_aggregate_type('Opaque3', depends_on => '{NULL}') $$);
SELECT pg_temp.refused('42883', $$ SELECT dugong.create_aggregate_type('Opaque3', depends_on => '{4294967295}') $$);

-- The bank account is an ordinary user of it
SELECT bank_open_account('Alice', 0, pg_temp.id('a'));
SELECT bank_deposit(pg_temp.id('a'), 1) FROM generate_series(1, 60);
SELECT is((SELECT sequence_number FROM dugong.aggregate_snapshots WHERE aggregate_id = pg_temp.id('a') AND aggregate_type_id = dugong.aggregate_type_id('BankingContext-AccountService', 'BankAccount')), 55::bigint, 'the bank account, whose commands have the state in hand, has one every five events, less often within a transaction');
SELECT is((SELECT balance FROM bank_get_account(pg_temp.id('a'))), 60::numeric, 'and its balance');

SELECT * FROM finish();
ROLLBACK;
