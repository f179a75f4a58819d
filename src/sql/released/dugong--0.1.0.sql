-- dugong: event sourcing inside PostgreSQL.
-- This script is put together by the Makefile from the parts in src/sql.
\echo Use "CREATE EXTENSION dugong" to load this file. \quit

CREATE SCHEMA dugong;
COMMENT ON SCHEMA dugong IS 'dugong: the event log, aggregates, projections';
-- The domain event.

CREATE TYPE dugong.domain_event AS (
    id uuid,
    origin text,
    aggregate_type text,
    aggregate_id uuid,
    tenant_id text,
    sequence_number bigint,
    type text,
    version int,
    payload jsonb,
    "timestamp" timestamptz,
    correlation_id uuid,
    triggered_by_event_id uuid,
    triggered_by_user_id text,
    metadata jsonb,
    position bigint
);
COMMENT ON TYPE dugong.domain_event IS 'an immutable fact: what happened to one aggregate';
COMMENT ON COLUMN dugong.domain_event.id IS 'unique in the log; the same id again appends nothing';
COMMENT ON COLUMN dugong.domain_event.origin IS 'service (bounded context) that owns the aggregate type';
COMMENT ON COLUMN dugong.domain_event.aggregate_type IS 'aggregate type, unique within its origin';
COMMENT ON COLUMN dugong.domain_event.tenant_id IS 'tenant; empty = no tenant';
COMMENT ON COLUMN dugong.domain_event.sequence_number IS '1, 2, 3 ... within one aggregate, without a hole';
COMMENT ON COLUMN dugong.domain_event.type IS 'what happened';
COMMENT ON COLUMN dugong.domain_event.version IS 'version of the event type''s schema';
COMMENT ON COLUMN dugong.domain_event."timestamp" IS 'when it was appended, never before its predecessor; or what the caller gave';
COMMENT ON COLUMN dugong.domain_event.correlation_id IS 'joins the events of one business transaction';
COMMENT ON COLUMN dugong.domain_event.triggered_by_event_id IS 'event that caused this one';
COMMENT ON COLUMN dugong.domain_event.triggered_by_user_id IS 'user who caused it';
COMMENT ON COLUMN dugong.domain_event.position IS 'order in the whole log; grows, may have holes';
-- The names of aggregate types.

CREATE FUNCTION dugong.aggregate_type_id(origin text, name text) RETURNS int
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN ('x' || encode(substring(sha256(convert_to(origin || E'\n' || name, 'UTF8')), 1, 4), 'hex'))::bit(32)::int;
COMMENT ON FUNCTION dugong.aggregate_type_id(text, text) IS
    'the id that stands for an aggregate type in the log; the same in every database';

CREATE FUNCTION dugong.registry_changed() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_registry_changed';
COMMENT ON FUNCTION dugong.registry_changed() IS 'trigger: makes all sessions read the registry again';

CREATE TABLE dugong.aggregate_types (
    id int PRIMARY KEY,
    origin text NOT NULL CHECK (origin <> ''),
    name text NOT NULL CHECK (name <> ''),
    owner text NOT NULL,
    search_path text NOT NULL,
    fold text,
    depends_on text[],
    snapshot_interval int CHECK (snapshot_interval >= 0),
    strict boolean NOT NULL,
    external boolean NOT NULL,
    UNIQUE (origin, name),
    CONSTRAINT aggregate_types_id_check CHECK (id = dugong.aggregate_type_id(origin, name)),
    CONSTRAINT aggregate_types_channel_check CHECK (octet_length(origin || '-' || name) <= 63)
);
CREATE UNIQUE INDEX aggregate_types_channel_idx ON dugong.aggregate_types ((origin || '-' || name));
COMMENT ON TABLE dugong.aggregate_types IS 'registry of aggregate types';
COMMENT ON COLUMN dugong.aggregate_types.id IS 'stands for the type in the log; derived from origin and name';
COMMENT ON COLUMN dugong.aggregate_types.origin IS 'service (bounded context) that owns the type';
COMMENT ON COLUMN dugong.aggregate_types.owner IS 'role whose rights its fold, upcasts and payload types have';
COMMENT ON COLUMN dugong.aggregate_types.search_path IS 'what its fold, upcasts and payload types find names along: that of whoever registered the fold';
COMMENT ON COLUMN dugong.aggregate_types.fold IS
    'signature of the aggregate function that makes a state out of events; text, so that pg_upgrade can move it';
COMMENT ON COLUMN dugong.aggregate_types.depends_on IS
    'signatures of functions that the fold calls: when one changes, snapshots are void';
COMMENT ON COLUMN dugong.aggregate_types.snapshot_interval IS 'events between two snapshots; NULL = the default, 0 = none';
COMMENT ON COLUMN dugong.aggregate_types.strict IS 'takes only event types that are declared';
COMMENT ON COLUMN dugong.aggregate_types.external IS 'another service''s: its events are received, not appended';

CREATE TRIGGER changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON dugong.aggregate_types
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.registry_changed();
ALTER TABLE dugong.aggregate_types ENABLE ALWAYS TRIGGER changed;

-- A parallel restore loads tables in any order: no foreign key.
CREATE TABLE dugong.event_types (
    aggregate_type_id int,
    type text CHECK (type <> ''),
    version int CHECK (version > 0),
    payload_type text,
    upcast text,
    PRIMARY KEY (aggregate_type_id, type, version)
);
COMMENT ON TABLE dugong.event_types IS 'event types that were declared, one row for each version';
COMMENT ON COLUMN dugong.event_types.payload_type IS 'composite type or domain that payloads must fit; NULL = any';
COMMENT ON COLUMN dugong.event_types.upcast IS
    'signature of the function that makes a payload of this version out of one of the version before; NULL = it stays as it is';

CREATE TRIGGER changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON dugong.event_types
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.registry_changed();
ALTER TABLE dugong.event_types ENABLE ALWAYS TRIGGER changed;
-- The log.  Its columns are in the order of src/store/log.h, fixed sizes first.

CREATE SEQUENCE dugong.event_log_position_seq AS bigint CACHE 1 NO CYCLE;
COMMENT ON SEQUENCE dugong.event_log_position_seq IS
    'positions of the log; must keep CACHE 1, or projections lose events';

CREATE TABLE dugong.event_log (
    position bigint NOT NULL,
    sequence_number bigint NOT NULL CHECK (sequence_number > 0),
    "timestamp" timestamptz NOT NULL,
    id uuid NOT NULL,
    aggregate_id uuid NOT NULL,
    aggregate_type_id int NOT NULL,
    version int NOT NULL CHECK (version > 0),
    tenant_id text NOT NULL,
    type text NOT NULL CHECK (type <> ''),
    payload jsonb,
    correlation_id uuid,
    triggered_by_event_id uuid,
    triggered_by_user_id text,
    metadata jsonb,
    CONSTRAINT event_log_pkey PRIMARY KEY (position)
);
ALTER SEQUENCE dugong.event_log_position_seq OWNED BY dugong.event_log.position;
CREATE UNIQUE INDEX event_log_id_idx ON dugong.event_log (id);
CREATE UNIQUE INDEX event_log_stream_idx ON dugong.event_log
    (aggregate_id, aggregate_type_id, tenant_id COLLATE "C", sequence_number);
-- Finding aggregates: one entry for each
CREATE UNIQUE INDEX event_log_first_idx ON dugong.event_log
    (aggregate_type_id, tenant_id COLLATE "C", aggregate_id) WHERE sequence_number = 1;
CREATE INDEX event_log_correlation_idx ON dugong.event_log (correlation_id, position)
    WHERE correlation_id IS NOT NULL;
CREATE INDEX event_log_triggered_by_idx ON dugong.event_log (triggered_by_event_id)
    WHERE triggered_by_event_id IS NOT NULL;
COMMENT ON TABLE dugong.event_log IS
    'the log: every domain event, append-only; read it through dugong.domain_events';
COMMENT ON COLUMN dugong.event_log.position IS 'order in the whole log; drawn by trigger; a row that brings one is a restore';
COMMENT ON COLUMN dugong.event_log.sequence_number IS '1, 2, 3 ... within one aggregate; a value given is an expectation';
COMMENT ON COLUMN dugong.event_log.tenant_id IS 'empty = no tenant';

-- Where the log has grown: not dumped, so that no worker consumes a database
-- while it is being restored.
CREATE TABLE dugong.home (
    system_identifier bigint NOT NULL,
    database_oid oid NOT NULL
);
COMMENT ON TABLE dugong.home IS 'clusters and databases in which positions were drawn; workers work only there';

