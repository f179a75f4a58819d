/*
 * subscription.c
 *		Consumers outside of the database, which fetch and acknowledge.
 *
 * A subscription is a projection without code.  fetch_events() leases events
 * to its caller; what is not acknowledged when the lease ends is delivered
 * again.  So it is at least once, and in order per aggregate (delivery.c).
 *
 * A fetch holds the subscription's lock until its transaction ends; another
 * that comes meanwhile gets nothing, and does not wait.
 *
 * A lease ends while its holder may still be at work.  Who names himself as
 * consumer acknowledges and gives back only what is still his.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "guc.h"
#include "miscadmin.h"
#include "portability/instr_time.h"
#include "projection/announce.h"
#include "projection/delivery.h"
#include "projection/failure.h"
#include "store/domain_event.h"
#include "store/ownership.h"
#include "store/tenant.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "util/args.h"
#include "util/attempt.h"
#include "util/identity.h"
#include "util/monotonic.h"
#include "util/pause.h"
#include "util/plan.h"

PG_FUNCTION_INFO_V1(dugong_fetch_events);
PG_FUNCTION_INFO_V1(dugong_ack);
PG_FUNCTION_INFO_V1(dugong_nack);
PG_FUNCTION_INFO_V1(dugong_release);
PG_FUNCTION_INFO_V1(dugong_attempts);
PG_FUNCTION_INFO_V1(dugong_wait_for_events);

/* ms between two looks of wait_for_events(): doubles; and at least so many times what a look took */
#define MIN_WAIT 1
#define MAX_WAIT 50
#define LOOK_SHARE 20

/* What a fetch gives out. */
typedef struct Output
{
	ReturnSetInfo *result;
	Relation	log;
	Snapshot	snapshot;
	EventReader reader;
	MemoryContext context;		/* for one event */
	const int64 *positions;
	int			count;
	int			done;
	pg_uuid_t	event_id;		/* of the last one that was tried */
} Output;

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

/* NULL, or a name: 22023 if it is empty. */
static char *
consumer_argument(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL : arg_needed_name(fcinfo, number, "consumer");
}

/* Gives out the event at a position, as its type is now. */
static void
put_event(Output *output, int64 position)
{
	MemoryContext old = MemoryContextSwitchTo(output->context);
	LogScan		scan;

	log_scan_positions(&scan, output->log, position, position, ForwardScanDirection, output->snapshot);
	if (log_scan_next(&scan))
	{
		EventFields fields;
		LogRow		row;

		log_row_from_slot(&row, scan.slot);
		output->event_id = *DatumGetUUIDP(log_row_value(&row, LOG_ID));
		event_reader_fields(&output->reader, &row, &fields);
		tuplestore_putvalues(output->result->setResult, output->result->setDesc, fields.values, fields.nulls);
	}
	log_scan_end(&scan);
	MemoryContextSwitchTo(old);
	MemoryContextReset(output->context);
}

static void
put_all(void *arg)
{
	Output	   *output = arg;

	for (int i = 0; i < output->count; i++)
		put_event(output, output->positions[i]);
}

static void
put_next(void *arg)
{
	Output	   *output = arg;

	put_event(output, output->positions[output->done]);
}

/* Is the event at a position still leased? */
static bool
is_leased(const char *subscription, int64 position)
{
	static SavedPlan select_leased = {
		.sql = "SELECT 1 FROM dugong.deliveries WHERE subscription OPERATOR(pg_catalog.=) $1 "
		"AND position OPERATOR(pg_catalog.=) $2 AND leased_until IS NOT NULL",
		.nargs = 2,
		.argtypes = {TEXTOID, INT8OID}
	};
	Datum		values[] = {CStringGetTextDatum(subscription), Int64GetDatum(position)};
	bool		found;

	found = plan_run(&select_leased, values, NULL) > 0;
	return found;
}

/*
 * After one of them has failed: one by one.  An event whose upcast fails is
 * taken back as if a consumer had refused it, with those behind it.  Returns
 * how many are given out.
 */
