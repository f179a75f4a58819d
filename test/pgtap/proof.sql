-- Query models against the log: verify_projection() and query_model_as_of().
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT no_plan();
\ir helpers.psql

CREATE TYPE sum AS (n numeric, note text, extra json, place point);
CREATE FUNCTION sum_apply(sum, dugong.domain_event) RETURNS sum LANGUAGE plpgsql AS $$
BEGIN
    IF ($2).type = 'Spoiled' THEN
        RAISE 'spoiled';
    END IF;
    RETURN CASE ($2).type WHEN 'Gone' THEN NULL ELSE ROW(coalesce(($1).n, 0) + (($2).payload ->> 'n')::numeric,
        ($2).payload ->> 'note', (($2).payload -> 'extra')::json, '(1,2)'::point)::sum END;
END $$;
CREATE AGGREGATE sum_fold(dugong.domain_event) (SFUNC = sum_apply, STYPE = sum);
SELECT dugong.create_aggregate_type('Sum', 'sum_fold(dugong.domain_event)');
CREATE FUNCTION pg_temp.add(number int, n numeric, tenant text DEFAULT '') RETURNS bigint LANGUAGE sql AS
$$ SELECT (dugong.append_event('Sum', pg_temp.id('a', number), 'Added', jsonb_build_object('n', n), tenant_id => tenant)).position $$;
CREATE FUNCTION pg_temp.happens(type text, number int) RETURNS bigint LANGUAGE sql AS
$$ SELECT (dugong.append_event('Sum', pg_temp.id('a', number), type)).position $$;

-- A column that went, one that the state does not make, and a generated one
CREATE TABLE sums (old int, n numeric, id uuid, tenant_id text, seen timestamptz DEFAULT now(), note text, extra json, place point,
    double numeric GENERATED ALWAYS AS (n * 2) STORED, PRIMARY KEY (id, tenant_id));
ALTER TABLE sums DROP COLUMN old;
SELECT dugong.create_projection('sums', 'Sum', 'sums');
-- Each difference: what, whose, and the sums
CREATE FUNCTION pg_temp.verify(name text DEFAULT 'sums', sample int DEFAULT NULL, repair boolean DEFAULT false) RETURNS text LANGUAGE sql AS
$$ SELECT coalesce(string_agg(format('%s%s %s %s->%s%s', right(aggregate_id::text, 1), tenant_id, difference, actual -> 'n', expected -> 'n',
    CASE WHEN repaired THEN ' repaired' END), ', ' ORDER BY aggregate_id, tenant_id), 'none') FROM dugong.verify_projection(name, sample, repair) $$;

SELECT is(pg_temp.verify(), 'none', 'an empty log');
SELECT pg_temp.add(1, 1), pg_temp.add(2, 2), pg_temp.add(1, 10), pg_temp.add(3, 3), pg_temp.add(1, 5, 'T'), pg_temp.happens('Gone', 3);
SELECT is(pg_temp.verify(), 'none', 'nothing is handled yet: nothing is missing');
CALL dugong.run_projections();
SELECT results_eq('SELECT right(id::text, 1), tenant_id, n, double FROM sums ORDER BY id, tenant_id', $$ VALUES ('1', '', 11::numeric, 22::numeric), ('1', 'T', 5, 10), ('2', '', 2, 4) $$, 'handled');
SELECT is(pg_temp.verify(), 'none', 'as it should be');

-- Every kind of difference, and its repair
UPDATE sums SET n = 0 WHERE tenant_id = 'T';
UPDATE sums SET n = NULL WHERE id = pg_temp.id('a', 2);
DELETE FROM sums WHERE id = pg_temp.id('a', 1) AND tenant_id = '';
INSERT INTO sums (id, tenant_id, n) VALUES (pg_temp.id('a', 3), '', 3), (pg_temp.id('a', 4), '', 4), (pg_temp.id('a', 1), 'U', 5);
SELECT is(pg_temp.verify(), '1 missing ->11, 1T different 0->5, 1U extra 5->, 2 different null->2, 3 extra 3->, 4 extra 4->', 'differences');
SELECT is((SELECT count(*) FROM sums), 5::bigint, 'to look changes nothing');
SELECT is(pg_temp.verify(repair => true),
    '1 missing ->11 repaired, 1T different 0->5 repaired, 1U extra 5-> repaired, 2 different null->2 repaired, 3 extra 3-> repaired, 4 extra 4-> repaired', 'they are repaired');
