-- Cached states of aggregates.  Not dumped: they come back by themselves.

CREATE TABLE dugong.aggregate_snapshots (
    aggregate_id uuid NOT NULL,
    aggregate_type_id int NOT NULL,
    tenant_id text NOT NULL,
    sequence_number bigint NOT NULL,
    fingerprint bigint NOT NULL,
    state bytea NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT pg_catalog.now()
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX aggregate_snapshots_idx ON dugong.aggregate_snapshots
    (aggregate_id, aggregate_type_id, tenant_id COLLATE "C");
-- Under a publication FOR ALL TABLES it could not be updated without
ALTER TABLE dugong.aggregate_snapshots REPLICA IDENTITY USING INDEX aggregate_snapshots_idx;
COMMENT ON TABLE dugong.aggregate_snapshots IS 'cached states of aggregates; may be emptied at any time';
COMMENT ON COLUMN dugong.aggregate_snapshots.sequence_number IS 'event after which the state was this';
COMMENT ON COLUMN dugong.aggregate_snapshots.fingerprint IS 'of the fold that made it; with another one, it is not used';
COMMENT ON COLUMN dugong.aggregate_snapshots.state IS 'state of the fold''s transition function, in binary form';

CREATE FUNCTION dugong.take_snapshot(
    aggregate_type text, aggregate_id uuid, tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_take_snapshot';
COMMENT ON FUNCTION dugong.take_snapshot(text, uuid, text, text) IS
    'takes a snapshot of an aggregate now; false if it has no events, is deleted, or its state cannot be stored';

CREATE FUNCTION dugong.drop_snapshots(aggregate_type text, origin text DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_drop_snapshots';
COMMENT ON FUNCTION dugong.drop_snapshots(text, text) IS
    'forgets all snapshots of an aggregate type; returns how many there were';

CREATE FUNCTION dugong.verify_snapshots(aggregate_type text, origin text DEFAULT NULL)
RETURNS TABLE (aggregate_id uuid, tenant_id text, sequence_number bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_verify_snapshots';
COMMENT ON FUNCTION dugong.verify_snapshots(text, text) IS
    'folds from the log and compares with the snapshots that are in use; reports and repairs those that are wrong';

CREATE FUNCTION dugong.snapshot_is_valid(aggregate_type_id int, fingerprint bigint) RETURNS boolean
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dugong_snapshot_is_valid';
COMMENT ON FUNCTION dugong.snapshot_is_valid(int, bigint) IS 'is a snapshot with this fingerprint used?';

CREATE VIEW dugong.snapshots AS
SELECT t.origin,
       t.name AS aggregate_type,
       s.aggregate_id,
       s.tenant_id,
       s.sequence_number,
       s.taken_at,
       pg_catalog.length(s.state) AS bytes,
       dugong.snapshot_is_valid(s.aggregate_type_id, s.fingerprint) AS valid
FROM dugong.aggregate_snapshots s
JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) s.aggregate_type_id
WHERE dugong.sees_tenant(s.tenant_id);
COMMENT ON VIEW dugong.snapshots IS 'snapshots, and whether they are used: those that another fold made are not';
