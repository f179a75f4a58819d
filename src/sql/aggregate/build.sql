-- Building aggregates.

CREATE FUNCTION dugong.build_aggregate(
    aggregate_type text, aggregate_id uuid, to_sequence_number bigint DEFAULT NULL, as_of timestamptz DEFAULT NULL,
    return_deleted boolean DEFAULT false, skip_snapshot boolean DEFAULT false, tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS jsonb
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'dugong_build_aggregate_jsonb';
COMMENT ON FUNCTION dugong.build_aggregate(text, uuid, bigint, timestamptz, boolean, boolean, text, text) IS
    'an aggregate as its events make it, as JSON; NULL if it has no events or is deleted';

CREATE FUNCTION dugong.build_aggregate(
    state anyelement, aggregate_type text, aggregate_id uuid, to_sequence_number bigint DEFAULT NULL,
    as_of timestamptz DEFAULT NULL, return_deleted boolean DEFAULT false, skip_snapshot boolean DEFAULT false, tenant_id text DEFAULT NULL,
    origin text DEFAULT NULL)
RETURNS anyelement
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'dugong_build_aggregate';
COMMENT ON FUNCTION dugong.build_aggregate(anyelement, text, uuid, bigint, timestamptz, boolean, boolean, text, text) IS
    'an aggregate as its events make it; state: NULL of the type that its fold gives';

CREATE FUNCTION dugong.load_for_update(
    state anyelement, aggregate_type text, aggregate_id uuid, missing_ok boolean DEFAULT false,
    tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS anyelement
LANGUAGE c VOLATILE PARALLEL UNSAFE
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
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 30 SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_aggregate_history';
COMMENT ON FUNCTION dugong.aggregate_history(text, uuid, text, text) IS
    'each event of an aggregate with the state after it and what it changed';
