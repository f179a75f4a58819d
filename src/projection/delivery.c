/*
 * delivery.c
 *		What a subscription has read and nobody has acknowledged.
 *
 * dugong.deliveries has a row for each event, which goes when the event is
 * acknowledged.  A fetch leases what is due of it, in the order of positions;
 * if nothing is, it reads on in the log, and what it may deliver at once is
 * stored as leased.
 *
 * Order per aggregate: the rows are looked at in one pass, in their order, and
 * the first of an aggregate that is not to be delivered now (it is leased to
 * somebody, waits for its retry, is a dead letter, or is being acknowledged at
 * this moment) keeps all later ones back.  What was delivered before comes
 * alone: so what a consumer dies of becomes the dead letter, not the innocent
 * that were leased with it; and one that is too slow for many gets on with one.
 *
 * The pass is a scan of the index in C: a queue is mostly empty when it is
 * analyzed, and the planner would think that it always is.
 *
 * Whoever leases has the subscription's lock, so nobody else inserts rows or
 * leases them.  ack() and nack() need no lock: rows are locked as they are
 * taken, and those of others are not waited for.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "guc.h"
#include "miscadmin.h"
#include "projection/checkpoint.h"
#include "projection/delivery.h"
#include "projection/parked.h"
#include "projection/reader.h"
#include "store/ownership.h"
#include "store/tenant.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "util/plan.h"

/* So many events may be outstanding before no more are read. */
#define MAX_OUTSTANDING 10000

/* So many that have to wait are read at a time. */
#define MAX_READ 1000

/* Columns of dugong.deliveries, in their order (src/sql/projection/subscriptions.sql). */
typedef enum DeliveryColumn
{
	DELIVERY_SUBSCRIPTION = 1,
	DELIVERY_POSITION,
	DELIVERY_EVENT_ID,
	DELIVERY_AGGREGATE_TYPE_ID,
	DELIVERY_AGGREGATE_ID,
	DELIVERY_TENANT_ID,
	DELIVERY_SEQUENCE_NUMBER,
	DELIVERY_DEAD,
	DELIVERY_ATTEMPTS,
	DELIVERY_LEASED_UNTIL,
	DELIVERY_RETRY_AT
} DeliveryColumn;

/* An aggregate with deliveries. */
typedef struct Outstanding
{
	AggregateKey key;
	bool		taken;			/* some are leased now */
	bool		blocked;		/* later ones are kept back */
	bool		dead;			/* by a dead letter, or because the caller sees nothing of it */
} Outstanding;

/* One pass through a subscription's deliveries. */
typedef struct Pass
{
	Lease	   *lease;
	Relation	table;
	Snapshot	snapshot;
	TimestampTz now;
	bool		locks;			/* what it takes; else it only looks */
	ArrayBuildState *due;		/* tid */
	ArrayBuildState *hopeless;	/* tid: delivered too often */
} Pass;

/* What is read from the log goes into arrays of this. */
typedef struct Reading
{
	Lease	   *lease;
	int			nread;
	int			count;
	ArrayBuildState *columns[6];
	ArrayBuildState *leased;
} Reading;

static const Oid column_types[6] = {INT8OID, UUIDOID, INT4OID, UUIDOID, TEXTOID, INT8OID};
static const LogColumn column_sources[6] = {
	LOG_POSITION, LOG_ID, LOG_AGGREGATE_TYPE_ID, LOG_AGGREGATE_ID, LOG_TENANT_ID, LOG_SEQUENCE_NUMBER
};

/*
 * Under the subscription's lock, in the current memory context.
 *
 * caller: role that gets nothing of tenants that it does not see.
 * limit: at most so many are leased.
 * consumer: who will hold them; NULL = it does not say.
 */
void
lease_begin(Lease *lease, const Projection *subscription, Oid caller, int limit, text *consumer)
{
	memset(lease, 0, sizeof(*lease));
	lease->subscription = subscription;
	lease->caller = caller;
	lease->consumer = consumer;
	lease->limit = limit;
	lease->context = CurrentMemoryContext;
	lease->aggregates = aggregate_table_create("dugong deliveries", sizeof(Outstanding), CurrentMemoryContext);
}