SELECT is(pg_temp.verify(), 'none', 'repaired');
SELECT is(pg_temp.verify(repair => true), 'none', 'again there is nothing to do');
SELECT is((SELECT array_agg(n ORDER BY id, tenant_id) FROM sums), '{11,5,2}', 'the rows');
SELECT is((SELECT expected FROM dugong.verify_projection('sums') LIMIT 1), NULL, 'nothing expected');
UPDATE sums SET note = 'x' WHERE id = pg_temp.id('a', 2);
SELECT is((SELECT actual || jsonb_build_object('id', 1) FROM dugong.verify_projection('sums')),
    '{"id": 1, "n": 2, "note": "x", "extra": null, "place": "(1,2)", "tenant_id": ""}', 'the row as it is shown: its key and what the state makes');
UPDATE sums SET note = NULL;

-- What is equal to a user, and what is not the state's
UPDATE sums SET seen = 'epoch';
SELECT is(pg_temp.verify(), 'none', 'a column of its own is not compared');
UPDATE sums SET n = n + 0.000;
SELECT is(pg_temp.verify(), 'none', '2.000 = 2');
UPDATE sums SET place = '(1,3)' WHERE id = pg_temp.id('a', 2);
SELECT matches(pg_temp.verify(), '^2 different', 'a type without equality is compared as text');
SELECT isnt(pg_temp.verify(repair => true), 'none', 'and repaired');
SELECT dugong.append_event('Sum', pg_temp.id('a', 2), 'Added', '{"n": 1, "extra": {"b": 1, "a": 2}}');
CALL dugong.run_projections();
SELECT is(pg_temp.verify(), 'none', 'json');
ALTER TABLE sums ADD note2 text DEFAULT 'mine';
SELECT is(pg_temp.verify(), 'none', 'a column that came later');

-- Samples: half of the differences cannot all be missed, nor can others appear
UPDATE sums SET n = n + 1;
SELECT is((SELECT count(*) FROM dugong.verify_projection('sums', 2)) IN (1, 2), true, 'of two, one of which may be gone');
SELECT is((SELECT count(*) FROM dugong.verify_projection('sums', 1000000000)), 3::bigint, 'all, if the sample is larger');
SELECT is((SELECT count(DISTINCT tenant_id || aggregate_id) FROM generate_series(1, 100) i, dugong.verify_projection('sums', 1 + i * 0)), 3::bigint, 'each can be chosen');
SELECT is((SELECT count(*) FROM dugong.verify_projection('sums', 3, true)) IN (2, 3), true, 'a sample is repaired');
SELECT is((SELECT count(*) FROM dugong.verify_projection('sums')) < 2, true, 'and not the rest');
SELECT isnt(pg_temp.verify(repair => true), '', 'all');
INSERT INTO sums (id, tenant_id) SELECT pg_temp.id('b', n), '' FROM generate_series(1, 1200) n;
SELECT is((SELECT count(*) FROM dugong.verify_projection('sums', 10) WHERE difference = 'extra') BETWEEN 5 AND 10, true, 'rows are chosen, too');
SET LOCAL work_mem = '64kB';
SELECT is((SELECT count(*) FROM dugong.verify_projection('sums', repair => true) WHERE repaired), 1200::bigint, 'more than a chunk, and than there is memory for');
RESET work_mem;
SELECT is(pg_temp.verify(), 'none', 'repaired');

-- A lag is no difference; nor is a state that is ahead of the checkpoint
SELECT pg_temp.add(2, 100), pg_temp.add(5, 5), pg_temp.happens('Gone', 1);
SELECT is(pg_temp.verify(), 'none', 'events wait');
UPDATE sums SET n = n + 100 WHERE id = pg_temp.id('a', 2);
SELECT is(pg_temp.verify(), '2 different 103->3', 'a state that never was: its extra json is not that of its number');
UPDATE sums SET extra = NULL WHERE id = pg_temp.id('a', 2);
DELETE FROM sums WHERE id = pg_temp.id('a', 1) AND tenant_id = '';
SELECT is(pg_temp.verify(), 'none', 'a row may show what waits');
DELETE FROM sums WHERE id = pg_temp.id('a', 2);
SELECT is(pg_temp.verify(), '2 missing ->3', 'but not less than was handled');
SELECT is(pg_temp.verify(repair => true), '2 missing ->3 repaired', 'repair writes the present');
SELECT is((SELECT n FROM sums WHERE id = pg_temp.id('a', 2)), 103::numeric, 'which is this');
CALL dugong.run_projections();
SELECT is(pg_temp.verify(), 'none', 'handled');

