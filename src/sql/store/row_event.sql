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
