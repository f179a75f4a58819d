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
WHERE p.kind OPERATOR(pg_catalog.<>) 'subscription' AND dugong.sees_tenant(NULL);
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
    EXTRACT(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) r.started_at) AS seconds) x
WHERE dugong.sees_tenant(NULL);
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
WHERE p.kind OPERATOR(pg_catalog.=) 'subscription' AND dugong.sees_tenant(NULL);
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
LEFT JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) d.aggregate_type_id
WHERE dugong.sees_tenant(d.tenant_id);
COMMENT ON VIEW dugong.outstanding_events IS 'each event that a subscription has read and that is not acknowledged, and who has it';
COMMENT ON COLUMN dugong.outstanding_events.attempts IS 'deliveries so far';
COMMENT ON COLUMN dugong.outstanding_events.consumer IS 'who fetched it last and has not given it back, if he named himself';
