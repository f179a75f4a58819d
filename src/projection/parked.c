/*
 * parked.c
 *		Aggregates that a projection has set aside.
 *
 * When an event of an aggregate cannot be handled, its later ones wait behind
 * it: the row has the first sequence number that is not handled, and the last
 * that waits.  It is tried again after pauses that double, dugong.max_attempts
 * times; after that it is a dead letter, which waits for somebody
 * (dugong.retry_dead_letters()).
 *
 * Whoever reads or writes these rows has the projection's lock, the log
 * owner's rights, and is not connected to SPI.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "guc.h"
#include "projection/failure.h"
#include "projection/parked.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "util/plan.h"

#define MAX_RETRY_PAUSE (INT64CONST(3600) * 1000)	/* ms */

#define KEY_ARGTYPES TEXTOID, INT4OID, UUIDOID, TEXTOID
#define KEY_CONDITION \
	"projection OPERATOR(pg_catalog.=) $1 AND aggregate_type_id OPERATOR(pg_catalog.=) $2 " \
	"AND aggregate_id OPERATOR(pg_catalog.=) $3 AND tenant_id OPERATOR(pg_catalog.=) $4"

static void
key_values(Datum *values, const char *projection, const AggregateKey *key)
{
	values[0] = CStringGetTextDatum(projection);
	values[1] = Int32GetDatum(key->type_id);
	values[2] = UUIDPGetDatum(&key->id);
	values[3] = PointerGetDatum(key->tenant_id);
}

/* Has the projection set anything aside? */
bool
parked_any(const char *projection)
{
	static SavedPlan select_any = {
		.sql = "SELECT 1 FROM dugong.parked_aggregates WHERE projection OPERATOR(pg_catalog.=) $1 LIMIT 1",
		.nargs = 1,
		.argtypes = {TEXTOID}
	};
	Datum		value = CStringGetTextDatum(projection);

	return plan_run(&select_any, &value, NULL) > 0;
}

bool
parked_is(const char *projection, const AggregateKey *key)
{
	static SavedPlan select_key = {
		.sql = "SELECT 1 FROM dugong.parked_aggregates WHERE " KEY_CONDITION,
		.nargs = 4,
		.argtypes = {KEY_ARGTYPES}
	};
	Datum		values[4];

	key_values(values, projection, key);
	return plan_run(&select_key, values, NULL) > 0;
}

/* ms until what has failed is tried again. */
int64
parked_retry_pause(int attempts)
{
	return Min((int64) dugong_retry_pause << Min(attempts - 1, 30), MAX_RETRY_PAUSE);
}

/*
 * Sets an aggregate aside, or notes that it has failed again.
 *
 * parked: attempts counts this one.
 * event_id: what was being handled.
 */
void
parked_add(const char *projection, const Parked *parked, const pg_uuid_t *event_id, const ErrorData *error)
{
	static SavedPlan upsert = {
		.sql = "INSERT INTO dugong.parked_aggregates (projection, aggregate_type_id, aggregate_id, tenant_id, "
		"first_sequence_number, last_sequence_number, event_id, attempts, retry_at, sqlstate, message, detail, context, "
		"first_failed_at, last_failed_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, "
		"pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp()) "
		"ON CONFLICT (projection, aggregate_id, aggregate_type_id, tenant_id) DO UPDATE SET "
		"first_sequence_number = LEAST(parked_aggregates.first_sequence_number, EXCLUDED.first_sequence_number), last_sequence_number = EXCLUDED.last_sequence_number, "
		"event_id = EXCLUDED.event_id, attempts = EXCLUDED.attempts, "
		"retry_at = EXCLUDED.retry_at, sqlstate = EXCLUDED.sqlstate, message = EXCLUDED.message, "
		"detail = EXCLUDED.detail, context = EXCLUDED.context, last_failed_at = EXCLUDED.last_failed_at",
		.nargs = 13,
		.argtypes = {KEY_ARGTYPES, INT8OID, INT8OID, UUIDOID, INT4OID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}
	};
	Datum		values[13] = {0};
	bool		nulls[13] = {false};

	key_values(values, projection, &parked->key);
	values[4] = Int64GetDatum(parked->first);
	values[5] = Int64GetDatum(parked->last);
	values[6] = UUIDPGetDatum(event_id);
	values[7] = Int32GetDatum(parked->attempts);
	nulls[8] = parked->attempts >= dugong_max_attempts && !failure_is_lack(error);
	values[8] = TimestampTzGetDatum(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), parked_retry_pause(parked->attempts)));
	values[9] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
	values[10] = CStringGetTextDatum(error->message ? error->message : "");
	nulls[11] = error->detail == NULL;
	if (error->detail)
		values[11] = CStringGetTextDatum(error->detail);
	nulls[12] = error->context == NULL;
	if (error->context)
		values[12] = CStringGetTextDatum(error->context);
	plan_run(&upsert, values, nulls);
}

