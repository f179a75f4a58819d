/*
 * snapshot.c
 *		Cached states of aggregates.
 *
 * A snapshot is the transition state at a sequence number, in the binary form
 * of its type's send function.  It is taken by the append that passes a
 * multiple of the type's interval, in its transaction and under the
 * aggregate's lock; there is one row for each aggregate.  It is only taken if
 * the stored form gives the same state back, and only used if what makes
 * states is what it was then (fingerprint.c).  It may vanish at any time.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "aggregate/fingerprint.h"
#include "aggregate/snapshot.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "funcapi.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "store/aggregate_lock.h"
#include "store/append.h"
#include "store/context.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "util/args.h"
#include "util/identity.h"
#include "util/plan.h"

PG_FUNCTION_INFO_V1(dugong_take_snapshot);
PG_FUNCTION_INFO_V1(dugong_drop_snapshots);
PG_FUNCTION_INFO_V1(dugong_verify_snapshots);
PG_FUNCTION_INFO_V1(dugong_snapshot_is_valid);

/* Columns of dugong.aggregate_snapshots, in their order. */
enum
{
	SNAPSHOT_AGGREGATE_ID = 1,
	SNAPSHOT_AGGREGATE_TYPE_ID,
	SNAPSHOT_TENANT_ID,
	SNAPSHOT_SEQUENCE_NUMBER,
	SNAPSHOT_FINGERPRINT,
	SNAPSHOT_STATE
};

/* The send and receive functions of a type; false if it has none. */
static bool
binary_functions(Oid type, Oid *send, Oid *receive, Oid *ioparam)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Form_pg_type form;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_type) GETSTRUCT(tuple);
	*send = form->typsend;
	*receive = form->typreceive;
	*ioparam = getTypeIOParam(tuple);
	ReleaseSysCache(tuple);
	return OidIsValid(*send) && OidIsValid(*receive);
}

static Datum
receive_state(Oid receive, Oid ioparam, bytea *stored)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, VARDATA_ANY(stored), VARSIZE_ANY_EXHDR(stored));
	return OidReceiveFunctionCall(receive, &buf, ioparam, -1);
}

/* Are two states the same, bit by bit?  Columns of a record are compared one by one. */
static bool
same_state(const FoldType *type, Datum one, Datum other)
{
	if (get_typtype(type->oid) == TYPTYPE_COMPOSITE)
	{
		FmgrInfo	equal;

		fmgr_info(F_RECORD_IMAGE_EQ, &equal);
		return DatumGetBool(FunctionCall2(&equal, one, other));
	}
	return datum_image_eq(one, other, type->typbyval, type->typlen);
}

/* Takes the stored snapshot, if it is good and not beyond the limit; else the aggregate stays as it is. */
static void
use_snapshot(Aggregate *aggregate, TupleTableSlot *slot, int64 to_sequence_number)
{
	const FoldType *type = &aggregate->fold.state;
	bool		isnull;
	int64		sequence_number = DatumGetInt64(slot_getattr(slot, SNAPSHOT_SEQUENCE_NUMBER, &isnull));
	Oid			send;
	Oid			receive;
	Oid			ioparam;
	MemoryContext old;

	if (sequence_number > to_sequence_number ||
		DatumGetInt64(slot_getattr(slot, SNAPSHOT_FINGERPRINT, &isnull)) != fingerprint_get(aggregate->type) ||
		!binary_functions(type->oid, &send, &receive, &ioparam))
		return;
	old = MemoryContextSwitchTo(aggregate->context);
	aggregate->transition = receive_state(receive, ioparam,
										  DatumGetByteaPP(slot_getattr(slot, SNAPSHOT_STATE, &isnull)));
	MemoryContextSwitchTo(old);
	aggregate->transition_isnull = false;
	aggregate->sequence_number = sequence_number;
}

/*
 * Starts a new aggregate from its snapshot, if there is a good one at or below
 * a sequence number.  The caller acts as the type's owner.
 */
void
snapshot_restore(Aggregate *aggregate, int64 to_sequence_number, Snapshot snapshot)
{
	Relation	table;
	ScanKeyData keys[3];
	LogScan		scan;

	if (aggregate->type->snapshot_interval == 0)
		return;
	table = table_open(dugong_relid("aggregate_snapshots"), AccessShareLock);
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(&aggregate->key.id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(aggregate->key.type_id));
	ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_TEXTEQ, PointerGetDatum(aggregate->key.tenant_id));
	log_scan_begin(&scan, table, "aggregate_snapshots_idx", keys, 3, ForwardScanDirection, snapshot);
	if (log_scan_next(&scan))
		use_snapshot(aggregate, scan.slot, to_sequence_number);
	log_scan_end(&scan);
	table_close(table, NoLock);
}

