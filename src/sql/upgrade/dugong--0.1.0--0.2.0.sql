-- From 0.1.0 to 0.2.0
\echo Use "ALTER EXTENSION dugong UPDATE" to load this file. \quit

-- Who may create functions in the extension's schema must not get any into what is created here, which is the owner's: one that fits
-- its arguments better than PostgreSQL's would be called.  What is to be in that schema says so.
SET LOCAL search_path = pg_catalog, pg_temp;

-- Before anything else, what is altered below.  Who is at work takes these locks in orders of his own, and may want more of them: so this never
-- waits long for one while it holds others, gives all up, and begins again.
DO LANGUAGE plpgsql $$
DECLARE
    before text := current_setting('lock_timeout');
BEGIN
    LOOP
        BEGIN
            SET LOCAL lock_timeout = '100ms';
            LOCK TABLE dugong.projections, dugong.aggregate_snapshots, dugong.parked_aggregates, dugong.projection_failures, dugong.stopped_workers,
                dugong.deliveries, dugong.snapshots, dugong.dead_letters, dugong.projection_status, dugong.rebuild_progress, dugong.consumed_messages,
                dugong.subscription_status, dugong.outstanding_events, dugong.aggregates, dugong.domain_events IN ACCESS EXCLUSIVE MODE;
            EXIT;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            PERFORM pg_sleep(0.1);
        END;
    END LOOP;
    PERFORM set_config('lock_timeout', before, true);
END $$;

-- 0.1.0 was not careful there: what could call such a function is made anew.  Its owner is the extension's.
CREATE OR REPLACE FUNCTION dugong.aggregate_type_id(origin text, name text) RETURNS int
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN ('x' || encode(substring(sha256(convert_to(origin || E'\n' || name, 'UTF8')), 1, 4), 'hex'))::bit(32)::int;
CREATE OR REPLACE FUNCTION dugong.to_message(event dugong.domain_event) RETURNS jsonb
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
ALTER TABLE dugong.projections DROP CONSTRAINT projections_aggregate_type_ids_check;
ALTER TABLE dugong.projections ADD CONSTRAINT projections_aggregate_type_ids_check CHECK (cardinality(aggregate_type_ids) > 0);

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

-- Tenants that are kept apart
CREATE TABLE dugong.tenant_grants (
    role text,
    tenant_id text,
    granted_by text NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (role, tenant_id)
);
COMMENT ON TABLE dugong.tenant_grants IS 'which role, and who has its rights, sees which tenant''s events while tenants are isolated';
COMMENT ON COLUMN dugong.tenant_grants.role IS 'its name: a dump carries it, and a role that does not exist has nothing';
COMMENT ON COLUMN dugong.tenant_grants.tenant_id IS 'empty = what belongs to no tenant';

