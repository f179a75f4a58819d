/*
 * subscription.c
 *		Consumers outside of the database, which fetch and acknowledge.
 *
 * A subscription is a projection without code: what it reads it puts into
 * dugong.deliveries, a row for each event, which goes when the event is
 * acknowledged.  fetch_events() reads on in the log as far as it needs, and
 * leases events to its caller; what is not acknowledged when the lease ends is
 * delivered again.  So it is at least once.
 *
 * Order per aggregate: an event is delivered only if no earlier one of its
 * aggregate is leased to somebody, waits for its retry, or is a dead letter.
 * Several of one aggregate may be leased in one fetch, in their order.
 *
 * A fetch holds the subscription's lock until its transaction ends; another
 * that comes meanwhile gets nothing, and does not wait.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "guc.h"
#include "miscadmin.h"
#include "projection/checkpoint.h"
#include "projection/projection.h"
#include "projection/reader.h"
#include "store/domain_event.h"
#include "store/ownership.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "tcop/pquery.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "util/args.h"
#include "util/identity.h"
#include "util/pause.h"
#include "util/plan.h"

PG_FUNCTION_INFO_V1(dugong_fetch_events);
PG_FUNCTION_INFO_V1(dugong_ack);
PG_FUNCTION_INFO_V1(dugong_nack);
PG_FUNCTION_INFO_V1(dugong_wait_for_events);

/* So many events may wait for an aggregate's turn before no more are read. */
#define MAX_WAITING 10000

/* If nothing of what was read is due, so many more are read at a time. */
#define MANY 1000

/* ms between two looks of wait_for_events(): doubles */
#define MIN_WAIT 1
#define MAX_WAIT 50

/*
 * The statements take the time as $2, once: what is leased must not be free to
 * be overtaken a moment later.
 *
 * Aggregates with an event that is not to be overtaken, and its position.
 */
#define BLOCKED \
	"blocked AS MATERIALIZED (SELECT b.aggregate_type_id, b.aggregate_id, b.tenant_id, pg_catalog.min(b.position) AS position " \
	"FROM dugong.deliveries b WHERE b.subscription OPERATOR(pg_catalog.=) $1 " \
	"AND (b.dead OR b.leased_until OPERATOR(pg_catalog.>) $2 OR b.retry_at OPERATOR(pg_catalog.>) $2) GROUP BY 1, 2, 3)"

/* The same aggregate in x and y. */
#define SAME_AGGREGATE(x, y) \
	x ".aggregate_id OPERATOR(pg_catalog.=) " y ".aggregate_id AND " \
	x ".aggregate_type_id OPERATOR(pg_catalog.=) " y ".aggregate_type_id AND " \
	x ".tenant_id OPERATOR(pg_catalog.=) " y ".tenant_id"

/* Deliveries d of the subscription that are due, and overtake nothing. */
#define DUE_DELIVERIES \
	"FROM dugong.deliveries d LEFT JOIN blocked k ON " SAME_AGGREGATE("k", "d") " " \
	"WHERE d.subscription OPERATOR(pg_catalog.=) $1 AND NOT d.dead " \
	"AND (d.leased_until IS NULL OR d.leased_until OPERATOR(pg_catalog.<=) $2) " \
	"AND (d.retry_at IS NULL OR d.retry_at OPERATOR(pg_catalog.<=) $2) " \
	"AND (k.position IS NULL OR d.position OPERATOR(pg_catalog.<) k.position)"

/* A fetch: what it reads from the log goes into arrays of this. */
typedef struct Fetch
{
	const Projection *subscription;
	Relation	log;
	Snapshot	snapshot;
	int			wanted;
	int			nread;
	int			count;
	int			allocated;
	Datum	   *columns[6];		/* position, event id, type, aggregate, tenant, sequence number */
} Fetch;

static const Oid column_types[6] = {INT8OID, UUIDOID, INT4OID, UUIDOID, TEXTOID, INT8OID};
static const LogColumn column_sources[6] = {
	LOG_POSITION, LOG_ID, LOG_AGGREGATE_TYPE_ID, LOG_AGGREGATE_ID, LOG_TENANT_ID, LOG_SEQUENCE_NUMBER
};