static int
put_each(Output *output, const char *subscription)
{
	int			given = 0;

	for (output->done = 0; output->done < output->count; output->done++)
	{
		ErrorData  *error;

		if (!is_leased(subscription, output->positions[output->done]))
			continue;
		error = attempt(put_next, output);
		if (error == NULL)
			given++;
		else if (failure_class(error) != FAILURE_OF_HANDLER)
			ReThrowError(error);
		else
			(void) delivery_refuse(subscription, &output->event_id, NULL, NULL, error->message, error);
	}
	return given;
}

/* Gives out what is leased; returns how many.  They are tried together first: savepoints only after an error. */
static int
put_events(ReturnSetInfo *result, const Lease *lease)
{
	Output		output = {.result = result,.positions = lease->positions,.count = lease->count};
	int			given = lease->count;
	ErrorData  *error;

	if (lease->count == 0)
		return 0;
	output.log = log_open(AccessShareLock);
	output.snapshot = RegisterSnapshot(GetLatestSnapshot());
	output.context = AllocSetContextCreate(CurrentMemoryContext, "dugong fetch", ALLOCSET_DEFAULT_SIZES);
	event_reader_open(&output.reader);
	error = attempt(put_all, &output);
	if (error && failure_class(error) != FAILURE_OF_HANDLER)
		ReThrowError(error);
	if (error)
	{
		tuplestore_clear(result->setResult);
		given = put_each(&output, lease->subscription->name);
	}
	event_reader_close(&output.reader);
	UnregisterSnapshot(output.snapshot);
	table_close(output.log, NoLock);
	return given;
}

/* Leases and gives out; false if there was nothing. */
static bool
fetch(ReturnSetInfo *result, const Projection *subscription, Oid caller, int limit, text *consumer, int *given)
{
	Lease		lease;

	lease_begin(&lease, subscription, caller, limit, consumer);
	lease_due(&lease);
	while (lease.count == 0 && lease_read_on(&lease))
		continue;
	*given = put_events(result, &lease);
	return lease.count > 0;
}

