-- The names of aggregate types.

CREATE FUNCTION dugong.aggregate_type_id(origin text, name text) RETURNS int
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
RETURN ('x' || encode(substring(sha256(convert_to(origin || E'\n' || name, 'UTF8')), 1, 4), 'hex'))::bit(32)::int;
COMMENT ON FUNCTION dugong.aggregate_type_id(text, text) IS
    'the id that stands for an aggregate type in the log; the same in every database';

CREATE FUNCTION dugong.registry_changed() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_registry_changed';
COMMENT ON FUNCTION dugong.registry_changed() IS 'trigger: makes all sessions read the registry again';

CREATE FUNCTION dugong.replace_installed() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_replace_installed';
COMMENT ON FUNCTION dugong.replace_installed() IS 'trigger: a row of a dump takes the place of one that CREATE EXTENSION has made';

CREATE TABLE dugong.aggregate_types (
    id int PRIMARY KEY,
    origin text NOT NULL CHECK (origin <> ''),
    name text NOT NULL CHECK (name <> ''),
    owner text NOT NULL,
    search_path text NOT NULL,
    fold text,
    depends_on text[],
    snapshot_interval int CHECK (snapshot_interval >= 0),
    strict boolean NOT NULL,
    external boolean NOT NULL,
    UNIQUE (origin, name),
    CONSTRAINT aggregate_types_id_check CHECK (id = dugong.aggregate_type_id(origin, name)),
    CONSTRAINT aggregate_types_channel_check CHECK (octet_length(origin || '-' || name) <= 63)
);
CREATE UNIQUE INDEX aggregate_types_channel_idx ON dugong.aggregate_types ((origin || '-' || name));
COMMENT ON TABLE dugong.aggregate_types IS 'registry of aggregate types';
COMMENT ON COLUMN dugong.aggregate_types.id IS 'stands for the type in the log; derived from origin and name';
COMMENT ON COLUMN dugong.aggregate_types.origin IS 'service (bounded context) that owns the type';
COMMENT ON COLUMN dugong.aggregate_types.owner IS 'role whose rights its fold, upcasts and payload types have';
COMMENT ON COLUMN dugong.aggregate_types.search_path IS 'what its fold, upcasts and payload types find names along: that of whoever registered the fold';
COMMENT ON COLUMN dugong.aggregate_types.fold IS
    'signature of the aggregate function that makes a state out of events; text, so that pg_upgrade can move it';
COMMENT ON COLUMN dugong.aggregate_types.depends_on IS
    'signatures of functions that the fold calls: when one changes, snapshots are void';
COMMENT ON COLUMN dugong.aggregate_types.snapshot_interval IS 'events between two snapshots; NULL = the default, 0 = none';
COMMENT ON COLUMN dugong.aggregate_types.strict IS 'takes only event types that are declared';
COMMENT ON COLUMN dugong.aggregate_types.external IS 'another service''s: its events are received, not appended';

CREATE TRIGGER changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON dugong.aggregate_types
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.registry_changed();
ALTER TABLE dugong.aggregate_types ENABLE ALWAYS TRIGGER changed;
CREATE TRIGGER replace_installed BEFORE INSERT ON dugong.aggregate_types
    FOR EACH ROW WHEN (NEW.origin OPERATOR(pg_catalog.=) 'BankingContext-AccountService' AND NEW.name OPERATOR(pg_catalog.=) 'BankAccount')
    EXECUTE FUNCTION dugong.replace_installed();
ALTER TABLE dugong.aggregate_types ENABLE ALWAYS TRIGGER replace_installed;

-- A parallel restore loads tables in any order: no foreign key.
CREATE TABLE dugong.event_types (
    aggregate_type_id int,
    type text CHECK (type <> ''),
    version int CHECK (version > 0),
    payload_type text,
    upcast text,
    PRIMARY KEY (aggregate_type_id, type, version)
);
COMMENT ON TABLE dugong.event_types IS 'event types that were declared, one row for each version';
COMMENT ON COLUMN dugong.event_types.payload_type IS 'composite type or domain that payloads must fit; NULL = any';
COMMENT ON COLUMN dugong.event_types.upcast IS
    'signature of the function that makes a payload of this version out of one of the version before; NULL = it stays as it is';

CREATE TRIGGER changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON dugong.event_types
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.registry_changed();
ALTER TABLE dugong.event_types ENABLE ALWAYS TRIGGER changed;
