-- What a handler may do where dugong runs it in a transaction of its own: its owner's rights, and no way back to the worker's.
\set home :DBNAME
CREATE DATABASE regress_dugong_handler_rights;
ALTER DATABASE regress_dugong_handler_rights SET dugong.max_workers = 0;
\c regress_dugong_handler_rights
CREATE EXTENSION dugong;
CREATE ROLE regress_dugong_handler;
CREATE ROLE regress_dugong_member;
GRANT regress_dugong_member TO regress_dugong_handler;
GRANT USAGE ON SCHEMA dugong TO regress_dugong_handler;
GRANT USAGE ON TYPE dugong.domain_event TO regress_dugong_handler;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA dugong TO regress_dugong_handler;
SELECT dugong.create_aggregate_type('Command');
CREATE FUNCTION say(command text) RETURNS void LANGUAGE sql AS
$$ SELECT dugong.append_event('Command', '50000000-0000-4000-8000-000000000001', 'Said', jsonb_build_object('command', command)) $$;
CREATE SCHEMA own AUTHORIZATION regress_dugong_handler;
CREATE TABLE not_own (n int);
SET ROLE regress_dugong_handler;
CREATE TABLE own.answers (number bigint GENERATED ALWAYS AS IDENTITY, command text, answer text, who name DEFAULT current_user);
CREATE TABLE own.data (n int);
-- Each command within a subtransaction, so that all are told
CREATE FUNCTION own.obey(event dugong.domain_event) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    command text := event.payload ->> 'command';
BEGIN
    EXECUTE command;
    INSERT INTO own.answers (command, answer) VALUES (command, 'done');
EXCEPTION WHEN OTHERS THEN
    INSERT INTO own.answers (command, answer) VALUES (command, SQLSTATE);
END $$;
SELECT dugong.create_projection('obey', 'Command', event_handler => 'own.obey(dugong.domain_event)');
RESET ROLE;
SELECT count(say(command)) FROM unnest(ARRAY[
    'INSERT INTO own.data VALUES (1)',
    'TRUNCATE own.data',
    'CREATE TABLE own.more (n int)',
    'SELECT dugong.append_event(''Command'', gen_random_uuid(), ''Answered'')',
    'INSERT INTO not_own VALUES (1)',
    'CREATE ROLE regress_dugong_nobody',
    'RESET ROLE',
    'SET ROLE regress_dugong_member',
    'SET LOCAL ROLE postgres',
    'SET SESSION AUTHORIZATION DEFAULT',
    'RESET SESSION AUTHORIZATION',
    'CREATE TEMP TABLE t (n int)',
    'DECLARE c CURSOR WITH HOLD FOR SELECT 1',
    'PREPARE p AS SELECT 1',
    'LISTEN somewhere',
    'DISCARD ALL',
    'COMMIT',
    'ROLLBACK',
    'DO ''BEGIN COMMIT; END''',
    'DO ''BEGIN SET ROLE regress_dugong_member; END''',
    'EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1 AS n',
    'SELECT set_config(''role'', ''none'', false)',
    'SET dugong.tenant_id = ''mine''',
    'SET search_path = own',
    'SELECT set_config(''work_mem'', ''64kB'', false)',
    'UPDATE dugong.checkpoints SET position = 0',
    'INSERT INTO dugong.event_log DEFAULT VALUES']) command;
SHOW work_mem \gset
CALL dugong.run_projections();
SELECT command, answer, who FROM own.answers ORDER BY number;
-- Settings of handlers go back
SHOW dugong.tenant_id;
SHOW search_path;
SELECT current_setting('work_mem') = :'work_mem' AS same, current_user = session_user AS same_user;
SELECT count(*) FROM pg_prepared_statements WHERE name = 'p';
-- What a handler changes does not reach its next call
TRUNCATE own.answers;
CREATE FUNCTION own.settings() RETURNS text LANGUAGE sql AS $$ SELECT concat_ws(' ', current_setting('dugong.tenant_id'), current_setting('search_path')) $$;
CREATE OR REPLACE FUNCTION own.obey(event dugong.domain_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO own.answers (command, answer) VALUES (event.type, own.settings());
    PERFORM set_config('dugong.tenant_id', 'changed', false), set_config('search_path', 'changed', false);
END $$;
SELECT say('a'), say('b');
CALL dugong.run_projections();
SELECT DISTINCT answer FROM own.answers;
-- Without its owner it does not run
ALTER ROLE regress_dugong_handler RENAME TO regress_dugong_handler_2;
SELECT say('c');
CALL dugong.run_projections();
SELECT dugong.alter_projection('obey', owner => current_user::regrole);
CALL dugong.run_projections();
SELECT count(*) FROM own.answers;
DROP OWNED BY regress_dugong_handler_2 CASCADE;
\c :home
DROP DATABASE regress_dugong_handler_rights WITH (FORCE);
DROP ROLE regress_dugong_handler_2, regress_dugong_member;