/* fetch_events(subscription, max_events, consumer) */
Datum
dugong_fetch_events(PG_FUNCTION_ARGS)
{
	char	   *name = arg_needed_name(fcinfo, 0, "subscription");
	int			limit = DatumGetInt32(arg_needed(fcinfo, 1, "max_events"));
	text	   *consumer = consumer_argument(fcinfo, 2) ? PG_GETARG_TEXT_PP(2) : NULL;
	const Projection *subscription;
	Oid			caller = GetUserId();
	int			given = 0;
	Identity	before;

	PreventCommandIfReadOnly("dugong.fetch_events()");
	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (limit < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_events must be greater than zero")));
	(void) find_subscription(name);
	if (!projection_lock(name, false))
		return (Datum) 0;
	subscription = find_subscription(name);
	if (subscription->state != PROJECTION_RUNNING)
		return (Datum) 0;
	identity_assume(&before, dugong_owner());
	/* What failed is due later, so this ends. */
	while (given == 0 && fetch((ReturnSetInfo *) fcinfo->resultinfo, subscription, caller, limit, consumer, &given))
		CHECK_FOR_INTERRUPTS();
	identity_restore(&before);
	return (Datum) 0;
}

/* ack(subscription, event_ids, consumer): how many were delivered, to the consumer, and not yet acknowledged */
Datum
dugong_ack(PG_FUNCTION_ARGS)
{
	static SavedPlan delete = {
		.sql = "DELETE FROM dugong.deliveries WHERE subscription OPERATOR(pg_catalog.=) $1 "
		"AND event_id OPERATOR(pg_catalog.=) ANY ($2) AND attempts OPERATOR(pg_catalog.>) 0 "
		"AND ($3 IS NULL OR consumer OPERATOR(pg_catalog.=) $3) AND ($4 IS NULL OR tenant_id OPERATOR(pg_catalog.=) ANY ($4))",
		.nargs = 4,
		.argtypes = {TEXTOID, UUIDARRAYOID, TEXTOID, TEXTARRAYOID}
	};
	char	   *name = arg_needed_name(fcinfo, 0, "subscription");
	bool		nulls[4] = {false, false, consumer_argument(fcinfo, 2) == NULL};
	Datum		values[4];

	(void) find_subscription(name);
	values[0] = CStringGetTextDatum(name);
	values[1] = arg_needed(fcinfo, 1, "event_ids");
	values[2] = PG_GETARG_DATUM(2);
	values[3] = tenants_seen(GetUserId(), &nulls[3]);
	PG_RETURN_INT64(execute_as_owner(&delete, values, nulls));
}

/* How often an outstanding event was delivered; -1 = it is not outstanding, or the current user does not see it. */
static int
outstanding_attempts(const char *subscription, const pg_uuid_t *event_id)
{
	static SavedPlan select_attempts = {
		.sql = "SELECT attempts FROM dugong.deliveries WHERE subscription OPERATOR(pg_catalog.=) $1 "
		"AND event_id OPERATOR(pg_catalog.=) $2 AND ($3 IS NULL OR tenant_id OPERATOR(pg_catalog.=) ANY ($3))",
		.nargs = 3,
		.argtypes = {TEXTOID, UUIDOID, TEXTARRAYOID}
	};
	bool		nulls[3] = {false};
	Datum		values[3] = {CStringGetTextDatum(subscription), UUIDPGetDatum(event_id)};
	Identity	before;
	bool		isnull;
	int			attempts = -1;

	values[2] = tenants_seen(GetUserId(), &nulls[2]);
	identity_assume(&before, dugong_owner());
	SPI_connect();
	if (plan_execute(&select_attempts, values, nulls, false) > 0)
		attempts = DatumGetInt32(plan_result(0, 1, &isnull));
	SPI_finish();
	identity_restore(&before);
	return attempts;
}

/* nack(subscription, event_id, reason, retry_after, consumer): was it delivered, to the consumer? */
Datum
dugong_nack(PG_FUNCTION_ARGS)
{
	char	   *name = arg_needed_name(fcinfo, 0, "subscription");
	pg_uuid_t  *event_id = arg_needed_uuid(fcinfo, 1, "event id");
	Interval   *retry_after = PG_ARGISNULL(3) ? NULL : PG_GETARG_INTERVAL_P(3);
	char	   *consumer = consumer_argument(fcinfo, 4);
	Identity	before;
	bool		refused;

	PreventCommandIfReadOnly("dugong.nack()");
	(void) find_subscription(name);
	if (outstanding_attempts(name, event_id) <= 0)
		PG_RETURN_BOOL(false);
	identity_assume(&before, dugong_owner());
	refused = delivery_refuse(name, event_id, consumer, retry_after, arg_name(fcinfo, 2), NULL);
	identity_restore(&before);
	CommandCounterIncrement();
	PG_RETURN_BOOL(refused);
}

/*
 * release(subscription, event_ids, consumer): how many are given back, as if
 * they had not been delivered.  Later ones of their aggregates that were
 * leased with them go with them.
 */
Datum
dugong_release(PG_FUNCTION_ARGS)
{
	static SavedPlan update = {
		.sql = "UPDATE dugong.deliveries d SET leased_until = NULL, consumer = NULL, attempts = d.attempts OPERATOR(pg_catalog.-) 1 "
		"WHERE d.subscription OPERATOR(pg_catalog.=) $1 AND d.leased_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp() "
		"AND ($3 IS NULL OR d.consumer OPERATOR(pg_catalog.=) $3) AND ($4 IS NULL OR d.tenant_id OPERATOR(pg_catalog.=) ANY ($4)) "
		"AND ($2 IS NULL OR EXISTS (SELECT FROM dugong.deliveries r WHERE r.subscription OPERATOR(pg_catalog.=) $1 "
		"AND r.event_id OPERATOR(pg_catalog.=) ANY ($2) AND r.leased_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp() "
		"AND r.aggregate_id OPERATOR(pg_catalog.=) d.aggregate_id AND r.aggregate_type_id OPERATOR(pg_catalog.=) d.aggregate_type_id "
		"AND r.tenant_id OPERATOR(pg_catalog.=) d.tenant_id AND r.position OPERATOR(pg_catalog.<=) d.position))",
		.nargs = 4,
		.argtypes = {TEXTOID, UUIDARRAYOID, TEXTOID, TEXTARRAYOID}
	};
	char	   *name = arg_needed_name(fcinfo, 0, "subscription");
	bool		nulls[4] = {false, PG_ARGISNULL(1), consumer_argument(fcinfo, 2) == NULL};
	Datum		values[4];
	int64		count;

	if (nulls[1] && nulls[2])
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("event_ids and consumer must not both be null")));
	(void) find_subscription(name);
	values[0] = CStringGetTextDatum(name);
	values[1] = PG_GETARG_DATUM(1);
	values[2] = PG_GETARG_DATUM(2);
	values[3] = tenants_seen(GetUserId(), &nulls[3]);
	count = execute_as_owner(&update, values, nulls);
	if (count > 0)
		announce_projection(name, 0, count);
	PG_RETURN_INT64(count);
}

