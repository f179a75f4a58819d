-- Taking over the events of other tables.

CREATE TABLE dugong.imports (
    source text PRIMARY KEY,
    mapping jsonb,
    imported_by text NOT NULL,
    phase text NOT NULL CHECK (phase IN ('verify', 'import', 'done')),
    done bigint NOT NULL,
    total bigint,
    pid int NOT NULL,
    started_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    finished_at timestamptz
);
COMMENT ON TABLE dugong.imports IS 'tables whose events were imported, or are being imported; what was imported the log itself knows';
COMMENT ON COLUMN dugong.imports.phase IS
    'verify = all is read and checked, nothing written; import = it is written, in many transactions; done = nothing is left';
COMMENT ON COLUMN dugong.imports.done IS 'events of the source that are in the log';

CREATE PROCEDURE dugong.import_events(
    source regclass, mapping jsonb DEFAULT NULL, create_aggregate_types boolean DEFAULT false, batch_size int DEFAULT 5000)
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_import_events';
COMMENT ON PROCEDURE dugong.import_events(regclass, jsonb, boolean, int) IS
    'takes over the events of a table; mapping: SQL expressions for the attributes that are not columns of the same name; called again it goes on';

CREATE VIEW dugong.import_progress AS
SELECT i.source,
       i.phase,
       x.done,
       i.total,
       CASE WHEN i.total OPERATOR(pg_catalog.>) 0 THEN pg_catalog.round(100.0 OPERATOR(pg_catalog.*) i.done OPERATOR(pg_catalog./) i.total, 1) END AS percent,
       CASE WHEN x.seconds OPERATOR(pg_catalog.>) 0 THEN x.done OPERATOR(pg_catalog./) x.seconds END AS rate,
       CASE WHEN i.total OPERATOR(pg_catalog.>) i.done AND i.done OPERATOR(pg_catalog.>) 0 THEN
           pg_catalog.make_interval(secs => (x.seconds OPERATOR(pg_catalog.*) (i.total OPERATOR(pg_catalog.-) i.done) OPERATOR(pg_catalog./) i.done)::double precision) END AS time_left,
       i.imported_by,
       i.started_at,
       i.updated_at,
       i.finished_at,
       k.pid
FROM dugong.imports i
LEFT JOIN LATERAL (SELECT k.pid FROM pg_catalog.pg_locks k
    WHERE k.pid OPERATOR(pg_catalog.=) i.pid AND k.locktype OPERATOR(pg_catalog.=) 'advisory' AND k.objsubid OPERATOR(pg_catalog.=) -10742
        AND k.database OPERATOR(pg_catalog.=) (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
    LIMIT 1) k ON i.phase OPERATOR(pg_catalog.<>) 'done'
CROSS JOIN LATERAL (SELECT
    CASE WHEN i.phase OPERATOR(pg_catalog.=) 'verify' THEN COALESCE((
        SELECT pg_catalog.max((l.classid::bigint OPERATOR(pg_catalog.<<) 32) OPERATOR(pg_catalog.|) l.objid::bigint) FROM pg_catalog.pg_locks l
        WHERE l.pid OPERATOR(pg_catalog.=) k.pid AND l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.objsubid OPERATOR(pg_catalog.=) -10746), 0)
        ELSE i.done END AS done,
    EXTRACT(epoch FROM COALESCE(i.finished_at, pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.-) i.started_at) AS seconds) x
WHERE dugong.sees_tenant(NULL);
COMMENT ON VIEW dugong.import_progress IS
    'imports that run, are done, or were broken off (pid NULL, not done): CALL dugong.import_events() again goes on';
COMMENT ON COLUMN dugong.import_progress.done IS 'rows that are read, in phase verify; then events of the source that are in the log';
COMMENT ON COLUMN dugong.import_progress.total IS 'rows of the source; NULL until they are verified';
