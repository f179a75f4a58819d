/*
 * repair.c
 *		Writing the rows of a query model anew that were found to be wrong.
 *
 * As rebuild_projection() does for one aggregate: under the projection's lock,
 * from a snapshot taken after it; that of an inline projection under the
 * aggregates' locks, too.  What was found may have changed meanwhile: written
 * anew, it is right in any case.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "projection/failure.h"
#include "projection/parked.h"
#include "projection/proof.h"
#include "projection/repair.h"
#include "projection/work.h"
#include "store/aggregate_lock.h"
#include "store/ownership.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "util/attempt.h"
#include "util/identity.h"
#include "util/ids.h"

#define CHUNK 500				/* differences that are repaired together */

/*
 * May the caller repair, here?
 *
 * Errors: 25006, 42501, 25001.
 */
void
repair_require(const Projection *projection)
{
	PreventCommandIfReadOnly("dugong.verify_projection() with repair");
	require_owner(projection->owner, "projection", projection->name);
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot repair a projection in a REPEATABLE READ or SERIALIZABLE transaction"),
				 errdetail("Its snapshot may not see all that is to be handled.")));
}

/* Aggregates that are written together. */
typedef struct Repair
{
	const Projection *projection;
	Relation	log;
	AggregateKey *keys;
	int			count;
} Repair;

static void
do_work(void *work)
{
	work_do(work);
}

/* As commands on several aggregates do, in the order of their lock keys. */
static void
lock_aggregates(const Repair *repair)
{
	const AggregateKey *keys[CHUNK];
	TagLocks	none = {0};

	for (int i = 0; i < repair->count; i++)
		keys[i] = &repair->keys[i];
	aggregate_lock_several(keys, repair->count, &none);
}

/* Writes the aggregates anew, under their appenders' locks if those write too. */
static void
write_again(void *arg)
{
	const Repair *repair = arg;
	const Projection *projection = repair->projection;
	bool		any_parked = parked_any(projection->name);
	Snapshot	snapshot;
	Work		work;

	if (projection->is_inline)
		lock_aggregates(repair);
	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	PushActiveSnapshot(snapshot);
	work_begin(&work, projection, false, repair->log, snapshot);
	for (int i = 0; i < repair->count; i++)
	{
		bool		found;

		(void) work_find(&work, &repair->keys[i], &found);
	}
	work_prepare(&work, true);
	handler_replay(true, do_work, &work);
	for (int i = 0; any_parked && i < repair->count; i++)
		parked_remove(projection->name, &repair->keys[i]);
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
}

/* Repairs one alone; what fails stays as it is. */
static bool
repair_one(const Repair *repair, int number)
{
	Repair		one = {.projection = repair->projection,.log = repair->log,.keys = &repair->keys[number],.count = 1};
	ErrorData  *error = attempt(write_again, &one);

	if (error == NULL)
		return true;
	if (failure_class(error) != FAILURE_OF_HANDLER)
		ReThrowError(error);
	ereport(WARNING,
			(errmsg("could not repair aggregate \"%s\" of projection \"%s\": %s",
					uuid_to_cstring(&one.keys[0].id), repair->projection->name, error->message)));
	return false;
}

/* Repairs so many differences, and puts them out. */
static void
repair_some(const Projection *projection, Relation log, HeapTuple *tuples, int count, TupleDesc desc, Tuplestorestate *result)
{
	Repair		repair = {.projection = projection,.log = log,.keys = palloc(count * sizeof(AggregateKey))};
	bool	   *has_key = palloc(count * sizeof(bool));
	ErrorData  *error;
	int			number = 0;

	for (int i = 0; i < count; i++)
	{
		AggregateKey *key = &repair.keys[repair.count];
		bool		nulls[2];
		Datum		id = heap_getattr(tuples[i], FOUND_ID + 1, desc, &nulls[0]);
		Datum		tenant = heap_getattr(tuples[i], FOUND_TENANT + 1, desc, &nulls[1]);

		/* A row without a key cannot be named. */
		has_key[i] = !nulls[0] && !nulls[1];
		if (!has_key[i])
			continue;
		key->type_id = linitial_int(projection->type_ids);
		key->id = *DatumGetUUIDP(id);	/* NOLINT: nulls tells that it is not null */
		key->tenant_id = DatumGetTextPP(tenant);
		repair.count++;
	}
	error = attempt(write_again, &repair);
	if (error && failure_class(error) != FAILURE_OF_HANDLER)
		ReThrowError(error);
	for (int i = 0; i < count; i++)
	{
		int			column = FOUND_REPAIRED + 1;
		Datum		repaired = BoolGetDatum(has_key[i] && (error == NULL || repair_one(&repair, number)));
		bool		isnull = false;

		number += has_key[i];
		tuplestore_puttuple(result, heap_modify_tuple_by_cols(tuples[i], desc, 1, &column, &repaired, &isnull));
	}
}

/* Repairs what was found, and puts it out with what came of it. */
void
repair_differences(const char *name, Tuplestorestate *found, TupleDesc desc, Tuplestorestate *result)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dugong repair", ALLOCSET_DEFAULT_SIZES);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	const Projection *projection;
	Relation	log;
	Identity	before;
	bool		more = true;

	(void) projection_lock(name, true);
	projection = proof_get_projection(name);
	require_owner(projection->owner, "projection", name);
	identity_assume(&before, dugong_owner());
	log = log_open(AccessShareLock);
	while (more)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		HeapTuple  *tuples = palloc(CHUNK * sizeof(HeapTuple));
		int			count = 0;

		CHECK_FOR_INTERRUPTS();
		while (count < CHUNK && (more = tuplestore_gettupleslot(found, true, false, slot)))
			tuples[count++] = ExecCopySlotHeapTuple(slot);
		if (count > 0)
			repair_some(projection, log, tuples, count, desc, result);
		/* A row that was read from a file is in the context. */
		ExecClearTuple(slot);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	table_close(log, NoLock);
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(found);
	identity_restore(&before);
	MemoryContextDelete(context);
}
