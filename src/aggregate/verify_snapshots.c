/*
 * verify_snapshots.c
 *		verify_snapshots(): are snapshots what the log says?
 */
#include "postgres.h"

#include "access/table.h"
#include "aggregate/fingerprint.h"
#include "aggregate/snapshot.h"
#include "aggregate/stored_state.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "store/tenant.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "util/args.h"
#include "util/attempt.h"
#include "util/identity.h"
#include "util/plan.h"

PG_FUNCTION_INFO_V1(dugong_verify_snapshots);

/* A stored snapshot that is to be compared with the log. */
typedef struct Verification
{
	AggregateKey key;
	int64		sequence_number;
	bytea	   *stored;
	Snapshot	snapshot;
	Aggregate	aggregate;		/* as the log has it at that event */
	bool		right;
} Verification;

/* Folds the aggregate from the log, up to its snapshot. */
static void
build_verified(void *arg)
{
	Verification *verification = arg;
	BuildLimit	limit = {verification->sequence_number, DT_NOEND};
	Aggregate  *aggregate = &verification->aggregate;
	Relation	log = log_open(AccessShareLock);

	aggregate_init(aggregate, &verification->key);
	aggregate->skip_snapshot = true;
	aggregate_build(aggregate, log, &limit, verification->snapshot);
	table_close(log, NoLock);
}

static void
compare(Verification *verification)
{
	const Aggregate *aggregate = &verification->aggregate;
	StoredState stored = {.type = aggregate->fold->state.oid,.stored = verification->stored};
	ErrorData  *error;
	Identity	before;

	if (aggregate->sequence_number != verification->sequence_number || aggregate->transition_isnull)
		return;
	aggregate_type_assume_owner(aggregate->type, &before);
	error = snapshot_attempt_state(stored_state_read, &stored);
	verification->right = error == NULL &&
		stored_state_same(aggregate->fold->state.oid, aggregate->transition, stored.state);
	identity_restore(&before);
}

/* Forgets a snapshot, if it is still the one that was looked at. */
static void
forget_snapshot(const Verification *verification)
{
	static SavedPlan delete_one = {
		.sql = "DELETE FROM dugong.aggregate_snapshots WHERE aggregate_id OPERATOR(pg_catalog.=) $1 "
		"AND aggregate_type_id OPERATOR(pg_catalog.=) $2 AND tenant_id COLLATE \"C\" OPERATOR(pg_catalog.=) $3 "
		"AND sequence_number OPERATOR(pg_catalog.=) $4",
		.nargs = 4,
		.argtypes = {UUIDOID, INT4OID, TEXTOID, INT8OID}
	};
	const AggregateKey *key = &verification->key;
	Datum		values[] = {
		UUIDPGetDatum(&key->id), Int32GetDatum(key->type_id), PointerGetDatum(key->tenant_id),
		Int64GetDatum(verification->sequence_number)
	};

	plan_run(&delete_one, values, NULL);
}

/*
 * Compares one, and puts the right state in the place of a wrong one.  Where
 * the fold fails, or gives nothing that can be stored, there is none then.
 */
static bool
verify_and_repair(Verification *verification)
{
	ErrorData  *error = attempt(build_verified, verification);
	bytea	   *state;

	if (error && error_is_foreign(error))
		ReThrowError(error);
	verification->right = false;
	if (error == NULL)
		compare(verification);
	if (verification->right)
		return true;
	forget_snapshot(verification);
	if (error == NULL && verification->aggregate.sequence_number == verification->sequence_number)
	{
		state = snapshot_make(&verification->aggregate);
		if (state)
			snapshot_store(&verification->aggregate, state);
	}
	return false;
}

/*
 * verify_snapshots(aggregate_type, origin): folds from the log what each
 * snapshot that builds would use says; gives a row for each that is wrong,
 * after repairing it.
 */
Datum
dugong_verify_snapshots(PG_FUNCTION_ARGS)
{
	static SavedPlan select_snapshots = {
		.sql = "SELECT aggregate_id, tenant_id, sequence_number, state FROM dugong.aggregate_snapshots "
		"WHERE aggregate_type_id OPERATOR(pg_catalog.=) $1 AND fingerprint OPERATOR(pg_catalog.=) $2 "
		"AND ($3 IS NULL OR tenant_id OPERATOR(pg_catalog.=) ANY ($3))",
		.nargs = 3,
		.argtypes = {INT4OID, INT8OID, TEXTARRAYOID}
	};
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const AggregateType *type = aggregate_type_by_name(arg_name(fcinfo, 1), arg_needed_name(fcinfo, 0, "aggregate type"));
	Verification verification = {.key = {.type_id = type->id}};
	Datum		values[3];
	bool		all;
	Portal		cursor;
	MemoryContext context;
	MemoryContext old;
	Identity	before;

	PreventCommandIfReadOnly("dugong.verify_snapshots()");
	InitMaterializedSRF(fcinfo, 0);
	if (type->fold == NULL)
		return (Datum) 0;
	values[0] = Int32GetDatum(type->id);
	values[1] = Int64GetDatum(fingerprint_get(type));
	values[2] = tenants_seen(GetUserId(), &all);
	identity_assume(&before, dugong_owner());
	verification.snapshot = RegisterSnapshot(GetTransactionSnapshot());
	PushActiveSnapshot(verification.snapshot);
	SPI_connect();
	context = AllocSetContextCreate(CurrentMemoryContext, "dugong verification", ALLOCSET_DEFAULT_SIZES);
	/* Read only: it takes the active snapshot, not a newer one. */
	cursor = SPI_cursor_open(NULL, plan_get(&select_snapshots), values, all ? "  n" : NULL, true);
	for (;;)
	{
		bool		isnull;
		Datum		row[3];
		bool		nulls[3] = {false};

		CHECK_FOR_INTERRUPTS();
		SPI_cursor_fetch(cursor, true, 1);
		if (SPI_processed == 0)
			break;
		old = MemoryContextSwitchTo(context);
		for (int i = 0; i < 3; i++)
			row[i] = plan_result(0, i + 1, &isnull);
		verification.key.id = *DatumGetUUIDP(row[0]);
		verification.key.tenant_id = DatumGetTextPP(row[1]);
		verification.sequence_number = DatumGetInt64(row[2]);
		verification.stored = DatumGetByteaPP(plan_result(0, 4, &isnull));
		if (!verify_and_repair(&verification))
			tuplestore_putvalues(result->setResult, result->setDesc, row, nulls);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(cursor);
	SPI_finish();
	PopActiveSnapshot();
	UnregisterSnapshot(verification.snapshot);
	identity_restore(&before);
	return (Datum) 0;
}
