-- The log.  Its columns are in the order of src/store/log.h, fixed sizes first.

CREATE SEQUENCE dugong.event_log_position_seq AS bigint CACHE 1 NO CYCLE;
COMMENT ON SEQUENCE dugong.event_log_position_seq IS
    'positions of the log; must keep CACHE 1, or projections lose events';

-- Positions and ids made here grow: their indexes are filled from the left
CREATE TABLE dugong.event_log (
    position bigint NOT NULL,
    sequence_number bigint NOT NULL CHECK (sequence_number > 0),
    "timestamp" timestamptz NOT NULL,
    id uuid NOT NULL,
    aggregate_id uuid NOT NULL,
    aggregate_type_id int NOT NULL,
    version int NOT NULL CHECK (version > 0),
    tenant_id text NOT NULL,
    type text NOT NULL CHECK (type <> ''),
    payload jsonb,
    correlation_id uuid,
    triggered_by_event_id uuid,
    triggered_by_user_id text,
    metadata jsonb,
    CONSTRAINT event_log_pkey PRIMARY KEY (position) WITH (fillfactor = 98)
);
ALTER SEQUENCE dugong.event_log_position_seq OWNED BY dugong.event_log.position;
CREATE UNIQUE INDEX event_log_id_idx ON dugong.event_log (id) WITH (fillfactor = 98);
CREATE UNIQUE INDEX event_log_stream_idx ON dugong.event_log
    (aggregate_id, aggregate_type_id, tenant_id COLLATE "C", sequence_number);
-- Finding aggregates: one entry for each
CREATE UNIQUE INDEX event_log_first_idx ON dugong.event_log
    (aggregate_type_id, tenant_id COLLATE "C", aggregate_id) WHERE sequence_number = 1;
-- Finding the pages in which a correlation id may be: see src/store/correlation.c
CREATE INDEX event_log_correlation_idx ON dugong.event_log
    USING brin (correlation_id uuid_bloom_ops (n_distinct_per_range = 1600, false_positive_rate = 0.01))
    WITH (pages_per_range = 32, autosummarize = on) WHERE correlation_id IS NOT NULL;
CREATE INDEX event_log_triggered_by_idx ON dugong.event_log (triggered_by_event_id)
    WHERE triggered_by_event_id IS NOT NULL;
COMMENT ON TABLE dugong.event_log IS
    'the log: every domain event, append-only; read it through dugong.domain_events';
COMMENT ON COLUMN dugong.event_log.position IS 'order in the whole log; drawn by trigger; a row that brings one is a restore';
COMMENT ON COLUMN dugong.event_log.sequence_number IS '1, 2, 3 ... within one aggregate; a value given is an expectation';
COMMENT ON COLUMN dugong.event_log.tenant_id IS 'empty = no tenant';

-- Where the log has grown: not dumped, so that no worker consumes a database
-- while it is being restored.
CREATE TABLE dugong.home (
    system_identifier bigint NOT NULL,
    database_oid oid NOT NULL
);
COMMENT ON TABLE dugong.home IS 'clusters and databases in which positions were drawn; workers work only there';

CREATE FUNCTION dugong.event_assign() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_event_assign';
COMMENT ON FUNCTION dugong.event_assign() IS
    'trigger: checks an event and gives it its position, sequence number, id and timestamp';

CREATE FUNCTION dugong.refuse_change() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_refuse_change';
COMMENT ON FUNCTION dugong.refuse_change() IS 'trigger: refuses UPDATE, DELETE and TRUNCATE (UG005)';

CREATE TRIGGER event_assign BEFORE INSERT ON dugong.event_log
    FOR EACH ROW EXECUTE FUNCTION dugong.event_assign();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON dugong.event_log
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.refuse_change();
ALTER TABLE dugong.event_log ENABLE ALWAYS TRIGGER event_assign;
ALTER TABLE dugong.event_log ENABLE ALWAYS TRIGGER refuse_change;