CREATE TABLE dugong.tenant_isolation (
    enabled boolean PRIMARY KEY CHECK (enabled),
    enabled_by text NOT NULL,
    enabled_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE dugong.tenant_isolation IS 'has a row while dugong.enable_tenant_isolation() holds';

CREATE TRIGGER changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON dugong.tenant_grants
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.registry_changed();
ALTER TABLE dugong.tenant_grants ENABLE ALWAYS TRIGGER changed;

CREATE FUNCTION dugong.tenant_isolation_changed() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_tenant_isolation_changed';
COMMENT ON FUNCTION dugong.tenant_isolation_changed() IS
    'trigger: tells all sessions, and does to the extension''s views and tables what it takes';

-- An update script that replaces a view ends with UPDATE dugong.tenant_isolation SET enabled = true.
CREATE TRIGGER changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON dugong.tenant_isolation
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.tenant_isolation_changed();
ALTER TABLE dugong.tenant_isolation ENABLE ALWAYS TRIGGER changed;

CREATE FUNCTION dugong.sees_tenant_support(internal) RETURNS internal
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'dugong_sees_tenant_support';
COMMENT ON FUNCTION dugong.sees_tenant_support(internal) IS 'for the planner: leaves dugong.sees_tenant() out while tenants are not isolated';

-- Views and policies call it with the rights of whoever queries them, so it is PUBLIC's: it tells a role about itself alone.
CREATE FUNCTION dugong.sees_tenant(tenant_id text) RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE SUPPORT dugong.sees_tenant_support AS 'MODULE_PATHNAME', 'dugong_sees_tenant';
COMMENT ON FUNCTION dugong.sees_tenant(text) IS
    'does the current user see what belongs to a tenant? NULL = to all tenants; true while they are not isolated';

CREATE FUNCTION dugong.grant_tenant(role text, tenant_id text) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_grant_tenant';
COMMENT ON FUNCTION dugong.grant_tenant(text, text) IS
    'lets a role, and who has its rights, see a tenant while tenants are isolated; false if it did already';

CREATE FUNCTION dugong.revoke_tenant(role text, tenant_id text) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_revoke_tenant';
COMMENT ON FUNCTION dugong.revoke_tenant(text, text) IS 'takes back dugong.grant_tenant(); false if it was not granted';

CREATE FUNCTION dugong.enable_tenant_isolation() RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_enable_tenant_isolation';
COMMENT ON FUNCTION dugong.enable_tenant_isolation() IS
    'from now on each role sees and writes only tenants that were granted to it, in every function, view and query model; false if it was so';

CREATE FUNCTION dugong.disable_tenant_isolation() RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_disable_tenant_isolation';
COMMENT ON FUNCTION dugong.disable_tenant_isolation() IS
    'takes back dugong.enable_tenant_isolation(); what was granted stays for another time';

-- These have to know who calls them.
ALTER FUNCTION dugong.domain_events_insert() SECURITY INVOKER;
ALTER FUNCTION dugong.aggregate_events(text, uuid, bigint, bigint, text, text) SECURITY INVOKER;
ALTER FUNCTION dugong.read_events(bigint, int, text[], text[], uuid, boolean, boolean, text, text) SECURITY INVOKER;
ALTER FUNCTION dugong.event(uuid) SECURITY INVOKER;
ALTER FUNCTION dugong.aggregate_ids(text, uuid, int, text, text) SECURITY INVOKER;
ALTER FUNCTION dugong.check_event_types() SECURITY INVOKER;
ALTER FUNCTION dugong.receive_message(jsonb) SECURITY INVOKER;
ALTER FUNCTION dugong.aggregate_history(text, uuid, text, text) SECURITY INVOKER;
ALTER FUNCTION dugong.take_snapshot(text, uuid, text, text) SECURITY INVOKER;
ALTER FUNCTION dugong.drop_snapshots(text, text) SECURITY INVOKER;
ALTER FUNCTION dugong.verify_snapshots(text, text) SECURITY INVOKER;
CREATE OR REPLACE FUNCTION dugong.effects_of(event_id uuid) RETURNS SETOF dugong.domain_event
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 10 SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_effects_of';

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
JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) e.aggregate_type_id
WHERE dugong.sees_tenant(e.tenant_id);

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
WHERE f.sequence_number OPERATOR(pg_catalog.=) 1 AND dugong.sees_tenant(f.tenant_id);

CREATE OR REPLACE VIEW dugong.snapshots AS
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

CREATE OR REPLACE VIEW dugong.dead_letters AS
-- What is asked of the two together must not be asked of one of them before its tenant is looked at
SELECT * FROM (
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
WHERE d.dead
) l WHERE dugong.sees_tenant(l.tenant_id);

CREATE OR REPLACE VIEW dugong.projection_status AS
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
WHERE p.kind OPERATOR(pg_catalog.<>) 'subscription' AND dugong.sees_tenant(NULL);

CREATE OR REPLACE VIEW dugong.rebuild_progress AS
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
    EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) r.started_at) AS seconds) x
WHERE dugong.sees_tenant(NULL);

CREATE OR REPLACE VIEW dugong.consumed_messages AS
SELECT p.name AS consumer,
       e.id AS event_id,
       e.position
FROM dugong.projections p
JOIN dugong.event_log e ON e.aggregate_type_id OPERATOR(pg_catalog.=) ANY (p.aggregate_type_ids)
    AND (p.types IS NULL OR e.type OPERATOR(pg_catalog.=) ANY (p.types))
    AND e.position OPERATOR(pg_catalog.>) p.start_position