CREATE FUNCTION dugong.event_assign() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_event_assign';
COMMENT ON FUNCTION dugong.event_assign() IS
    'trigger: checks an event and gives it its position, sequence number, id and timestamp';

CREATE FUNCTION dugong.refuse_change() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_refuse_change';
COMMENT ON FUNCTION dugong.refuse_change() IS 'trigger: refuses UPDATE, DELETE and TRUNCATE (UG005)';

CREATE TRIGGER event_assign BEFORE INSERT ON dugong.event_log
    FOR EACH ROW EXECUTE FUNCTION dugong.event_assign();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON dugong.event_log
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.refuse_change();
ALTER TABLE dugong.event_log ENABLE ALWAYS TRIGGER event_assign;
ALTER TABLE dugong.event_log ENABLE ALWAYS TRIGGER refuse_change;
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
       dugong.current_payload(e.aggregate_type_id, e.type, e.version, e.payload) AS payload,
       e."timestamp",
       e.correlation_id,
       e.triggered_by_event_id,
       e.triggered_by_user_id,
       e.metadata,
       e.position
FROM dugong.event_log e
JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) e.aggregate_type_id;
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
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_domain_events_insert';
COMMENT ON FUNCTION dugong.domain_events_insert() IS 'trigger: appends the event that is inserted into the view';

CREATE TRIGGER domain_events_insert INSTEAD OF INSERT ON dugong.domain_events
    FOR EACH ROW EXECUTE FUNCTION dugong.domain_events_insert();
CREATE TRIGGER refuse_change INSTEAD OF UPDATE OR DELETE ON dugong.domain_events
    FOR EACH ROW EXECUTE FUNCTION dugong.refuse_change();
CREATE TRIGGER refuse_change_at_all BEFORE UPDATE OR DELETE ON dugong.domain_events
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.refuse_change();
-- Appending.

