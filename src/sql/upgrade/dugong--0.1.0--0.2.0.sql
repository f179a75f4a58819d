-- From 0.1.0 to 0.2.0
\echo Use "ALTER EXTENSION dugong UPDATE" to load this file. \quit

-- Under a publication FOR ALL TABLES a table without one can be neither updated nor deleted from.
ALTER TABLE dugong.aggregate_snapshots REPLICA IDENTITY USING INDEX aggregate_snapshots_idx;
ALTER TABLE dugong.stopped_workers REPLICA IDENTITY FULL;

-- These take their owner's identity themselves, at a tenth of the cost.
ALTER FUNCTION dugong.append_event(text, uuid, text, jsonb, bigint, uuid, int, jsonb, uuid, uuid, text, timestamptz, text, text) SECURITY INVOKER;
ALTER FUNCTION dugong.append_events(text, uuid, jsonb, bigint, jsonb, uuid, uuid, text, timestamptz, text, text) SECURITY INVOKER;
ALTER FUNCTION dugong.build_aggregate(text, uuid, bigint, timestamptz, boolean, boolean, text, text) SECURITY INVOKER;
ALTER FUNCTION dugong.build_aggregate(anyelement, text, uuid, bigint, timestamptz, boolean, boolean, text, text) SECURITY INVOKER;
ALTER FUNCTION dugong.load_for_update(anyelement, text, uuid, boolean, text, text) SECURITY INVOKER;
ALTER FUNCTION @extschema@.bank_open_account(text, numeric, uuid, uuid) SECURITY INVOKER;
ALTER FUNCTION @extschema@.bank_deposit(uuid, numeric, uuid) SECURITY INVOKER;
ALTER FUNCTION @extschema@.bank_withdraw(uuid, numeric, uuid) SECURITY INVOKER;
ALTER FUNCTION @extschema@.bank_transfer(uuid, uuid, numeric, uuid) SECURITY INVOKER;
ALTER FUNCTION @extschema@.bank_close_account(uuid, uuid) SECURITY INVOKER;
ALTER FUNCTION @extschema@.bank_get_account(uuid) SECURITY INVOKER;

-- Indexes that take less room; those of positions and ids have it from their next REINDEX on.
ALTER INDEX dugong.event_log_pkey SET (fillfactor = 98);
ALTER INDEX dugong.event_log_id_idx SET (fillfactor = 98);
DROP INDEX dugong.event_log_correlation_idx;
CREATE INDEX event_log_correlation_idx ON dugong.event_log
    USING brin (correlation_id uuid_bloom_ops (n_distinct_per_range = 1600, false_positive_rate = 0.01))
    WITH (pages_per_range = 32, autosummarize = on) WHERE correlation_id IS NOT NULL;

CREATE FUNCTION dugong.verify_projection(projection text, sample int DEFAULT NULL, repair boolean DEFAULT false)
RETURNS TABLE (aggregate_id uuid, tenant_id text, difference text, expected jsonb, actual jsonb, repaired boolean)
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_verify_projection';
COMMENT ON FUNCTION dugong.verify_projection(text, int, boolean) IS
    'the rows of a query model that are not what the log says: missing, extra or different; sample: of about so many aggregates only; repair: writes them anew';

CREATE FUNCTION dugong.query_model_as_of(query_model anyelement, as_of timestamptz DEFAULT NULL, to_position bigint DEFAULT NULL)
RETURNS SETOF anyelement
LANGUAGE c STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_query_model_as_of';
COMMENT ON FUNCTION dugong.query_model_as_of(anyelement, timestamptz, bigint) IS
    'a query model as it stood at a time, or when the log ended at a position; query_model: NULL of its table''s type';
REVOKE ALL ON FUNCTION dugong.verify_projection(text, int, boolean),
    dugong.query_model_as_of(anyelement, timestamptz, bigint) FROM PUBLIC;

-- Erasure
CREATE OR REPLACE VIEW dugong.domain_events AS
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
JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) e.aggregate_type_id;

CREATE OR REPLACE VIEW dugong.aggregates AS
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
WHERE f.sequence_number OPERATOR(pg_catalog.=) 1;

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
LEFT JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) x.aggregate_type_id;
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
REVOKE ALL ON FUNCTION dugong.erase_aggregate(text, uuid, text, text, text), dugong.erase_payload(uuid, text[], text),
    dugong.is_skeleton(dugong.domain_event) FROM PUBLIC;

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
    EXTRACT(epoch FROM COALESCE(i.finished_at, pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.-) i.started_at) AS seconds) x;
COMMENT ON VIEW dugong.import_progress IS
    'imports that run, are done, or were broken off (pid NULL, not done): CALL dugong.import_events() again goes on';
COMMENT ON COLUMN dugong.import_progress.done IS 'rows that are read, in phase verify; then events of the source that are in the log';
COMMENT ON COLUMN dugong.import_progress.total IS 'rows of the source; NULL until they are verified';
SELECT pg_catalog.pg_extension_config_dump('dugong.imports', '');
REVOKE ALL ON PROCEDURE dugong.import_events(regclass, jsonb, boolean, int) FROM PUBLIC;
REVOKE ALL ON TYPE dugong.imports, dugong.import_progress FROM PUBLIC;

-- Events found by their types and tags, across aggregates; and appending on the condition that none has come.