static Outstanding *
find_aggregate(Lease *lease, const AggregateKey *key)
{
	bool		found;
	Outstanding *aggregate = hash_search(lease->aggregates, key, HASH_ENTER, &found);

	if (!found)
	{
		MemoryContext old = MemoryContextSwitchTo(lease->context);

		aggregate->key.tenant_id = DatumGetTextPCopy(PointerGetDatum(key->tenant_id));
		aggregate->taken = false;
		/* What must not be delivered here waits for those who may have it. */
		aggregate->blocked = aggregate->dead = !tenant_is_seen(lease->caller, key->tenant_id) ||
			!projection_sees(lease->subscription, key->tenant_id);
		MemoryContextSwitchTo(old);
	}
	return aggregate;
}

static void
take(Lease *lease, int64 position)
{
	if (lease->count == lease->allocated)
	{
		lease->allocated = Max(lease->allocated * 2, 64);
		lease->positions = lease->positions ?
			repalloc(lease->positions, lease->allocated * sizeof(int64)) :
			MemoryContextAlloc(lease->context, lease->allocated * sizeof(int64));
	}
	lease->positions[lease->count++] = position;
}

/* False if somebody else has the row, or has changed it. */
static bool
lock_row(const Pass *pass, TupleTableSlot *slot)
{
	ItemPointerData tid = slot->tts_tid;
	TM_FailureData failure;
	TM_Result	result = table_tuple_lock(pass->table, &tid, pass->snapshot, slot, GetCurrentCommandId(true),
										  LockTupleExclusive, LockWaitSkip, 0, &failure);

	if ((result == TM_Updated || result == TM_Deleted) && IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update")));
	return result == TM_Ok;
}

/* Is the time in a column to come? */
static bool
is_ahead(const Pass *pass, TupleTableSlot *slot, DeliveryColumn column)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, column, &isnull);

	return !isnull && DatumGetTimestampTz(value) > pass->now;
}

static void
add_tid(ArrayBuildState **tids, const Pass *pass, ItemPointer tid)
{
	*tids = accumArrayResult(*tids, PointerGetDatum(tid), false, TIDOID, pass->lease->context);
}

/* The next delivery, in the order of positions. */
static void
consider(Pass *pass, TupleTableSlot *slot)
{
	bool		isnull;
	ItemPointerData tid = slot->tts_tid;
	int64		position = DatumGetInt64(slot_getattr(slot, DELIVERY_POSITION, &isnull));
	int			attempts = DatumGetInt32(slot_getattr(slot, DELIVERY_ATTEMPTS, &isnull));
	bool		dead = DatumGetBool(slot_getattr(slot, DELIVERY_DEAD, &isnull));
	AggregateKey key = {
		.type_id = DatumGetInt32(slot_getattr(slot, DELIVERY_AGGREGATE_TYPE_ID, &isnull)),
		.id = *DatumGetUUIDP(slot_getattr(slot, DELIVERY_AGGREGATE_ID, &isnull)),
		.tenant_id = DatumGetTextPP(slot_getattr(slot, DELIVERY_TENANT_ID, &isnull))
	};
	Outstanding *aggregate = find_aggregate(pass->lease, &key);

	aggregate->dead |= dead;
	if (!aggregate->dead)
		pass->lease->outstanding++;
	if (aggregate->blocked)
		return;
	aggregate->blocked = dead || (attempts > 0 && aggregate->taken) || is_ahead(pass, slot, DELIVERY_LEASED_UNTIL) ||
		is_ahead(pass, slot, DELIVERY_RETRY_AT) || (pass->locks && !lock_row(pass, slot));
	if (aggregate->blocked)
		return;
	if (attempts >= dugong_max_attempts)
	{
		add_tid(&pass->hopeless, pass, &tid);
		aggregate->blocked = aggregate->dead = true;
		return;
	}
	add_tid(&pass->due, pass, &tid);
	take(pass->lease, position);
	aggregate->taken = true;
	aggregate->blocked = attempts > 0;
}

static void
run_pass(Pass *pass)
{
	Lease	   *lease = pass->lease;
	ScanKeyData key;
	LogScan		scan;

	ScanKeyInit(&key, DELIVERY_SUBSCRIPTION, BTEqualStrategyNumber, F_TEXTEQ, CStringGetTextDatum(lease->subscription->name));
	log_scan_begin(&scan, pass->table, "deliveries_pkey", &key, 1, ForwardScanDirection, pass->snapshot);
	while (lease->count < lease->limit && log_scan_next(&scan))
	{
		CHECK_FOR_INTERRUPTS();
		consider(pass, scan.slot);
	}
	log_scan_end(&scan);
}

