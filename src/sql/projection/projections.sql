-- Projections and how far they have come.
--
-- No foreign keys between these tables and to the log: a parallel restore
-- loads them in any order.

CREATE TABLE dugong.projections (
    name text PRIMARY KEY CHECK (name <> '' AND octet_length(name) <= 52),
    owner text NOT NULL,
    search_path text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('query_model', 'aggregate', 'aggregate_set', 'event', 'event_set', 'subscription')),
    aggregate_type_ids int[] NOT NULL CHECK (cardinality(aggregate_type_ids) > 0),
    types text[],
    query_model text,
    update_handler text,
    delete_handler text,
    event_handler text,
    set_handler text,
    reset_handler text,
    mode text NOT NULL CHECK (mode IN ('async', 'inline')),
    on_error text NOT NULL CHECK (on_error IN ('park', 'stop')),
    state text NOT NULL CHECK (state IN ('running', 'paused', 'stopped')),
    start_position bigint NOT NULL CHECK (start_position >= 0),
    visibility_timeout interval,
    CHECK ((kind = 'subscription') = (visibility_timeout IS NOT NULL)),
    CHECK ((kind = 'query_model') = (query_model IS NOT NULL)),
    CHECK ((kind = 'aggregate') = (update_handler IS NOT NULL AND delete_handler IS NOT NULL)),
    CHECK ((kind = 'event') = (event_handler IS NOT NULL)),
    CHECK ((kind LIKE '%set') = (set_handler IS NOT NULL))
);
COMMENT ON TABLE dugong.projections IS 'registry of projections and subscriptions';
COMMENT ON COLUMN dugong.projections.owner IS 'role whose rights its handlers have';
COMMENT ON COLUMN dugong.projections.search_path IS 'what its handlers find names along: that of whoever registered them';
COMMENT ON COLUMN dugong.projections.kind IS
    'query_model: dugong writes a table; aggregate, aggregate_set: handlers get states; event, event_set: a handler gets events; subscription: a program outside fetches them';
COMMENT ON COLUMN dugong.projections.aggregate_type_ids IS 'aggregate types that it reads';
COMMENT ON COLUMN dugong.projections.types IS 'event types that it reads; NULL = all';
COMMENT ON COLUMN dugong.projections.query_model IS
    'qualified name of the table that dugong maintains; text, so that pg_upgrade can move it, as the handlers are';
COMMENT ON COLUMN dugong.projections.mode IS 'async = by a background worker; inline = within the append';
COMMENT ON COLUMN dugong.projections.on_error IS 'park = set the failing aggregate aside and go on; stop = stop the projection';
COMMENT ON COLUMN dugong.projections.state IS 'stopped = by an error, see dugong.projection_status';
COMMENT ON COLUMN dugong.projections.start_position IS 'handles events after this one';
COMMENT ON COLUMN dugong.projections.visibility_timeout IS 'of a subscription: what is fetched and not acknowledged within it is delivered again';

CREATE TRIGGER changed
    AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON dugong.projections
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.registry_changed();
ALTER TABLE dugong.projections ENABLE ALWAYS TRIGGER changed;
CREATE TRIGGER replace_installed BEFORE INSERT ON dugong.projections
    FOR EACH ROW WHEN (NEW.name OPERATOR(pg_catalog.=) 'bank_account') EXECUTE FUNCTION dugong.replace_installed();
ALTER TABLE dugong.projections ENABLE ALWAYS TRIGGER replace_installed;

CREATE FUNCTION dugong.refuse_projected_type() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_refuse_projected_type';
COMMENT ON FUNCTION dugong.refuse_projected_type() IS 'trigger: keeps aggregate types that have projections';
CREATE TRIGGER refuse_projected_type BEFORE DELETE ON dugong.aggregate_types
    FOR EACH ROW EXECUTE FUNCTION dugong.refuse_projected_type();

