-- Helpers for testing one's own aggregates with pgTAP.  Optional: run this
-- file in a test database that has the extensions dugong and pgtap.
--
-- given events, when a command runs, then these events / this error / this
-- state.  A scenario is rolled back when it has been looked at.

CREATE SCHEMA dugong_testing;
COMMENT ON SCHEMA dugong_testing IS 'helpers for testing one''s own aggregates with pgTAP';

CREATE FUNCTION dugong_testing.scenario(
    description text, aggregate_type text, aggregate_id uuid, given jsonb, command text,
    then_events jsonb DEFAULT NULL, then_error text DEFAULT NULL, then_state jsonb DEFAULT NULL,
    tenant_id text DEFAULT NULL, origin text DEFAULT NULL)
RETURNS SETOF text
LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    before bigint;
    events jsonb;
    error text := 'none';
    state jsonb;
BEGIN
    BEGIN
        PERFORM dugong.append_events(aggregate_type, aggregate_id, coalesce(given, '[]'), tenant_id => tenant_id, origin => origin);
        before := (SELECT coalesce(max(e.sequence_number), 0) FROM dugong.aggregate_events(aggregate_type, aggregate_id, tenant_id => tenant_id, origin => origin) e);
        BEGIN
            EXECUTE command;
        EXCEPTION WHEN OTHERS THEN
            error := SQLSTATE;
        END;
        events := (SELECT coalesce(jsonb_agg(jsonb_build_object('type', e.type, 'payload', e.payload) ORDER BY e.sequence_number), '[]')
                   FROM dugong.aggregate_events(aggregate_type, aggregate_id, before + 1, tenant_id => tenant_id, origin => origin) e);
        IF then_state IS NOT NULL THEN
            state := dugong.build_aggregate(aggregate_type, aggregate_id, tenant_id => tenant_id, origin => origin);
        END IF;
        RAISE EXCEPTION 'seen' USING ERRCODE = 'UGT00';
    EXCEPTION WHEN SQLSTATE 'UGT00' THEN
        NULL;
    END;
    RETURN NEXT is(error, coalesce(then_error, 'none'), description || ': error');
    RETURN NEXT is(events, coalesce(
        (SELECT jsonb_agg(jsonb_build_object('type', e -> 'type', 'payload', e -> 'payload') ORDER BY n)
         FROM jsonb_array_elements(then_events) WITH ORDINALITY AS t (e, n)), '[]'), description || ': events');
    IF then_state IS NOT NULL THEN
        RETURN NEXT is(coalesce(state, 'null'), then_state, description || ': state');
    END IF;
END $$;
COMMENT ON FUNCTION dugong_testing.scenario(text, text, uuid, jsonb, text, jsonb, text, jsonb, text, text) IS
    'given events of one aggregate, when the command runs, then its new events, its SQLSTATE (NULL = no error), its state (JSON null = deleted; NULL = do not look); leaves nothing behind';
