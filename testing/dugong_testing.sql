-- Helpers for testing one's own aggregates with pgTAP.  Optional: run this
-- file in a test database that has the extensions dugong and pgtap.
--
-- given events, when a command runs, then these events / this error / this
-- state.  A scenario is rolled back when it has been looked at.

CREATE SCHEMA dugong_testing;
COMMENT ON SCHEMA dugong_testing IS 'helpers for testing one''s own aggregates with pgTAP';

-- An event with the keys that the expected one has, type and payload; no payload counts as {}.
CREATE FUNCTION dugong_testing.comparable(event jsonb, expected jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE
RETURN (SELECT jsonb_object_agg(key, CASE WHEN key = 'payload' THEN coalesce(nullif(event -> key, 'null'), '{}') ELSE event -> key END)
        FROM (SELECT 'type' AS key UNION SELECT 'payload' UNION SELECT jsonb_object_keys(expected)) AS keys);
COMMENT ON FUNCTION dugong_testing.comparable(jsonb, jsonb) IS 'what is compared of an event: the keys of an expected one, type and payload';

CREATE FUNCTION dugong_testing.scenario(
    description text, aggregate_type text, aggregate_id uuid, given jsonb, command text,
    then_events jsonb DEFAULT NULL, then_error text DEFAULT NULL, then_state jsonb DEFAULT NULL,
    tenant_id text DEFAULT NULL, origin text DEFAULT NULL, all_events boolean DEFAULT false)
RETURNS SETOF text
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    last_position bigint;
    last_sequence_number bigint;
    appended jsonb;
    events jsonb;
    expected jsonb;
    error text := 'none';
    message text;
    state jsonb;
    stage text := 'given';
    failure text;
BEGIN
    BEGIN
        PERFORM dugong.append_events(aggregate_type, aggregate_id, coalesce(given, '[]'), tenant_id => tenant_id, origin => origin);
        last_position := (SELECT coalesce(max(e.position), 0) FROM dugong.domain_events e);
        last_sequence_number := (SELECT coalesce(max(e.sequence_number), 0) FROM dugong.aggregate_events(aggregate_type, aggregate_id, tenant_id => tenant_id, origin => origin) e);
        stage := 'command';
        BEGIN
            EXECUTE command;
        EXCEPTION WHEN OTHERS OR assert_failure THEN
            error := SQLSTATE;
            message := SQLERRM;
        END;
        stage := 'then_events';
        appended := CASE WHEN all_events
            THEN (SELECT jsonb_agg(dugong.to_message(e) ORDER BY e.position) FROM dugong.domain_events e WHERE e.position > last_position)
            ELSE (SELECT jsonb_agg(dugong.to_message(e) ORDER BY e.sequence_number) FROM dugong.aggregate_events(aggregate_type, aggregate_id, last_sequence_number + 1, tenant_id => tenant_id, origin => origin) e)
            END;
        SELECT coalesce(jsonb_agg(dugong_testing.comparable(a.event, coalesce(x.event, CASE WHEN all_events THEN '{"aggregateType": null, "aggregateId": null}' ELSE '{}' END::jsonb)) ORDER BY n) FILTER (WHERE a.event IS NOT NULL), '[]'),
               coalesce(jsonb_agg(dugong_testing.comparable(x.event, x.event) ORDER BY n) FILTER (WHERE x.event IS NOT NULL), '[]')
        INTO events, expected
        FROM jsonb_array_elements(appended) WITH ORDINALITY AS a (event, n)
        FULL JOIN jsonb_array_elements(then_events) WITH ORDINALITY AS x (event, n) USING (n);
        IF then_state IS NOT NULL THEN
            stage := 'then_state';
            state := dugong.build_aggregate(aggregate_type, aggregate_id, tenant_id => tenant_id, origin => origin);
        END IF;
        stage := 'end';
        RAISE EXCEPTION 'seen' USING ERRCODE = 'UGT00';
    EXCEPTION
        WHEN SQLSTATE 'UGT00' THEN
            NULL;
        WHEN OTHERS OR assert_failure THEN
            GET STACKED DIAGNOSTICS failure = PG_EXCEPTION_CONTEXT;
            failure := E'\n' || diag(stage || ': ' || SQLSTATE || ' ' || SQLERRM || E'\n' || failure);
    END;

    IF stage = 'given' THEN
        RETURN NEXT fail(description || ': error') || failure;
    ELSE
        RETURN NEXT is(error, coalesce(then_error, 'none'), description || ': error')
            || CASE WHEN error IN ('none', then_error) THEN '' ELSE E'\n' || diag(message) END;
    END IF;
    IF stage IN ('given', 'then_events') THEN
        RETURN NEXT fail(description || ': events') || failure;
    ELSE
        RETURN NEXT is(events, expected, description || ': events');
    END IF;
    IF then_state IS NOT NULL THEN
        IF stage <> 'end' THEN
            RETURN NEXT fail(description || ': state') || failure;
        ELSE
            RETURN NEXT is(coalesce(state, 'null'), then_state, description || ': state');
        END IF;
    END IF;
END $$;
COMMENT ON FUNCTION dugong_testing.scenario(text, text, uuid, jsonb, text, jsonb, text, jsonb, text, text, boolean) IS
    'given events of one aggregate, when the command runs, then its new events (all_events: all new events, in their order; compared are type, payload and the keys given), its SQLSTATE (NULL = no error), its state (JSON null = deleted; NULL = do not look); leaves nothing behind';
