-- The names of aggregate types.

CREATE FUNCTION dugong.aggregate_type_id(origin text, name text) RETURNS int
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN ('x' || encode(substring(sha256(convert_to(origin || E'\n' || name, 'UTF8')), 1, 4), 'hex'))::bit(32)::int;
COMMENT ON FUNCTION dugong.aggregate_type_id(text, text) IS
    'the id that stands for an aggregate type in the log; the same in every database';

CREATE TABLE dugong.aggregate_types (
    id int PRIMARY KEY,
    origin text NOT NULL CHECK (origin <> ''),
    name text NOT NULL CHECK (name <> ''),
    fold text,
    UNIQUE (origin, name),
    CONSTRAINT aggregate_types_id_check CHECK (id = dugong.aggregate_type_id(origin, name)),
    CONSTRAINT aggregate_types_channel_check CHECK (octet_length(origin || '-' || name) <= 63)
);
COMMENT ON TABLE dugong.aggregate_types IS 'registry of aggregate types';
COMMENT ON COLUMN dugong.aggregate_types.id IS 'stands for the type in the log; derived from origin and name';
COMMENT ON COLUMN dugong.aggregate_types.origin IS 'service (bounded context) that owns the type';
COMMENT ON COLUMN dugong.aggregate_types.fold IS
    'signature of the aggregate function that makes a state out of events; text, so that pg_upgrade can move it';

CREATE FUNCTION dugong.aggregate_types_changed() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_aggregate_types_changed';
COMMENT ON FUNCTION dugong.aggregate_types_changed() IS 'trigger: makes all sessions read the registry again';

CREATE TRIGGER changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON dugong.aggregate_types
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.aggregate_types_changed();
ALTER TABLE dugong.aggregate_types ENABLE ALWAYS TRIGGER changed;