-- A hole that has not been read: as a checkpoint has it
UPDATE dugong.checkpoints SET position = position + 0 WHERE projection = 'sums';
INSERT INTO dugong.checkpoint_holes SELECT 'sums', e.position, e.position, '{}' FROM dugong.domain_events e WHERE e.aggregate_id = pg_temp.id('a', 5);
DELETE FROM sums WHERE id = pg_temp.id('a', 5);
SELECT is(pg_temp.verify(), 'none', 'what fills a hole is not handled yet');
DELETE FROM dugong.checkpoint_holes;
SELECT is(pg_temp.verify(), '5 missing ->5', 'without the hole it is');
SELECT isnt(pg_temp.verify(repair => true), 'none', 'repaired');

-- What was set aside stands where it stood
SELECT pg_temp.add(6, 6);
CALL dugong.run_projections();
-- As the worker notes it, which does not where all is one transaction
CREATE FUNCTION pg_temp.park(name text, type text, id uuid, first bigint) RETURNS void LANGUAGE sql AS $$
    UPDATE dugong.checkpoints SET position = (SELECT max(position) FROM dugong.event_log) WHERE projection = name;
    INSERT INTO dugong.parked_aggregates (projection, aggregate_type_id, aggregate_id, tenant_id, first_sequence_number, last_sequence_number, event_id, attempts,
        first_failed_at, last_failed_at, sqlstate, message) VALUES (name, (SELECT t.id FROM dugong.aggregate_types t WHERE t.name = type), id, '', first, 9, gen_random_uuid(), 9, now(), now(), 'P0001', 'spoiled');
$$;
SELECT pg_temp.add(5, 50), pg_temp.happens('Spoiled', 5), pg_temp.add(5, 500);
SELECT pg_temp.park('sums', 'Sum', pg_temp.id('a', 5), 2);
SELECT is(pg_temp.verify(), 'none', 'a dead letter is no difference');
UPDATE sums SET n = 7 WHERE id = pg_temp.id('a', 5);
SELECT matches(pg_temp.verify(), '^5 different 7->5$', 'but damage is');
SET LOCAL client_min_messages = error;
SELECT matches(pg_temp.verify(repair => true), '^5 different 7->5$', 'that cannot be repaired as long as the fold fails');
SET LOCAL client_min_messages = warning;
UPDATE sums SET n = 8 WHERE id = pg_temp.id('a', 6);
SET LOCAL client_min_messages = error;
SELECT matches(pg_temp.verify(repair => true), '^5 different 7->5, 6 different 8->6 repaired$', 'others are repaired beside it');
SET LOCAL client_min_messages = warning;
SELECT throws_ok($$ SELECT * FROM dugong.query_model_as_of(NULL::sums) $$, 'P0001', 'spoiled', 'what does not fold has no past');
CREATE OR REPLACE FUNCTION sum_apply(sum, dugong.domain_event) RETURNS sum LANGUAGE sql
RETURN CASE ($2).type WHEN 'Gone' THEN NULL WHEN 'Spoiled' THEN $1 ELSE ROW(coalesce(($1).n, 0) + coalesce((($2).payload ->> 'n')::numeric, 0),
        ($2).payload ->> 'note', (($2).payload -> 'extra')::json, '(1,2)'::point)::sum END;
SELECT is(pg_temp.verify(repair => true), '5 different 7->5 repaired', 'mended, it is');
SELECT is((SELECT count(*) FROM dugong.dead_letters), 0::bigint, 'and waits no more');
SELECT is(pg_temp.verify(), 'none', 'nothing is left');