CREATE FUNCTION dugong.append_event(
    aggregate_type text, aggregate_id uuid, type text, payload jsonb DEFAULT NULL,
    expected_sequence_number bigint DEFAULT NULL, event_id uuid DEFAULT NULL, version int DEFAULT NULL,
    metadata jsonb DEFAULT NULL, correlation_id uuid DEFAULT NULL, triggered_by_event_id uuid DEFAULT NULL,
    triggered_by_user_id text DEFAULT NULL, event_timestamp timestamptz DEFAULT NULL,
    tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS dugong.domain_event
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'dugong_append_event';
COMMENT ON FUNCTION dugong.append_event(text, uuid, text, jsonb, bigint, uuid, int, jsonb, uuid, uuid, text, timestamptz, text, text) IS
    'appends a domain event and returns it as stored; expected_sequence_number: of the last event, 0 = none, NULL = any';

CREATE FUNCTION dugong.append_events(
    aggregate_type text, aggregate_id uuid, events jsonb, expected_sequence_number bigint DEFAULT NULL,
    metadata jsonb DEFAULT NULL, correlation_id uuid DEFAULT NULL, triggered_by_event_id uuid DEFAULT NULL,
    triggered_by_user_id text DEFAULT NULL, event_timestamp timestamptz DEFAULT NULL,
    tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS SETOF dugong.domain_event
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'dugong_append_events';
COMMENT ON FUNCTION dugong.append_events(text, uuid, jsonb, bigint, jsonb, uuid, uuid, text, timestamptz, text, text) IS
    'appends many events to one aggregate, all or none; events: array of {type, payload, eventId, version, metadata}';
-- Reading.

CREATE FUNCTION dugong.aggregate_events(
    aggregate_type text, aggregate_id uuid, from_sequence_number bigint DEFAULT NULL,
    to_sequence_number bigint DEFAULT NULL, tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS SETOF dugong.domain_event
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 30 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_aggregate_events';
COMMENT ON FUNCTION dugong.aggregate_events(text, uuid, bigint, bigint, text, text) IS
    'events of an aggregate in their order, sequence numbers from and to inclusive; NULL = no bound';

CREATE FUNCTION dugong.read_events(
    after_position bigint DEFAULT NULL, max_rows int DEFAULT 1000, aggregate_types text[] DEFAULT NULL,
    types text[] DEFAULT NULL, correlation_id uuid DEFAULT NULL, backward boolean DEFAULT false,
    stop_at_gap boolean DEFAULT true, tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS SETOF dugong.domain_event
LANGUAGE c STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_read_events';
COMMENT ON FUNCTION dugong.read_events(bigint, int, text[], text[], uuid, boolean, boolean, text, text) IS
    'a page of the log in the order of positions; stops before the first hole that may still fill, unless stop_at_gap is off';

CREATE FUNCTION dugong.event(id uuid) RETURNS SETOF dugong.domain_event
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 1 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_event';
COMMENT ON FUNCTION dugong.event(uuid) IS 'the event of an id, or no row';

CREATE FUNCTION dugong.effects_of(event_id uuid) RETURNS SETOF dugong.domain_event
LANGUAGE sql STABLE PARALLEL RESTRICTED ROWS 10 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    WITH RECURSIVE effects AS (
        SELECT e.id FROM dugong.event_log e WHERE e.triggered_by_event_id OPERATOR(pg_catalog.=) effects_of.event_id
        UNION
        SELECT e.id FROM effects c JOIN dugong.event_log e ON e.triggered_by_event_id OPERATOR(pg_catalog.=) c.id
    )
    SELECT (e::dugong.domain_event).*
    FROM effects JOIN dugong.domain_events e ON e.id OPERATOR(pg_catalog.=) effects.id
    WHERE effects.id OPERATOR(pg_catalog.<>) effects_of.event_id
    ORDER BY e.position;
END;
COMMENT ON FUNCTION dugong.effects_of(uuid) IS 'all events that an event triggered, directly or through others';

CREATE FUNCTION dugong.aggregate_ids(
    aggregate_type text, after uuid DEFAULT NULL, max_rows int DEFAULT 1000,
    tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS SETOF uuid
LANGUAGE c STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp
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
       l."timestamp" AS last_timestamp
FROM dugong.event_log f
JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) f.aggregate_type_id
CROSS JOIN LATERAL (
    SELECT e.sequence_number, e.id, e.type, e.position, e."timestamp"
    FROM dugong.event_log e
    WHERE e.aggregate_id OPERATOR(pg_catalog.=) f.aggregate_id
      AND e.aggregate_type_id OPERATOR(pg_catalog.=) f.aggregate_type_id
      AND e.tenant_id COLLATE "C" OPERATOR(pg_catalog.=) f.tenant_id
    ORDER BY e.sequence_number DESC LIMIT 1) l
WHERE f.sequence_number OPERATOR(pg_catalog.=) 1;
COMMENT ON VIEW dugong.aggregates IS 'every aggregate, with its first and last event and their number';

CREATE FUNCTION dugong.check_event_types()
RETURNS TABLE (origin text, aggregate_type text, type text, version int, current_version int,
               events bigint, failed bigint, event_id uuid, sqlstate text, message text, detail text)
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_check_event_types';
COMMENT ON FUNCTION dugong.check_event_types() IS
    'takes every stored event through its upcasts and payload type; one row for each type and version, with how many fail and the first that does';
-- Domain events as other services serialise them.

CREATE FUNCTION dugong.to_message(event dugong.domain_event) RETURNS jsonb
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN jsonb_build_object(
        'origin', (event).origin,
        'aggregateType', (event).aggregate_type,
        'type', (event).type,
        'version', (event).version,
        'id', (event).id,
        'aggregateId', (event).aggregate_id,
        'payload', (event).payload,
        'sequenceNumber', (event).sequence_number,
        'timestamp', to_char((event)."timestamp" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            || CASE WHEN extract(year FROM (event)."timestamp" AT TIME ZONE 'UTC') < 0 THEN ' BC' ELSE '' END)
    || CASE WHEN (event).tenant_id <> '' THEN jsonb_build_object('tenantId', (event).tenant_id) ELSE '{}' END
    || CASE WHEN (event).correlation_id IS NOT NULL
            THEN jsonb_build_object('correlationId', (event).correlation_id) ELSE '{}' END
    || CASE WHEN (event).triggered_by_event_id IS NOT NULL
            THEN jsonb_build_object('triggeredByEventId', (event).triggered_by_event_id) ELSE '{}' END
    || CASE WHEN (event).triggered_by_user_id IS NOT NULL
            THEN jsonb_build_object('triggeredByUserId', (event).triggered_by_user_id) ELSE '{}' END
    || CASE WHEN (event).metadata IS NOT NULL
            THEN jsonb_build_object('metadata', (event).metadata) ELSE '{}' END;
COMMENT ON FUNCTION dugong.to_message(dugong.domain_event) IS
    'a domain event as a JSON object with camelCase keys, as DugongJS serialises it';

CREATE FUNCTION dugong.receive_message(message jsonb) RETURNS dugong.domain_event
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_receive_message';
COMMENT ON FUNCTION dugong.receive_message(jsonb) IS
    'stores a domain event of another origin, once per id and in sequence';
-- Events out of the rows of ordinary tables.

CREATE FUNCTION dugong.append_row_event() RETURNS trigger
LANGUAGE c VOLATILE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_append_row_event';
COMMENT ON FUNCTION dugong.append_row_event() IS
    'trigger AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW: appends an event; arguments: aggregate type, key column, recorded columns (default: all)';

CREATE FUNCTION dugong.aggregate_id(aggregate_type text, VARIADIC key text[]) RETURNS uuid
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'dugong_aggregate_id';
COMMENT ON FUNCTION dugong.aggregate_id(text, text[]) IS
    'id of the aggregate that append_row_event() keeps for a row whose key is no UUID';

CREATE FUNCTION dugong.row_apply(state jsonb, event dugong.domain_event) RETURNS jsonb
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN (event).payload ? 'new' THEN COALESCE(state, '{}') || ((event).payload -> 'new')
            WHEN (event).payload ? 'old' THEN NULL
            ELSE state END;
COMMENT ON FUNCTION dugong.row_apply(jsonb, dugong.domain_event) IS 'a row as JSON after one more event; NULL = deleted';

CREATE AGGREGATE dugong.row_fold(dugong.domain_event) (SFUNC = dugong.row_apply, STYPE = jsonb, PARALLEL = SAFE);
COMMENT ON AGGREGATE dugong.row_fold(dugong.domain_event) IS
    'fold that gives back, as JSON, the row whose events append_row_event() appended';
-- The log must not go by accident: loads the library, whose hook refuses.

CREATE FUNCTION dugong.guard_drop() RETURNS event_trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_guard_drop';
COMMENT ON FUNCTION dugong.guard_drop() IS
    'event trigger: refuses to drop the log while it holds events, unless dugong.allow_drop is on';

CREATE EVENT TRIGGER dugong_guard_drop ON ddl_command_start
    WHEN TAG IN ('DROP EXTENSION', 'DROP SCHEMA', 'DROP OWNED', 'DROP TABLE', 'ALTER EXTENSION')
    EXECUTE FUNCTION dugong.guard_drop();
ALTER EVENT TRIGGER dugong_guard_drop ENABLE ALWAYS;
COMMENT ON EVENT TRIGGER dugong_guard_drop IS 'refuses to drop the event log while it holds events';
-- Creating, altering and dropping aggregate types and event types.
-- These run with the caller's rights: the caller becomes the owner.  The two without a search_path of their own
-- look at the caller's: it will be that of the type's code.

CREATE FUNCTION dugong.create_aggregate_type(
    name text, fold regprocedure DEFAULT NULL, snapshot_interval int DEFAULT NULL, strict boolean DEFAULT false,
    depends_on regprocedure[] DEFAULT NULL, origin text DEFAULT NULL, external boolean DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dugong_create_aggregate_type';
COMMENT ON FUNCTION dugong.create_aggregate_type(text, regprocedure, int, boolean, regprocedure[], text, boolean) IS
    'registers an aggregate type; origin NULL = dugong.origin, or the database''s name; another origin makes it external, unless said otherwise';

CREATE FUNCTION dugong.alter_aggregate_type(
    name text, fold regprocedure DEFAULT NULL, snapshot_interval int DEFAULT NULL, strict boolean DEFAULT NULL,
    depends_on regprocedure[] DEFAULT NULL, owner regrole DEFAULT NULL, origin text DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dugong_alter_aggregate_type';
COMMENT ON FUNCTION dugong.alter_aggregate_type(text, regprocedure, int, boolean, regprocedure[], regrole, text) IS
    'changes an aggregate type; NULL leaves as it is';

CREATE FUNCTION dugong.drop_aggregate_type(name text, origin text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_drop_aggregate_type';
COMMENT ON FUNCTION dugong.drop_aggregate_type(text, text) IS 'drops an aggregate type that has no events';

CREATE FUNCTION dugong.create_event_type(
    aggregate_type text, type text, version int DEFAULT 1, payload_type regtype DEFAULT NULL,
    upcast regprocedure DEFAULT NULL, origin text DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_create_event_type';
COMMENT ON FUNCTION dugong.create_event_type(text, text, int, regtype, regprocedure, text) IS
    'declares a version of an event type: what its payload must fit, and how one of the version before becomes one of this';

CREATE FUNCTION dugong.drop_event_type(
    aggregate_type text, type text, version int DEFAULT NULL, origin text DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_drop_event_type';
COMMENT ON FUNCTION dugong.drop_event_type(text, text, int, text) IS
    'takes back the declaration of the latest version of an event type';
-- Building aggregates.

CREATE FUNCTION dugong.build_aggregate(
    aggregate_type text, aggregate_id uuid, to_sequence_number bigint DEFAULT NULL, as_of timestamptz DEFAULT NULL,
    return_deleted boolean DEFAULT false, skip_snapshot boolean DEFAULT false, tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS jsonb
LANGUAGE c STABLE PARALLEL RESTRICTED SECURITY DEFINER
AS 'MODULE_PATHNAME', 'dugong_build_aggregate_jsonb';
COMMENT ON FUNCTION dugong.build_aggregate(text, uuid, bigint, timestamptz, boolean, boolean, text, text) IS
    'an aggregate as its events make it, as JSON; NULL if it has no events or is deleted';

CREATE FUNCTION dugong.build_aggregate(
    state anyelement, aggregate_type text, aggregate_id uuid, to_sequence_number bigint DEFAULT NULL,
    as_of timestamptz DEFAULT NULL, return_deleted boolean DEFAULT false, skip_snapshot boolean DEFAULT false, tenant_id text DEFAULT NULL,
    origin text DEFAULT NULL)
RETURNS anyelement
LANGUAGE c STABLE PARALLEL RESTRICTED SECURITY DEFINER
AS 'MODULE_PATHNAME', 'dugong_build_aggregate';
COMMENT ON FUNCTION dugong.build_aggregate(anyelement, text, uuid, bigint, timestamptz, boolean, boolean, text, text) IS
    'an aggregate as its events make it; state: NULL of the type that its fold gives';

CREATE FUNCTION dugong.load_for_update(
    state anyelement, aggregate_type text, aggregate_id uuid, missing_ok boolean DEFAULT false,
    tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS anyelement
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'dugong_load_for_update';
COMMENT ON FUNCTION dugong.load_for_update(anyelement, text, uuid, boolean, text, text) IS
    'locks an aggregate until the transaction ends and builds it, for a command to decide on';

CREATE TYPE dugong.aggregate_change AS (
    sequence_number bigint,
    event dugong.domain_event,
    state jsonb,
    changes jsonb
);
COMMENT ON TYPE dugong.aggregate_change IS 'an event of an aggregate, the state after it, and what it changed';
COMMENT ON COLUMN dugong.aggregate_change.state IS 'state after the event; NULL = deleted';
COMMENT ON COLUMN dugong.aggregate_change.changes IS 'by key of the state: {"old": value, "new": value}';

CREATE FUNCTION dugong.aggregate_history(
    aggregate_type text, aggregate_id uuid, tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS SETOF dugong.aggregate_change
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 30 SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_aggregate_history';
COMMENT ON FUNCTION dugong.aggregate_history(text, uuid, text, text) IS
    'each event of an aggregate with the state after it and what it changed';
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

CREATE FUNCTION dugong.drop_snapshots(aggregate_type text, origin text DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_drop_snapshots';
COMMENT ON FUNCTION dugong.drop_snapshots(text, text) IS
    'forgets all snapshots of an aggregate type; returns how many there were';

CREATE FUNCTION dugong.verify_snapshots(aggregate_type text, origin text DEFAULT NULL)
RETURNS TABLE (aggregate_id uuid, tenant_id text, sequence_number bigint)
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
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
JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) s.aggregate_type_id;
COMMENT ON VIEW dugong.snapshots IS 'snapshots, and whether they are used: those that another fold made are not';
-- A commit publishes what the transaction appended.

CREATE FUNCTION dugong.event_mark() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_event_mark';
COMMENT ON FUNCTION dugong.event_mark() IS
    'trigger: marks the transaction, whose commit notifies the channel origin-aggregate_type';

CREATE TRIGGER event_mark AFTER INSERT ON dugong.event_log
    FOR EACH ROW EXECUTE FUNCTION dugong.event_mark();
ALTER TABLE dugong.event_log ENABLE ALWAYS TRIGGER event_mark;
-- Projections and how far they have come.
--
-- No foreign keys between these tables and to the log: a parallel restore
-- loads them in any order.

CREATE TABLE dugong.projections (
    name text PRIMARY KEY CHECK (name <> '' AND octet_length(name) <= 52),
    owner text NOT NULL,
    search_path text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('query_model', 'aggregate', 'aggregate_set', 'event', 'event_set', 'subscription')),
    aggregate_type_ids int[] NOT NULL CHECK (cardinality(aggregate_type_ids) > 0),
    types text[],
    query_model text,
    update_handler text,
    delete_handler text,
    event_handler text,
    set_handler text,
    reset_handler text,
    mode text NOT NULL CHECK (mode IN ('async', 'inline')),
    on_error text NOT NULL CHECK (on_error IN ('park', 'stop')),
    state text NOT NULL CHECK (state IN ('running', 'paused', 'stopped')),
    start_position bigint NOT NULL CHECK (start_position >= 0),
    visibility_timeout interval,
    CHECK ((kind = 'subscription') = (visibility_timeout IS NOT NULL)),
    CHECK ((kind = 'query_model') = (query_model IS NOT NULL)),
    CHECK ((kind = 'aggregate') = (update_handler IS NOT NULL AND delete_handler IS NOT NULL)),
    CHECK ((kind = 'event') = (event_handler IS NOT NULL)),
    CHECK ((kind LIKE '%set') = (set_handler IS NOT NULL))
);
COMMENT ON TABLE dugong.projections IS 'registry of projections and subscriptions';
COMMENT ON COLUMN dugong.projections.owner IS 'role whose rights its handlers have';
COMMENT ON COLUMN dugong.projections.search_path IS 'what its handlers find names along: that of whoever registered them';
COMMENT ON COLUMN dugong.projections.kind IS
    'query_model: dugong writes a table; aggregate, aggregate_set: handlers get states; event, event_set: a handler gets events; subscription: a program outside fetches them';
COMMENT ON COLUMN dugong.projections.aggregate_type_ids IS 'aggregate types that it reads';
COMMENT ON COLUMN dugong.projections.types IS 'event types that it reads; NULL = all';
COMMENT ON COLUMN dugong.projections.query_model IS
    'qualified name of the table that dugong maintains; text, so that pg_upgrade can move it, as the handlers are';
COMMENT ON COLUMN dugong.projections.mode IS 'async = by a background worker; inline = within the append';
COMMENT ON COLUMN dugong.projections.on_error IS 'park = set the failing aggregate aside and go on; stop = stop the projection';
COMMENT ON COLUMN dugong.projections.state IS 'stopped = by an error, see dugong.projection_status';
COMMENT ON COLUMN dugong.projections.start_position IS 'handles events after this one';
COMMENT ON COLUMN dugong.projections.visibility_timeout IS 'of a subscription: what is fetched and not acknowledged within it is delivered again';

CREATE TRIGGER changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON dugong.projections
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.registry_changed();
ALTER TABLE dugong.projections ENABLE ALWAYS TRIGGER changed;

CREATE FUNCTION dugong.refuse_projected_type() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_refuse_projected_type';
COMMENT ON FUNCTION dugong.refuse_projected_type() IS 'trigger: keeps aggregate types that have projections';
CREATE TRIGGER refuse_projected_type BEFORE DELETE ON dugong.aggregate_types
    FOR EACH ROW EXECUTE FUNCTION dugong.refuse_projected_type();

CREATE TABLE dugong.checkpoints (
    projection text PRIMARY KEY,
    position bigint NOT NULL,
    system_identifier bigint NOT NULL,
    database_oid oid NOT NULL,
    fingerprint bigint,
    replay_until bigint NOT NULL DEFAULT 0,
    batches bigint NOT NULL DEFAULT 0,
    events bigint NOT NULL DEFAULT 0,
    rate float8 NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
COMMENT ON TABLE dugong.checkpoints IS 'how far each projection has handled the log';
COMMENT ON COLUMN dugong.checkpoints.position IS 'every event up to here is handled, but for the holes';
COMMENT ON COLUMN dugong.checkpoints.system_identifier IS 'cluster that wrote it: transaction ids and fingerprint mean something only there';
COMMENT ON COLUMN dugong.checkpoints.database_oid IS 'database that wrote it';
COMMENT ON COLUMN dugong.checkpoints.fingerprint IS 'what the query model was made with';
COMMENT ON COLUMN dugong.checkpoints.replay_until IS 'events up to here were handled before and are handled again';
COMMENT ON COLUMN dugong.checkpoints.batches IS 'transactions so far';
COMMENT ON COLUMN dugong.checkpoints.events IS 'events handled so far';
COMMENT ON COLUMN dugong.checkpoints.rate IS 'events handled in a second, over the last ten or so, when it was updated';

CREATE TABLE dugong.checkpoint_holes (
    projection text,
    first_position bigint,
    last_position bigint NOT NULL CHECK (last_position >= first_position),
    transactions xid8[] NOT NULL,
    PRIMARY KEY (projection, first_position)
);
COMMENT ON TABLE dugong.checkpoint_holes IS 'positions below a checkpoint where events may still appear';
COMMENT ON COLUMN dugong.checkpoint_holes.transactions IS 'who may fill them; when all have ended and nothing came, the hole is forgotten';

CREATE TABLE dugong.parked_aggregates (
    projection text,
    aggregate_type_id int,
    aggregate_id uuid,
    tenant_id text,
    first_sequence_number bigint NOT NULL,
    last_sequence_number bigint NOT NULL,
    event_id uuid NOT NULL,
    attempts int NOT NULL,
    first_failed_at timestamptz NOT NULL,
    last_failed_at timestamptz NOT NULL,
    retry_at timestamptz,
    sqlstate text NOT NULL,
    message text NOT NULL,
    detail text,
    context text,
    PRIMARY KEY (projection, aggregate_id, aggregate_type_id, tenant_id)
);
CREATE INDEX parked_aggregates_retry_idx ON dugong.parked_aggregates (projection, retry_at) WHERE retry_at IS NOT NULL;
COMMENT ON TABLE dugong.parked_aggregates IS 'aggregates whose events wait behind one that a projection could not handle';
COMMENT ON COLUMN dugong.parked_aggregates.first_sequence_number IS 'the first event that is not handled';
COMMENT ON COLUMN dugong.parked_aggregates.last_sequence_number IS 'the last that waits behind it';
COMMENT ON COLUMN dugong.parked_aggregates.event_id IS 'what was handled when it failed last';
COMMENT ON COLUMN dugong.parked_aggregates.retry_at IS 'when it is tried again; NULL = only when somebody asks: a dead letter';

CREATE TABLE dugong.projection_failures (
    projection text PRIMARY KEY,
    attempts int NOT NULL,
    first_failed_at timestamptz NOT NULL,
    last_failed_at timestamptz NOT NULL,
    sqlstate text NOT NULL,
    message text NOT NULL,
    detail text,
    context text
);
COMMENT ON TABLE dugong.projection_failures IS 'the last error of each projection';
COMMENT ON COLUMN dugong.projection_failures.attempts IS 'failures since the last success; 0 = it has gone on';

CREATE FUNCTION dugong.create_projection(
    name text, aggregate_type text, query_model regclass DEFAULT NULL, mode text DEFAULT 'async',
    update_handler regprocedure DEFAULT NULL, delete_handler regprocedure DEFAULT NULL, event_handler regprocedure DEFAULT NULL,
    set_handler regprocedure DEFAULT NULL, reset_handler regprocedure DEFAULT NULL, types text[] DEFAULT NULL,
    on_error text DEFAULT 'park', start_position bigint DEFAULT 0, origin text DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dugong_create_projection';
COMMENT ON FUNCTION dugong.create_projection(text, text, regclass, text, regprocedure, regprocedure, regprocedure, regprocedure, regprocedure, text[], text, bigint, text) IS
    'registers a projection of one aggregate type: either a query_model table, or handlers';

CREATE FUNCTION dugong.create_projection(
    name text, aggregate_types text[], query_model regclass DEFAULT NULL, mode text DEFAULT 'async',
    update_handler regprocedure DEFAULT NULL, delete_handler regprocedure DEFAULT NULL, event_handler regprocedure DEFAULT NULL,
    set_handler regprocedure DEFAULT NULL, reset_handler regprocedure DEFAULT NULL, types text[] DEFAULT NULL,
    on_error text DEFAULT 'park', start_position bigint DEFAULT 0, origin text DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dugong_create_projection';
COMMENT ON FUNCTION dugong.create_projection(text, text[], regclass, text, regprocedure, regprocedure, regprocedure, regprocedure, regprocedure, text[], text, bigint, text) IS
    'registers a projection of several aggregate types';

CREATE FUNCTION dugong.alter_projection(
    name text, update_handler regprocedure DEFAULT NULL, delete_handler regprocedure DEFAULT NULL,
    event_handler regprocedure DEFAULT NULL, set_handler regprocedure DEFAULT NULL, reset_handler regprocedure DEFAULT NULL,
    types text[] DEFAULT NULL, on_error text DEFAULT NULL, owner regrole DEFAULT NULL, accept boolean DEFAULT false,
    mode text DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dugong_alter_projection';
COMMENT ON FUNCTION dugong.alter_projection(text, regprocedure, regprocedure, regprocedure, regprocedure, regprocedure, text[], text, regrole, boolean, text) IS
    'changes a projection, which goes on where it is; NULL leaves as it is; accept: what it has written is as its present code would have';

CREATE FUNCTION dugong.drop_projection(name text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_drop_projection';
COMMENT ON FUNCTION dugong.drop_projection(text) IS 'drops a projection; its tables stay';

CREATE FUNCTION dugong.pause_projection(name text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_pause_projection';
COMMENT ON FUNCTION dugong.pause_projection(text) IS 'nothing is handled until dugong.resume_projection(); waits for the batch that is running';

CREATE FUNCTION dugong.resume_projection(name text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_resume_projection';
COMMENT ON FUNCTION dugong.resume_projection(text) IS 'lets a paused or stopped projection go on where it was';

CREATE FUNCTION dugong.retry_dead_letters(projection text, aggregate_id uuid DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_retry_dead_letters';
COMMENT ON FUNCTION dugong.retry_dead_letters(text, uuid) IS
    'has the worker handle at once what a projection has set aside, of one aggregate or of all; returns how many';

CREATE FUNCTION dugong.discard_dead_letter(projection text, aggregate_id uuid, tenant_id text DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_discard_dead_letter';
COMMENT ON FUNCTION dugong.discard_dead_letter(text, uuid, text) IS
    'forgets the events that wait: the projection never handles them, and goes on with the next; returns how many dead letters';

CREATE FUNCTION dugong.is_replaying() RETURNS boolean
LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dugong_is_replaying';
COMMENT ON FUNCTION dugong.is_replaying() IS 'for handlers: was what is being handled handled before?';

CREATE PROCEDURE dugong.run_projections()
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_run_projections';
COMMENT ON PROCEDURE dugong.run_projections() IS
    'handles, in this session, all events that are committed now, as the background worker does';

CREATE FUNCTION dugong.inline_projections() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_inline_projections';
COMMENT ON FUNCTION dugong.inline_projections() IS 'trigger: runs inline projections of what a statement has appended';

CREATE TRIGGER inline_projections AFTER INSERT ON dugong.event_log
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.inline_projections();
ALTER TABLE dugong.event_log ENABLE ALWAYS TRIGGER inline_projections;

CREATE TABLE dugong.rebuilds (
    projection text PRIMARY KEY,
    fingerprint bigint NOT NULL,
    phase text NOT NULL CHECK (phase IN ('aggregates', 'sweep', 'replay')),
    done bigint NOT NULL DEFAULT 0,
    total bigint NOT NULL,
    cursor_tenant text,
    cursor_id uuid,
    pid int NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL
);
COMMENT ON TABLE dugong.rebuilds IS 'rebuilds that run, or were broken off';
COMMENT ON COLUMN dugong.rebuilds.fingerprint IS 'of what it makes the query model with: with another one it begins anew';
COMMENT ON COLUMN dugong.rebuilds.phase IS
    'aggregates = writes each one''s row; sweep = looks for rows that should not be there; replay = handles all events, in one transaction';

CREATE PROCEDURE dugong.rebuild_projection(
    projection text, aggregate_id uuid DEFAULT NULL, tenant_id text DEFAULT NULL, offline boolean DEFAULT false)
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_rebuild_projection';
COMMENT ON PROCEDURE dugong.rebuild_projection(text, uuid, text, boolean) IS
    'makes a query model anew from the log, of all aggregates or of one; offline: events are replayed in many transactions, the query model being incomplete meanwhile';

CREATE PROCEDURE dugong.wait_for_projection(
    projection text, timeout interval DEFAULT '10s', target_position bigint DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_wait_for_projection';
COMMENT ON PROCEDURE dugong.wait_for_projection(text, interval, bigint) IS
    'waits until a projection has handled all that is committed now, or all up to a position; UG011 at the timeout';

CREATE TABLE dugong.stopped_workers (
    stopped_at timestamptz NOT NULL
);
COMMENT ON TABLE dugong.stopped_workers IS 'has a row while dugong.stop_workers() holds';

CREATE FUNCTION dugong.stop_workers() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_stop_workers';
COMMENT ON FUNCTION dugong.stop_workers() IS
    'ends the background workers of the database at commit, until dugong.start_workers()';

CREATE FUNCTION dugong.start_workers() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_start_workers';
COMMENT ON FUNCTION dugong.start_workers() IS
    'starts the background worker at commit, also where no event was appended since a restore';
-- Consumers outside of the database.

CREATE TABLE dugong.deliveries (
    subscription text,
    position bigint,
    event_id uuid NOT NULL,
    aggregate_type_id int NOT NULL,
    aggregate_id uuid NOT NULL,
    tenant_id text NOT NULL,
    sequence_number bigint NOT NULL,
    dead boolean NOT NULL DEFAULT false,
    attempts int NOT NULL CHECK (attempts >= 0),
    leased_until timestamptz,
    retry_at timestamptz,
    consumer text,
    first_failed_at timestamptz,
    failed_at timestamptz,
    reason text,
    sqlstate text,
    context text,
    PRIMARY KEY (subscription, position)
);
CREATE INDEX deliveries_event_idx ON dugong.deliveries (event_id, subscription);
CREATE INDEX deliveries_aggregate_idx ON dugong.deliveries (aggregate_id, subscription, position);
COMMENT ON TABLE dugong.deliveries IS 'events that a subscription has read and that are not acknowledged';
COMMENT ON COLUMN dugong.deliveries.attempts IS 'deliveries so far; 0 = it waits for its turn';
COMMENT ON COLUMN dugong.deliveries.consumer IS 'who fetched it last and has not given it back, if he named himself';
COMMENT ON COLUMN dugong.deliveries.sqlstate IS 'of the error, if its upcast has failed; NULL = a consumer has refused it';
COMMENT ON COLUMN dugong.deliveries.leased_until IS 'till then it is somebody''s; NULL = nobody''s';
COMMENT ON COLUMN dugong.deliveries.retry_at IS 'it is not delivered before';
COMMENT ON COLUMN dugong.deliveries.dead IS 'it was delivered dugong.max_attempts times; later events of its aggregate wait behind it';
COMMENT ON COLUMN dugong.deliveries.reason IS 'what was said when it was refused last';

CREATE FUNCTION dugong.create_subscription(
    name text, aggregate_types text[], types text[] DEFAULT NULL, start_position bigint DEFAULT 0,
    visibility_timeout interval DEFAULT '30s', origin text DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_create_subscription';
COMMENT ON FUNCTION dugong.create_subscription(text, text[], text[], bigint, interval, text) IS
    'registers a consumer outside of the database; start_position NULL = from now on';

CREATE FUNCTION dugong.alter_subscription(
    name text, types text[] DEFAULT NULL, visibility_timeout interval DEFAULT NULL, owner regrole DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_alter_subscription';
COMMENT ON FUNCTION dugong.alter_subscription(text, text[], interval, regrole) IS
    'changes a subscription, which goes on where it is; NULL leaves as it is';

CREATE FUNCTION dugong.drop_subscription(name text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_drop_subscription';
COMMENT ON FUNCTION dugong.drop_subscription(text) IS 'drops a subscription and what it has not acknowledged';

CREATE FUNCTION dugong.fetch_events(subscription text, max_events int DEFAULT 100, consumer text DEFAULT NULL)
RETURNS SETOF dugong.domain_event
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 100 SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_fetch_events';
COMMENT ON FUNCTION dugong.fetch_events(text, int, text) IS
    'leases the next events of a subscription to the caller, who acknowledges them before its visibility timeout; never waits';

CREATE FUNCTION dugong.ack(subscription text, event_ids uuid[], consumer text DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_ack';
COMMENT ON FUNCTION dugong.ack(text, uuid[], text) IS
    'acknowledges events: they are not delivered again; returns how many were outstanding, and the consumer''s if one is named';

CREATE FUNCTION dugong.nack(
    subscription text, event_id uuid, reason text DEFAULT NULL, retry_after interval DEFAULT NULL, consumer text DEFAULT NULL)
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_nack';
COMMENT ON FUNCTION dugong.nack(text, uuid, text, interval, text) IS
    'refuses an event: it, and later ones of its aggregate, are delivered again after that time; false if it was not outstanding, or not the consumer''s';

CREATE FUNCTION dugong.release(subscription text, event_ids uuid[] DEFAULT NULL, consumer text DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_release';
COMMENT ON FUNCTION dugong.release(text, uuid[], text) IS
    'gives events back as if they had not been fetched, those ids or all that a consumer holds; returns how many';

CREATE FUNCTION dugong.attempts(subscription text, event_id uuid) RETURNS int
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_attempts';
COMMENT ON FUNCTION dugong.attempts(text, uuid) IS 'how often an outstanding event was delivered; NULL if it is not outstanding';

CREATE PROCEDURE dugong.wait_for_events(subscription text, timeout interval DEFAULT '10s')
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_wait_for_events';
COMMENT ON PROCEDURE dugong.wait_for_events(text, interval) IS
    'returns when there is something to fetch, or at the timeout; holds no snapshot meanwhile';
-- What the projections and their workers do.
--
-- Private locks show in pg_locks as advisory locks, with the class in objsubid
-- (src/util/private_lock.h), as an int2: 0xD602 is -10750, 0xD603 -10749, 0xD606 -10746.

CREATE FUNCTION dugong.projection_lock_key(projection text) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'dugong_projection_lock_key';
COMMENT ON FUNCTION dugong.projection_lock_key(text) IS 'key of the private lock that whoever runs a projection holds';

CREATE FUNCTION dugong.projection_is_stale(projection text, fingerprint bigint) RETURNS boolean
LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dugong_projection_is_stale';
COMMENT ON FUNCTION dugong.projection_is_stale(text, bigint) IS
    'would the projection''s present code, or its fold''s, have made another query model?';

CREATE FUNCTION dugong.is_preloaded() RETURNS boolean
LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dugong_is_preloaded';
COMMENT ON FUNCTION dugong.is_preloaded() IS 'is dugong in shared_preload_libraries?';

CREATE VIEW dugong.dead_letters AS
SELECT a.projection,
       t.origin,
       t.name AS aggregate_type,
       a.aggregate_id,
       a.tenant_id,
       a.event_id,
       e.type AS event_type,
       e.position,
       a.first_sequence_number,
       a.last_sequence_number,
       a.attempts,
       a.first_failed_at,
       a.last_failed_at,
       a.retry_at,
       a.retry_at IS NULL AS given_up,
       a.sqlstate,
       a.message,
       a.detail,
       a.context
FROM dugong.parked_aggregates a
LEFT JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) a.aggregate_type_id
LEFT JOIN dugong.event_log e ON e.id OPERATOR(pg_catalog.=) a.event_id
UNION ALL
SELECT d.subscription, t.origin, t.name, d.aggregate_id, d.tenant_id, d.event_id, e.type, d.position,
       d.sequence_number, w.last_sequence_number, d.attempts, d.first_failed_at, d.failed_at, NULL, true, d.sqlstate, d.reason, NULL, d.context
FROM dugong.deliveries d
LEFT JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) d.aggregate_type_id
LEFT JOIN dugong.event_log e ON e.id OPERATOR(pg_catalog.=) d.event_id
CROSS JOIN LATERAL (SELECT pg_catalog.max(x.sequence_number) AS last_sequence_number FROM dugong.deliveries x
    WHERE x.subscription OPERATOR(pg_catalog.=) d.subscription AND x.aggregate_id OPERATOR(pg_catalog.=) d.aggregate_id
    AND x.aggregate_type_id OPERATOR(pg_catalog.=) d.aggregate_type_id AND x.tenant_id OPERATOR(pg_catalog.=) d.tenant_id) w
WHERE d.dead;
COMMENT ON VIEW dugong.dead_letters IS
    'aggregates that projections have set aside, with the error; given_up = not tried again by itself';

CREATE VIEW dugong.projection_status AS
SELECT p.name AS projection,
       p.kind,
       p.mode,
       p.state,
       CASE WHEN p.mode OPERATOR(pg_catalog.=) 'inline' THEN h.head ELSE COALESCE(c.position, p.start_position) END AS position,
       h.head,
       CASE WHEN p.mode OPERATOR(pg_catalog.=) 'inline' THEN 0
            ELSE GREATEST(h.head OPERATOR(pg_catalog.-) COALESCE(c.position, p.start_position), 0) END AS lag_events,
       CASE WHEN p.mode OPERATOR(pg_catalog.=) 'inline' OR n."timestamp" IS NULL THEN 0
            ELSE GREATEST(EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) n."timestamp"), 0) END AS lag_seconds,
       o.holes,
       c.rate OPERATOR(pg_catalog.*) pg_catalog.exp((EXTRACT(epoch FROM c.updated_at OPERATOR(pg_catalog.-) pg_catalog.clock_timestamp())
           OPERATOR(pg_catalog./) 10)::double precision) AS rate,
       c.batches,
       c.events,
       c.updated_at,
       f.attempts AS failures,
       f.sqlstate AS last_error_code,
       f.message AS last_error,
       f.last_failed_at AS last_error_at,
       w.pid AS worker_pid,
       b.pid AS blocking_pid,
       pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) b.query_start AS blocking_query_age,
       l.dead_letters,
       l.retrying,
       c.replay_until OPERATOR(pg_catalog.>) c.position AS replaying,
       dugong.projection_is_stale(p.name, CASE WHEN c.database_oid OPERATOR(pg_catalog.=) d.oid
           AND c.system_identifier OPERATOR(pg_catalog.=) s.system_identifier THEN c.fingerprint END) AS stale
FROM dugong.projections p
CROSS JOIN (SELECT COALESCE(pg_catalog.max(position), 0) AS head FROM dugong.event_log) h
CROSS JOIN (SELECT oid FROM pg_catalog.pg_database WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) d
CROSS JOIN (SELECT system_identifier FROM pg_catalog.pg_control_system()) s
LEFT JOIN dugong.checkpoints c ON c.projection OPERATOR(pg_catalog.=) p.name
LEFT JOIN dugong.projection_failures f ON f.projection OPERATOR(pg_catalog.=) p.name
LEFT JOIN LATERAL (SELECT e."timestamp" FROM dugong.event_log e
    WHERE e.position OPERATOR(pg_catalog.>) COALESCE(c.position, p.start_position) ORDER BY e.position LIMIT 1) n ON true
CROSS JOIN LATERAL (SELECT pg_catalog.count(*) AS holes FROM dugong.checkpoint_holes x
    WHERE x.projection OPERATOR(pg_catalog.=) p.name) o
CROSS JOIN LATERAL (SELECT pg_catalog.count(*) FILTER (WHERE x.retry_at IS NULL) AS dead_letters,
        pg_catalog.count(x.retry_at) AS retrying
    FROM dugong.parked_aggregates x WHERE x.projection OPERATOR(pg_catalog.=) p.name) l
LEFT JOIN LATERAL (SELECT k.pid FROM pg_catalog.pg_locks k
    WHERE k.locktype OPERATOR(pg_catalog.=) 'advisory' AND k.objsubid OPERATOR(pg_catalog.=) -10750 AND k.granted
    AND k.database OPERATOR(pg_catalog.=) d.oid
    AND (k.classid::bigint OPERATOR(pg_catalog.<<) 32) OPERATOR(pg_catalog.|) k.objid::bigint
        OPERATOR(pg_catalog.=) dugong.projection_lock_key(p.name) LIMIT 1) w ON true
LEFT JOIN LATERAL (SELECT a.pid, a.query_start FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids(w.pid)) u (pid)
    JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) u.pid ORDER BY a.query_start LIMIT 1) b ON true
WHERE p.kind OPERATOR(pg_catalog.<>) 'subscription';
COMMENT ON VIEW dugong.projection_status IS 'each projection: where it is, how far behind, who works on it, what went wrong';
COMMENT ON COLUMN dugong.projection_status.head IS 'position of the last event in the log';
COMMENT ON COLUMN dugong.projection_status.lag_events IS 'positions between the checkpoint and the head: as many events, at most';
COMMENT ON COLUMN dugong.projection_status.lag_seconds IS 'age of the first event that is not handled';
COMMENT ON COLUMN dugong.projection_status.holes IS 'ranges of positions that are waited for';
COMMENT ON COLUMN dugong.projection_status.rate IS 'events handled in a second, over the last ten or so';
COMMENT ON COLUMN dugong.projection_status.failures IS 'in a row; 0 = it has gone on since the last error';
COMMENT ON COLUMN dugong.projection_status.worker_pid IS 'process that has the projection at this moment';
COMMENT ON COLUMN dugong.projection_status.blocking_pid IS 'process that it waits for';
COMMENT ON COLUMN dugong.projection_status.dead_letters IS 'aggregates that wait for dugong.retry_dead_letters()';
COMMENT ON COLUMN dugong.projection_status.retrying IS 'aggregates that are set aside and will be tried again';
COMMENT ON COLUMN dugong.projection_status.replaying IS 'an offline rebuild has not come to where it was';
COMMENT ON COLUMN dugong.projection_status.stale IS 'a handler, the fold or the query model has changed since it was made: see dugong.rebuild_projection()';

CREATE VIEW dugong.worker_status AS
SELECT a.backend_type AS kind,
       (k.classid::bigint OPERATOR(pg_catalog.<<) 32) OPERATOR(pg_catalog.|) k.objid::bigint AS number,
       a.pid,
       a.backend_start AS started_at,
       a.state,
       a.query AS activity,
       a.xact_start,
       a.wait_event_type,
       a.wait_event,
       NULL::text AS note
FROM pg_catalog.pg_stat_activity a
LEFT JOIN pg_catalog.pg_locks k ON k.pid OPERATOR(pg_catalog.=) a.pid AND k.locktype OPERATOR(pg_catalog.=) 'advisory'
    AND k.objsubid OPERATOR(pg_catalog.=) -10749 AND k.granted AND k.mode OPERATOR(pg_catalog.=) 'ExclusiveLock'
WHERE a.backend_type OPERATOR(pg_catalog.=) 'dugong worker' AND a.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
UNION ALL
SELECT 'installation', NULL, NULL, pg_catalog.pg_postmaster_start_time(), NULL, NULL, NULL, NULL, NULL,
       CASE WHEN (SELECT true FROM dugong.stopped_workers LIMIT 1) THEN 'stopped by dugong.stop_workers(); dugong.start_workers() lets them run'
            WHEN pg_catalog.current_setting('dugong.max_workers')::int OPERATOR(pg_catalog.=) 0 THEN 'dugong.max_workers is 0: no worker is started'
            WHEN dugong.is_preloaded() THEN 'preloaded: workers start with the server'
            ELSE 'not preloaded: workers start with the first append after a start of the server; put dugong into shared_preload_libraries to have them start with it' END;
COMMENT ON VIEW dugong.worker_status IS 'background workers of this database, and how they are started';

CREATE VIEW dugong.rebuild_progress AS
SELECT r.projection,
       r.phase,
       x.done,
       r.total,
       CASE WHEN r.total OPERATOR(pg_catalog.>) 0 THEN LEAST(pg_catalog.round(100.0 OPERATOR(pg_catalog.*) x.done OPERATOR(pg_catalog./) r.total, 1), 100) END AS percent,
       CASE WHEN x.seconds OPERATOR(pg_catalog.>) 0 THEN x.done OPERATOR(pg_catalog./) x.seconds END AS rate,
       CASE WHEN x.done OPERATOR(pg_catalog.>) 0 THEN
           pg_catalog.make_interval(secs => (x.seconds OPERATOR(pg_catalog.*) GREATEST(r.total OPERATOR(pg_catalog.-) x.done, 0) OPERATOR(pg_catalog./) x.done)::double precision) END AS time_left,
       r.started_at,
       r.updated_at,
       CASE WHEN a.pid IS NOT NULL THEN r.pid END AS pid
FROM dugong.rebuilds r
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) r.pid AND a.backend_start OPERATOR(pg_catalog.<=) r.updated_at
CROSS JOIN LATERAL (SELECT GREATEST(r.done, COALESCE((
        SELECT pg_catalog.max((k.classid::bigint OPERATOR(pg_catalog.<<) 32) OPERATOR(pg_catalog.|) k.objid::bigint) FROM pg_catalog.pg_locks k
        WHERE k.pid OPERATOR(pg_catalog.=) r.pid AND k.locktype OPERATOR(pg_catalog.=) 'advisory' AND k.objsubid OPERATOR(pg_catalog.=) -10746), 0)) AS done,
    EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) r.started_at) AS seconds) x;
COMMENT ON VIEW dugong.rebuild_progress IS
    'rebuilds that run, or were broken off (pid NULL): CALL dugong.rebuild_projection() again goes on';
COMMENT ON COLUMN dugong.rebuild_progress.total IS 'aggregates; with phase replay, positions';

CREATE VIEW dugong.consumed_messages AS
SELECT p.name AS consumer,
       e.id AS event_id,
       e.position
FROM dugong.projections p
JOIN dugong.event_log e ON e.aggregate_type_id OPERATOR(pg_catalog.=) ANY (p.aggregate_type_ids)
    AND (p.types IS NULL OR e.type OPERATOR(pg_catalog.=) ANY (p.types))
    AND e.position OPERATOR(pg_catalog.>) p.start_position
LEFT JOIN dugong.checkpoints c ON c.projection OPERATOR(pg_catalog.=) p.name
WHERE p.mode OPERATOR(pg_catalog.=) 'inline' OR (
    e.position OPERATOR(pg_catalog.<=) c.position
    AND NOT EXISTS (SELECT FROM dugong.checkpoint_holes h WHERE h.projection OPERATOR(pg_catalog.=) p.name
        AND e.position OPERATOR(pg_catalog.>=) h.first_position AND e.position OPERATOR(pg_catalog.<=) h.last_position)
    AND NOT EXISTS (SELECT FROM dugong.parked_aggregates a WHERE a.projection OPERATOR(pg_catalog.=) p.name
        AND a.aggregate_id OPERATOR(pg_catalog.=) e.aggregate_id AND a.aggregate_type_id OPERATOR(pg_catalog.=) e.aggregate_type_id
        AND a.tenant_id OPERATOR(pg_catalog.=) e.tenant_id
        AND e.sequence_number OPERATOR(pg_catalog.>=) a.first_sequence_number
        AND e.sequence_number OPERATOR(pg_catalog.<=) a.last_sequence_number)
    AND NOT EXISTS (SELECT FROM dugong.deliveries d WHERE d.subscription OPERATOR(pg_catalog.=) p.name
        AND d.event_id OPERATOR(pg_catalog.=) e.id));
COMMENT ON VIEW dugong.consumed_messages IS
    'which events a projection has handled, or a subscription acknowledged: ask for a consumer and an event_id; no row is stored for it';

CREATE VIEW dugong.subscription_status AS
SELECT p.name AS subscription,
       p.state,
       COALESCE(c.position, p.start_position) AS position,
       h.head,
       GREATEST(h.head OPERATOR(pg_catalog.-) COALESCE(c.position, p.start_position), 0) AS lag_events,
       x.waiting,
       x.leased,
       x.retrying,
       x.dead_letters,
       x.oldest_lease_ends_at,
       p.visibility_timeout,
       c.updated_at AS last_read_at
FROM dugong.projections p
CROSS JOIN (SELECT COALESCE(pg_catalog.max(position), 0) AS head FROM dugong.event_log) h
LEFT JOIN dugong.checkpoints c ON c.projection OPERATOR(pg_catalog.=) p.name
CROSS JOIN LATERAL (SELECT
        pg_catalog.count(*) FILTER (WHERE NOT d.dead AND d.attempts OPERATOR(pg_catalog.=) 0) AS waiting,
        pg_catalog.count(*) FILTER (WHERE d.leased_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()) AS leased,
        pg_catalog.count(*) FILTER (WHERE NOT d.dead AND d.attempts OPERATOR(pg_catalog.>) 0
            AND (d.leased_until IS NULL OR d.leased_until OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())) AS retrying,
        pg_catalog.count(*) FILTER (WHERE d.dead) AS dead_letters,
        pg_catalog.min(d.leased_until) AS oldest_lease_ends_at
    FROM dugong.deliveries d WHERE d.subscription OPERATOR(pg_catalog.=) p.name) x
WHERE p.kind OPERATOR(pg_catalog.=) 'subscription';
COMMENT ON VIEW dugong.subscription_status IS 'each subscription: how far it has read, and what is not acknowledged';
COMMENT ON COLUMN dugong.subscription_status.waiting IS 'events that wait for an earlier one of their aggregate';
COMMENT ON COLUMN dugong.subscription_status.leased IS 'events that consumers have fetched';
COMMENT ON COLUMN dugong.subscription_status.retrying IS 'events that were given back, or whose lease has ended';

CREATE VIEW dugong.outstanding_events AS
SELECT d.subscription,
       d.event_id,
       d.position,
       t.origin,
       t.name AS aggregate_type,
       d.aggregate_id,
       d.tenant_id,
       d.sequence_number,
       CASE WHEN d.dead THEN 'dead'
            WHEN d.leased_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp() THEN 'leased'
            WHEN d.attempts OPERATOR(pg_catalog.=) 0 THEN 'waiting'
            ELSE 'retrying' END AS state,
       d.attempts,
       d.consumer,
       d.leased_until,
       d.retry_at,
       d.failed_at,
       d.reason
FROM dugong.deliveries d
LEFT JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) d.aggregate_type_id;
COMMENT ON VIEW dugong.outstanding_events IS 'each event that a subscription has read and that is not acknowledged, and who has it';
COMMENT ON COLUMN dugong.outstanding_events.attempts IS 'deliveries so far';
COMMENT ON COLUMN dugong.outstanding_events.consumer IS 'who fetched it last and has not given it back, if he named himself';
-- The bank account: state and fold.

CREATE TYPE @extschema@.bank_account_state AS (
    id uuid,
    owner text,
    balance numeric
);
COMMENT ON TYPE @extschema@.bank_account_state IS 'a bank account as its events make it';

CREATE FUNCTION @extschema@.bank_account_apply(@extschema@.bank_account_state, dugong.domain_event)
RETURNS @extschema@.bank_account_state
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'bank_account_apply';
COMMENT ON FUNCTION @extschema@.bank_account_apply(@extschema@.bank_account_state, dugong.domain_event) IS
    'the bank account after one more event; NULL = closed';

CREATE AGGREGATE @extschema@.bank_account_fold(dugong.domain_event) (
    SFUNC = @extschema@.bank_account_apply,
    STYPE = @extschema@.bank_account_state,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE @extschema@.bank_account_fold(dugong.domain_event) IS
    'a bank account out of its events, in the order of their sequence numbers';

-- Its code is in C and looks for no names.
SET LOCAL search_path = pg_catalog, pg_temp;
SELECT dugong.create_aggregate_type('BankAccount',
    fold => '@extschema@.bank_account_fold(dugong.domain_event)',
    origin => 'BankingContext-AccountService', external => false);
-- The bank account's commands.

CREATE FUNCTION @extschema@.bank_open_account(
    owner text, initial_balance numeric DEFAULT 0, account_id uuid DEFAULT NULL, event_id uuid DEFAULT NULL)
RETURNS @extschema@.bank_account_state
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'bank_open_account';
COMMENT ON FUNCTION @extschema@.bank_open_account(text, numeric, uuid, uuid) IS
    'opens a bank account; account_id NULL = a new id; an event_id makes a retry safe';

CREATE FUNCTION @extschema@.bank_deposit(account_id uuid, amount numeric, event_id uuid DEFAULT NULL)
RETURNS @extschema@.bank_account_state
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'bank_deposit';
COMMENT ON FUNCTION @extschema@.bank_deposit(uuid, numeric, uuid) IS
    'deposits money; returns the account as it is then';

CREATE FUNCTION @extschema@.bank_withdraw(account_id uuid, amount numeric, event_id uuid DEFAULT NULL)
RETURNS @extschema@.bank_account_state
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'bank_withdraw';
COMMENT ON FUNCTION @extschema@.bank_withdraw(uuid, numeric, uuid) IS
    'withdraws money, at most the balance; returns the account as it is then';

CREATE FUNCTION @extschema@.bank_transfer(
    from_account_id uuid, to_account_id uuid, amount numeric, event_id uuid DEFAULT NULL)
RETURNS @extschema@.bank_account_state
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'bank_transfer';
COMMENT ON FUNCTION @extschema@.bank_transfer(uuid, uuid, numeric, uuid) IS
    'moves money between two accounts, both events or neither; returns the paying account';

CREATE FUNCTION @extschema@.bank_close_account(account_id uuid, event_id uuid DEFAULT NULL)
RETURNS @extschema@.bank_account_state
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
AS 'MODULE_PATHNAME', 'bank_close_account';
COMMENT ON FUNCTION @extschema@.bank_close_account(uuid, uuid) IS
    'closes a bank account for good; returns the account as it was';

CREATE FUNCTION @extschema@.bank_get_account(account_id uuid)
RETURNS SETOF @extschema@.bank_account_state
LANGUAGE c STABLE PARALLEL SAFE ROWS 1 SECURITY DEFINER
AS 'MODULE_PATHNAME', 'bank_get_account';
COMMENT ON FUNCTION @extschema@.bank_get_account(uuid) IS
    'the account as its events make it now; no row if unknown or closed';
-- The bank account's query model.

CREATE TABLE @extschema@.bank_account_query_model (
    id uuid,
    owner text NOT NULL,
    balance numeric NOT NULL,
    tenant_id text,
    PRIMARY KEY (id, tenant_id)
);
COMMENT ON TABLE @extschema@.bank_account_query_model IS
    'all open bank accounts, kept by the background worker a moment behind the log';

SELECT dugong.create_projection('bank_account', 'BankAccount', '@extschema@.bank_account_query_model',
    origin => 'BankingContext-AccountService');
-- What a dump contains, and who may do what.
--
-- The filters leave out what this script itself inserts.

SELECT pg_catalog.pg_extension_config_dump('dugong.aggregate_types',
    $$WHERE NOT (origin = 'BankingContext-AccountService' AND name = 'BankAccount')$$);
SELECT pg_catalog.pg_extension_config_dump('dugong.event_types', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.event_log', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.event_log_position_seq', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.projections', $$WHERE name <> 'bank_account'$$);
SELECT pg_catalog.pg_extension_config_dump('dugong.checkpoints', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.checkpoint_holes', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.parked_aggregates', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.deliveries', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.bank_account_query_model', '');

-- PUBLIC has nothing.  EXECUTE on a command is all that a user of it needs.
REVOKE ALL ON ALL ROUTINES IN SCHEMA dugong FROM PUBLIC;
REVOKE ALL ON TYPE dugong.domain_event, dugong.aggregate_change, dugong.aggregate_snapshots, dugong.snapshots, dugong.event_log, dugong.home, dugong.aggregate_types, dugong.event_types,
    dugong.projections, dugong.checkpoints, dugong.checkpoint_holes, dugong.parked_aggregates, dugong.deliveries, dugong.subscription_status, dugong.outstanding_events, dugong.projection_failures, dugong.rebuilds, dugong.stopped_workers, dugong.dead_letters, dugong.projection_status,
    dugong.worker_status, dugong.rebuild_progress, dugong.consumed_messages, dugong.domain_events, dugong.aggregates,
    @extschema@.bank_account_state, @extschema@.bank_account_query_model FROM PUBLIC;
REVOKE ALL ON FUNCTION @extschema@.bank_account_apply(@extschema@.bank_account_state, dugong.domain_event),
    @extschema@.bank_account_fold(dugong.domain_event),
    @extschema@.bank_open_account(text, numeric, uuid, uuid),
    @extschema@.bank_deposit(uuid, numeric, uuid),
    @extschema@.bank_withdraw(uuid, numeric, uuid),
    @extschema@.bank_transfer(uuid, uuid, numeric, uuid),
    @extschema@.bank_close_account(uuid, uuid),
    @extschema@.bank_get_account(uuid) FROM PUBLIC;

-- The worker starts when this transaction commits.
SELECT dugong.start_workers();
