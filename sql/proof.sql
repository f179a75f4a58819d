-- What verify_projection() and query_model_as_of() say.
\set home :DBNAME
CREATE DATABASE regress_dugong_proof;
ALTER DATABASE regress_dugong_proof SET dugong.max_workers = 0;
\c regress_dugong_proof
CREATE EXTENSION dugong;
CREATE TYPE tally AS (n int);
CREATE FUNCTION tally_apply(tally, dugong.domain_event) RETURNS tally LANGUAGE sql IMMUTABLE
RETURN CASE ($2).type WHEN 'Closed' THEN NULL ELSE ROW(coalesce(($1).n, 0) + (($2).payload ->> 'by')::int)::tally END;
CREATE AGGREGATE tally_fold(dugong.domain_event) (SFUNC = tally_apply, STYPE = tally);
SELECT dugong.create_aggregate_type('Tally', 'tally_fold(dugong.domain_event)');
CREATE TABLE tallies (id uuid PRIMARY KEY, n int CHECK (n < 100), twice int GENERATED ALWAYS AS (n * 2) STORED);
SELECT dugong.create_projection('tallies', 'Tally', 'tallies');
CREATE FUNCTION tally(number int, by int) RETURNS void LANGUAGE sql
BEGIN ATOMIC
    SELECT dugong.append_event('Tally', ('a0000000-0000-4000-8000-00000000000' || number)::uuid, 'Raised', jsonb_build_object('by', by));
END;
SELECT FROM generate_series(1, 3) n, tally(n, n);
CALL dugong.run_projections();

-- Nothing; then all that can be
SELECT * FROM dugong.verify_projection('tallies');
UPDATE tallies SET n = 7 WHERE n = 1;
DELETE FROM tallies WHERE n = 2;
INSERT INTO tallies VALUES ('a0000000-0000-4000-8000-000000000009', 9);
SELECT * FROM dugong.verify_projection('tallies') ORDER BY aggregate_id;
SELECT aggregate_id, difference, repaired FROM dugong.verify_projection('tallies', repair => true) ORDER BY aggregate_id;
SELECT * FROM tallies ORDER BY id;

-- A dead letter is none; it is handled by a repair that finds a way
SELECT tally(3, 200), tally(3, 1);
\set VERBOSITY terse
CALL dugong.run_projections();
\set VERBOSITY default
SELECT aggregate_id, first_sequence_number, message FROM dugong.dead_letters;
SELECT * FROM dugong.verify_projection('tallies');
-- A rebuild that fails for it, too, leaves its row where it was
\set VERBOSITY terse
CALL dugong.rebuild_projection('tallies');
\set VERBOSITY default
SELECT aggregate_id, first_sequence_number, last_sequence_number FROM dugong.dead_letters;
SELECT * FROM dugong.verify_projection('tallies');
SELECT tally(2, 200), tally(2, 1);
SELECT dugong.pause_projection('tallies');
CALL dugong.rebuild_projection('tallies');
SELECT dugong.resume_projection('tallies');
CALL dugong.run_projections();
SELECT aggregate_id, first_sequence_number, last_sequence_number FROM dugong.dead_letters ORDER BY 1;
SELECT * FROM dugong.verify_projection('tallies');
DELETE FROM tallies WHERE n = 3;
SELECT difference, expected, repaired FROM dugong.verify_projection('tallies');
SET client_min_messages = error;
UPDATE tallies SET n = 50 WHERE id = 'a0000000-0000-4000-8000-000000000001';
SELECT difference, expected, repaired FROM dugong.verify_projection('tallies', repair => true) ORDER BY aggregate_id;
RESET client_min_messages;
ALTER TABLE tallies DROP CONSTRAINT tallies_n_check;
SELECT difference, expected, repaired FROM dugong.verify_projection('tallies', repair => true);
SELECT dugong.retry_dead_letters('tallies');
CALL dugong.run_projections();
SELECT count(*) FROM dugong.dead_letters;
SELECT * FROM tallies ORDER BY id;

-- A fold that has changed
CREATE OR REPLACE FUNCTION tally_apply(tally, dugong.domain_event) RETURNS tally LANGUAGE sql IMMUTABLE
RETURN ROW(coalesce(($1).n, 0) - (($2).payload ->> 'by')::int)::tally;
SELECT difference, expected, actual FROM dugong.verify_projection('tallies') ORDER BY aggregate_id;
CALL dugong.rebuild_projection('tallies');
SELECT * FROM dugong.verify_projection('tallies');

-- The past
SELECT id, n, twice FROM dugong.query_model_as_of(NULL::tallies, to_position => (SELECT min(position) + 1 FROM dugong.domain_events WHERE aggregate_type = 'Tally')) ORDER BY id;
SELECT sum(n) FROM dugong.query_model_as_of(NULL::tallies, now()) WHERE n > -100;
SELECT dugong.query_model_as_of(NULL::tallies, '2000-01-01');
EXPLAIN (COSTS OFF) SELECT n FROM dugong.query_model_as_of(NULL::tallies) WHERE n = 1;

-- What cannot be
SELECT * FROM dugong.verify_projection(NULL);
SELECT * FROM dugong.verify_projection('nothing');
SELECT * FROM dugong.verify_projection('tallies', 0);
CREATE FUNCTION on_tally(dugong.domain_event) RETURNS void LANGUAGE sql AS '';
SELECT dugong.create_projection('handled', 'Tally', event_handler => 'on_tally(dugong.domain_event)');
SELECT * FROM dugong.verify_projection('handled');
SELECT * FROM dugong.query_model_as_of(NULL::tally);
SELECT * FROM dugong.query_model_as_of(NULL::pg_class);
SELECT * FROM dugong.query_model_as_of(NULL::tallies, to_position => -1);
SELECT dugong.create_projection('twin', 'Tally', 'tallies', start_position => NULL);
SELECT * FROM dugong.verify_projection('twin');
SELECT dugong.drop_projection('twin');
BEGIN READ ONLY;
SELECT * FROM dugong.verify_projection('tallies');
SELECT * FROM dugong.verify_projection('tallies', repair => true);
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM dugong.verify_projection('tallies');
SELECT * FROM dugong.verify_projection('tallies', repair => true);
ROLLBACK;
ALTER TABLE tallies RENAME TO gone;
SELECT * FROM dugong.verify_projection('tallies');
ALTER TABLE gone RENAME TO tallies;
ALTER TABLE tallies ADD missing text;
SELECT * FROM dugong.verify_projection('tallies');
DROP TABLE tallies;
SELECT * FROM dugong.verify_projection('tallies');

\c :home
DROP DATABASE regress_dugong_proof WITH (FORCE);