-- Event types that it does not get, a start beyond the first events, inline, JSON states
CREATE TABLE sums_some (id uuid PRIMARY KEY, n numeric);
SELECT dugong.create_aggregate_type('Other', 'sum_fold(dugong.domain_event)');
CREATE FUNCTION pg_temp.other(type text, number int, n int) RETURNS void LANGUAGE sql AS
$$ SELECT dugong.append_event('Other', pg_temp.id('c', number), type, jsonb_build_object('n', n)) $$;
SELECT dugong.create_projection('some', 'Other', 'sums_some', types => '{Added}');
SELECT pg_temp.other('Added', 1, 1), pg_temp.other('Silent', 1, 1), pg_temp.other('Silent', 2, 1);
CALL dugong.run_projections();
SELECT pg_temp.other('Silent', 1, 1);
CALL dugong.run_projections();
SELECT is((SELECT array_agg(n) FROM sums_some), '{2}', 'an event that it does not get');
SELECT is(pg_temp.verify('some'), 'none', 'is no difference');
UPDATE sums_some SET n = 0;
SELECT is(pg_temp.verify('some'), '1 different 0->1', 'damage is');
UPDATE sums_some SET n = 2;
CREATE TABLE sums_late (LIKE sums_some INCLUDING ALL);
SELECT dugong.create_projection('late', 'Other', 'sums_late', start_position => (SELECT max(position) FROM dugong.domain_events));
SELECT pg_temp.other('Added', 3, 1);
CALL dugong.run_projections();
SELECT is(pg_temp.verify('late'), 'none', 'what lies before its start is not missing');
DELETE FROM sums_late;
SELECT is(pg_temp.verify('late'), '3 missing ->1', 'what lies behind it is');
CREATE TABLE sums_inline (LIKE sums_some INCLUDING ALL);
SELECT dugong.create_projection('inline', 'Other', 'sums_inline', 'inline');
SELECT is(pg_temp.verify('inline'), 'none', 'inline');
SELECT pg_temp.other('Added', 1, 10);
SELECT is(pg_temp.verify('inline'), 'none', 'inline: at once');
UPDATE sums_inline SET n = 3 WHERE id = pg_temp.id('c', 1);
SELECT is(pg_temp.verify('inline'), '1 different 3->13', 'inline: the present counts');
SELECT is(pg_temp.verify('inline', repair => true), '1 different 3->13 repaired', 'inline: repaired');
SELECT is(pg_temp.verify('inline'), 'none', 'inline: as it should be');
CREATE FUNCTION json_apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE sql
RETURN coalesce($1, '{}') || ($2).payload || '{"id": "no id"}';
CREATE AGGREGATE json_fold(dugong.domain_event) (SFUNC = json_apply, STYPE = jsonb);
SELECT dugong.create_aggregate_type('Json', 'json_fold(dugong.domain_event)');
CREATE TABLE jsons (id uuid PRIMARY KEY, n int, tags text[], at timestamptz, code varchar(3), price numeric(6, 2), body json);
SELECT dugong.create_projection('jsons', 'Json', 'jsons');
SELECT dugong.append_event('Json', pg_temp.id('d', 1), 'Made', '{"n": 1, "tags": ["a", "b"], "at": "2026-01-01 12:00", "code": "abc", "price": 1.005, "body": {"x": [1, null]}}'),
    dugong.append_event('Json', pg_temp.id('d', 2), 'Made', '{}');
CALL dugong.run_projections();
SELECT dugong.append_event('Json', pg_temp.id('d', 3), 'Made', '{"code": "too long"}');
SELECT pg_temp.park('jsons', 'Json', pg_temp.id('d', 3), 1);
SELECT is((SELECT count(*) FROM jsons), 2::bigint, 'one state does not fit into the table');
SELECT is(pg_temp.verify('jsons'), 'none', 'JSON states');
UPDATE jsons SET body = '{"x": [1]}' WHERE n = 1;
SELECT is(pg_temp.verify('jsons'), '1 different 1->1', 'a column of JSON');
SET LOCAL TimeZone = 'Asia/Tokyo';
SELECT is(pg_temp.verify('jsons', repair => true), '1 different 1->1 repaired', 'whatever the time zone');
SELECT is(pg_temp.verify('jsons'), 'none', 'repaired');
RESET TimeZone;

