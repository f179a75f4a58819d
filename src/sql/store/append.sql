-- Appending.

CREATE FUNCTION dugong.append_event(
    aggregate_type text, aggregate_id uuid, type text, payload jsonb DEFAULT NULL,
    expected_sequence_number bigint DEFAULT NULL, event_id uuid DEFAULT NULL, version int DEFAULT NULL,
    metadata jsonb DEFAULT NULL, correlation_id uuid DEFAULT NULL, triggered_by_event_id uuid DEFAULT NULL,
    triggered_by_user_id text DEFAULT NULL, event_timestamp timestamptz DEFAULT NULL,
    tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS dugong.domain_event
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dugong_append_event';
COMMENT ON FUNCTION dugong.append_event(text, uuid, text, jsonb, bigint, uuid, int, jsonb, uuid, uuid, text, timestamptz, text, text) IS
    'appends a domain event and returns it as stored; expected_sequence_number: of the last event, 0 = none, NULL = any';

CREATE FUNCTION dugong.append_events(
    aggregate_type text, aggregate_id uuid, events jsonb, expected_sequence_number bigint DEFAULT NULL,
    metadata jsonb DEFAULT NULL, correlation_id uuid DEFAULT NULL, triggered_by_event_id uuid DEFAULT NULL,
    triggered_by_user_id text DEFAULT NULL, event_timestamp timestamptz DEFAULT NULL,
    tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS SETOF dugong.domain_event
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'dugong_append_events';
COMMENT ON FUNCTION dugong.append_events(text, uuid, jsonb, bigint, jsonb, uuid, uuid, text, timestamptz, text, text) IS
    'appends many events to one aggregate, all or none; events: array of {type, payload, eventId, version, metadata}';