static TimestampTz
lease_end(const Lease *lease)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(GetCurrentTimestamp()),
												   IntervalPGetDatum(&lease->subscription->visibility_timeout)));
}

static void
mark_leased(const Pass *pass)
{
	static SavedPlan update = {
		.sql = "UPDATE dugong.deliveries SET leased_until = $2, consumer = $3, retry_at = NULL, "
		"attempts = attempts OPERATOR(pg_catalog.+) 1 WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)",
		.nargs = 3,
		.argtypes = {TIDARRAYOID, TIMESTAMPTZOID, TEXTOID}
	};
	const Lease *lease = pass->lease;
	bool		nulls[3] = {false, false, lease->consumer == NULL};
	Datum		values[3];

	if (pass->due == NULL)
		return;
	values[0] = makeArrayResult(pass->due, CurrentMemoryContext);
	values[1] = TimestampTzGetDatum(lease_end(lease));
	values[2] = PointerGetDatum(lease->consumer);
	plan_run(&update, values, nulls);
}

static void
mark_dead(const Pass *pass)
{
	static SavedPlan update = {
		.sql = "UPDATE dugong.deliveries SET dead = true, leased_until = NULL, retry_at = NULL, "
		"failed_at = COALESCE(leased_until, failed_at), first_failed_at = COALESCE(first_failed_at, leased_until) "
		"WHERE ctid OPERATOR(pg_catalog.=) ANY ($1)",
		.nargs = 1,
		.argtypes = {TIDARRAYOID}
	};
	Datum		value;

	if (pass->hopeless == NULL)
		return;
	value = makeArrayResult(pass->hopeless, CurrentMemoryContext);
	plan_run(&update, &value, NULL);
}

/* Leases what is due; what was delivered too often becomes a dead letter. */
void
lease_due(Lease *lease)
{
	Pass		pass = {.lease = lease,.now = GetCurrentTimestamp(),.locks = true};

	pass.table = table_open(dugong_relid("deliveries"), RowExclusiveLock);
	CommandCounterIncrement();
	pass.snapshot = RegisterSnapshot(GetTransactionSnapshot());
	run_pass(&pass);
	UnregisterSnapshot(pass.snapshot);
	table_close(pass.table, NoLock);
	mark_leased(&pass);
	mark_dead(&pass);
}

static void
note(void *arg, TupleTableSlot *slot)
{
	Reading    *reading = arg;
	Lease	   *lease = reading->lease;
	Outstanding *aggregate;
	AggregateKey key;
	LogRow		row;

	reading->nread++;
	log_row_from_slot(&row, slot);
	if (!projection_reads(lease->subscription, &row))
		return;
	log_row_key(&row, &key);
	aggregate = find_aggregate(lease, &key);
	if (!aggregate->dead)
		lease->outstanding++;
	if (!aggregate->blocked)
		take(lease, DatumGetInt64(log_row_value(&row, LOG_POSITION)));
	for (int i = 0; i < 6; i++)
		reading->columns[i] = accumArrayResult(reading->columns[i], log_row_value(&row, column_sources[i]), false,
											   column_types[i], lease->context);
	reading->leased = accumArrayResult(reading->leased, BoolGetDatum(!aggregate->blocked), false, BOOLOID, lease->context);
	reading->count++;
}

static bool
is_full(void *arg)
{
	const Reading *reading = arg;

	return reading->lease->count >= reading->lease->limit || reading->count >= MAX_READ ||
		reading->nread >= dugong_batch_size;
}

