-- Snapshots when something goes wrong: errors that pass, states that cannot be read or stored, folds that fail or are gone.
BEGIN;
SELECT no_plan();
\ir helpers.psql

CREATE FUNCTION pg_temp.type_id(name text) RETURNS int LANGUAGE sql RETURN (SELECT t.id FROM dugong.aggregate_types t WHERE t.name = $1);
CREATE FUNCTION pg_temp.append(name text, id uuid, count int) RETURNS void LANGUAGE sql AS $$
    SELECT dugong.append_event($1, $2, 'Counted', to_jsonb(n)) FROM generate_series(1, $3) n $$;
-- Which snapshots of a type there are
CREATE FUNCTION pg_temp.snapshots(name text) RETURNS text LANGUAGE sql RETURN
    (SELECT string_agg(left(s.aggregate_id::text, 1) || s.sequence_number, ' ' ORDER BY s.aggregate_id) FROM dugong.aggregate_snapshots s WHERE s.aggregate_type_id = pg_temp.type_id($1));
-- The error of commands, and whose rights we have once it is caught
CREATE FUNCTION pg_temp.caught(commands text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE commands;
    RETURN 'accepted ' || current_user;
EXCEPTION WHEN OTHERS OR query_canceled THEN
    RETURN SQLSTATE || ' ' || current_user;
END $$;

-- An error that is not the fold's fails the append, and all that its caller has done; who catches it has his own rights, no others
CREATE ROLE dugong_clerk;
GRANT USAGE ON SCHEMA dugong TO dugong_clerk;
GRANT EXECUTE ON FUNCTION dugong.append_events(text, uuid, jsonb, bigint, jsonb, uuid, uuid, text, timestamptz, text, text), dugong.take_snapshot, dugong.check_event_types TO dugong_clerk;
CREATE TABLE noted (what text);
GRANT INSERT ON noted TO dugong_clerk;
CREATE FUNCTION failing_apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF ($2).type = 'Slow' THEN PERFORM pg_sleep(60); END IF;
    IF ($2).type ~ '^[0-9A-Z]{5}$' THEN RAISE 'failed' USING ERRCODE = ($2).type; END IF;
    RETURN to_jsonb(coalesce($1::int, 0) + 1);
END $$;
CREATE AGGREGATE failing_fold(dugong.domain_event) (SFUNC = failing_apply, STYPE = jsonb);
SELECT dugong.create_aggregate_type('Failing', 'failing_fold(dugong.domain_event)', snapshot_interval => 2);
SELECT pg_temp.append('Failing', pg_temp.id('a'), 1);
\set append 'INSERT INTO noted VALUES (1); SELECT dugong.append_events(''Failing'', pg_temp.id(''a''), ''[{"type": "%s"}]'')'
SET LOCAL ROLE dugong_clerk;
SELECT string_agg(pg_temp.caught(format(:'append', code)), ', ') AS codes FROM unnest(ARRAY['40001', '40P01', '53200', '57P01']) code \gset
SELECT current_user AS who \gset
RESET ROLE;
SELECT is(:'codes'::text, '40001 dugong_clerk, 40P01 dugong_clerk, 53200 dugong_clerk, 57P01 dugong_clerk', 'a fold that is told to try again, out of memory, shut down');
SELECT is(:'who'::text, 'dugong_clerk', 'the session''s role');
SELECT is((SELECT count(*) FROM dugong.event_log WHERE aggregate_id = pg_temp.id('a') AND type <> 'Counted') + (SELECT count(*) FROM noted), 0::bigint, 'no effect is left');
SET LOCAL ROLE dugong_clerk;
SET LOCAL statement_timeout = '300ms';
SELECT pg_temp.caught(format(:'append', 'Slow')) AS code, current_user AS who \gset
SET LOCAL statement_timeout = 0;
SELECT current_user AS later \gset
RESET ROLE;
SELECT is(:'code' || ', ' || :'who' || ', ' || :'later', '57014 dugong_clerk, dugong_clerk, dugong_clerk', 'a fold that is cancelled');
SELECT is((SELECT count(*) FROM dugong.event_log WHERE aggregate_id = pg_temp.id('a') AND type <> 'Counted') + (SELECT count(*) FROM noted), 0::bigint, 'no effect is left of it');

-- Nobody catches it: a plain error of the statement
SET LOCAL ROLE dugong_clerk;
SAVEPOINT s;
\set ON_ERROR_STOP off
SELECT dugong.append_events('Failing', pg_temp.id('a'), '[{"type": "40001"}]');
ROLLBACK TO s;
SELECT dugong.append_events('Failing', pg_temp.id('a'), '[{"type": "53200"}]');
ROLLBACK TO s;
\set ON_ERROR_STOP on
SELECT current_user AS who \gset
RESET ROLE;
SELECT is(:'who'::text, 'dugong_clerk', 'after a plain error');
SELECT is((SELECT count(*) FROM dugong.event_log WHERE aggregate_id = pg_temp.id('a') AND type <> 'Counted'), 0::bigint, 'nothing was appended');
SELECT pg_temp.append('Failing', pg_temp.id('a'), 1);
SELECT is(pg_temp.snapshots('Failing'), 'a2', 'and the session goes on');
SELECT lives_ok($$ SELECT dugong.append_events('Failing', pg_temp.id('b'), '[{"type": "22012"}, {"type": "Counted"}]') $$, 'an error of the fold''s own does not fail the append');
SELECT is((SELECT count(*) FROM dugong.event_log WHERE aggregate_id = pg_temp.id('b')), 2::bigint, 'which is there');
SELECT is(pg_temp.caught($$ SELECT dugong.take_snapshot('Failing', pg_temp.id('b')) $$), '22012 postgres', 'but one that is taken by hand');

-- The same for upcasts that check_event_types() tries
CREATE FUNCTION failing_upcast(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    IF $1 ->> 'code' = 'sleep' THEN PERFORM pg_sleep(60); END IF;
    RAISE 'failed' USING ERRCODE = $1 ->> 'code';
END $$;
SELECT dugong.create_aggregate_type('Upcast');
CREATE FUNCTION pg_temp.checked(code text, timeout text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE got text;
BEGIN
    PERFORM dugong.append_event('Upcast', pg_temp.id('a'), 'Changed', jsonb_build_object('code', code));
    PERFORM dugong.create_event_type('Upcast', 'Changed'), dugong.create_event_type('Upcast', 'Changed', 2, upcast => 'failing_upcast(jsonb)');
    PERFORM set_config('statement_timeout', timeout, true);
    SET LOCAL ROLE dugong_clerk;
    got := pg_temp.caught('INSERT INTO noted VALUES (2); SELECT dugong.check_event_types()') || ', ' || current_user;
    RESET ROLE;
    got := got || ', noted ' || (SELECT count(*) FROM noted);
    RAISE EXCEPTION USING MESSAGE = got, ERRCODE = 'P0099';
EXCEPTION WHEN SQLSTATE 'P0099' THEN RETURN SQLERRM;
END $$;
SELECT is(pg_temp.checked(code, '0'), code || ' dugong_clerk, dugong_clerk, noted 0', 'an upcast that raises ' || code) FROM unnest(ARRAY['53200', '53400', '57014', '57P01']) code;
SELECT is(pg_temp.checked('22012', '0'), 'accepted dugong_clerk, dugong_clerk, noted 1', 'an upcast that fails is only noted');
SET LOCAL statement_timeout = '300ms';
SELECT pg_temp.checked('sleep', '300ms') AS got \gset
SET LOCAL statement_timeout = 0;
SELECT is(:'got'::text, '57014 dugong_clerk, dugong_clerk, noted 0', 'an upcast that is cancelled');

-- A stored state whose bytes cannot be read: builds do without, verify_snapshots() repairs
CREATE FUNCTION checked_value(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF $1 = 1000 THEN RAISE 'cannot say now' USING ERRCODE = '40001'; END IF;
    RETURN $1 < 1001;
END $$;
CREATE DOMAIN checked AS int CHECK (checked_value(VALUE));
CREATE TYPE tally AS (names text[], n checked);
CREATE FUNCTION tally_apply(tally, dugong.domain_event) RETURNS tally LANGUAGE sql IMMUTABLE
    RETURN ROW(($1).names || ARRAY[($2).type], coalesce(($1).n, 0) + 1)::tally;
CREATE AGGREGATE tally_fold(dugong.domain_event) (SFUNC = tally_apply, STYPE = tally);
SELECT dugong.create_aggregate_type('Tally', 'tally_fold(dugong.domain_event)', snapshot_interval => 3);
SELECT pg_temp.append('Tally', pg_temp.id('a'), 4), pg_temp.append('Tally', pg_temp.id('b'), 4), pg_temp.append('Tally', pg_temp.id('c'), 4);
CREATE FUNCTION pg_temp.damage(id uuid, damaged bytea) RETURNS void LANGUAGE sql AS $$
    UPDATE dugong.aggregate_snapshots SET state = damaged WHERE aggregate_id = id AND aggregate_type_id = pg_temp.type_id('Tally') $$;
-- The last column, n, is the last four bytes
CREATE FUNCTION pg_temp.damage_n(id uuid, n bytea) RETURNS void LANGUAGE sql AS $$
    UPDATE dugong.aggregate_snapshots SET state = overlay(state PLACING n FROM length(state) - 3) WHERE aggregate_id = id AND aggregate_type_id = pg_temp.type_id('Tally') $$;
SELECT pg_temp.damage_n(pg_temp.id('a'), '\x00000010');
SELECT is(dugong.build_aggregate('Tally', pg_temp.id('a')) -> 'n', '17', 'snapshots are used');
CREATE FUNCTION pg_temp.built_with(damaged bytea) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_temp.damage(pg_temp.id('a'), damaged);
    RETURN dugong.build_aggregate('Tally', pg_temp.id('a')) -> 'n';
END $$;
SELECT lives_ok(format('SELECT pg_temp.built_with(%L)', damaged), 'a build with ' || damaged) FROM unnest(ARRAY['\x', '\x00', '\x0000000200000000ffffffff00000000ffffffff', '\xffffffffffffffff']) damaged;
SELECT is(dugong.build_aggregate('Tally', pg_temp.id('a')) -> 'n', '4', 'the state');
SELECT is((dugong.load_for_update(NULL::tally, 'Tally', pg_temp.id('a'))).n::int, 4, 'for a command');
SELECT pg_temp.damage_n(pg_temp.id('b'), '\x000003e9');
SELECT is(dugong.build_aggregate('Tally', pg_temp.id('b')) -> 'n', '4', 'a state that its domain refuses');
SELECT results_eq($$ SELECT aggregate_id, sequence_number FROM dugong.verify_snapshots('Tally') ORDER BY 1 $$, $$ VALUES (pg_temp.id('a'), 3::bigint), (pg_temp.id('b'), 3) $$, 'both are wrong');
SELECT is((SELECT count(*) FROM dugong.verify_snapshots('Tally')), 0::bigint, 'both are repaired');
SELECT is(pg_temp.snapshots('Tally'), 'a3 b3 c3', 'and still there');
SELECT pg_temp.damage(pg_temp.id('a'), '\x00');
SELECT pg_temp.append('Tally', pg_temp.id('a'), 2);
SELECT is((SELECT count(*) FROM dugong.verify_snapshots('Tally')), 0::bigint, 'an append that passes the interval repairs, too');
SELECT is(pg_temp.snapshots('Tally'), 'a6 b3 c3', 'by the next snapshot');
SELECT pg_temp.damage_n(pg_temp.id('c'), '\x000003e8');
SELECT is(pg_temp.caught($$ INSERT INTO noted VALUES (3); SELECT dugong.build_aggregate('Tally', pg_temp.id('c')) $$), '40001 postgres', 'an error that is not the state''s passes');
SELECT is(pg_temp.caught($$ INSERT INTO noted VALUES (3); SELECT dugong.verify_snapshots('Tally') $$), '40001 postgres', 'also when verifying');
SELECT is((SELECT count(*) FROM noted), 0::bigint, 'no effect is left of these');

-- verify_snapshots() goes on past a fold that fails
CREATE FUNCTION moody_apply(int, dugong.domain_event) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    IF ($2).aggregate_id::text ~ current_setting('test.moody', true) THEN RAISE 'not in the mood'; END IF;
    RETURN coalesce($1, 0) + 1;
END $$;
CREATE AGGREGATE moody_fold(dugong.domain_event) (SFUNC = moody_apply, STYPE = int);
SELECT dugong.create_aggregate_type('Moody', 'moody_fold(dugong.domain_event)', snapshot_interval => 2);
SET LOCAL test.moody = 'nobody';
SELECT pg_temp.append('Moody', pg_temp.id(kind), 2) FROM unnest(ARRAY['a', 'b', 'c', 'd']) kind;
SELECT is(pg_temp.snapshots('Moody'), 'a2 b2 c2 d2', 'four');
SET LOCAL test.moody = '^[ac]';
UPDATE dugong.aggregate_snapshots SET state = '\x00000009' WHERE aggregate_type_id = pg_temp.type_id('Moody') AND aggregate_id = pg_temp.id('d');
SELECT results_eq($$ SELECT aggregate_id, sequence_number FROM dugong.verify_snapshots('Moody') ORDER BY 1 $$, $$ VALUES (pg_temp.id('a'), 2::bigint), (pg_temp.id('c'), 2), (pg_temp.id('d'), 2) $$, 'two that cannot be verified, and one that is wrong');
SELECT is(pg_temp.snapshots('Moody'), 'b2 d2', 'there is none where the fold fails');
SELECT is(dugong.build_aggregate('Moody', pg_temp.id('d')), '2', 'what was wrong is right');

-- Dropping
SELECT is(pg_temp.caught('SELECT dugong.drop_snapshots(NULL)'), '22004 postgres', 'of no type');
SELECT is(pg_temp.snapshots('Moody'), 'b2 d2', 'drops nothing');
SELECT is(to_regprocedure('dugong.drop_snapshots()'), NULL, 'a type is needed');
SAVEPOINT s;
SET TRANSACTION READ ONLY;
SELECT throws_ok($$ SELECT dugong.drop_snapshots('Moody') $$, '25006', 'cannot execute dugong.drop_snapshots() in a read-only transaction', 'read only');
SELECT throws_ok($$ SELECT dugong.take_snapshot('Moody', pg_temp.id('b')) $$, '25006', 'cannot execute dugong.take_snapshot() in a read-only transaction', 'read only: take');
SELECT throws_ok($$ SELECT dugong.verify_snapshots('Moody') $$, '25006', 'cannot execute dugong.verify_snapshots() in a read-only transaction', 'read only: verify');
ROLLBACK TO s;

-- Many in one transaction: as it grows, they are taken at growing intervals
CREATE FUNCTION count_apply(bigint, dugong.domain_event) RETURNS bigint LANGUAGE sql IMMUTABLE RETURN coalesce($1, 0) + ($2).sequence_number;
CREATE AGGREGATE count_fold(dugong.domain_event) (SFUNC = count_apply, STYPE = bigint);
SELECT dugong.create_aggregate_type('Many', 'count_fold(dugong.domain_event)');
CREATE FUNCTION pg_temp.written() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT n_tup_ins + n_tup_upd FROM pg_stat_xact_all_tables WHERE relid = 'dugong.aggregate_snapshots'::regclass $$;
SELECT pg_temp.written() AS before \gset
SELECT count(dugong.append_event('Many', pg_temp.id('a'), 'Counted', to_jsonb(n))) FROM generate_series(1, 20000) n;
SELECT cmp_ok(pg_temp.written() - :before, '<=', 200::bigint, 'at most two hundred for 20,000 events');
SELECT cmp_ok(pg_temp.written() - :before, '>=', 100::bigint, 'at least a hundred');
SELECT cmp_ok((SELECT s.sequence_number FROM dugong.aggregate_snapshots s WHERE s.aggregate_type_id = pg_temp.type_id('Many')), '>=', 19500::bigint, 'the last is not far behind');
SELECT is(dugong.build_aggregate('Many', pg_temp.id('a')), to_jsonb(20000::bigint * 20001 / 2), 'the state is right');
SELECT is(dugong.build_aggregate('Many', pg_temp.id('a'), skip_snapshot => true), to_jsonb(20000::bigint * 20001 / 2), 'and that of all events');
SELECT pg_temp.append('Many', pg_temp.id('b'), 20);
SELECT is((SELECT s.sequence_number FROM dugong.aggregate_snapshots s WHERE s.aggregate_type_id = pg_temp.type_id('Many') AND s.aggregate_id = pg_temp.id('b')), 20::bigint, 'another aggregate has its own count');
SAVEPOINT s;
SELECT pg_temp.append('Many', pg_temp.id('c'), 25);
ROLLBACK TO s;
SELECT pg_temp.append('Many', pg_temp.id('c'), 20);
SELECT is((SELECT s.sequence_number FROM dugong.aggregate_snapshots s WHERE s.aggregate_type_id = pg_temp.type_id('Many') AND s.aggregate_id = pg_temp.id('c')), 20::bigint, 'what was rolled back does not count');

-- Nested composites: what one side has compressed is the same in the other
CREATE TYPE leaf AS (doc jsonb);
CREATE TYPE branch AS (leaf leaf, leaves leaf[]);
CREATE TYPE tree AS (branch branch, n int);
CREATE FUNCTION tree_apply(tree, dugong.domain_event) RETURNS tree LANGUAGE plpgsql AS $$
BEGIN
    RETURN ROW(ROW(ROW(($2).payload)::leaf, ARRAY[ROW(($2).payload)::leaf, NULL])::branch, coalesce(($1).n, 0) + 1)::tree;
END $$;
CREATE AGGREGATE tree_fold(dugong.domain_event) (SFUNC = tree_apply, STYPE = tree);
SELECT dugong.create_aggregate_type('Tree', 'tree_fold(dugong.domain_event)', snapshot_interval => 2);
SELECT count(dugong.append_event('Tree', pg_temp.id('a'), 'Grown', jsonb_build_object('body', repeat('x', 6000), 'n', n))) FROM generate_series(1, 3) n;
SELECT dugong.append_event('Tree', pg_temp.id('b'), 'Grown', jsonb_build_object('n', n)) FROM generate_series(1, 2) n;
SELECT is(pg_temp.snapshots('Tree'), 'a2 b2', 'a compressible state of several kB in nested composites');
SELECT is(dugong.take_snapshot('Tree', pg_temp.id('a')), true, 'taken by hand');
SELECT is(dugong.build_aggregate(NULL::tree, 'Tree', pg_temp.id('a')), (SELECT tree_fold(e ORDER BY e.sequence_number) FROM dugong.aggregate_events('Tree', pg_temp.id('a')) e), 'the state');
SELECT is((SELECT count(*) FROM dugong.verify_snapshots('Tree')), 0::bigint, 'verified');

-- take_snapshot() says false for what cannot or shall not be stored
CREATE TYPE odd AS (n int, acl aclitem);
CREATE FUNCTION odd_apply(odd, dugong.domain_event) RETURNS odd LANGUAGE sql RETURN ROW(coalesce(($1).n, 0) + 1, NULL)::odd;
CREATE AGGREGATE odd_fold(dugong.domain_event) (SFUNC = odd_apply, STYPE = odd);
SELECT dugong.create_aggregate_type('Odd', 'odd_fold(dugong.domain_event)', snapshot_interval => 100);
SELECT pg_temp.append('Odd', pg_temp.id('a'), 3);
SELECT is(dugong.take_snapshot('Odd', pg_temp.id('a')), false, 'a state without a binary form');
SELECT is(dugong.take_snapshot('Odd', pg_temp.id('a')), false, 'again');
SELECT is(dugong.build_aggregate('Odd', pg_temp.id('a')) -> 'n', '3', 'its state');
SELECT dugong.create_aggregate_type('Off', 'count_fold(dugong.domain_event)', snapshot_interval => 0);
SELECT pg_temp.append('Off', pg_temp.id('a'), 3);
SELECT is(dugong.take_snapshot('Off', pg_temp.id('a')), false, 'an interval of 0');
SELECT is(pg_temp.snapshots('Off'), NULL, 'stores nothing');

-- A fold that is gone
SELECT dugong.create_aggregate_type('Gone', 'count_fold(dugong.domain_event)', snapshot_interval => 2);
CREATE AGGREGATE gone_fold(dugong.domain_event) (SFUNC = count_apply, STYPE = bigint);
SELECT dugong.alter_aggregate_type('Gone', fold => 'gone_fold(dugong.domain_event)');
SELECT pg_temp.append('Gone', pg_temp.id('a'), 2);
SELECT is((SELECT valid FROM dugong.snapshots WHERE aggregate_type = 'Gone'), true, 'before');
DROP AGGREGATE gone_fold(dugong.domain_event);
SELECT results_eq($$ SELECT aggregate_type, valid FROM dugong.snapshots WHERE aggregate_type IN ('Gone', 'Tree') ORDER BY 1 $$, $$ VALUES ('Gone', false), ('Tree', true), ('Tree', true) $$, 'the view shows it as not valid');
SELECT is((SELECT bool_or(dugong.snapshot_is_valid(aggregate_type_id, fingerprint)) FROM dugong.aggregate_snapshots WHERE aggregate_type_id = pg_temp.type_id('Gone')), false, 'so does the function');
SELECT is(pg_temp.caught($$ SELECT dugong.build_aggregate('Gone', pg_temp.id('a')) $$), '42883 postgres', 'it cannot be built');
SELECT lives_ok($$ SELECT pg_temp.append('Gone', pg_temp.id('a'), 2) $$, 'but appended to');
SELECT is(dugong.drop_snapshots('Gone'), 1::bigint, 'and its snapshot dropped');

-- Who may see the snapshots need not be able to see the folds
CREATE SCHEMA hidden;
CREATE AGGREGATE hidden.fold(dugong.domain_event) (SFUNC = count_apply, STYPE = bigint);
CREATE FUNCTION hidden.helper() RETURNS int LANGUAGE sql RETURN 1;
SELECT dugong.create_aggregate_type('Hidden', 'hidden.fold(dugong.domain_event)', snapshot_interval => 2, depends_on => '{hidden.helper()}');
SELECT pg_temp.append('Hidden', pg_temp.id('a'), 2);
CREATE ROLE dugong_watcher;
GRANT USAGE ON SCHEMA dugong TO dugong_watcher;
GRANT SELECT ON dugong.snapshots TO dugong_watcher;
GRANT EXECUTE ON FUNCTION dugong.snapshot_is_valid TO dugong_watcher;
CREATE FUNCTION unrelated() RETURNS int LANGUAGE sql RETURN 1; -- so that nothing is known any more
SET LOCAL ROLE dugong_watcher;
SELECT valid::text FROM dugong.snapshots WHERE aggregate_type = 'Hidden' \gset
RESET ROLE;
SELECT is(:'valid'::text, 'true', 'a fold in a schema that is closed to him');

-- An inline projection whose handler replaces or drops the very snapshot that the command has read
SELECT bank_open_account('Alice', 0, pg_temp.id('f'));
SELECT bank_deposit(pg_temp.id('f'), 1) FROM generate_series(1, 8);
CREATE FUNCTION replace(id uuid, account bank_account_state) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF account.balance = 9 THEN PERFORM dugong.take_snapshot('BankAccount', id); END IF;
    IF account.balance = 14 THEN PERFORM dugong.drop_snapshots('BankAccount'); END IF;
END $$;
CREATE FUNCTION ignore(uuid) RETURNS void LANGUAGE sql AS '';
SELECT dugong.create_projection('replace', 'BankAccount', update_handler => 'replace(uuid,bank_account_state)', delete_handler => 'ignore(uuid)', mode => 'inline');
CREATE FUNCTION pg_temp.account_snapshot() RETURNS bigint LANGUAGE sql RETURN (SELECT sequence_number FROM dugong.aggregate_snapshots WHERE aggregate_id = pg_temp.id('f'));
SELECT is(pg_temp.account_snapshot(), 5::bigint, 'a snapshot');
SELECT is(pg_temp.answer(format('SELECT bank_deposit(%L, 1)', pg_temp.id('f'))), 'accepted', 'it is replaced by the handler, then by the command');
SELECT is(pg_temp.account_snapshot(), 10::bigint, 'which is later');
SELECT bank_deposit(pg_temp.id('f'), 1) FROM generate_series(1, 4);
SELECT is(pg_temp.answer(format('SELECT bank_deposit(%L, 1)', pg_temp.id('f'))), 'accepted', 'it is dropped by the handler');
SELECT is(pg_temp.account_snapshot(), 15::bigint, 'and taken by the command');
SELECT dugong.drop_projection('replace');

-- A publication that has the snapshots' table, which cannot be updated then
SET LOCAL client_min_messages = error;
CREATE PUBLICATION everything FOR ALL TABLES;
SELECT ok(dugong.take_snapshot('BankAccount', pg_temp.id('f')), 'a publication of all tables is no obstacle');
SELECT is(pg_temp.answer('SELECT dugong.stop_workers(), dugong.start_workers(), dugong.drop_snapshots(''Many'')'), 'accepted', 'nor to what deletes');
ALTER TABLE dugong.aggregate_snapshots REPLICA IDENTITY NOTHING;
SELECT is(pg_temp.answer(format('SELECT bank_deposit(%L, 1) FROM generate_series(1, 10)', pg_temp.id('f'))), 'accepted', 'commands go on');
SELECT ok(NOT dugong.take_snapshot('BankAccount', pg_temp.id('f')), 'without snapshots');
SELECT is(pg_temp.account_snapshot(), 15::bigint, 'but for the old one');
ALTER TABLE dugong.aggregate_snapshots REPLICA IDENTITY USING INDEX aggregate_snapshots_idx;
SELECT ok(dugong.take_snapshot('BankAccount', pg_temp.id('f')), 'with an identity');
SELECT is(pg_temp.account_snapshot(), 25::bigint, 'there is a new one');
DROP PUBLICATION everything;

SELECT * FROM finish();
ROLLBACK;
