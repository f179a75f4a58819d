-- Domain events as other services serialise them.

CREATE FUNCTION dugong.to_message(event dugong.domain_event) RETURNS jsonb
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN jsonb_build_object(
        'origin', (event).origin,
        'aggregateType', (event).aggregate_type,
        'type', (event).type,
        'version', (event).version,
        'id', (event).id,
        'aggregateId', (event).aggregate_id,
        'payload', (event).payload,
        'sequenceNumber', (event).sequence_number,
        'timestamp', to_char((event)."timestamp" AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            || CASE WHEN extract(year FROM (event)."timestamp" AT TIME ZONE 'UTC') < 0 THEN ' BC' ELSE '' END)
    || CASE WHEN (event).tenant_id <> '' THEN jsonb_build_object('tenantId', (event).tenant_id) ELSE '{}' END
    || CASE WHEN (event).correlation_id IS NOT NULL
            THEN jsonb_build_object('correlationId', (event).correlation_id) ELSE '{}' END
    || CASE WHEN (event).triggered_by_event_id IS NOT NULL
            THEN jsonb_build_object('triggeredByEventId', (event).triggered_by_event_id) ELSE '{}' END
    || CASE WHEN (event).triggered_by_user_id IS NOT NULL
            THEN jsonb_build_object('triggeredByUserId', (event).triggered_by_user_id) ELSE '{}' END
    || CASE WHEN (event).metadata IS NOT NULL
            THEN jsonb_build_object('metadata', (event).metadata) ELSE '{}' END;
COMMENT ON FUNCTION dugong.to_message(dugong.domain_event) IS
    'a domain event as a JSON object with camelCase keys, as DugongJS serialises it';

CREATE FUNCTION dugong.receive_message(message jsonb) RETURNS dugong.domain_event
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_receive_message';
COMMENT ON FUNCTION dugong.receive_message(jsonb) IS
    'stores a domain event of another origin, once per id and in sequence';
