-- Making query models anew from the log, in transactions of its own.
\set home :DBNAME
CREATE DATABASE regress_dugong_rebuild;
ALTER DATABASE regress_dugong_rebuild SET dugong.max_workers = 0;
\c regress_dugong_rebuild
CREATE EXTENSION dugong;
CREATE TYPE sum AS (n bigint);
CREATE FUNCTION sum_apply(sum, dugong.domain_event) RETURNS sum LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT CASE ($2).type WHEN 'Gone' THEN NULL ELSE ROW(coalesce(($1).n, 0) + (($2).payload ->> 'n')::bigint)::sum END;
END;
CREATE AGGREGATE sum_fold(dugong.domain_event) (SFUNC = sum_apply, STYPE = sum);
SELECT dugong.create_aggregate_type('Sum', 'sum_fold(dugong.domain_event)');
CREATE FUNCTION id(n int) RETURNS uuid LANGUAGE sql IMMUTABLE RETURN ('a0000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid;
CREATE FUNCTION add(number int, n int, tenant text DEFAULT '') RETURNS void LANGUAGE sql AS
$$ SELECT dugong.append_event('Sum', id(number), 'Added', jsonb_build_object('n', n), tenant_id => tenant) $$;
CREATE TABLE sums (id uuid, tenant_id text, n bigint CHECK (n < 1000000), PRIMARY KEY (id, tenant_id));
SELECT dugong.create_projection('sums', 'Sum', 'sums');
SELECT count(add(g, g, t)) FROM generate_series(1, 1200) g, unnest('{"",T}'::text[]) t WHERE t = '' OR g % 100 = 0;
SELECT count(dugong.append_event('Sum', id(n), 'Gone')) FROM generate_series(10, 20) n;
CALL dugong.run_projections();
SELECT count(*), sum(n), count(*) FILTER (WHERE tenant_id = 'T') AS t FROM sums;

-- A query model that somebody has spoilt: missing, wrong and superfluous rows
DELETE FROM sums WHERE n % 2 = 0;
UPDATE sums SET n = -1 WHERE n % 3 = 0;
INSERT INTO sums VALUES (id(15), '', 15), (id(9999), '', 1), (id(1), 'nobody', 1), ('00000000-0000-0000-0000-000000000000', '', 1), ('ffffffff-ffff-ffff-ffff-ffffffffffff', 'Z', 1);
CALL dugong.rebuild_projection('sums');
SELECT count(*), sum(n), count(*) FILTER (WHERE tenant_id = 'T') AS t FROM sums;
SELECT * FROM dugong.rebuild_progress;

-- One aggregate; one that the log does not know
UPDATE sums SET n = -1 WHERE id IN (id(1), id(100));
INSERT INTO sums VALUES (id(9999), '', 1);
CALL dugong.rebuild_projection('sums', id(1));
CALL dugong.rebuild_projection('sums', id(100), 'T');
CALL dugong.rebuild_projection('sums', id(9999));
SELECT right(id::text, 4) AS id, tenant_id, n FROM sums WHERE id IN (id(1), id(100), id(9999)) ORDER BY id, tenant_id;
CALL dugong.rebuild_projection('sums', id(100));

-- Another fold: stale until rebuilt
SELECT stale FROM dugong.projection_status WHERE projection = 'sums';
CREATE OR REPLACE FUNCTION sum_apply(sum, dugong.domain_event) RETURNS sum LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT CASE ($2).type WHEN 'Gone' THEN NULL ELSE ROW(coalesce(($1).n, 0) + 10 * (($2).payload ->> 'n')::bigint)::sum END;
END;
SELECT stale FROM dugong.projection_status WHERE projection = 'sums';
SELECT add(1, 1);
CALL dugong.run_projections();
SELECT stale FROM dugong.projection_status WHERE projection = 'sums';
SELECT right(id::text, 4) AS id, n FROM sums WHERE id IN (id(1), id(2)) ORDER BY id;
CALL dugong.rebuild_projection('sums');
SELECT stale FROM dugong.projection_status WHERE projection = 'sums';
SELECT count(*), sum(n) FROM sums;

-- One that cannot be written is set aside, all others are
SELECT add(7, 1000000);
CALL dugong.rebuild_projection('sums');
SELECT right(aggregate_id::text, 4) AS id, sqlstate, first_sequence_number AS first, last_sequence_number AS last FROM dugong.dead_letters;
SELECT count(*) FROM dugong.rebuild_progress;
SELECT n FROM sums WHERE id = id(7);
ALTER TABLE sums DROP CONSTRAINT sums_n_check;
SELECT stale FROM dugong.projection_status WHERE projection = 'sums';
CALL dugong.rebuild_projection('sums');
SELECT count(*) FROM dugong.dead_letters;
SELECT n FROM sums WHERE id = id(7);

-- Broken off: it goes on where it was
CREATE TABLE brake (at uuid);
CREATE FUNCTION brake() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id = (SELECT at FROM brake) THEN
        RAISE EXCEPTION 'broken off' USING ERRCODE = '57014';
    END IF;
    INSERT INTO written VALUES (NEW.id);
    RETURN NEW;
END $$;
CREATE TABLE written (id uuid);
CREATE TRIGGER brake BEFORE INSERT OR UPDATE ON sums FOR EACH ROW EXECUTE FUNCTION brake();
\set VERBOSITY terse
INSERT INTO brake VALUES (id(700));
CALL dugong.rebuild_projection('sums');
SELECT projection, phase, done, total, percent, rate > 0 AS has_rate, time_left > '0' AS has_time_left, started_at <= updated_at AS started FROM dugong.rebuild_progress;
TRUNCATE brake, written;
CALL dugong.rebuild_projection('sums');
SELECT count(DISTINCT id) FROM written;
SELECT * FROM dugong.rebuild_progress;
-- With another fold it begins anew
INSERT INTO brake VALUES (id(700));
CALL dugong.rebuild_projection('sums');
CREATE OR REPLACE FUNCTION sum_apply(sum, dugong.domain_event) RETURNS sum LANGUAGE sql IMMUTABLE
BEGIN ATOMIC
    SELECT CASE ($2).type WHEN 'Gone' THEN NULL ELSE ROW(coalesce(($1).n, 0) + (($2).payload ->> 'n')::bigint)::sum END;
END;
TRUNCATE brake, written;
CALL dugong.rebuild_projection('sums');
SELECT count(DISTINCT id) FROM written;
SELECT count(*), sum(n) FROM sums;
DROP TRIGGER brake ON sums;
\set VERBOSITY default

-- Events: reset and replay, in one transaction
CREATE TABLE total (n bigint);
INSERT INTO total VALUES (0);
CREATE TABLE calls (replaying boolean);
CREATE FUNCTION total_add(event dugong.domain_event) RETURNS void LANGUAGE sql AS
$$ UPDATE total SET n = n + ((event).payload ->> 'n')::bigint; INSERT INTO calls VALUES (dugong.is_replaying()) $$;
CREATE FUNCTION total_reset() RETURNS void LANGUAGE sql AS 'UPDATE total SET n = 0';
SELECT dugong.create_projection('total', 'Sum', event_handler => 'total_add(dugong.domain_event)', types => '{Added}');
CALL dugong.run_projections();
SELECT n FROM total;
SELECT replaying, count(*) FROM calls GROUP BY 1;
CALL dugong.rebuild_projection('total');
SELECT dugong.alter_projection('total', reset_handler => 'total_reset()');
UPDATE total SET n = -1;
TRUNCATE calls;
CALL dugong.rebuild_projection('total');
SELECT n FROM total;
SELECT replaying, count(*) FROM calls GROUP BY 1;
SELECT lag_events, replaying, stale, dead_letters FROM dugong.projection_status WHERE projection = 'total';
SELECT * FROM dugong.rebuild_progress;
CALL dugong.rebuild_projection('total', id(1));

-- Offline: in many transactions
UPDATE total SET n = -1;
TRUNCATE calls;
SET dugong.batch_size = 100;
CALL dugong.rebuild_projection('total', offline => true);
SELECT n FROM total;
SELECT replaying, count(*) FROM calls GROUP BY 1;
SELECT batches > 10 AS many FROM dugong.checkpoints WHERE projection = 'total';
TRUNCATE calls;
SELECT add(1, 5);
CALL dugong.run_projections();
SELECT n FROM total;
SELECT replaying, count(*) FROM calls GROUP BY 1;
RESET dugong.batch_size;

-- Offline and broken off: it stays behind, and goes on
CREATE OR REPLACE FUNCTION total_add(event dugong.domain_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE total SET n = n + (event.payload ->> 'n')::bigint;
    IF (event.payload ->> 'n')::int = (SELECT at FROM stumble) THEN
        RAISE EXCEPTION 'broken off' USING ERRCODE = '57014';
    END IF;
END $$;
CREATE TABLE stumble (at int);
INSERT INTO stumble VALUES (600);
SET dugong.batch_size = 100;
CALL dugong.rebuild_projection('total', offline => true);
SELECT replaying, lag_events > 0 AS behind FROM dugong.projection_status WHERE projection = 'total';
TRUNCATE stumble;
CALL dugong.run_projections();
SELECT replaying, lag_events FROM dugong.projection_status WHERE projection = 'total';
SELECT n FROM total;
RESET dugong.batch_size;

-- What fails in a reset fails all
\set SHOW_CONTEXT never
CREATE OR REPLACE FUNCTION total_reset() RETURNS void LANGUAGE sql AS 'UPDATE total SET n = 1 / 0';
CALL dugong.rebuild_projection('total');
\set SHOW_CONTEXT errors
SELECT n FROM total;
SELECT lag_events FROM dugong.projection_status WHERE projection = 'total';
SELECT projection, phase FROM dugong.rebuild_progress;
CREATE OR REPLACE FUNCTION total_reset() RETURNS void LANGUAGE sql AS 'UPDATE total SET n = 0';
CALL dugong.rebuild_projection('total');
SELECT n FROM total;
SELECT projection, phase FROM dugong.rebuild_progress;

-- An inline query model
CREATE TABLE inline_sums (id uuid, tenant_id text, n bigint, PRIMARY KEY (id, tenant_id));
SELECT dugong.create_projection('inline', 'Sum', 'inline_sums', 'inline');
DELETE FROM inline_sums WHERE n % 2 = 0;
INSERT INTO inline_sums VALUES (id(9999), '', 1);
CALL dugong.rebuild_projection('inline');
(TABLE sums EXCEPT TABLE inline_sums) UNION ALL (TABLE inline_sums EXCEPT TABLE sums);
\c :home
DROP DATABASE regress_dugong_rebuild WITH (FORCE);
