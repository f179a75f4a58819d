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