static void
insert_deliveries(const Reading *reading)
{
	static SavedPlan insert = {
		.sql = "INSERT INTO dugong.deliveries (subscription, position, event_id, aggregate_type_id, aggregate_id, tenant_id, "
		"sequence_number, attempts, leased_until, consumer) SELECT $1, u.position, u.event_id, u.aggregate_type_id, "
		"u.aggregate_id, u.tenant_id, u.sequence_number, u.leased::pg_catalog.int4, CASE WHEN u.leased THEN $9 END, "
		"CASE WHEN u.leased THEN $10 END FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), "
		"pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8)) "
		"AS u (position, event_id, aggregate_type_id, aggregate_id, tenant_id, sequence_number, leased)",
		.nargs = 10,
		.argtypes = {TEXTOID, INT8ARRAYOID, UUIDARRAYOID, INT4ARRAYOID, UUIDARRAYOID, TEXTARRAYOID, INT8ARRAYOID,
		BOOLARRAYOID, TIMESTAMPTZOID, TEXTOID}
	};
	const Lease *lease = reading->lease;
	bool		nulls[10] = {[9] = lease->consumer == NULL};
	Datum		values[10];

	if (reading->count == 0)
		return;
	values[0] = CStringGetTextDatum(lease->subscription->name);
	for (int i = 0; i < 6; i++)
		values[i + 1] = makeArrayResult(reading->columns[i], CurrentMemoryContext);
	values[7] = makeArrayResult(reading->leased, CurrentMemoryContext);
	values[8] = TimestampTzGetDatum(lease_end(lease));
	values[9] = PointerGetDatum(lease->consumer);
	plan_run(&insert, values, nulls);
}

/*
 * Reads on in the log, after lease_due() has found nothing: so every aggregate
 * that it has met is blocked.  What it may is leased.  False if there was
 * nothing to read, or too much is outstanding.
 */
bool
lease_read_on(Lease *lease)
{
	Reading		reading = {.lease = lease};
	Checkpoint	checkpoint;
	LogReader	reader;
	Snapshot	snapshot;
	Relation	log;

	if (lease->outstanding >= MAX_OUTSTANDING)
		return false;
	log = log_open(AccessShareLock);
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	PushActiveSnapshot(snapshot);
	checkpoint_load(&checkpoint, lease->subscription);
	reader = (LogReader)
	{
		.log = log,.snapshot = snapshot,.checkpoint = &checkpoint,
			.note = note,.is_full = is_full,.arg = &reading
	};
	reader_read_holes(&reader);
	if (!is_full(&reading))
		reader_read_above(&reader, PG_INT64_MAX);
	/* First the checkpoint: if another one has moved it, that is a failure to serialize. */
	if (reading.nread > 0 || checkpoint.removed != NIL)
		checkpoint_save(&checkpoint, lease->subscription, reading.count);
	insert_deliveries(&reading);
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
	table_close(log, NoLock);
	return reading.nread > 0;
}

/* Is there anything to fetch, as the snapshot sees it? */
bool
lease_is_possible(const Projection *subscription, Oid caller, Relation log, Snapshot snapshot)
{
	Lease		lease;
	Pass		pass = {.lease = &lease,.snapshot = snapshot,.now = GetCurrentTimestamp()};
	Checkpoint	checkpoint;

	lease_begin(&lease, subscription, caller, 1, NULL);
	pass.table = table_open(dugong_relid("deliveries"), AccessShareLock);
	run_pass(&pass);
	table_close(pass.table, AccessShareLock);
	if (lease.count > 0 || lease.outstanding >= MAX_OUTSTANDING)
		return lease.count > 0;
	checkpoint_load(&checkpoint, subscription);
	return log_last_position(log, snapshot) > checkpoint.position ||
		checkpoint_holes_have_events(&checkpoint, PG_INT64_MAX, log, snapshot);
}

/* How often an outstanding event was delivered, whose row is locked; 0 = it is not outstanding, or not the consumer's. */
static int
lock_delivered(Datum *key)
{
	static SavedPlan select_delivered = {
		.sql = "SELECT attempts FROM dugong.deliveries WHERE subscription OPERATOR(pg_catalog.=) $1 "
		"AND event_id OPERATOR(pg_catalog.=) $2 AND NOT dead AND ($3 IS NULL OR consumer OPERATOR(pg_catalog.=) $3) FOR UPDATE",
		.nargs = 3,
		.argtypes = {TEXTOID, UUIDOID, TEXTOID}
	};
	bool		nulls[3] = {false, false, DatumGetPointer(key[2]) == NULL};
	bool		isnull;
	int			attempts;

	SPI_connect();
	attempts = plan_execute(&select_delivered, key, nulls, false) > 0 ? DatumGetInt32(plan_result(0, 1, &isnull)) : 0;
	SPI_finish();
	return attempts;
}

/*
 * Takes an event back from whoever has fetched it; later ones of its
 * aggregate that were leased with it are given back, and come after it.
 * False if it was not delivered, or if a consumer is named and it is not his.
 *
 * retry_after: NULL = a time that doubles with each delivery, as for projections.
 * error: if it was not the consumer who said the reason.
 */