LEFT JOIN dugong.checkpoints c ON c.projection OPERATOR(pg_catalog.=) p.name
WHERE dugong.sees_tenant(e.tenant_id) AND (p.mode OPERATOR(pg_catalog.=) 'inline' OR (
    e.position OPERATOR(pg_catalog.<=) c.position
    AND NOT EXISTS (SELECT FROM dugong.checkpoint_holes h WHERE h.projection OPERATOR(pg_catalog.=) p.name
        AND e.position OPERATOR(pg_catalog.>=) h.first_position AND e.position OPERATOR(pg_catalog.<=) h.last_position)
    AND NOT EXISTS (SELECT FROM dugong.parked_aggregates a WHERE a.projection OPERATOR(pg_catalog.=) p.name
        AND a.aggregate_id OPERATOR(pg_catalog.=) e.aggregate_id AND a.aggregate_type_id OPERATOR(pg_catalog.=) e.aggregate_type_id
        AND a.tenant_id OPERATOR(pg_catalog.=) e.tenant_id
        AND e.sequence_number OPERATOR(pg_catalog.>=) a.first_sequence_number
        AND e.sequence_number OPERATOR(pg_catalog.<=) a.last_sequence_number)
    AND NOT EXISTS (SELECT FROM dugong.deliveries d WHERE d.subscription OPERATOR(pg_catalog.=) p.name
        AND d.event_id OPERATOR(pg_catalog.=) e.id)));

CREATE OR REPLACE VIEW dugong.subscription_status AS
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
WHERE p.kind OPERATOR(pg_catalog.=) 'subscription' AND dugong.sees_tenant(NULL);

CREATE OR REPLACE VIEW dugong.outstanding_events AS
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
LEFT JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) d.aggregate_type_id
WHERE dugong.sees_tenant(d.tenant_id);

CREATE VIEW dugong.tenant_status AS
WITH RECURSIVE tenants AS (
    -- One step of the index for each tenant
    SELECT t.id AS aggregate_type_id, (SELECT pg_catalog.min(e.tenant_id COLLATE "C") FROM dugong.event_log e
        WHERE e.aggregate_type_id OPERATOR(pg_catalog.=) t.id AND e.sequence_number OPERATOR(pg_catalog.=) 1) AS tenant_id
    FROM dugong.aggregate_types t
    UNION ALL
    SELECT s.aggregate_type_id, (SELECT pg_catalog.min(e.tenant_id COLLATE "C") FROM dugong.event_log e
        WHERE e.aggregate_type_id OPERATOR(pg_catalog.=) s.aggregate_type_id AND e.sequence_number OPERATOR(pg_catalog.=) 1
        AND e.tenant_id COLLATE "C" OPERATOR(pg_catalog.>) s.tenant_id)
    FROM tenants s WHERE s.tenant_id IS NOT NULL
),
consumers AS (
    SELECT DISTINCT p.name, s.tenant_id COLLATE "default" AS tenant_id
    FROM dugong.projections p JOIN tenants s ON s.aggregate_type_id OPERATOR(pg_catalog.=) ANY (p.aggregate_type_ids)
    WHERE s.tenant_id IS NOT NULL
)
SELECT p.name AS projection,
       n.tenant_id,
       p.state,
       o.events AS outstanding_events,
       o.since AS outstanding_since,
       (SELECT pg_catalog.count(*) FROM dugong.parked_aggregates a WHERE a.projection OPERATOR(pg_catalog.=) p.name
           AND a.tenant_id OPERATOR(pg_catalog.=) n.tenant_id AND a.retry_at IS NULL)
       OPERATOR(pg_catalog.+) d.dead AS dead_letters,
       (SELECT pg_catalog.count(*) FROM dugong.parked_aggregates a WHERE a.projection OPERATOR(pg_catalog.=) p.name
           AND a.tenant_id OPERATOR(pg_catalog.=) n.tenant_id AND a.retry_at IS NOT NULL)
       OPERATOR(pg_catalog.+) d.retrying AS retrying
FROM consumers n
JOIN dugong.projections p ON p.name OPERATOR(pg_catalog.=) n.name
LEFT JOIN dugong.checkpoints c ON c.projection OPERATOR(pg_catalog.=) p.name
CROSS JOIN LATERAL (SELECT pg_catalog.count(*) AS events, pg_catalog.min(e."timestamp") AS since FROM dugong.event_log e
    WHERE p.mode OPERATOR(pg_catalog.=) 'async' AND e.tenant_id OPERATOR(pg_catalog.=) n.tenant_id
    AND e.position OPERATOR(pg_catalog.>) COALESCE(c.position, p.start_position)
    AND e.aggregate_type_id OPERATOR(pg_catalog.=) ANY (p.aggregate_type_ids)
    AND (p.types IS NULL OR e.type OPERATOR(pg_catalog.=) ANY (p.types))) o
