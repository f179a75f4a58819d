-- Reading.

CREATE FUNCTION dugong.aggregate_events(
    aggregate_type text, aggregate_id uuid, from_sequence_number bigint DEFAULT NULL,
    to_sequence_number bigint DEFAULT NULL, tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS SETOF dugong.domain_event
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 30 SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_aggregate_events';
COMMENT ON FUNCTION dugong.aggregate_events(text, uuid, bigint, bigint, text, text) IS
    'events of an aggregate in their order, sequence numbers from and to inclusive; NULL = no bound';

CREATE FUNCTION dugong.read_events(
    after_position bigint DEFAULT NULL, max_rows int DEFAULT 1000, aggregate_types text[] DEFAULT NULL,
    types text[] DEFAULT NULL, correlation_id uuid DEFAULT NULL, backward boolean DEFAULT false,
    stop_at_gap boolean DEFAULT true, tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS SETOF dugong.domain_event
LANGUAGE c STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_read_events';
COMMENT ON FUNCTION dugong.read_events(bigint, int, text[], text[], uuid, boolean, boolean, text, text) IS
    'a page of the log in the order of positions; stops before the first hole that may still fill, unless stop_at_gap is off';

CREATE FUNCTION dugong.event(id uuid) RETURNS SETOF dugong.domain_event
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1 SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_event';
COMMENT ON FUNCTION dugong.event(uuid) IS 'the event of an id, or no row';

CREATE FUNCTION dugong.effects_of(event_id uuid) RETURNS SETOF dugong.domain_event
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10 SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_effects_of';
COMMENT ON FUNCTION dugong.effects_of(uuid) IS 'all events that an event triggered, directly or through others';

CREATE FUNCTION dugong.aggregate_ids(
    aggregate_type text, after uuid DEFAULT NULL, max_rows int DEFAULT 1000,
    tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS SETOF uuid
LANGUAGE c STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_aggregate_ids';
COMMENT ON FUNCTION dugong.aggregate_ids(text, uuid, int, text, text) IS
    'a page of the ids of a type''s aggregates, ascending, those greater than after';

CREATE FUNCTION dugong.aggregate_types() RETURNS SETOF dugong.aggregate_types
LANGUAGE sql STABLE PARALLEL SAFE ROWS 10 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT t.id, t.origin, t.name, t.owner, t.search_path, t.fold, t.depends_on, t.snapshot_interval, t.strict, t.external
    FROM dugong.aggregate_types t ORDER BY t.origin, t.name;
END;
COMMENT ON FUNCTION dugong.aggregate_types() IS 'the registry of aggregate types';

CREATE VIEW dugong.aggregates AS
SELECT t.origin,
       t.name AS aggregate_type,
       f.aggregate_id,
       f.tenant_id,
       l.sequence_number AS event_count,
       f.id AS first_event_id,
       f.type AS first_event_type,
       f.position AS first_position,
       f."timestamp" AS first_timestamp,
       l.id AS last_event_id,
       l.type AS last_event_type,
       l.position AS last_position,
       l."timestamp" AS last_timestamp,
       l.type OPERATOR(pg_catalog.=) '$erased' AND l.payload OPERATOR(pg_catalog.->>) 'eventIds' IS NULL AS erased
FROM dugong.event_log f
JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) f.aggregate_type_id
CROSS JOIN LATERAL (
    SELECT e.sequence_number, e.id, e.type, e.position, e."timestamp", e.payload
    FROM dugong.event_log e
    WHERE e.aggregate_id OPERATOR(pg_catalog.=) f.aggregate_id
      AND e.aggregate_type_id OPERATOR(pg_catalog.=) f.aggregate_type_id
      AND e.tenant_id COLLATE "C" OPERATOR(pg_catalog.=) f.tenant_id
    ORDER BY e.sequence_number DESC LIMIT 1) l
WHERE f.sequence_number OPERATOR(pg_catalog.=) 1 AND dugong.sees_tenant(f.tenant_id);
COMMENT ON VIEW dugong.aggregates IS 'every aggregate, with its first and last event and their number';

CREATE FUNCTION dugong.check_event_types()
RETURNS TABLE (origin text, aggregate_type text, type text, version int, current_version int,
               events bigint, failed bigint, event_id uuid, sqlstate text, message text, detail text)
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_check_event_types';
COMMENT ON FUNCTION dugong.check_event_types() IS
    'takes every stored event through its upcasts and payload type; one row for each type and version, with how many fail and the first that does';