static void
store(const Aggregate *aggregate, bytea *state)
{
	static SavedPlan upsert = {
		.sql = "INSERT INTO dugong.aggregate_snapshots "
		"(aggregate_id, aggregate_type_id, tenant_id, sequence_number, fingerprint, state) "
		"VALUES ($1, $2, $3, $4, $5, $6) "
		"ON CONFLICT (aggregate_id, aggregate_type_id, tenant_id COLLATE \"C\") DO UPDATE "
		"SET sequence_number = EXCLUDED.sequence_number, fingerprint = EXCLUDED.fingerprint, "
		"state = EXCLUDED.state, taken_at = EXCLUDED.taken_at",
		.nargs = 6,
		.argtypes = {UUIDOID, INT4OID, TEXTOID, INT8OID, INT8OID, BYTEAOID}
	};
	Datum		values[6];
	Identity	before;

	values[0] = UUIDPGetDatum(&aggregate->key.id);
	values[1] = Int32GetDatum(aggregate->key.type_id);
	values[2] = PointerGetDatum(aggregate->key.tenant_id);
	values[3] = Int64GetDatum(aggregate->sequence_number);
	values[4] = Int64GetDatum(fingerprint_get(aggregate->type));
	values[5] = PointerGetDatum(state);
	identity_assume(&before, dugong_owner());
	SPI_connect();
	plan_execute(&upsert, values, NULL, false);
	SPI_finish();
	identity_restore(&before);
}

/* Says once in a session and type why there are no snapshots. */
static void
warn_unstorable(const AggregateType *type, const char *why)
{
	static List *warned = NIL;	/* of type ids, in TopMemoryContext */
	MemoryContext old;

	if (list_member_int(warned, type->id))
		return;
	old = MemoryContextSwitchTo(TopMemoryContext);
	warned = lappend_int(warned, type->id);
	MemoryContextSwitchTo(old);
	ereport(WARNING,
			(errmsg("no snapshots are taken of aggregate type \"%s\"", text_to_cstring(type->name)),
			 errdetail("%s", why),
			 errhint("Set its snapshot_interval to 0 with dugong.alter_aggregate_type().")));
}

/*
 * Stores the state of an aggregate whose lock is held.  False if it is not
 * one that can be stored, or the aggregate is deleted or has no events.
 */
bool
snapshot_take(Aggregate *aggregate)
{
	const FoldType *type = &aggregate->fold.state;
	Oid			send;
	Oid			receive;
	Oid			ioparam;
	Identity	before;
	bytea	   *state;
	bool		same;

	if (aggregate->sequence_number == 0 || aggregate->transition_isnull)
		return false;
	if (!binary_functions(type->oid, &send, &receive, &ioparam))
	{
		warn_unstorable(aggregate->type, "The type of its state has no binary form.");
		return false;
	}
	aggregate_type_assume_owner(aggregate->type, &before);
	state = OidSendFunctionCall(send, aggregate->transition);
	same = same_state(type, aggregate->transition, receive_state(receive, ioparam, state));
	identity_restore(&before);
	if (!same)
	{
		warn_unstorable(aggregate->type, "Its state does not come back the same from its stored form.");
		return false;
	}
	store(aggregate, state);
	return true;
}

static void
build_and_take(const AggregateKey *key)
{
	Aggregate	aggregate;

	aggregate_init(&aggregate, key);
	aggregate_build_current(&aggregate);
	(void) snapshot_take(&aggregate);
	aggregate_free(&aggregate);
}

/*
 * The append has passed a multiple of the interval.  A fold that fails must
 * not fail the append: whoever builds the aggregate hears of it.
 */
static void
try_to_take(const AggregateKey *key)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		build_and_take(key);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION ||
			ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_INSUFFICIENT_RESOURCES ||
			ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK)
			PG_RE_THROW();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		warn_unstorable(aggregate_type_get(key->type_id), error->message);
		FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}

/* Called after each append; see append_done(). */
static void
after_append(const LogRow *row, int64 count)
{
	AggregateKey key;
	const AggregateType *type;
	int64		last = DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER));

	log_row_key(row, &key);
	type = aggregate_type_get(key.type_id);
	if (type->fold == NULL || type->snapshot_interval == 0 ||
		last / type->snapshot_interval == (last - count) / type->snapshot_interval)
		return;
	try_to_take(&key);
}

/* take_snapshot(aggregate_type, aggregate_id, tenant_id, origin): was one taken? */
Datum
dugong_take_snapshot(PG_FUNCTION_ARGS)
{
	AggregateKey key;
	Aggregate	aggregate;

	PreventCommandIfReadOnly("dugong.take_snapshot()");
	key.type_id = aggregate_type_by_name(arg_name(fcinfo, 3), arg_needed_name(fcinfo, 0, "aggregate type"))->id;
	key.id = *arg_needed_uuid(fcinfo, 1, "aggregate id");
	key.tenant_id = PG_ARGISNULL(2) ? context_tenant_id() : PG_GETARG_TEXT_PP(2);
	aggregate_lock(&key);
	aggregate_init(&aggregate, &key);
	aggregate_build_current(&aggregate);
	PG_RETURN_BOOL(snapshot_take(&aggregate));
}