/* One more event waits. */
void
parked_extend(const char *projection, const AggregateKey *key, int64 last)
{
	static SavedPlan update = {
		.sql = "UPDATE dugong.parked_aggregates SET last_sequence_number = GREATEST(last_sequence_number, $5) "
		"WHERE " KEY_CONDITION,
		.nargs = 5,
		.argtypes = {KEY_ARGTYPES, INT8OID}
	};
	Datum		values[5];

	key_values(values, projection, key);
	values[4] = Int64GetDatum(last);
	plan_run(&update, values, NULL);
}

/* Some of what waited is handled: the next is parked->first.  Its attempts begin anew. */
void
parked_advance(const char *projection, const Parked *parked)
{
	static SavedPlan update = {
		.sql = "UPDATE dugong.parked_aggregates SET first_sequence_number = $5, attempts = 0, "
		"retry_at = pg_catalog.clock_timestamp() WHERE " KEY_CONDITION,
		.nargs = 5,
		.argtypes = {KEY_ARGTYPES, INT8OID}
	};
	Datum		values[5];

	key_values(values, projection, &parked->key);
	values[4] = Int64GetDatum(parked->first);
	plan_run(&update, values, NULL);
}

/* All that waited is handled. */
void
parked_remove(const char *projection, const AggregateKey *key)
{
	static SavedPlan delete = {
		.sql = "DELETE FROM dugong.parked_aggregates WHERE " KEY_CONDITION,
		.nargs = 4,
		.argtypes = {KEY_ARGTYPES}
	};
	Datum		values[4];

	key_values(values, projection, key);
	plan_run(&delete, values, NULL);
}

/* Forgets all that a projection has set aside. */
void
parked_remove_all(const char *projection)
{
	static SavedPlan delete = {
		.sql = "DELETE FROM dugong.parked_aggregates WHERE projection OPERATOR(pg_catalog.=) $1",.nargs = 1,.argtypes = {TEXTOID}
	};
	Datum		name = CStringGetTextDatum(projection);

	plan_run(&delete, &name, NULL);
}

/*
 * What the errors of an aggregate say is erased, and it is tried again at
 * once, as if for the first time: its events are not what they were.  False if
 * it was not set aside.
 */
bool
parked_erase(const char *projection, const AggregateKey *key)
{
	static SavedPlan update = {
		.sql = "UPDATE dugong.parked_aggregates SET message = 'erased', detail = NULL, context = NULL, attempts = 0, "
		"retry_at = pg_catalog.clock_timestamp() WHERE " KEY_CONDITION,
		.nargs = 4,
		.argtypes = {KEY_ARGTYPES}
	};
	Datum		values[4];

	key_values(values, projection, key);
	return plan_run(&update, values, NULL) > 0;
}

/*
 * The one of a projection that is longest due, in the current memory context.
 * Where one has failed in the future, the clock was set back: it is due.
 */
bool
parked_take_due(const char *projection, Parked *parked)
{
	static SavedPlan select_due = {
		.sql = "SELECT aggregate_type_id, aggregate_id, tenant_id, first_sequence_number, last_sequence_number, attempts "
		"FROM dugong.parked_aggregates WHERE projection OPERATOR(pg_catalog.=) $1 "
		"AND retry_at IS NOT NULL AND (retry_at OPERATOR(pg_catalog.<=) pg_catalog.clock_timestamp() "
		"OR last_failed_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp()) ORDER BY retry_at LIMIT 1",
		.nargs = 1,
		.argtypes = {TEXTOID}
	};
	MemoryContext context = CurrentMemoryContext;
	Datum		name = CStringGetTextDatum(projection);
	bool		found;
	bool		isnull;

	SPI_connect();
	found = plan_execute(&select_due, &name, NULL, false) > 0;
	if (found)
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		parked->key.type_id = DatumGetInt32(plan_result(0, 1, &isnull));
		parked->key.id = *DatumGetUUIDP(plan_result(0, 2, &isnull));
		parked->key.tenant_id = DatumGetTextPCopy(plan_result(0, 3, &isnull));
		parked->first = DatumGetInt64(plan_result(0, 4, &isnull));
		parked->last = DatumGetInt64(plan_result(0, 5, &isnull));
		parked->attempts = DatumGetInt32(plan_result(0, 6, &isnull));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return found;
}

/* When the next of any running projection is due; DT_NOEND = none ever. */
TimestampTz
parked_next_retry(void)
{
	static SavedPlan select_next = {
		.sql = "SELECT pg_catalog.min(CASE WHEN a.last_failed_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp() "
		"THEN pg_catalog.clock_timestamp() ELSE a.retry_at END) FROM dugong.parked_aggregates a, dugong.projections p "
		"WHERE a.retry_at IS NOT NULL AND p.name OPERATOR(pg_catalog.=) a.projection "
		"AND p.state OPERATOR(pg_catalog.=) 'running' AND p.mode OPERATOR(pg_catalog.=) 'async'"
	};
	bool		isnull;
	Datum		next;

	SPI_connect();
	plan_execute(&select_next, NULL, NULL, false);
	next = plan_result(0, 1, &isnull);
	SPI_finish();
	return isnull ? DT_NOEND : DatumGetTimestampTz(next);
}