bool
delivery_refuse(const char *subscription, const pg_uuid_t *event_id, const char *consumer,
				const Interval *retry_after, const char *reason, const ErrorData *error)
{
	static SavedPlan update = {
		.sql = "WITH refused AS (UPDATE dugong.deliveries SET leased_until = NULL, consumer = NULL, retry_at = $3, "
		"failed_at = $4, first_failed_at = COALESCE(first_failed_at, $4), reason = $5, sqlstate = $6, context = $7 "
		"WHERE subscription OPERATOR(pg_catalog.=) $1 AND event_id OPERATOR(pg_catalog.=) $2 "
		"RETURNING subscription, aggregate_type_id, aggregate_id, tenant_id, position) "
		"UPDATE dugong.deliveries d SET leased_until = NULL, consumer = NULL, attempts = d.attempts OPERATOR(pg_catalog.-) 1 "
		"FROM refused r WHERE d.subscription OPERATOR(pg_catalog.=) r.subscription "
		"AND d.aggregate_id OPERATOR(pg_catalog.=) r.aggregate_id "
		"AND d.aggregate_type_id OPERATOR(pg_catalog.=) r.aggregate_type_id "
		"AND d.tenant_id OPERATOR(pg_catalog.=) r.tenant_id "
		"AND d.position OPERATOR(pg_catalog.>) r.position AND d.leased_until OPERATOR(pg_catalog.>) $4",
		.nargs = 7,
		.argtypes = {TEXTOID, UUIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID}
	};
	Datum		key[3] = {CStringGetTextDatum(subscription), UUIDPGetDatum(event_id), consumer ? CStringGetTextDatum(consumer) : (Datum) 0};
	int			attempts = lock_delivered(key);
	TimestampTz now = GetCurrentTimestamp();
	Datum		values[7];
	bool		nulls[7] = {[4] = reason == NULL,[5] = error == NULL,[6] = error == NULL || error->context == NULL};

	if (attempts == 0)
		return false;
	values[0] = key[0];
	values[1] = key[1];
	values[2] = retry_after ?
		DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now), IntervalPGetDatum(retry_after)) :
		TimestampTzGetDatum(TimestampTzPlusMilliseconds(now, parked_retry_pause(attempts)));
	values[3] = TimestampTzGetDatum(now);
	values[4] = reason ? CStringGetTextDatum(reason) : (Datum) 0;
	values[5] = error ? CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)) : (Datum) 0;
	values[6] = error && error->context ? CStringGetTextDatum(error->context) : (Datum) 0;
	plan_run(&update, values, nulls);
	return true;
}

/*
 * What was said of an aggregate's deliveries, or of one event's, is erased; what
 * was given up is delivered again, because it is not what it was.  Returns how
 * many rows of a subscription that were.
 *
 * event_id: NULL = all of the aggregate.
 */
int64
delivery_erase(const char *subscription, const AggregateKey *key, const pg_uuid_t *event_id)
{
	static SavedPlan update = {
		.sql = "UPDATE dugong.deliveries SET reason = CASE WHEN reason IS NOT NULL THEN 'erased' END, context = NULL, "
		"dead = false, attempts = CASE WHEN dead THEN 0 ELSE attempts END "
		"WHERE subscription OPERATOR(pg_catalog.=) $1 AND aggregate_type_id OPERATOR(pg_catalog.=) $2 "
		"AND aggregate_id OPERATOR(pg_catalog.=) $3 AND tenant_id OPERATOR(pg_catalog.=) $4 "
		"AND ($5 IS NULL OR event_id OPERATOR(pg_catalog.=) $5) AND (dead OR reason IS NOT NULL OR context IS NOT NULL)",
		.nargs = 5,
		.argtypes = {TEXTOID, INT4OID, UUIDOID, TEXTOID, UUIDOID}
	};
	Datum		values[] = {
		CStringGetTextDatum(subscription), Int32GetDatum(key->type_id), UUIDPGetDatum(&key->id),
		PointerGetDatum(key->tenant_id), UUIDPGetDatum(event_id)
	};
	bool		nulls[] = {false, false, false, false, event_id == NULL};

	return execute_as_owner(&update, values, nulls);
}
