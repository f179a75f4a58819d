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
COMMENT ON TABLE dugong.aggregate_snapshots IS 'cached states of aggregates; may be emptied at any time';
COMMENT ON COLUMN dugong.aggregate_snapshots.sequence_number IS 'event after which the state was this';
COMMENT ON COLUMN dugong.aggregate_snapshots.fingerprint IS 'of the fold that made it; with another one, it is not used';
COMMENT ON COLUMN dugong.aggregate_snapshots.state IS 'state of the fold''s transition function, in binary form';

CREATE FUNCTION dugong.take_snapshot(
    aggregate_type text, aggregate_id uuid, tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_take_snapshot';
COMMENT ON FUNCTION dugong.take_snapshot(text, uuid, text, text) IS
    'takes a snapshot of an aggregate now; false if it has no events, is deleted, or its state cannot be stored';
