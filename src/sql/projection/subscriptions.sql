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