CREATE TABLE dugong.checkpoints (
    projection text PRIMARY KEY,
    position bigint NOT NULL,
    system_identifier bigint NOT NULL,
    database_oid oid NOT NULL,
    fingerprint bigint,
    replay_until bigint NOT NULL DEFAULT 0,
    batches bigint NOT NULL DEFAULT 0,
    events bigint NOT NULL DEFAULT 0,
    rate float8 NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
COMMENT ON TABLE dugong.checkpoints IS 'how far each projection has handled the log';
COMMENT ON COLUMN dugong.checkpoints.position IS 'every event up to here is handled, but for the holes';
COMMENT ON COLUMN dugong.checkpoints.system_identifier IS 'cluster that wrote it: transaction ids and fingerprint mean something only there';
COMMENT ON COLUMN dugong.checkpoints.database_oid IS 'database that wrote it';
COMMENT ON COLUMN dugong.checkpoints.fingerprint IS 'what the query model was made with';
COMMENT ON COLUMN dugong.checkpoints.replay_until IS 'events up to here were handled before and are handled again';
COMMENT ON COLUMN dugong.checkpoints.batches IS 'transactions so far';
COMMENT ON COLUMN dugong.checkpoints.events IS 'events handled so far';
COMMENT ON COLUMN dugong.checkpoints.rate IS 'events handled in a second, over the last ten or so, when it was updated';

CREATE TABLE dugong.checkpoint_holes (
    projection text,
    first_position bigint,
    last_position bigint NOT NULL CHECK (last_position >= first_position),
    transactions xid8[] NOT NULL,
    PRIMARY KEY (projection, first_position)
);
COMMENT ON TABLE dugong.checkpoint_holes IS 'positions below a checkpoint where events may still appear';
COMMENT ON COLUMN dugong.checkpoint_holes.transactions IS 'who may fill them; when all have ended and nothing came, the hole is forgotten';

CREATE TABLE dugong.parked_aggregates (
    projection text,
    aggregate_type_id int,
    aggregate_id uuid,
    tenant_id text,
    first_sequence_number bigint NOT NULL,
    last_sequence_number bigint NOT NULL,
    event_id uuid NOT NULL,
    attempts int NOT NULL,
    first_failed_at timestamptz NOT NULL,
    last_failed_at timestamptz NOT NULL,
    retry_at timestamptz,
    sqlstate text NOT NULL,
    message text NOT NULL,
    detail text,
    context text,
    PRIMARY KEY (projection, aggregate_id, aggregate_type_id, tenant_id)
);
CREATE INDEX parked_aggregates_retry_idx ON dugong.parked_aggregates (projection, retry_at) WHERE retry_at IS NOT NULL;
COMMENT ON TABLE dugong.parked_aggregates IS 'aggregates whose events wait behind one that a projection could not handle';
COMMENT ON COLUMN dugong.parked_aggregates.first_sequence_number IS 'the first event that is not handled';
COMMENT ON COLUMN dugong.parked_aggregates.last_sequence_number IS 'the last that waits behind it';
COMMENT ON COLUMN dugong.parked_aggregates.event_id IS 'what was handled when it failed last';
COMMENT ON COLUMN dugong.parked_aggregates.retry_at IS 'when it is tried again; NULL = only when somebody asks: a dead letter';

CREATE TABLE dugong.projection_failures (
    projection text PRIMARY KEY,
    attempts int NOT NULL,
    first_failed_at timestamptz NOT NULL,
    last_failed_at timestamptz NOT NULL,
    sqlstate text NOT NULL,
    message text NOT NULL,
    detail text,
    context text
);
COMMENT ON TABLE dugong.projection_failures IS 'the last error of each projection';
COMMENT ON COLUMN dugong.projection_failures.attempts IS 'failures since the last success; 0 = it has gone on';

CREATE FUNCTION dugong.create_projection(
    name text, aggregate_type text, query_model regclass DEFAULT NULL, mode text DEFAULT 'async',
    update_handler regprocedure DEFAULT NULL, delete_handler regprocedure DEFAULT NULL, event_handler regprocedure DEFAULT NULL,
    set_handler regprocedure DEFAULT NULL, reset_handler regprocedure DEFAULT NULL, types text[] DEFAULT NULL,
    on_error text DEFAULT 'park', start_position bigint DEFAULT 0, origin text DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dugong_create_projection';
COMMENT ON FUNCTION dugong.create_projection(text, text, regclass, text, regprocedure, regprocedure, regprocedure, regprocedure, regprocedure, text[], text, bigint, text) IS
    'registers a projection of one aggregate type: either a query_model table, or handlers';

CREATE FUNCTION dugong.create_projection(
    name text, aggregate_types text[], query_model regclass DEFAULT NULL, mode text DEFAULT 'async',
    update_handler regprocedure DEFAULT NULL, delete_handler regprocedure DEFAULT NULL, event_handler regprocedure DEFAULT NULL,
    set_handler regprocedure DEFAULT NULL, reset_handler regprocedure DEFAULT NULL, types text[] DEFAULT NULL,
    on_error text DEFAULT 'park', start_position bigint DEFAULT 0, origin text DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dugong_create_projection';
COMMENT ON FUNCTION dugong.create_projection(text, text[], regclass, text, regprocedure, regprocedure, regprocedure, regprocedure, regprocedure, text[], text, bigint, text) IS
    'registers a projection of several aggregate types';

CREATE FUNCTION dugong.alter_projection(
    name text, update_handler regprocedure DEFAULT NULL, delete_handler regprocedure DEFAULT NULL,
    event_handler regprocedure DEFAULT NULL, set_handler regprocedure DEFAULT NULL, reset_handler regprocedure DEFAULT NULL,
    types text[] DEFAULT NULL, on_error text DEFAULT NULL, owner regrole DEFAULT NULL, accept boolean DEFAULT false,
    mode text DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'dugong_alter_projection';
COMMENT ON FUNCTION dugong.alter_projection(text, regprocedure, regprocedure, regprocedure, regprocedure, regprocedure, text[], text, regrole, boolean, text) IS
    'changes a projection, which goes on where it is; NULL leaves as it is; accept: what it has written is as its present code would have';

CREATE FUNCTION dugong.drop_projection(name text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_drop_projection';
COMMENT ON FUNCTION dugong.drop_projection(text) IS 'drops a projection; its tables stay';

CREATE FUNCTION dugong.pause_projection(name text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_pause_projection';
COMMENT ON FUNCTION dugong.pause_projection(text) IS 'nothing is handled until dugong.resume_projection(); waits for the batch that is running';

CREATE FUNCTION dugong.resume_projection(name text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_resume_projection';
COMMENT ON FUNCTION dugong.resume_projection(text) IS 'lets a paused or stopped projection go on where it was';

CREATE FUNCTION dugong.retry_dead_letters(projection text, aggregate_id uuid DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_retry_dead_letters';
COMMENT ON FUNCTION dugong.retry_dead_letters(text, uuid) IS
    'has the worker handle at once what a projection has set aside, of one aggregate or of all; returns how many';

CREATE FUNCTION dugong.discard_dead_letter(projection text, aggregate_id uuid, tenant_id text DEFAULT NULL) RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_discard_dead_letter';
COMMENT ON FUNCTION dugong.discard_dead_letter(text, uuid, text) IS
    'forgets the events that wait: the projection never handles them, and goes on with the next; returns how many dead letters';

CREATE FUNCTION dugong.is_replaying() RETURNS boolean
LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'dugong_is_replaying';
COMMENT ON FUNCTION dugong.is_replaying() IS 'for handlers: was what is being handled handled before?';

CREATE PROCEDURE dugong.run_projections()
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_run_projections';
COMMENT ON PROCEDURE dugong.run_projections() IS
    'handles, in this session, all events that are committed now, as the background worker does';

CREATE FUNCTION dugong.inline_projections() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_inline_projections';
COMMENT ON FUNCTION dugong.inline_projections() IS 'trigger: runs inline projections of what a statement has appended';

CREATE TRIGGER inline_projections AFTER INSERT ON dugong.event_log
    FOR EACH STATEMENT EXECUTE FUNCTION dugong.inline_projections();
ALTER TABLE dugong.event_log ENABLE ALWAYS TRIGGER inline_projections;

CREATE TABLE dugong.rebuilds (
    projection text PRIMARY KEY,
    fingerprint bigint NOT NULL,
    phase text NOT NULL CHECK (phase IN ('aggregates', 'sweep', 'replay')),
    done bigint NOT NULL DEFAULT 0,
    total bigint NOT NULL,
    cursor_tenant text,
    cursor_id uuid,
    pid int NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL
);
COMMENT ON TABLE dugong.rebuilds IS 'rebuilds that run, or were broken off';
COMMENT ON COLUMN dugong.rebuilds.fingerprint IS 'of what it makes the query model with: with another one it begins anew';
COMMENT ON COLUMN dugong.rebuilds.phase IS
    'aggregates = writes each one''s row; sweep = looks for rows that should not be there; replay = handles all events, in one transaction';

CREATE PROCEDURE dugong.rebuild_projection(
    projection text, aggregate_id uuid DEFAULT NULL, tenant_id text DEFAULT NULL, offline boolean DEFAULT false)
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_rebuild_projection';
COMMENT ON PROCEDURE dugong.rebuild_projection(text, uuid, text, boolean) IS
    'makes a query model anew from the log, of all aggregates or of one; offline: events are replayed in many transactions, the query model being incomplete meanwhile';

CREATE PROCEDURE dugong.wait_for_projection(
    projection text, timeout interval DEFAULT '10s', target_position bigint DEFAULT NULL)
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_wait_for_projection';
COMMENT ON PROCEDURE dugong.wait_for_projection(text, interval, bigint) IS
    'waits until a projection has handled all that is committed now, or all up to a position; UG011 at the timeout';

CREATE TABLE dugong.stopped_workers (
    stopped_at timestamptz NOT NULL
);
ALTER TABLE dugong.stopped_workers REPLICA IDENTITY FULL;
COMMENT ON TABLE dugong.stopped_workers IS 'has a row while dugong.stop_workers() holds';

CREATE FUNCTION dugong.stop_workers() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_stop_workers';
COMMENT ON FUNCTION dugong.stop_workers() IS
    'ends the background workers of the database at commit, until dugong.start_workers()';

CREATE FUNCTION dugong.start_workers() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'dugong_start_workers';
COMMENT ON FUNCTION dugong.start_workers() IS
    'starts the background worker at commit, also where no event was appended since a restore';
