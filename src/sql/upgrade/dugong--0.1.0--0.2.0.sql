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
