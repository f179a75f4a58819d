-- Deferred constraints of a query model: checked when a batch ends; refused where the transaction is the caller's.
\set home :DBNAME
CREATE DATABASE regress_dugong_deferred;
ALTER DATABASE regress_dugong_deferred SET dugong.max_workers = 0;
\c regress_dugong_deferred
CREATE EXTENSION dugong;
\set a '''a0000000-0000-4000-8000-000000000001'''
\set b '''b0000000-0000-4000-8000-000000000001'''
\set c '''c0000000-0000-4000-8000-000000000001'''
\set d '''d0000000-0000-4000-8000-000000000001'''
CREATE TYPE folder AS (parent uuid, name text);
CREATE FUNCTION folder_apply(folder, dugong.domain_event) RETURNS folder LANGUAGE sql IMMUTABLE
RETURN CASE ($2).type WHEN 'Removed' THEN NULL ELSE ROW((($2).payload ->> 'parent')::uuid, ($2).payload ->> 'name')::folder END;
CREATE AGGREGATE folder_fold(dugong.domain_event) (SFUNC = folder_apply, STYPE = folder);
SELECT dugong.create_aggregate_type('Folder', 'folder_fold(dugong.domain_event)');
CREATE TABLE folders (id uuid PRIMARY KEY, parent uuid REFERENCES folders DEFERRABLE INITIALLY DEFERRED, name text);
CREATE FUNCTION folder(id uuid, parent uuid, name text) RETURNS void LANGUAGE sql AS
$$ SELECT dugong.append_event('Folder', id, 'Made', jsonb_build_object('parent', parent, 'name', name)) $$;
SELECT dugong.create_projection('folders', 'Folder', 'folders');

-- A child before its parent, two that contain each other
SELECT folder(:a, :b, 'child'), folder(:b, NULL, 'parent'), folder(:c, :d, 'hen'), folder(:d, :c, 'egg');
CALL dugong.run_projections();
SELECT f.name, p.name AS parent FROM folders f LEFT JOIN folders p ON p.id = f.parent ORDER BY 1;
SELECT sqlstate FROM dugong.dead_letters;

-- A batch that breaks it fails, down to one event
SELECT folder(:a, 'e0000000-0000-4000-8000-000000000001', 'orphan'), folder(:b, NULL, 'parent of none');
CALL dugong.run_projections();
SELECT f.name, p.name AS parent FROM folders f LEFT JOIN folders p ON p.id = f.parent ORDER BY 1;
SELECT left(aggregate_id::text, 1) AS folder, sqlstate, message FROM dugong.dead_letters;
SELECT folder(:a, :c, 'child of a hen');
SELECT dugong.retry_dead_letters('folders');
CALL dugong.run_projections();
SELECT f.name, p.name AS parent FROM folders f LEFT JOIN folders p ON p.id = f.parent ORDER BY 1;
SELECT sqlstate FROM dugong.dead_letters;

-- Rebuilt
SELECT dugong.pause_projection('folders');
TRUNCATE folders;
SELECT dugong.resume_projection('folders');
CALL dugong.rebuild_projection('folders');
SELECT f.name, p.name AS parent FROM folders f LEFT JOIN folders p ON p.id = f.parent ORDER BY 1;

-- In the caller's transaction it is refused
BEGIN;
SELECT folder(:a, :d, 'child of an egg');
CALL dugong.run_projections();
ROLLBACK;
-- A constraint that is checked at once is not
ALTER TABLE folders ALTER CONSTRAINT folders_parent_fkey DEFERRABLE INITIALLY IMMEDIATE;
BEGIN;
SELECT folder(:a, :d, 'child of an egg');
CALL dugong.run_projections();
COMMIT;
SELECT f.name, p.name AS parent FROM folders f LEFT JOIN folders p ON p.id = f.parent ORDER BY 1;
ALTER TABLE folders ALTER CONSTRAINT folders_parent_fkey DEFERRABLE INITIALLY DEFERRED;

-- Handlers of events, with a deferred trigger of their tables: it runs as the projection's owner, before the batch commits
CREATE ROLE regress_dugong_projector;
GRANT USAGE ON SCHEMA dugong TO regress_dugong_projector;
GRANT USAGE ON TYPE dugong.domain_event TO regress_dugong_projector;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA dugong TO regress_dugong_projector;
CREATE SCHEMA reports AUTHORIZATION regress_dugong_projector;
SET ROLE regress_dugong_projector;
CREATE TABLE reports.names (name text);
CREATE TABLE reports.who (what text, who name);
CREATE FUNCTION reports.at_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO reports.who VALUES ('trigger', current_user); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER at_end AFTER INSERT ON reports.names DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION reports.at_end();
CREATE FUNCTION reports.on_folder(event dugong.domain_event) RETURNS void LANGUAGE sql AS
$$ INSERT INTO reports.names VALUES ((event).payload ->> 'name'); INSERT INTO reports.who VALUES ('handler', current_user) $$;
SELECT dugong.create_projection('names', 'Folder', event_handler => 'reports.on_folder(dugong.domain_event)');
RESET ROLE;
CALL dugong.run_projections();
SELECT DISTINCT what, who FROM reports.who ORDER BY 1;
SELECT count(*) FROM reports.names;
SELECT count(*) FROM reports.who;
DROP OWNED BY regress_dugong_projector CASCADE;
\c :home
DROP DATABASE regress_dugong_deferred WITH (FORCE);
DROP ROLE regress_dugong_projector;
