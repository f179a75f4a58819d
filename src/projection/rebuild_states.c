/*
 * rebuild_states.c
 *		Writing what a projection of states keeps again, in place.
 *
 * Each aggregate's row is written again, in transactions of bounded size,
 * while the other rows serve reads and the worker goes on.  Whoever writes
 * holds the projection's lock and builds under a snapshot taken after it; so
 * nobody puts an older state over a newer one.  Called again after a crash or a
 * cancel, it goes on from where it was.  At the end, rows of aggregates that
 * the log does not know are deleted.
 *
 * An inline projection has no worker.  Its states are rebuilt under each
 * aggregate's lock.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "guc.h"
#include "miscadmin.h"
#include "projection/batch.h"
#include "projection/checkpoint.h"
#include "projection/failure.h"
#include "projection/parked.h"
#include "projection/query_model.h"
#include "projection/rebuild.h"
#include "projection/rebuild_record.h"
#include "projection/rebuild_states.h"
#include "projection/work.h"
#include "store/aggregate_lock.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "util/attempt.h"
#include "util/fault.h"
#include "util/identity.h"
#include "util/ids.h"
#include "util/names.h"
#include "util/plan.h"

#define CHUNK 500				/* aggregates, or rows, in a transaction */

static int64
count_aggregates(const Projection *projection)
{
	Relation	log = log_open(AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	LogScan		scan;
	int64		count = 0;

	log_scan_first_events(&scan, log, linitial_int(projection->type_ids), NULL, NULL, snapshot);
	while (log_scan_next(&scan))
	{
		bool		isnull;

		CHECK_FOR_INTERRUPTS();
		count += projection_sees(projection, DatumGetTextPP(slot_getattr(scan.slot, LOG_TENANT_ID, &isnull)));
	}
	log_scan_end(&scan);
	UnregisterSnapshot(snapshot);
	table_close(log, NoLock);
	return count;
}

static void
do_work(void *arg)
{
	Work	   *work = arg;

	work_do(work);
	handler_fire_deferred(&work->actor);
}

/* The same, as what was handled before. */
static void
do_work_again(void *arg)
{
	handler_replay(true, do_work, arg);
}

/* What was set aside is done with: the states cover it. */
static void
forget_parked(const Work *work)
{
	const char *name = work->projection->name;
	HASH_SEQ_STATUS seq;
	Change	   *change;

	if (!parked_any(name))
		return;
	hash_seq_init(&seq, work->changes);
	while ((change = hash_seq_search(&seq)) != NULL)
		parked_remove(name, &change->key);
}

/* The only aggregate has failed.  Its row stays what the events have made of it that were handled before. */
static void
park(const Work *work, const ErrorData *error)
{
	const char *name = work->projection->name;
	Checkpoint	checkpoint;
	HASH_SEQ_STATUS seq;
	Change	   *change;

	checkpoint_look(&checkpoint, work->projection);
	hash_seq_init(&seq, work->changes);
	while ((change = hash_seq_search(&seq)) != NULL)
	{
		int64		handled = checkpoint_last_handled(&checkpoint, work->projection, work->log, &change->key,
													  PG_INT64_MAX, work->snapshot);
		Parked		parked = {.key = change->key,.first = Min(change->first, handled + 1),.last = change->last,.attempts = 1};

		parked_add(name, &parked, &change->event_id, error);
	}
	failure_record(name, error, 0);
}

/*
 * Writes the aggregates that were collected.  Returns the error if that failed
 * and fewer may be tried; one alone is set aside.
 */
static ErrorData *
write_aggregates(Work *work)
{
	ErrorData  *error;

	work_prepare(work, true);
	error = attempt(do_work_again, work);
	if (error == NULL)
		forget_parked(work);
	else if (failure_class(error) != FAILURE_OF_HANDLER || work->actor.restricted)
		ReThrowError(error);
	else if (hash_get_num_entries(work->changes) > 1)
		return error;
	else
		park(work, error);
	return NULL;
}

/* The aggregate that an inline projection's appender would hold; under its lock, a new snapshot. */
static void
lock_aggregates(Work *work)
{
	HASH_SEQ_STATUS seq;
	Change	   *change;

	hash_seq_init(&seq, work->changes);
	while ((change = hash_seq_search(&seq)) != NULL)
		aggregate_lock(&change->key);
}

/* Takes a snapshot that is newer than the locks that are held. */
static Snapshot
push_snapshot(void)
{
	Snapshot	snapshot;

	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	PushActiveSnapshot(snapshot);
	return snapshot;
}

static void
pop_snapshot(Snapshot snapshot)
{
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
}

/* Writes the aggregates that follow, at most so many; count: how many there were. */
static ErrorData *
step_aggregates(Rebuild *rebuild, int limit, int *count)
{
	const Projection *projection = rebuild->projection;
	Relation	log = log_open(AccessShareLock);
	Snapshot	snapshot = push_snapshot();
	ErrorData  *error = NULL;
	Work		work;

	work_begin(&work, projection, rebuild->own_transaction && !projection->is_inline, log, snapshot);
	*count = work_collect_next(&work, limit, &rebuild->cursor);
	if (*count > 0 && projection->is_inline)
	{
		lock_aggregates(&work);
		pop_snapshot(snapshot);
		snapshot = work.snapshot = push_snapshot();
	}
	if (*count > 0)
		error = write_aggregates(&work);
	pop_snapshot(snapshot);
	table_close(log, NoLock);
	return error;
}

/* Ids and tenants of rows of the query model, to see whether the log knows them. */
static Work *
read_rows(Rebuild *rebuild, Work *work, int limit)
{
	const char *sql = query_model_page_sql(rebuild->projection->query_model, &work->actor);
	MemoryContext context = CurrentMemoryContext;
	Oid			argtypes[] = {UUIDOID, TEXTOID, INT4OID};
	pg_uuid_t	lowest = {0};
	Datum		values[] = {
		UUIDPGetDatum(rebuild->cursor.tenant_id ? &rebuild->cursor.id : &lowest),
		PointerGetDatum(rebuild->cursor.tenant_id ? rebuild->cursor.tenant_id : cstring_to_text("")), Int32GetDatum(limit)
	};
	char		nulls[] = {' ', ' ', ' ', '\0'};
	Identity	before;
	AggregateKey *keys;
	uint64		nrows;

	nulls[0] = nulls[1] = rebuild->cursor.tenant_id ? ' ' : 'n';
	handler_begin(&work->actor, NULL, &before);
	SPI_connect();
	if (SPI_execute_with_args(sql, 3, argtypes, values, nulls, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read query model %s", rebuild->projection->query_model);
	nrows = SPI_processed;
	keys = MemoryContextAlloc(context, Max(nrows, 1) * sizeof(AggregateKey));
	for (uint64 row = 0; row < nrows; row++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		bool		isnull;

		keys[row].type_id = linitial_int(rebuild->projection->type_ids);
		keys[row].id = *DatumGetUUIDP(plan_result(row, 1, &isnull));
		keys[row].tenant_id = DatumGetTextPCopy(plan_result(row, 2, &isnull));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	handler_end(&before);
	for (uint64 row = 0; row < nrows; row++)
	{
		bool		found;

		(void) work_find(work, &keys[row], &found);
		rebuild->cursor.id = keys[row].id;
		rebuild->cursor.tenant_id = keys[row].tenant_id;
	}
	return work;
}

/* Deletes rows of aggregates that the log does not know, or the owner does not see; count: how many were looked at. */
static void
step_sweep(Rebuild *rebuild, int limit, int *count)
{
	Relation	log = log_open(AccessShareLock);
	Snapshot	snapshot = push_snapshot();
	AggregateState *unknown;
	int			nunknown = 0;
	HASH_SEQ_STATUS seq;
	Change	   *change;
	Work		work;

	work_begin(&work, rebuild->projection, rebuild->own_transaction && !rebuild->projection->is_inline, log, snapshot);
	read_rows(rebuild, &work, limit);
	*count = hash_get_num_entries(work.changes);
	unknown = palloc(Max(*count, 1) * sizeof(AggregateState));
	hash_seq_init(&seq, work.changes);
	while ((change = hash_seq_search(&seq)) != NULL)
	{
		work_note_last(&work, change);
		if (change->last > 0 && projection_sees(rebuild->projection, change->key.tenant_id))
			continue;
		unknown[nunknown].key = change->key;
		unknown[nunknown].state = (Datum) 0;
		unknown[nunknown++].deleted = true;
	}
	if (nunknown > 0)
		query_model_write(rebuild->projection->query_model, &work.actor, InvalidOid, unknown, nunknown);
	handler_fire_deferred(&work.actor);
	pop_snapshot(snapshot);
	table_close(log, NoLock);
}

/* One transaction of a rebuild; true when it is at its end. */
static bool
step(Rebuild *rebuild, int *limit)
{
	ErrorData  *error = NULL;
	int			count = 0;

	if (!rebuild->sweeping)
		error = step_aggregates(rebuild, *limit, &count);
	else if (rebuild->projection->kind == KIND_QUERY_MODEL)
		step_sweep(rebuild, CHUNK, &count);
	if (error)
	{
		*limit = Max(*limit / 8, 1);
		return false;
	}
	if (!rebuild->sweeping)
		rebuild->done += count;
	*limit = Min(*limit * 8, CHUNK);
	if (count > 0)
	{
		rebuild_save(rebuild);
		return false;
	}
	if (rebuild->sweeping)
	{
		rebuild_end(rebuild->projection);
		return true;
	}
	rebuild->sweeping = true;
	rebuild->cursor.tenant_id = NULL;
	rebuild_save(rebuild);
	return false;
}

static void
run_batch(void *arg)
{
	BatchRequest request = {.projection = arg,.limit = dugong_batch_size,.wait = true,.own_transaction = true};
	BatchOutcome outcome;

	(void) batch_run(&request, &outcome);
}

/*
 * Runs a batch, so that what is appended meanwhile does not wait.  Its failures
 * are the worker's, but for what the server refuses: if a cancellation were
 * taken for one, nothing would end the rebuild any more.
 */
static void
run_batch_between(const char *name)
{
	ErrorData  *error = attempt(run_batch, unconstify(char *, name));

	if (error && failure_class(error) == FAILURE_OF_SERVER)
		ReThrowError(error);
	if (error)
		SPI_rollback();
	else
		SPI_commit();
}

/*
 * Rebuilds in place.  Each step is a transaction, unless atomic.  The steps'
 * cursor lives in the memory context of the procedure.
 */
void
rebuild_in_place(const char *name, bool atomic)
{
	MemoryContext outer = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(outer, "dugong rebuild", ALLOCSET_DEFAULT_SIZES);
	Rebuild		rebuild = {.own_transaction = !atomic};
	int			limit = CHUNK;
	bool		begun = false;
	bool		finished;

	do
	{
		Identity	before;
		Rebuild		last = rebuild;

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(context);
		rebuild.projection = rebuild_lock(name);
		identity_assume(&before, dugong_owner());
		/* Its appenders' locks are taken one at a time; and it may have become inline only now. */
		if (rebuild.projection->is_inline)
			limit = 1;
		if (!begun)
		{
			rebuild_begin(&rebuild, rebuild.projection, "aggregates", count_aggregates(rebuild.projection));
			begun = true;
			last = rebuild;
		}
		finished = step(&rebuild, &limit);
		identity_restore(&before);
		MemoryContextSwitchTo(outer);
		/* A step that failed is done again, smaller. */
		if (rebuild.done == last.done && rebuild.sweeping == last.sweeping && !rebuild.sweeping)
			rebuild = last;
		rebuild.cursor.tenant_id = rebuild.cursor.tenant_id ? DatumGetTextPCopy(PointerGetDatum(rebuild.cursor.tenant_id)) : NULL;
		MemoryContextReset(context);
		if (!atomic)
		{
			SPI_commit();
			fault_point("rebuild-step-is-done");
			run_batch_between(name);
		}
	} while (!finished);
}

/*
 * Writes what a projection of states keeps of one aggregate again.  The caller
 * holds the projection's lock, the aggregate's if the projection is inline,
 * and has the rights of the log's owner.
 */
void
rebuild_aggregate(const Projection *projection, const AggregateKey *key, bool own_transaction)
{
	Change	   *change;
	Relation	log = log_open(AccessShareLock);
	Snapshot	snapshot = push_snapshot();
	Work		work;
	bool		found;

	work_begin(&work, projection, own_transaction, log, snapshot);
	change = work_find(&work, key, &found);
	work_note_last(&work, change);
	work_prepare(&work, true);
	do_work_again(&work);
	forget_parked(&work);
	pop_snapshot(snapshot);
	table_close(log, NoLock);
}