-- Nulls where a key should be, and a table without one
CREATE TABLE loose (id uuid UNIQUE, n numeric);
SELECT dugong.create_projection('loose', 'Other', 'loose');
CALL dugong.run_projections();
INSERT INTO loose VALUES (NULL, 1);
SELECT is(pg_temp.verify('loose', repair => true), ' extra 1->', 'a row without an id is extra, and cannot be named');

-- Stale, paused, stopped
SELECT dugong.pause_projection('some');
SELECT is(pg_temp.verify('some'), 'none', 'paused');
SELECT dugong.resume_projection('some');

-- The past
CREATE TABLE moments (number int, position bigint, at timestamptz, n int);
CREATE TABLE saved AS SELECT 0 AS moment, * FROM sums WHERE false;
SELECT is((SELECT count(*) FROM dugong.query_model_as_of(NULL::sums, to_position => 0)), 0::bigint, 'before the first event');
SELECT is((SELECT count(*) FROM dugong.query_model_as_of(NULL::sums, '-infinity')), 0::bigint, 'before all time');
SELECT set_eq('SELECT id, tenant_id, n, note, double FROM dugong.query_model_as_of(NULL::sums)', 'SELECT id, tenant_id, n, note, double FROM sums', 'now');
SELECT set_eq($$ SELECT id, tenant_id, n, double FROM dugong.query_model_as_of(NULL::sums, 'infinity', 9223372036854775807) $$, 'SELECT id, tenant_id, n, double FROM sums', 'after all');
SELECT is((SELECT count(seen) FROM dugong.query_model_as_of(NULL::sums)), 0::bigint, 'what the state does not make is null');
SELECT results_eq($$ SELECT right(id::text, 1), tenant_id, n, double FROM dugong.query_model_as_of(NULL::sums, to_position =>
    (SELECT position FROM dugong.domain_events WHERE aggregate_type = 'Sum' ORDER BY position OFFSET 4 LIMIT 1)) ORDER BY 1, 2 $$,
    $$ VALUES ('1', '', 11::numeric, 22::numeric), ('1', 'T', 5, 10), ('2', '', 2, 4), ('3', '', 3, 6) $$, 'at a position: before the third was gone');
SELECT results_eq($$ SELECT right(id::text, 1), n FROM dugong.query_model_as_of(NULL::sums, as_of =>
    (SELECT timestamp FROM dugong.domain_events WHERE aggregate_type = 'Sum' ORDER BY position OFFSET 3 LIMIT 1)) ORDER BY 1 $$,
    $$ VALUES ('1', 11::numeric), ('2', 2), ('3', 3) $$, 'at a time');
SELECT is((SELECT count(*) FROM dugong.query_model_as_of(NULL::sums, as_of => 'infinity', to_position => 0)), 0::bigint, 'both hold');
SELECT is((SELECT count(*) FROM dugong.query_model_as_of(NULL::sums, as_of => '-infinity', to_position => 1000)), 0::bigint, 'both hold');
SELECT is((SELECT sum(n) FROM dugong.query_model_as_of(NULL::sums_some) WHERE n > 10), 13::numeric, 'a filter of types does not matter');
SELECT is((SELECT count(*) FROM dugong.query_model_as_of(NULL::sums_late)), 3::bigint, 'nor a start');

