-- A rebuild in the caller's transaction: nothing that others deferred is fired with other rights than theirs.
\set home :DBNAME
CREATE DATABASE regress_dugong_block;
ALTER DATABASE regress_dugong_block SET dugong.max_workers = 0;
\c regress_dugong_block
CREATE EXTENSION dugong;
CREATE ROLE regress_dugong_projector;
GRANT USAGE ON SCHEMA dugong TO regress_dugong_projector;
GRANT USAGE ON TYPE dugong.domain_event TO regress_dugong_projector;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dugong TO regress_dugong_projector;
CREATE TYPE sum AS (n int);
CREATE FUNCTION sum_apply(sum, dugong.domain_event) RETURNS sum LANGUAGE sql IMMUTABLE RETURN ROW(coalesce(($1).n, 0) + 1)::sum;
CREATE AGGREGATE sum_fold(dugong.domain_event) (SFUNC = sum_apply, STYPE = sum);
SELECT dugong.create_aggregate_type('Sum', 'sum_fold(dugong.domain_event)');
SELECT sequence_number FROM dugong.append_event('Sum', 'a0000000-0000-4000-8000-000000000001', 'Added');

-- The caller's deferred trigger fires at his commit, as he
CREATE TABLE mine (n int);
CREATE FUNCTION who() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '% fires as the session''s user: %', TG_TABLE_NAME, current_user = session_user; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER who AFTER INSERT ON mine DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION who();
CREATE TABLE sums (id uuid PRIMARY KEY, n int);
SELECT dugong.create_projection('sums', 'Sum', 'sums');
ALTER TABLE sums OWNER TO regress_dugong_projector;
BEGIN;
INSERT INTO mine VALUES (1);
CALL dugong.rebuild_projection('sums');
SELECT 'not yet' AS fired;
COMMIT;
SELECT n FROM sums;

-- What a query model or a handler defers is refused
CREATE SCHEMA reports AUTHORIZATION regress_dugong_projector;
SET ROLE regress_dugong_projector;
CREATE TABLE reports.mine (n int);
CREATE FUNCTION reports.who() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '% fires as the session''s user: %', TG_TABLE_NAME, current_user = session_user; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER who AFTER INSERT ON reports.mine DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION reports.who();
CREATE CONSTRAINT TRIGGER who AFTER INSERT OR UPDATE ON sums DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION reports.who();
CREATE FUNCTION reports.handle(dugong.domain_event) RETURNS void LANGUAGE sql AS 'INSERT INTO reports.mine VALUES (1)';
CREATE FUNCTION reports.reset() RETURNS void LANGUAGE sql AS 'DELETE FROM reports.mine';
SELECT dugong.create_projection('events', 'Sum', event_handler => 'reports.handle(dugong.domain_event)', reset_handler => 'reports.reset()');
RESET ROLE;
BEGIN;
CALL dugong.rebuild_projection('sums');
ROLLBACK;
BEGIN;
CALL dugong.rebuild_projection('events');
COMMIT;
SELECT count(*) FROM reports.mine;
-- Outside of a block they fire, as their owner
CALL dugong.rebuild_projection('sums');
CALL dugong.rebuild_projection('events');
SELECT count(*) FROM reports.mine;
DROP OWNED BY regress_dugong_projector CASCADE;

-- Several replays in one transaction
CREATE TABLE inline_sums (id uuid PRIMARY KEY, n int);
BEGIN;
SELECT dugong.create_projection('inline', 'Sum', 'inline_sums', 'inline');
SELECT dugong.drop_projection('inline');
SELECT dugong.create_projection('inline', 'Sum', 'inline_sums', 'inline');
CALL dugong.rebuild_projection('inline');
COMMIT;
SELECT n FROM inline_sums;
\c :home
DROP DATABASE regress_dugong_block WITH (FORCE);
DROP ROLE regress_dugong_projector;
