-- Projections and how far they have come.
--
-- A serial dump loads them in the order of their foreign keys: the log, the
-- registry, the checkpoints.  A parallel one does not; src/store/restore.c
-- does not rely on it.

CREATE TABLE dugong.projections (
    name text PRIMARY KEY CHECK (name <> ''),
    aggregate_type_id int NOT NULL,
    query_model text NOT NULL,
    start_position bigint REFERENCES dugong.event_log (position)
);
COMMENT ON TABLE dugong.projections IS 'registry of projections';
COMMENT ON COLUMN dugong.projections.aggregate_type_id IS 'aggregate type whose states it keeps';
COMMENT ON COLUMN dugong.projections.query_model IS
    'qualified name of the table that it maintains; text, so that pg_upgrade can move it';
COMMENT ON COLUMN dugong.projections.start_position IS 'handles events after this one; NULL = all';

CREATE FUNCTION dugong.refuse_projected_type() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_refuse_projected_type';
COMMENT ON FUNCTION dugong.refuse_projected_type() IS 'trigger: keeps aggregate types that have projections';
CREATE TRIGGER refuse_projected_type BEFORE DELETE ON dugong.aggregate_types
    FOR EACH ROW EXECUTE FUNCTION dugong.refuse_projected_type();

CREATE TABLE dugong.checkpoints (
    projection text PRIMARY KEY REFERENCES dugong.projections ON DELETE CASCADE,
    position bigint NOT NULL,
    system_identifier bigint NOT NULL,
    database_oid oid NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE dugong.checkpoints IS 'how far each projection has handled the log';
COMMENT ON COLUMN dugong.checkpoints.position IS 'every event up to here is handled, but for the holes';
COMMENT ON COLUMN dugong.checkpoints.system_identifier IS 'cluster that wrote it: transaction ids mean something only there';
COMMENT ON COLUMN dugong.checkpoints.database_oid IS 'database that wrote it';

CREATE TABLE dugong.checkpoint_holes (
    projection text REFERENCES dugong.checkpoints ON DELETE CASCADE,
    first_position bigint,
    last_position bigint NOT NULL CHECK (last_position >= first_position),
    transactions xid8[] NOT NULL,
    PRIMARY KEY (projection, first_position)
);
COMMENT ON TABLE dugong.checkpoint_holes IS 'positions below a checkpoint where events may still appear';
COMMENT ON COLUMN dugong.checkpoint_holes.transactions IS 'who may fill them; when all have ended and nothing came, the hole is forgotten';

CREATE PROCEDURE dugong.run_projections()
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_run_projections';
COMMENT ON PROCEDURE dugong.run_projections() IS
    'handles, in this session, all events that are committed now, as the background worker does';

CREATE FUNCTION dugong.start_workers() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_start_workers';
COMMENT ON FUNCTION dugong.start_workers() IS
    'starts the background worker at commit, also where no event was appended since a restore';
