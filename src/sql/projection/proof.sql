-- Proof: query models against the log.

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
