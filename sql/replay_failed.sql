-- A replay that fails has appended events, which nobody may remember.
\set home :DBNAME
CREATE DATABASE regress_dugong_replay_failed;
ALTER DATABASE regress_dugong_replay_failed SET dugong.max_workers = 0;
\c regress_dugong_replay_failed
CREATE EXTENSION dugong;
CREATE FUNCTION letters_apply(text, dugong.domain_event) RETURNS text LANGUAGE sql IMMUTABLE RETURN coalesce($1, '') || ($2).type;
CREATE AGGREGATE letters_fold(dugong.domain_event) (SFUNC = letters_apply, STYPE = text);
SELECT dugong.create_aggregate_type('Letters', 'letters_fold(dugong.domain_event)', snapshot_interval => 0);
SELECT count(*) FROM (SELECT dugong.append_event('Letters', id::uuid, 'a') FROM (VALUES ('aaaaaaaa-0000-4000-8000-000000000000'), ('bbbbbbbb-0000-4000-8000-000000000000')) v (id)) e;
-- The first aggregate's handler appends to the second, the second's fails
CREATE TABLE letters (id uuid PRIMARY KEY, letters text);
CREATE FUNCTION letters_update(id uuid, letters text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('letters.fails', true) = 'on' AND id::text LIKE 'a%' THEN
        PERFORM dugong.append_event('Letters', 'bbbbbbbb-0000-4000-8000-000000000000', 'x');
    ELSIF current_setting('letters.fails', true) = 'on' THEN
        RAISE 'refused %', letters;
    END IF;
    INSERT INTO public.letters VALUES ($1, $2) ON CONFLICT ON CONSTRAINT letters_pkey DO UPDATE SET letters = $2;
END $$;
CREATE FUNCTION letters_delete(id uuid) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION letters_reset() RETURNS void LANGUAGE sql AS 'DELETE FROM public.letters';
SELECT dugong.create_projection('letters', 'Letters', update_handler => 'letters_update(uuid,text)', delete_handler => 'letters_delete(uuid)',
    reset_handler => 'letters_reset()', on_error => 'stop');
CALL dugong.run_projections();
SET dugong.batch_size = 1;
SET letters.fails = on;
\set VERBOSITY terse
CALL dugong.rebuild_projection('letters');
SET letters.fails = off;
SELECT (dugong.append_event('Letters', 'bbbbbbbb-0000-4000-8000-000000000000', 'b')).sequence_number;
CALL dugong.run_projections();
SELECT left(id::text, 1) AS id, letters FROM letters ORDER BY 1;
\c :home
DROP DATABASE regress_dugong_replay_failed WITH (FORCE);