-- Who is refused
SELECT throws_ok($$ SELECT * FROM dugong.verify_projection(NULL) $$, '22004');
SELECT throws_ok($$ SELECT * FROM dugong.verify_projection('') $$, '22023');
SELECT throws_ok($$ SELECT * FROM dugong.verify_projection('nothing') $$, '42704');
SELECT throws_ok($$ SELECT * FROM dugong.verify_projection('sums', 0) $$, '22023');
SELECT throws_ok($$ SELECT * FROM dugong.verify_projection('sums', -1) $$, '22023');
SELECT throws_ok($$ SELECT * FROM dugong.query_model_as_of(NULL::sums, to_position => -1) $$, '22023');
SELECT throws_ok($$ SELECT * FROM dugong.query_model_as_of(NULL::sum) $$, '42809', NULL, 'a composite type');
SELECT throws_ok($$ SELECT * FROM dugong.query_model_as_of(1) $$, '42809', NULL, 'no row');
SELECT throws_ok($$ SELECT dugong.query_model_as_of(NULL::moments) $$, '42704', NULL, 'a table that no projection keeps');
CREATE FUNCTION on_event(dugong.domain_event) RETURNS void LANGUAGE sql AS '';
SELECT dugong.create_projection('handler', 'Other', event_handler => 'on_event(dugong.domain_event)');
SELECT throws_ok($$ SELECT * FROM dugong.verify_projection('handler') $$, '0A000');
SELECT dugong.create_subscription('subscription', '{Other}');
SELECT throws_ok($$ SELECT * FROM dugong.verify_projection('subscription') $$, '0A000');
SELECT dugong.create_projection('twin', 'Sum', 'sums_some');
SELECT throws_ok($$ SELECT * FROM dugong.verify_projection('some') $$, '0A000', NULL, 'two write one table');
SELECT throws_ok($$ SELECT * FROM dugong.query_model_as_of(NULL::sums_some) $$, '0A000', NULL, 'two write one table');
SELECT dugong.drop_projection('twin');

CREATE ROLE regress_dugong_auditor;
GRANT USAGE ON SCHEMA dugong TO regress_dugong_auditor;
GRANT EXECUTE ON FUNCTION dugong.verify_projection, dugong.query_model_as_of TO regress_dugong_auditor;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pg_temp TO regress_dugong_auditor;
SET LOCAL ROLE regress_dugong_auditor;
SELECT throws_ok($$ SELECT * FROM dugong.verify_projection('sums') $$, '42501', 'permission denied for table sums');
SELECT throws_ok($$ SELECT * FROM dugong.query_model_as_of(NULL::sums) $$, '42501', 'permission denied for table sums');
RESET ROLE;
GRANT SELECT ON sums TO regress_dugong_auditor;
SET LOCAL ROLE regress_dugong_auditor;
SELECT lives_ok($$ SELECT * FROM dugong.verify_projection('sums') $$, 'who may read the table may look');
SELECT lives_ok($$ SELECT * FROM dugong.query_model_as_of(NULL::sums) $$, 'and look back');
SELECT throws_ok($$ SELECT * FROM dugong.verify_projection('sums', repair => true) $$, '42501', 'must be owner of projection "sums"');
RESET ROLE;
ALTER TABLE sums ENABLE ROW LEVEL SECURITY;
SET LOCAL ROLE regress_dugong_auditor;
SELECT throws_ok($$ SELECT * FROM dugong.verify_projection('sums') $$, '42501', NULL, 'whose rows a policy hides may not');
SELECT throws_ok($$ SELECT * FROM dugong.query_model_as_of(NULL::sums) $$, '42501', NULL, 'nor look back');
RESET ROLE;
SELECT is(pg_temp.verify(), 'none', 'its owner may');