static Projection *
find_subscription(const char *name)
{
	Projection *subscription = projection_find(name);

	if (subscription == NULL || subscription->kind != KIND_SUBSCRIPTION)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("subscription \"%s\" does not exist", name)));
	require_owner(subscription->owner, "subscription", name);
	return subscription;
}

static Datum
copy_column(const LogRow *row, int column)
{
	Datum		value = log_row_value(row, column_sources[column]);

	switch (column_types[column])
	{
		case UUIDOID:
			return UUIDPGetDatum(memcpy(palloc(UUID_LEN), DatumGetUUIDP(value), UUID_LEN));
		case TEXTOID:
			return PointerGetDatum(DatumGetTextPCopy(value));
		default:
			return value;
	}
}

static void
note(void *arg, TupleTableSlot *slot)
{
	Fetch	   *fetch = arg;
	LogRow		row;

	fetch->nread++;
	log_row_from_slot(&row, slot);
	if (!projection_reads(fetch->subscription, DatumGetInt32(log_row_value(&row, LOG_AGGREGATE_TYPE_ID)),
						  DatumGetTextPP(log_row_value(&row, LOG_TYPE))))
		return;
	if (fetch->count == fetch->allocated)
	{
		fetch->allocated = Max(fetch->allocated * 2, 64);
		for (int i = 0; i < 6; i++)
			fetch->columns[i] = fetch->columns[i] ?
				repalloc(fetch->columns[i], fetch->allocated * sizeof(Datum)) : palloc(fetch->allocated * sizeof(Datum));
	}
	for (int i = 0; i < 6; i++)
		fetch->columns[i][fetch->count] = copy_column(&row, i);
	fetch->count++;
}

static bool
is_full(void *arg)
{
	const Fetch *fetch = arg;

	return fetch->count >= fetch->wanted || fetch->nread >= dugong_batch_size;
}