CROSS JOIN LATERAL (SELECT pg_catalog.count(*) FILTER (WHERE x.dead) AS dead,
        pg_catalog.count(*) FILTER (WHERE NOT x.dead AND x.attempts OPERATOR(pg_catalog.>) 0
            AND (x.leased_until IS NULL OR x.leased_until OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp())) AS retrying
    FROM dugong.deliveries x WHERE x.subscription OPERATOR(pg_catalog.=) p.name
    AND x.tenant_id OPERATOR(pg_catalog.=) n.tenant_id) d
WHERE dugong.sees_tenant(n.tenant_id);
COMMENT ON VIEW dugong.tenant_status IS
    'each projection and subscription, for each tenant that has events of its types: what it has not handled, and what went wrong';
COMMENT ON COLUMN dugong.tenant_status.outstanding_events IS 'events of the tenant that it has not read';
COMMENT ON COLUMN dugong.tenant_status.outstanding_since IS 'time of the first of them';
COMMENT ON COLUMN dugong.tenant_status.dead_letters IS 'aggregates, of a subscription events, that wait for dugong.retry_dead_letters()';
COMMENT ON COLUMN dugong.tenant_status.retrying IS 'aggregates, of a subscription events, that will be tried again';

SELECT pg_catalog.pg_extension_config_dump('dugong.tenant_grants', '');
SELECT pg_catalog.pg_extension_config_dump('dugong.tenant_isolation', '');
REVOKE ALL ON FUNCTION dugong.tenant_isolation_changed(), dugong.sees_tenant_support(internal), dugong.grant_tenant(text, text), dugong.revoke_tenant(text, text),
    dugong.enable_tenant_isolation(), dugong.disable_tenant_isolation() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dugong.sees_tenant(text) TO PUBLIC;
REVOKE ALL ON TYPE dugong.tenant_grants, dugong.tenant_isolation, dugong.tenant_status FROM PUBLIC;

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
    EXTRACT(epoch FROM COALESCE(i.finished_at, pg_catalog.clock_timestamp()) OPERATOR(pg_catalog.-) i.started_at) AS seconds) x
WHERE dugong.sees_tenant(NULL);
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
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 30 SET search_path = pg_catalog, pg_temp
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

-- What was altered of the bank's aggregate type and projection goes with a dump.
CREATE FUNCTION dugong.replace_installed() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_replace_installed';
COMMENT ON FUNCTION dugong.replace_installed() IS 'trigger: a row of a dump takes the place of one that CREATE EXTENSION has made';
REVOKE ALL ON FUNCTION dugong.replace_installed() FROM PUBLIC;
CREATE TRIGGER replace_installed BEFORE INSERT ON dugong.aggregate_types
    FOR EACH ROW WHEN (NEW.origin OPERATOR(pg_catalog.=) 'BankingContext-AccountService' AND NEW.name OPERATOR(pg_catalog.=) 'BankAccount')
    EXECUTE FUNCTION dugong.replace_installed();
ALTER TABLE dugong.aggregate_types ENABLE ALWAYS TRIGGER replace_installed;
CREATE TRIGGER replace_installed BEFORE INSERT ON dugong.projections
    FOR EACH ROW WHEN (NEW.name OPERATOR(pg_catalog.=) 'bank_account') EXECUTE FUNCTION dugong.replace_installed();
ALTER TABLE dugong.projections ENABLE ALWAYS TRIGGER replace_installed;
SELECT pg_catalog.pg_extension_config_dump('dugong.aggregate_types',
    $$WHERE NOT (origin = 'BankingContext-AccountService' AND name = 'BankAccount'
        AND fold IS NOT DISTINCT FROM '@extschema@.bank_account_fold(dugong.domain_event)' AND search_path = 'pg_catalog, pg_temp'
        AND depends_on IS NULL AND snapshot_interval IS NULL AND NOT strict AND NOT external
        AND owner = (SELECT pg_catalog.pg_get_userbyid(extowner) FROM pg_catalog.pg_extension WHERE extname = 'dugong'))$$);
SELECT pg_catalog.pg_extension_config_dump('dugong.projections',
    $$WHERE NOT (name = 'bank_account' AND query_model IS NOT DISTINCT FROM '@extschema@.bank_account_query_model'
        AND search_path = 'pg_catalog, pg_temp' AND types IS NULL AND mode = 'async' AND on_error = 'park' AND state = 'running' AND start_position = 0
        AND owner = (SELECT pg_catalog.pg_get_userbyid(extowner) FROM pg_catalog.pg_extension WHERE extname = 'dugong'))$$);