-- Casts, domains and generated columns are code of who writes the table
CREATE ROLE regress_dugong_keeper;
CREATE SCHEMA keeper AUTHORIZATION regress_dugong_keeper;
CREATE TABLE keeper_seen (place text, who text DEFAULT CURRENT_USER);
GRANT ALL ON keeper_seen TO PUBLIC;
GRANT USAGE ON SCHEMA dugong TO regress_dugong_keeper;
GRANT USAGE ON TYPE dugong.domain_event TO regress_dugong_keeper;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA dugong TO regress_dugong_keeper;
SET LOCAL ROLE regress_dugong_keeper;
CREATE TYPE keeper.mood AS ENUM ('good', 'bad');
CREATE FUNCTION keeper.see(what text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.keeper_seen VALUES (what); RETURN true; END';
CREATE FUNCTION keeper.mood_json(keeper.mood) RETURNS json LANGUAGE plpgsql AS $$ BEGIN PERFORM keeper.see('json'); RETURN to_json($1::text); END $$;
CREATE CAST (keeper.mood AS json) WITH FUNCTION keeper.mood_json(keeper.mood);
CREATE FUNCTION keeper.twice(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM keeper.see('generated'); RETURN $1 * 2; END $$;
CREATE DOMAIN keeper.small AS int CHECK (keeper.see('domain'));
CREATE TYPE keeper.state AS (n int, mood keeper.mood);
CREATE FUNCTION keeper.apply(keeper.state, dugong.domain_event) RETURNS keeper.state LANGUAGE sql RETURN ROW(1, 'good')::keeper.state;
CREATE AGGREGATE keeper.fold(dugong.domain_event) (SFUNC = keeper.apply, STYPE = keeper.state);
CREATE TABLE keeper.model (id uuid PRIMARY KEY, n keeper.small, mood keeper.mood, twice int GENERATED ALWAYS AS (keeper.twice(n)) STORED);
SELECT dugong.create_aggregate_type('Kept', 'keeper.fold(dugong.domain_event)');
SELECT dugong.create_projection('kept', 'Kept', 'keeper.model');
RESET ROLE;
SELECT dugong.append_event('Kept', pg_temp.id('e', 1), 'Made');
CALL dugong.run_projections();
UPDATE keeper.model SET mood = 'bad';
DELETE FROM keeper_seen;
SELECT is((SELECT count(*) FROM dugong.verify_projection('kept')), 1::bigint, 'a difference');
SELECT set_eq('SELECT DISTINCT place, who FROM keeper_seen', $$ VALUES ('json', 'regress_dugong_keeper'), ('domain', 'regress_dugong_keeper') $$, 'who looked');
DELETE FROM keeper_seen;
SELECT is((SELECT twice FROM dugong.query_model_as_of(NULL::keeper.model)), 2, 'the past');
SELECT set_eq('SELECT DISTINCT place, who FROM keeper_seen', $$ VALUES ('generated', 'regress_dugong_keeper'), ('domain', 'regress_dugong_keeper') $$, 'who looked back');
SELECT is((SELECT count(*) FROM dugong.verify_projection('kept', repair => true) WHERE repaired), 1::bigint, 'repaired');
SELECT set_eq('SELECT DISTINCT who FROM keeper_seen', $$ VALUES ('regress_dugong_keeper') $$, 'who repaired');

-- Aggregates that were begun and taken back leave dead entries in the index: a server process died of them
CREATE FUNCTION pg_temp.begin_many(step int) RETURNS void LANGUAGE sql AS
$$ SELECT FROM generate_series(step, 6000, step) n, dugong.append_event('Sum', pg_temp.id('d', n), 'Added', '{"n": 1}') $$;
SAVEPOINT s;
SELECT pg_temp.begin_many(1);
ROLLBACK TO s;
SELECT pg_temp.begin_many(2);
CALL dugong.run_projections();
SELECT is((SELECT count(*) FROM dugong.verify_projection('sums')), 0::bigint, 'past dead entries');
SELECT is((SELECT count(*) FROM dugong.query_model_as_of(NULL::sums) WHERE id >= pg_temp.id('d', 1) AND id <= pg_temp.id('d', 6000)), 3000::bigint, 'the past, past dead entries');
-- A tenant that the projection's owner does not see any more
CREATE ROLE regress_proof_owner;
GRANT USAGE ON SCHEMA dugong TO regress_proof_owner;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dugong TO regress_proof_owner;
CREATE SCHEMA apart AUTHORIZATION regress_proof_owner;
SELECT dugong.create_aggregate_type('Apart', 'dugong.row_fold(dugong.domain_event)');
SELECT dugong.append_event('Apart', pg_temp.id('c', 1), 'Made', '{"new": {"n": 1}}', tenant_id => tenant) FROM unnest(ARRAY['T', 'U']) AS tenant;
SET LOCAL ROLE regress_proof_owner;
CREATE TABLE apart.model (id uuid, tenant_id text, n numeric, PRIMARY KEY (id, tenant_id));
SELECT dugong.create_projection('apart', 'Apart', 'apart.model');
RESET ROLE;
CALL dugong.run_projections();
SELECT is(pg_temp.verify('apart'), 'none', 'two tenants');
SELECT dugong.grant_tenant('regress_proof_owner', 'T');
DELETE FROM dugong.projections WHERE name <> 'apart';
SELECT dugong.enable_tenant_isolation();
SELECT is(pg_temp.verify('apart', repair => true), '1U extra 1-> repaired', 'what is left of the other is found, and taken out');
CALL dugong.rebuild_projection('apart');
SELECT is(pg_temp.verify('apart'), 'none', 'and a rebuild finds none');

SELECT finish();
ROLLBACK;