-- As event_types: no foreign key.
CREATE TABLE dugong.tag_declarations (
    aggregate_type_id int,
    type text CHECK (type <> ''),
    tags jsonb NOT NULL CHECK (jsonb_typeof(tags) = 'object'),
    PRIMARY KEY (aggregate_type_id, type)
);
COMMENT ON TABLE dugong.tag_declarations IS 'event types whose events are found by type and tags';
COMMENT ON COLUMN dugong.tag_declarations.tags IS 'name of each tag: key of the payload, or array of keys of objects in it';

CREATE TRIGGER changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON dugong.tag_declarations
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.registry_changed();
ALTER TABLE dugong.tag_declarations ENABLE ALWAYS TRIGGER changed;

-- A dump carries the entries: a row that comes back into the log with its position makes none.
CREATE TABLE dugong.event_tags (
    tag uuid,
    position bigint,
    PRIMARY KEY (tag, position)
);
COMMENT ON TABLE dugong.event_tags IS 'where the events of a type or tag are';
COMMENT ON COLUMN dugong.event_tags.tag IS 'derived from tenant, aggregate type, event type, name and value of the tag';

CREATE VIEW dugong.declared_tags AS
SELECT t.origin,
       t.name AS aggregate_type,
       d.type,
       d.tags
FROM dugong.tag_declarations d
JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) d.aggregate_type_id;
COMMENT ON VIEW dugong.declared_tags IS 'event types whose events are found by type and tags';

-- Runs with the caller's rights: he must own the aggregate type.
CREATE FUNCTION dugong.declare_tags(aggregate_type text, type text, tags jsonb, origin text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_declare_tags';
COMMENT ON FUNCTION dugong.declare_tags(text, text, jsonb, text) IS
    'declares by which tags an event type''s events are found, in the place of what was declared before; tags: object of name and key, or array of keys, of the payload';

CREATE FUNCTION dugong.drop_tags(aggregate_type text, type text, origin text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_drop_tags';
COMMENT ON FUNCTION dugong.drop_tags(text, text, text) IS 'takes back what declare_tags() has declared of an event type';

-- In READ COMMITTED it sees what is committed when it is called, not when its statement began.
CREATE FUNCTION dugong.read_events_matching(
    query jsonb, after_position bigint DEFAULT NULL, max_rows int DEFAULT NULL, backward boolean DEFAULT false,
    tenant_id text DEFAULT NULL)
RETURNS SETOF dugong.domain_event
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 30 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_read_events_matching';
COMMENT ON FUNCTION dugong.read_events_matching(jsonb, bigint, int, boolean, text) IS
    'events of some types and tags, in the order of positions; the last one''s position is the after_position of an append';

-- These must never be what a call without if_none_match means.  A call that gives its arguments by position fits both
-- functions, and is the other one's: text is preferred to name, and the arguments that follow are of the same types.
CREATE FUNCTION dugong.append_event(
    aggregate_type name, aggregate_id uuid, type text, payload jsonb DEFAULT NULL,
    expected_sequence_number bigint DEFAULT NULL, event_id uuid DEFAULT NULL, version int DEFAULT NULL,
    metadata jsonb DEFAULT NULL, correlation_id uuid DEFAULT NULL, triggered_by_event_id uuid DEFAULT NULL,
    triggered_by_user_id text DEFAULT NULL, event_timestamp timestamptz DEFAULT NULL,
    if_none_match jsonb DEFAULT NULL, after_position bigint DEFAULT NULL,
    tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS dugong.domain_event
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dugong_append_event_if';
COMMENT ON FUNCTION dugong.append_event(name, uuid, text, jsonb, bigint, uuid, int, jsonb, uuid, uuid, text, timestamptz, jsonb, bigint, text, text) IS
    'appends a domain event, if there is none of the query if_none_match beyond after_position; NULL = anywhere';

CREATE FUNCTION dugong.append_events(
    aggregate_type name, aggregate_id uuid, events jsonb, expected_sequence_number bigint DEFAULT NULL,
    metadata jsonb DEFAULT NULL, correlation_id uuid DEFAULT NULL, triggered_by_event_id uuid DEFAULT NULL,
    triggered_by_user_id text DEFAULT NULL, event_timestamp timestamptz DEFAULT NULL,
    if_none_match jsonb DEFAULT NULL, after_position bigint DEFAULT NULL,
    tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS SETOF dugong.domain_event
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dugong_append_events_if';
COMMENT ON FUNCTION dugong.append_events(name, uuid, jsonb, bigint, jsonb, uuid, uuid, text, timestamptz, jsonb, bigint, text, text) IS
    'appends many events to one aggregate, if there is none of the query if_none_match beyond after_position; NULL = anywhere';

SELECT pg_catalog.pg_extension_config_dump('dugong.tag_declarations', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.event_tags', '');
REVOKE ALL ON TYPE dugong.tag_declarations, dugong.event_tags, dugong.declared_tags FROM PUBLIC;
REVOKE ALL ON FUNCTION dugong.declare_tags(text, text, jsonb, text),
    dugong.drop_tags(text, text, text),
    dugong.read_events_matching(jsonb, bigint, int, boolean, text),
    dugong.append_event(name, uuid, text, jsonb, bigint, uuid, int, jsonb, uuid, uuid, text, timestamptz, jsonb, bigint, text, text),
    dugong.append_events(name, uuid, jsonb, bigint, jsonb, uuid, uuid, text, timestamptz, jsonb, bigint, text, text) FROM PUBLIC;
