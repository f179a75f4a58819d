-- The log as everybody reads it.

CREATE FUNCTION dugong.current_version(aggregate_type_id int, type text, version int) RETURNS int
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dugong_current_version';
COMMENT ON FUNCTION dugong.current_version(int, text, int) IS 'version that an event is shown with: the declared one';

CREATE FUNCTION dugong.current_payload(aggregate_type_id int, type text, version int, payload jsonb) RETURNS jsonb
LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dugong_current_payload';
COMMENT ON FUNCTION dugong.current_payload(int, text, int, jsonb) IS
    'payload that an event is shown with: after the upcasts to the declared version';

CREATE VIEW dugong.domain_events AS
SELECT e.id,
       t.origin,
       t.name AS aggregate_type,
       e.aggregate_id,
       e.tenant_id,
       e.sequence_number,
       e.type,
       dugong.current_version(e.aggregate_type_id, e.type, e.version) AS version,
       CASE WHEN e.payload IS NULL AND e.metadata OPERATOR(pg_catalog.->>) '$erased' OPERATOR(pg_catalog.<>) 'keys' THEN NULL
            ELSE dugong.current_payload(e.aggregate_type_id, e.type, e.version, e.payload) END AS payload,
       e."timestamp",
       e.correlation_id,
       e.triggered_by_event_id,
       e.triggered_by_user_id,
       e.metadata,
       e.position
FROM dugong.event_log e
JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) e.aggregate_type_id
WHERE dugong.sees_tenant(e.tenant_id);
COMMENT ON VIEW dugong.domain_events IS 'every domain event; INSERT appends, UPDATE and DELETE are refused';

-- Without this cast, fold(e) FROM dugong.domain_events e does not resolve.
CREATE FUNCTION dugong.to_domain_event(dugong.domain_events) RETURNS dugong.domain_event
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN ROW($1.id, $1.origin, $1.aggregate_type, $1.aggregate_id, $1.tenant_id, $1.sequence_number,
           $1.type, $1.version, $1.payload, $1."timestamp", $1.correlation_id,
           $1.triggered_by_event_id, $1.triggered_by_user_id, $1.metadata, $1.position)::dugong.domain_event;
COMMENT ON FUNCTION dugong.to_domain_event(dugong.domain_events) IS 'a row of the view as a domain event';
CREATE CAST (dugong.domain_events AS dugong.domain_event)
    WITH FUNCTION dugong.to_domain_event(dugong.domain_events) AS IMPLICIT;
COMMENT ON CAST (dugong.domain_events AS dugong.domain_event) IS 'lets a fold be called with rows of the view';

CREATE FUNCTION dugong.domain_events_insert() RETURNS trigger
LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_domain_events_insert';
COMMENT ON FUNCTION dugong.domain_events_insert() IS 'trigger: appends the event that is inserted into the view';

CREATE TRIGGER domain_events_insert INSTEAD OF INSERT ON dugong.domain_events
    FOR EACH ROW EXECUTE FUNCTION dugong.domain_events_insert();
CREATE TRIGGER refuse_change INSTEAD OF UPDATE OR DELETE ON dugong.domain_events
    FOR EACH ROW EXECUTE FUNCTION dugong.refuse_change();
CREATE TRIGGER refuse_change_at_all BEFORE UPDATE OR DELETE ON dugong.domain_events
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.refuse_change();
