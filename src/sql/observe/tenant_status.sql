-- What each tenant may know of its projections.  It says nothing of how many events others have.

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