static Datum
column_array(const Fetch *fetch, int column)
{
	switch (column_types[column])
	{
		case INT8OID:
			return PointerGetDatum(construct_array(fetch->columns[column], fetch->count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
		case INT4OID:
			return PointerGetDatum(construct_array(fetch->columns[column], fetch->count, INT4OID, sizeof(int32), true, TYPALIGN_INT));
		case UUIDOID:
			return PointerGetDatum(construct_array(fetch->columns[column], fetch->count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
		default:
			return PointerGetDatum(construct_array(fetch->columns[column], fetch->count, TEXTOID, -1, false, TYPALIGN_INT));
	}
}

static void
insert_deliveries(const Fetch *fetch)
{
	static SavedPlan insert = {
		.sql = "INSERT INTO dugong.deliveries (subscription, position, event_id, aggregate_type_id, aggregate_id, tenant_id, sequence_number) "
		"SELECT $1, u.* FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), "
		"pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7)) AS u",
		.nargs = 7,
		.argtypes = {TEXTOID, INT8ARRAYOID, UUIDARRAYOID, INT4ARRAYOID, UUIDARRAYOID, TEXTARRAYOID, INT8ARRAYOID}
	};
	Datum		values[7];

	if (fetch->count == 0)
		return;
	values[0] = CStringGetTextDatum(fetch->subscription->name);
	for (int i = 0; i < 6; i++)
		values[i + 1] = column_array(fetch, i);
	SPI_connect();
	plan_execute(&insert, values, NULL, false);
	SPI_finish();
}

/* Reads on in the log; whether anything was found. */
static bool
read_on(const Projection *subscription, int wanted)
{
	Fetch		fetch = {.subscription = subscription,.wanted = wanted};
	Checkpoint	checkpoint;
	LogReader	reader;

	fetch.log = log_open(AccessShareLock);
	CommandCounterIncrement();
	fetch.snapshot = RegisterSnapshot(GetTransactionSnapshot());
	PushActiveSnapshot(fetch.snapshot);
	checkpoint_load(&checkpoint, subscription);
	reader = (LogReader)
	{
		.log = fetch.log,.snapshot = fetch.snapshot,.checkpoint = &checkpoint,
			.note = note,.is_full = is_full,.arg = &fetch
	};
	reader_read_holes(&reader);
	if (!is_full(&fetch))
		reader_read_above(&reader, PG_INT64_MAX);
	/* First the checkpoint: if another one has moved it, that is a failure to serialize. */
	if (fetch.nread > 0 || checkpoint.removed != NIL)
		checkpoint_save(&checkpoint, subscription, fetch.count);
	insert_deliveries(&fetch);
	PopActiveSnapshot();
	UnregisterSnapshot(fetch.snapshot);
	table_close(fetch.log, NoLock);
	return fetch.nread > 0;
}

/* What was delivered too often is a dead letter: the first event of its aggregate, which the others were leased with. */
static void
give_up(Datum name, TimestampTz now)
{
	static SavedPlan update = {
		.sql = "UPDATE dugong.deliveries SET dead = true, leased_until = NULL, retry_at = NULL "
		"WHERE subscription OPERATOR(pg_catalog.=) $1 AND position OPERATOR(pg_catalog.=) ANY (ARRAY("
		"SELECT d.position FROM dugong.deliveries d "
		"WHERE d.subscription OPERATOR(pg_catalog.=) $1 AND d.attempts OPERATOR(pg_catalog.>=) $3 AND NOT d.dead "
		"AND (d.leased_until IS NULL OR d.leased_until OPERATOR(pg_catalog.<=) $2) "
		"AND (d.retry_at IS NULL OR d.retry_at OPERATOR(pg_catalog.<=) $2) "
		"AND NOT EXISTS (SELECT FROM dugong.deliveries b WHERE b.subscription OPERATOR(pg_catalog.=) d.subscription AND "
		SAME_AGGREGATE("b", "d") " AND b.position OPERATOR(pg_catalog.<) d.position) FOR UPDATE SKIP LOCKED))",
		.nargs = 3,
		.argtypes = {TEXTOID, TIMESTAMPTZOID, INT4OID}
	};
	Datum		values[] = {name, TimestampTzGetDatum(now), Int32GetDatum(dugong_max_attempts)};

	SPI_connect();
	plan_execute(&update, values, NULL, false);
	SPI_finish();
}

/*
 * Leases what is due, at most so many: their positions, in order.  It does not
 * wait for what somebody is acknowledging at this moment, nor does it overtake
 * that: all earlier ones of an aggregate must be in the same lease.  An attempt
 * counts for the first event of an aggregate; the others may never be reached.
 */
static int64 *
lease(Datum name, TimestampTz now, int limit, int *count)
{
	static SavedPlan update = {
		.sql = "WITH " BLOCKED ", due AS MATERIALIZED (SELECT d.position, d.aggregate_id, d.aggregate_type_id, d.tenant_id "
		DUE_DELIVERIES " ORDER BY d.position LIMIT $3 FOR UPDATE OF d SKIP LOCKED), "
		"free AS MATERIALIZED (SELECT u.position, u.nth FROM (SELECT due.*, pg_catalog.row_number() OVER "
		"(PARTITION BY due.aggregate_id, due.aggregate_type_id, due.tenant_id ORDER BY due.position) AS nth FROM due) u "
		"WHERE u.nth OPERATOR(pg_catalog.=) (SELECT pg_catalog.count(*) FROM dugong.deliveries b "
		"WHERE b.subscription OPERATOR(pg_catalog.=) $1 AND " SAME_AGGREGATE("b", "u") " AND b.position OPERATOR(pg_catalog.<=) u.position)), "
		"leased AS (UPDATE dugong.deliveries d SET leased_until = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) "
		"(SELECT p.visibility_timeout FROM dugong.projections p WHERE p.name OPERATOR(pg_catalog.=) $1), "
		"retry_at = NULL, attempts = CASE WHEN free.nth OPERATOR(pg_catalog.=) 1 THEN d.attempts OPERATOR(pg_catalog.+) 1 "
		"ELSE GREATEST(d.attempts, 1) END FROM free "
		"WHERE d.subscription OPERATOR(pg_catalog.=) $1 AND d.position OPERATOR(pg_catalog.=) free.position RETURNING d.position) "
		"SELECT position FROM leased ORDER BY position",
		.nargs = 3,
		.argtypes = {TEXTOID, TIMESTAMPTZOID, INT8OID}
	};
	Datum		values[] = {name, TimestampTzGetDatum(now), Int64GetDatum(limit)};
	MemoryContext context = CurrentMemoryContext;
	int64	   *positions;

	SPI_connect();
	*count = (int) plan_execute(&update, values, NULL, false);
	positions = MemoryContextAlloc(context, Max(*count, 1) * sizeof(int64));
	for (int row = 0; row < *count; row++)
	{
		bool		isnull;

		positions[row] = DatumGetInt64(plan_result(row, 1, &isnull));
	}
	SPI_finish();
	return positions;
}

static int64
count_waiting(Datum name)
{
	static SavedPlan select_count = {
		.sql = "SELECT pg_catalog.count(*) FROM (SELECT FROM dugong.deliveries d WHERE d.subscription OPERATOR(pg_catalog.=) $1 LIMIT $2) x",
		.nargs = 2,
		.argtypes = {TEXTOID, INT8OID}
	};
	Datum		values[] = {name, Int64GetDatum(MAX_WAITING)};
	bool		isnull;
	int64		count;

	SPI_connect();
	plan_execute(&select_count, values, NULL, false);
	count = DatumGetInt64(plan_result(0, 1, &isnull));
	SPI_finish();
	return count;
}

/* Gives out the events at the positions, as their types are now. */
static void
put_events(ReturnSetInfo *result, const int64 *positions, int count)
{
	Relation	log = log_open(AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	EventReader reader;

	event_reader_open(&reader);
	for (int i = 0; i < count; i++)
	{
		LogScan		scan;

		log_scan_positions(&scan, log, positions[i], positions[i], ForwardScanDirection, snapshot);
		if (log_scan_next(&scan))
		{
			EventFields fields;
			LogRow		row;

			log_row_from_slot(&row, scan.slot);
			event_reader_fields(&reader, &row, &fields);
			tuplestore_putvalues(result->setResult, result->setDesc, fields.values, fields.nulls);
		}
		log_scan_end(&scan);
	}
	event_reader_close(&reader);
	UnregisterSnapshot(snapshot);
	table_close(log, NoLock);
}

/* fetch_events(subscription, max_events) */
Datum
dugong_fetch_events(PG_FUNCTION_ARGS)
{
	char	   *name = arg_needed_name(fcinfo, 0, "subscription");
	int			limit = DatumGetInt32(arg_needed(fcinfo, 1, "max_events"));
	Datum		key = CStringGetTextDatum(name);
	const Projection *subscription = find_subscription(name);
	TimestampTz now = GetCurrentTimestamp();
	int64	   *positions;
	int			count;
	Identity	before;

	PreventCommandIfReadOnly("dugong.fetch_events()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (limit < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_events must be greater than zero")));
	if (!projection_lock(name, false))
		return (Datum) 0;
	subscription = find_subscription(name);
	if (subscription->state != PROJECTION_RUNNING)
		return (Datum) 0;
	identity_assume(&before, dugong_owner());
	give_up(key, now);
	positions = lease(key, now, limit, &count);
	for (int read = limit; count == 0 && count_waiting(key) < MAX_WAITING && read_on(subscription, read);
		 read = Max(limit, MANY))
		positions = lease(key, now, limit, &count);
	put_events((ReturnSetInfo *) fcinfo->resultinfo, positions, count);
	identity_restore(&before);
	return (Datum) 0;
}

/* ack(subscription, event_ids): how many were delivered and not yet acknowledged */
Datum
dugong_ack(PG_FUNCTION_ARGS)
{
	static SavedPlan delete = {
		.sql = "DELETE FROM dugong.deliveries WHERE subscription OPERATOR(pg_catalog.=) $1 "
		"AND event_id OPERATOR(pg_catalog.=) ANY ($2) AND attempts OPERATOR(pg_catalog.>) 0",
		.nargs = 2,
		.argtypes = {TEXTOID, UUIDARRAYOID}
	};
	char	   *name = arg_needed_name(fcinfo, 0, "subscription");
	Datum		values[2];

	(void) find_subscription(name);
	values[0] = CStringGetTextDatum(name);
	values[1] = arg_needed(fcinfo, 1, "event_ids");
	PG_RETURN_INT64(execute_as_owner(&delete, values, NULL));
}

/*
 * nack(subscription, event_id, reason, retry_after): was it delivered?  Later
 * events of the aggregate that were leased with it come again after it.
 */
Datum
dugong_nack(PG_FUNCTION_ARGS)
{
	static SavedPlan update = {
		.sql = "WITH refused AS (UPDATE dugong.deliveries SET leased_until = NULL, reason = $3, "
		"retry_at = pg_catalog.clock_timestamp() OPERATOR(pg_catalog.+) $4, failed_at = pg_catalog.clock_timestamp() "
		"WHERE subscription OPERATOR(pg_catalog.=) $1 AND event_id OPERATOR(pg_catalog.=) $2 "
		"AND attempts OPERATOR(pg_catalog.>) 0 AND NOT dead "
		"RETURNING subscription, aggregate_type_id, aggregate_id, tenant_id, position), "
		"released AS (UPDATE dugong.deliveries d SET leased_until = NULL, attempts = GREATEST(d.attempts OPERATOR(pg_catalog.-) 1, 0) "
		"FROM refused r WHERE d.subscription OPERATOR(pg_catalog.=) r.subscription "
		"AND d.aggregate_id OPERATOR(pg_catalog.=) r.aggregate_id "
		"AND d.aggregate_type_id OPERATOR(pg_catalog.=) r.aggregate_type_id "
		"AND d.tenant_id OPERATOR(pg_catalog.=) r.tenant_id "
		"AND d.position OPERATOR(pg_catalog.>) r.position AND d.leased_until IS NOT NULL) "
		"SELECT FROM refused",
		.nargs = 4,
		.argtypes = {TEXTOID, UUIDOID, TEXTOID, INTERVALOID}
	};
	char	   *name = arg_needed_name(fcinfo, 0, "subscription");
	Datum		values[4];
	bool		nulls[4] = {false, false, PG_ARGISNULL(2), false};

	(void) find_subscription(name);
	values[0] = CStringGetTextDatum(name);
	values[1] = UUIDPGetDatum(arg_needed_uuid(fcinfo, 1, "event id"));
	values[2] = PG_GETARG_DATUM(2);
	values[3] = arg_needed(fcinfo, 3, "retry_after");
	PG_RETURN_BOOL(execute_as_owner(&update, values, nulls) > 0);
}

/* Is there anything to fetch, as a new snapshot sees it? */
static bool
has_events(const Projection *subscription)
{
	static SavedPlan select_due = {
		.sql = "WITH " BLOCKED " SELECT " DUE_DELIVERIES " LIMIT 1",
		.nargs = 2,
		.argtypes = {TEXTOID, TIMESTAMPTZOID}
	};
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dugong wait", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Relation	log = log_open(AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Datum		values[] = {CStringGetTextDatum(subscription->name), TimestampTzGetDatum(GetCurrentTimestamp())};
	Checkpoint	checkpoint;
	Identity	before;
	bool		found;

	identity_assume(&before, dugong_owner());
	PushActiveSnapshot(snapshot);
	SPI_connect();
	found = plan_execute(&select_due, values, NULL, true) > 0;
	SPI_finish();
	if (!found && count_waiting(values[0]) < MAX_WAITING)
	{
		checkpoint_load(&checkpoint, subscription);
		found = log_last_position(log, snapshot) > checkpoint.position ||
			checkpoint_holes_have_events(&checkpoint, PG_INT64_MAX, log, snapshot);
	}
	PopActiveSnapshot();
	identity_restore(&before);
	UnregisterSnapshot(snapshot);
	table_close(log, AccessShareLock);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return found;
}

static void
wait_for(const char *name, int64 timeout)
{
	TimestampTz start = GetCurrentTimestamp();
	int			pause = MIN_WAIT;

	for (;;)
	{
		const Projection *subscription;
		long		elapsed;

		subscription = find_subscription(name);
		if (subscription->state == PROJECTION_RUNNING && has_events(subscription))
			return;
		elapsed = TimestampDifferenceMilliseconds(start, GetCurrentTimestamp());
		if (elapsed >= timeout)
			return;
		pause_for(Min(pause, timeout - elapsed));
		pause = Min(pause * 2, MAX_WAIT);
	}
}

/* wait_for_events(subscription, timeout): returns when there is something to fetch, or at the timeout */
Datum
dugong_wait_for_events(PG_FUNCTION_ARGS)
{
	char	   *name = arg_needed_name(fcinfo, 0, "subscription");
	int64		timeout = arg_needed_milliseconds(fcinfo, 1, "timeout");
	bool		popped = call_pop_snapshot(fcinfo);

	wait_for(name, timeout);
	if (popped)
		EnsurePortalSnapshotExists();
	PG_RETURN_VOID();
}