/* drop_snapshots(aggregate_type, origin): how many there were; a NULL type means all. */
Datum
dugong_drop_snapshots(PG_FUNCTION_ARGS)
{
	static SavedPlan delete_all = {.sql = "DELETE FROM dugong.aggregate_snapshots"};
	static SavedPlan delete_of_type = {
		.sql = "DELETE FROM dugong.aggregate_snapshots WHERE aggregate_type_id OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.argtypes = {INT4OID}
	};
	bool		all = PG_ARGISNULL(0);
	Datum		id = all ? (Datum) 0 :
		Int32GetDatum(aggregate_type_by_name(arg_name(fcinfo, 1), arg_needed_name(fcinfo, 0, "aggregate type"))->id);
	int64		count;

	SPI_connect();
	count = plan_execute(all ? &delete_all : &delete_of_type, &id, NULL, false);
	SPI_finish();
	PG_RETURN_INT64(count);
}

/* snapshot_is_valid(aggregate_type_id, fingerprint): would a build use it? */
Datum
dugong_snapshot_is_valid(PG_FUNCTION_ARGS)
{
	const AggregateType *type = aggregate_type_by_id(PG_GETARG_INT32(0));

	PG_RETURN_BOOL(type != NULL && type->fold != NULL && type->snapshot_interval > 0 &&
				   fingerprint_get(type) == PG_GETARG_INT64(1));
}

/* Folds an aggregate from the log, up to its snapshot: is that the state? */
static bool
snapshot_is_right(const AggregateKey *key, int64 sequence_number, bytea *stored)
{
	BuildLimit	limit = {sequence_number, DT_NOEND};
	Aggregate	aggregate;
	Relation	log;
	Oid			send;
	Oid			receive;
	Oid			ioparam;
	Identity	before;
	bool		right;

	aggregate_init(&aggregate, key);
	aggregate.skip_snapshot = true;
	log = log_open(AccessShareLock);
	aggregate_build(&aggregate, log, &limit, GetActiveSnapshot());
	table_close(log, NoLock);
	right = aggregate.sequence_number == sequence_number && !aggregate.transition_isnull &&
		binary_functions(aggregate.fold.state.oid, &send, &receive, &ioparam);
	if (right)
	{
		aggregate_type_assume_owner(aggregate.type, &before);
		right = same_state(&aggregate.fold.state, aggregate.transition, receive_state(receive, ioparam, stored));
		identity_restore(&before);
	}
	aggregate_free(&aggregate);
	return right;
}

/* Forgets a wrong snapshot; the next append that passes the interval takes another. */
static void
forget_snapshot(const AggregateKey *key)
{
	static SavedPlan delete_one = {
		.sql = "DELETE FROM dugong.aggregate_snapshots WHERE aggregate_id OPERATOR(pg_catalog.=) $1 "
		"AND aggregate_type_id OPERATOR(pg_catalog.=) $2 AND tenant_id COLLATE \"C\" OPERATOR(pg_catalog.=) $3",
		.nargs = 3,
		.argtypes = {UUIDOID, INT4OID, TEXTOID}
	};
	Datum		values[] = {UUIDPGetDatum(&key->id), Int32GetDatum(key->type_id), PointerGetDatum(key->tenant_id)};

	plan_execute(&delete_one, values, NULL, false);
}

/*
 * verify_snapshots(aggregate_type, origin): folds from the log what each
 * snapshot that builds would use says; gives a row for each that is wrong,
 * which is forgotten.
 */
Datum
dugong_verify_snapshots(PG_FUNCTION_ARGS)
{
	static SavedPlan select_snapshots = {
		.sql = "SELECT aggregate_id, tenant_id, sequence_number, state FROM dugong.aggregate_snapshots "
		"WHERE aggregate_type_id OPERATOR(pg_catalog.=) $1 AND fingerprint OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.argtypes = {INT4OID, INT8OID}
	};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const AggregateType *type = aggregate_type_by_name(arg_name(fcinfo, 1), arg_needed_name(fcinfo, 0, "aggregate type"));
	Datum		values[2];
	Portal		cursor;

	PreventCommandIfReadOnly("dugong.verify_snapshots()");
	InitMaterializedSRF(fcinfo, 0);
	if (type->fold == NULL)
		return (Datum) 0;
	values[0] = Int32GetDatum(type->id);
	values[1] = Int64GetDatum(fingerprint_get(type));
	SPI_connect();
	cursor = SPI_cursor_open(NULL, plan_get(&select_snapshots), values, NULL, false);
	for (;;)
	{
		AggregateKey key;
		bool		isnull;
		Datum		row[3];
		bool		nulls[3] = {false};

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(cursor, true, 1);
		if (SPI_processed == 0)
			break;
		key.type_id = type->id;
		row[0] = plan_result(0, 1, &isnull);
		row[1] = plan_result(0, 2, &isnull);
		row[2] = plan_result(0, 3, &isnull);
		key.id = *DatumGetUUIDP(row[0]);
		key.tenant_id = DatumGetTextPP(row[1]);
		if (!snapshot_is_right(&key, DatumGetInt64(row[2]), DatumGetByteaPP(plan_result(0, 4, &isnull))))
		{
			tuplestore_putvalues(result->setResult, result->setDesc, row, nulls);
			forget_snapshot(&key);
		}
	}
	SPI_cursor_close(cursor);
	SPI_finish();
	return (Datum) 0;
}

void
snapshot_init(void)
{
	append_set_hook(after_append);
}
