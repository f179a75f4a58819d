-- Events found by their types and tags, across aggregates; and appending on the condition that none has come.

-- As event_types: no foreign key.
CREATE TABLE dugong.tag_declarations (
    aggregate_type_id int,
    type text CHECK (type <> ''),
    tags jsonb NOT NULL CHECK (jsonb_typeof(tags) = 'object'),
    PRIMARY KEY (aggregate_type_id, type)
);
COMMENT ON TABLE dugong.tag_declarations IS 'event types whose events are found by type and tags';
COMMENT ON COLUMN dugong.tag_declarations.tags IS 'name of each tag: key of the payload, or array of keys of objects in it';

CREATE TRIGGER changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON dugong.tag_declarations
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.registry_changed();
ALTER TABLE dugong.tag_declarations ENABLE ALWAYS TRIGGER changed;

-- A dump carries the entries: a row that comes back into the log with its position makes none.
CREATE TABLE dugong.event_tags (
    tag uuid,
    position bigint,
    PRIMARY KEY (tag, position)
);
COMMENT ON TABLE dugong.event_tags IS 'where the events of a type or tag are';
COMMENT ON COLUMN dugong.event_tags.tag IS 'derived from tenant, aggregate type, event type, name and value of the tag';

CREATE VIEW dugong.declared_tags AS
SELECT t.origin,
       t.name AS aggregate_type,
       d.type,
       d.tags
FROM dugong.tag_declarations d
JOIN dugong.aggregate_types t ON t.id OPERATOR(pg_catalog.=) d.aggregate_type_id;
COMMENT ON VIEW dugong.declared_tags IS 'event types whose events are found by type and tags';

-- Runs with the caller's rights: he must own the aggregate type.
CREATE FUNCTION dugong.declare_tags(aggregate_type text, type text, tags jsonb, origin text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_declare_tags';
COMMENT ON FUNCTION dugong.declare_tags(text, text, jsonb, text) IS
    'declares by which tags an event type''s events are found, in the place of what was declared before; tags: object of name and key, or array of keys, of the payload';

CREATE FUNCTION dugong.drop_tags(aggregate_type text, type text, origin text DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_drop_tags';
COMMENT ON FUNCTION dugong.drop_tags(text, text, text) IS 'takes back what declare_tags() has declared of an event type';

-- In READ COMMITTED it sees what is committed when it is called, not when its statement began.
CREATE FUNCTION dugong.read_events_matching(
    query jsonb, after_position bigint DEFAULT NULL, max_rows int DEFAULT NULL, backward boolean DEFAULT false,
    tenant_id text DEFAULT NULL)
RETURNS SETOF dugong.domain_event
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 30 SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_read_events_matching';
COMMENT ON FUNCTION dugong.read_events_matching(jsonb, bigint, int, boolean, text) IS
    'events of some types and tags, in the order of positions; the last one''s position is the after_position of an append';

-- These must never be what a call without if_none_match means.  A call that gives its arguments by position fits both
-- functions, and is the other one's: text is preferred to name, and the arguments that follow are of the same types.
CREATE FUNCTION dugong.append_event(
    aggregate_type name, aggregate_id uuid, type text, payload jsonb DEFAULT NULL,
    expected_sequence_number bigint DEFAULT NULL, event_id uuid DEFAULT NULL, version int DEFAULT NULL,
    metadata jsonb DEFAULT NULL, correlation_id uuid DEFAULT NULL, triggered_by_event_id uuid DEFAULT NULL,
    triggered_by_user_id text DEFAULT NULL, event_timestamp timestamptz DEFAULT NULL,
    if_none_match jsonb DEFAULT NULL, after_position bigint DEFAULT NULL,
    tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS dugong.domain_event
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dugong_append_event_if';
COMMENT ON FUNCTION dugong.append_event(name, uuid, text, jsonb, bigint, uuid, int, jsonb, uuid, uuid, text, timestamptz, jsonb, bigint, text, text) IS
    'appends a domain event, if there is none of the query if_none_match beyond after_position; NULL = anywhere';

CREATE FUNCTION dugong.append_events(
    aggregate_type name, aggregate_id uuid, events jsonb, expected_sequence_number bigint DEFAULT NULL,
    metadata jsonb DEFAULT NULL, correlation_id uuid DEFAULT NULL, triggered_by_event_id uuid DEFAULT NULL,
    triggered_by_user_id text DEFAULT NULL, event_timestamp timestamptz DEFAULT NULL,
    if_none_match jsonb DEFAULT NULL, after_position bigint DEFAULT NULL,
    tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS SETOF dugong.domain_event
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dugong_append_events_if';
COMMENT ON FUNCTION dugong.append_events(name, uuid, jsonb, bigint, jsonb, uuid, uuid, text, timestamptz, jsonb, bigint, text, text) IS
    'appends many events to one aggregate, if there is none of the query if_none_match beyond after_position; NULL = anywhere';