/* attempts(subscription, event_id): how often it was delivered; NULL if it is not outstanding */
Datum
dugong_attempts(PG_FUNCTION_ARGS)
{
	char	   *name = arg_needed_name(fcinfo, 0, "subscription");
	pg_uuid_t  *event_id = arg_needed_uuid(fcinfo, 1, "event id");
	int			attempts;

	(void) find_subscription(name);
	attempts = outstanding_attempts(name, event_id);
	if (attempts < 0)
		PG_RETURN_NULL();
	PG_RETURN_INT32(attempts);
}

/* Is there anything to fetch, as a new snapshot sees it?  Not while somebody else fetches. */
static bool
has_events(const Projection *subscription)
{
	MemoryContext context;
	MemoryContext old;
	Oid			caller = GetUserId();
	Relation	log;
	Snapshot	snapshot;
	Identity	before;
	bool		found;

	if (subscription->state != PROJECTION_RUNNING || projection_is_locked(subscription->name))
		return false;
	context = AllocSetContextCreate(CurrentMemoryContext, "dugong wait", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	log = log_open(AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	identity_assume(&before, dugong_owner());
	PushActiveSnapshot(snapshot);
	found = lease_is_possible(subscription, caller, log, snapshot);
	PopActiveSnapshot();
	identity_restore(&before);
	UnregisterSnapshot(snapshot);
	table_close(log, AccessShareLock);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return found;
}

/* ms that a look has taken */
static long
look(const char *name, bool *found)
{
	instr_time	start;
	instr_time	end;

	INSTR_TIME_SET_CURRENT(start);
	*found = has_events(find_subscription(name));
	INSTR_TIME_SET_CURRENT(end);
	INSTR_TIME_SUBTRACT(end, start);
	return (long) INSTR_TIME_GET_MILLISEC(end);
}

static void
wait_for(const char *name, int64 timeout)
{
	TimestampTz start = monotonic_now();
	long		pause = MIN_WAIT;

	for (;;)
	{
		bool		found;
		long		cost = look(name, &found);
		long		elapsed = TimestampDifferenceMilliseconds(start, monotonic_now());

		if (found || elapsed >= timeout)
			return;
		pause_for(Min(Max(pause, cost * LOOK_SHARE), timeout - elapsed));
		pause = Min(pause * 2, MAX_WAIT);
	}
}

/* wait_for_events(subscription, timeout): returns when there is something to fetch, or at the timeout */
Datum
dugong_wait_for_events(PG_FUNCTION_ARGS)
{
	char	   *name = arg_needed_name(fcinfo, 0, "subscription");
	int64		timeout = arg_needed_milliseconds(fcinfo, 1, "timeout");
	bool		popped;

	if (call_is_atomic(fcinfo) && IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot wait for events in a REPEATABLE READ or SERIALIZABLE transaction"),
				 errdetail("Its snapshot would not see what it has waited for.")));
	popped = call_pop_snapshot(fcinfo);
	wait_for(name, timeout);
	if (popped)
		EnsurePortalSnapshotExists();
	PG_RETURN_VOID();
}
