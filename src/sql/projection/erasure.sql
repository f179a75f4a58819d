-- Taking content out of the log where the law demands it.

-- Subscribers find an erased event by its id: a publication may leave out positions, which are theirs.
ALTER TABLE dugong.event_log REPLICA IDENTITY USING INDEX event_log_id_idx;

-- The planner's statistics would keep copies of what is erased; nothing is searched by these columns.
ALTER TABLE dugong.event_log ALTER COLUMN payload SET STATISTICS 0, ALTER COLUMN metadata SET STATISTICS 0;
ALTER TABLE dugong.aggregate_snapshots ALTER COLUMN state SET STATISTICS 0;
ALTER TABLE dugong.parked_aggregates ALTER COLUMN message SET STATISTICS 0, ALTER COLUMN detail SET STATISTICS 0,
    ALTER COLUMN context SET STATISTICS 0;
ALTER TABLE dugong.projection_failures ALTER COLUMN message SET STATISTICS 0, ALTER COLUMN detail SET STATISTICS 0,
    ALTER COLUMN context SET STATISTICS 0;
ALTER TABLE dugong.deliveries ALTER COLUMN reason SET STATISTICS 0, ALTER COLUMN context SET STATISTICS 0;

CREATE TABLE dugong.erasure_log (
    id uuid PRIMARY KEY,
    aggregate_type_id int NOT NULL,
    aggregate_id uuid NOT NULL,
    tenant_id text NOT NULL,
    event_id uuid,
    keys text[],
    reason text NOT NULL CHECK (reason <> ''),
    erased_by text NOT NULL,
    triggered_by_user_id text,
    erased_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    first_sequence_number bigint NOT NULL,
    last_sequence_number bigint NOT NULL,
    events bigint NOT NULL
);
CREATE INDEX erasure_log_aggregate_idx ON dugong.erasure_log (aggregate_id);
COMMENT ON TABLE dugong.erasure_log IS 'what was erased, by whom and why; append-only';
COMMENT ON COLUMN dugong.erasure_log.id IS 'of the event $erased that tells of it';
COMMENT ON COLUMN dugong.erasure_log.event_id IS 'what was erased of; NULL = all events of the aggregate';
COMMENT ON COLUMN dugong.erasure_log.keys IS 'what was erased; NULL = all of payload and metadata';
COMMENT ON COLUMN dugong.erasure_log.erased_by IS 'role that had logged in';
COMMENT ON COLUMN dugong.erasure_log.triggered_by_user_id IS 'the setting dugong.triggered_by_user_id';

CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON dugong.erasure_log
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.refuse_change();
ALTER TABLE dugong.erasure_log ENABLE ALWAYS TRIGGER refuse_change;

CREATE VIEW dugong.erasures AS
SELECT x.id,
       t.origin,
       t.name AS aggregate_type,
       x.aggregate_id,
       x.tenant_id,
       x.event_id,
       x.keys,
       x.reason,
       x.erased_by,
       x.triggered_by_user_id,
       x.erased_at,
       x.first_sequence_number,
       x.last_sequence_number,
       x.events
FROM dugong.erasure_log x
LEFT JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) x.aggregate_type_id
WHERE dugong.sees_tenant(x.tenant_id);
COMMENT ON VIEW dugong.erasures IS 'what was erased, by whom, when and why';

CREATE FUNCTION dugong.erase_aggregate(
    aggregate_type text, aggregate_id uuid, reason text, tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS TABLE (what text, name text, count bigint, note text)
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_erase_aggregate';
COMMENT ON FUNCTION dugong.erase_aggregate(text, uuid, text, text, text) IS
    'erases payload and metadata of all events of an aggregate, which counts as deleted then; reports what was touched and what cannot be reached';

CREATE FUNCTION dugong.erase_payload(event_id uuid, keys text[], reason text)
RETURNS TABLE (what text, name text, count bigint, note text)
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_erase_payload';
COMMENT ON FUNCTION dugong.erase_payload(uuid, text[], text) IS
    'erases keys of payload and metadata of an event, NULL = all of both; refused if its aggregate''s fold fails without; reports as erase_aggregate()';

CREATE FUNCTION dugong.is_skeleton(event dugong.domain_event) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN (event).type = '$erased' OR ((event).payload IS NULL AND COALESCE((event).metadata ->> '$erased' = 'aggregate', false));
COMMENT ON FUNCTION dugong.is_skeleton(dugong.domain_event) IS
    'is it an event that no fold gets: what is left of one that was erased with its aggregate, or what tells of an erasure?';

SELECT pg_catalog.pg_extension_config_dump('dugong.erasure_log', '');
REVOKE ALL ON TYPE dugong.erasure_log, dugong.erasures FROM PUBLIC;
