/*
 * rebuild.c
 *		Making a query model anew from the log.
 *
 * A projection of states is rebuilt in place: each aggregate's row is written
 * again, in transactions of bounded size, while the other rows serve reads and
 * the worker goes on.  Whoever writes holds the projection's lock and builds
 * under a snapshot taken after it; so nobody puts an older state over a newer
 * one.  How far it has come is in dugong.rebuilds: called again after a crash
 * or a cancel, it goes on from there.  At the end, rows of aggregates that the
 * log does not know are deleted.
 *
 * A projection of events, and one of handlers that bring a reset_handler, is
 * reset and replayed in one transaction, or, offline, in many: then its
 * checkpoint goes back to the start, and an error, a crash or the worker's
 * going on loses nothing.
 *
 * An inline projection has no worker.  Its states are rebuilt under each
 * aggregate's lock; its events are replayed while nobody appends.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "guc.h"
#include "miscadmin.h"
#include "projection/batch.h"
#include "projection/checkpoint.h"
#include "projection/failure.h"
#include "projection/moment.h"
#include "projection/parked.h"
#include "projection/query_model.h"
#include "projection/rebuild.h"
#include "projection/run.h"
#include "projection/work.h"
#include "store/aggregate_lock.h"
#include "store/ownership.h"
#include "store/tenant.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "util/args.h"
#include "util/attempt.h"
#include "util/fault.h"
#include "util/identity.h"
#include "util/ids.h"
#include "util/plan.h"
#include "util/progress.h"

PG_FUNCTION_INFO_V1(dugong_rebuild_projection);

#define CHUNK 500				/* aggregates, or rows, in a transaction */

/* How far a rebuild has come: a row of dugong.rebuilds. */
typedef struct Rebuild
{
	const Projection *projection;
	bool		own_transaction;	/* is nothing but the rebuild in it? */
	bool		sweeping;		/* the aggregates are done, the table's rows are looked through */
	int64		done;
	int64		total;
	text	   *tenant_id;		/* the last aggregate or row; NULL = none yet */
	pg_uuid_t	id;
} Rebuild;

/* Looks an aggregate's last event up, for handlers and for what may be set aside. */
static void
note_head(Work *work, Change *change)
{
	LogScan		scan;
	LogRow		row;

	log_scan_stream(&scan, work->log, &change->key, 1, PG_INT64_MAX, BackwardScanDirection, work->snapshot);
	if (log_scan_next(&scan))
	{
		log_row_from_slot(&row, scan.slot);
		work_note(change, &row, true);
	}
	log_scan_end(&scan);
}

static void
collect_aggregates(Work *work, LogScan *scan, int limit, Rebuild *rebuild)
{
	while (hash_get_num_entries(work->changes) < limit && log_scan_next(scan))
	{
		LogRow		row;
		AggregateKey key;
		Change	   *change;
		bool		found;

		CHECK_FOR_INTERRUPTS();
		log_row_from_slot(&row, scan->slot);
		log_row_key(&row, &key);
		if (!projection_sees(work->projection, key.tenant_id))
			continue;
		change = work_find(work, &key, &found);
		note_head(work, change);
		rebuild->id = change->key.id;
		rebuild->tenant_id = change->key.tenant_id;
	}
	log_scan_end(scan);
}

/* Collects the aggregates that follow; returns how many. */
static int
collect_next_aggregates(Work *work, int limit, Rebuild *rebuild)
{
	int32		type_id = linitial_int(work->projection->type_ids);
	text	   *tenant_id = rebuild->tenant_id;
	LogScan		scan;

	if (tenant_id == NULL)
		log_scan_first_events(&scan, work->log, type_id, NULL, NULL, work->snapshot);
	else
		log_scan_first_events(&scan, work->log, type_id, tenant_id, &rebuild->id, work->snapshot);
	collect_aggregates(work, &scan, limit, rebuild);
	if (tenant_id != NULL && hash_get_num_entries(work->changes) < limit)
	{
		log_scan_first_events_beyond(&scan, work->log, type_id, tenant_id, work->snapshot);
		collect_aggregates(work, &scan, limit, rebuild);
	}
	return hash_get_num_entries(work->changes);
}

static void
replay_states(const Projection *projection, Relation log, Snapshot snapshot)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dugong replay", ALLOCSET_DEFAULT_SIZES);
	Rebuild		rebuild = {0};
	int64		done = 0;
	int			count;

	do
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Work		work;

		work_begin(&work, projection, false, log, snapshot);
		count = collect_next_aggregates(&work, CHUNK, &rebuild);
		if (count > 0)
		{
			work_prepare(&work, true);
			work_do(&work);
		}
		MemoryContextSwitchTo(old);
		if (rebuild.tenant_id)
			rebuild.tenant_id = DatumGetTextPCopy(PointerGetDatum(rebuild.tenant_id));
		MemoryContextReset(context);
		show_progress(done += count);
	} while (count > 0);
	MemoryContextDelete(context);
}

static void
replay_events(const Projection *projection, Relation log, Snapshot snapshot)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dugong replay", ALLOCSET_DEFAULT_SIZES);
	int64		position = projection->start_position;
	int64		done = 0;
	bool		more;

	do
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		LogScan		scan;
		Work		work;
		int			nread = 0;

		work_begin(&work, projection, false, log, snapshot);
		log_scan_positions(&scan, log, position + 1, PG_INT64_MAX, ForwardScanDirection, snapshot);
		while (nread < dugong_batch_size && work.bytes < 16 * 1024 * 1024 && log_scan_next(&scan))
		{
			LogRow		row;

			CHECK_FOR_INTERRUPTS();
			nread++;
			log_row_from_slot(&row, scan.slot);
			position = DatumGetInt64(log_row_value(&row, LOG_POSITION));
			if (projection_handles(projection, &row))
				work_add_event(&work, scan.slot);
		}
		log_scan_end(&scan);
		more = nread > 0;
		if (work.events != NIL)
		{
			work_prepare(&work, true);
			work_do(&work);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		show_progress(done += nread);
	} while (more);
	MemoryContextDelete(context);
}

/* What replay_all() works with. */
typedef struct Replay
{
	const Projection *projection;
	Relation	log;
	Snapshot	snapshot;
} Replay;

static void
do_replay(void *arg)
{
	Replay	   *replay = arg;

	if (projection_is_of_states(replay->projection))
		replay_states(replay->projection, replay->log, replay->snapshot);
	else
		replay_events(replay->projection, replay->log, replay->snapshot);
}

/*
 * Handles all that is in the log, in the current transaction, with the rights
 * of the log's owner.  The caller sees to it that nobody else does.
 */
void
replay_all(const Projection *projection)
{
	Replay		replay = {.projection = projection,.log = log_open(AccessShareLock)};

	show_progress(0);
	CommandCounterIncrement();
	replay.snapshot = RegisterSnapshot(GetTransactionSnapshot());
	PushActiveSnapshot(replay.snapshot);
	handler_replay(true, do_replay, &replay);
	PopActiveSnapshot();
	UnregisterSnapshot(replay.snapshot);
	table_close(replay.log, NoLock);
}

static void
call_reset_handler(const Projection *projection, bool own_transaction)
{
	Actor		actor;
	FmgrInfo	handler;

	handler_owner(&actor, projection, own_transaction);
	handler_open(&handler, projection->reset_handler, &actor, "reset handler", 0, NULL);
	PushActiveSnapshot(GetTransactionSnapshot());
	handler_call(&handler, &actor, NULL, 0, NULL);
	PopActiveSnapshot();
	CommandCounterIncrement();
}

static void
execute(SavedPlan *statement, Datum *values, const bool *nulls)
{
	SPI_connect();
	plan_execute(statement, values, nulls, false);
	SPI_finish();
	CommandCounterIncrement();
}

static void
delete_parked(const Projection *projection)
{
	static SavedPlan delete = {
		.sql = "DELETE FROM dugong.parked_aggregates WHERE projection OPERATOR(pg_catalog.=) $1",.nargs = 1,.argtypes = {TEXTOID}
	};
	Datum		name = CStringGetTextDatum(projection->name);

	execute(&delete, &name, NULL);
}

static int64
last_position(void)
{
	Relation	log = log_open(AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	int64		position = log_last_position(log, snapshot);

	UnregisterSnapshot(snapshot);
	table_close(log, NoLock);
	return position;
}

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

/* Starts a rebuild, or finds one that was broken off and would do the same. */
static void
rebuild_begin(Rebuild *rebuild, const Projection *projection, const char *phase, int64 total)
{
	static SavedPlan select_rebuild = {
		.sql = "SELECT phase OPERATOR(pg_catalog.=) 'sweep', done, total, cursor_tenant, cursor_id FROM dugong.rebuilds "
		"WHERE projection OPERATOR(pg_catalog.=) $1 AND fingerprint OPERATOR(pg_catalog.=) $2 "
		"AND phase OPERATOR(pg_catalog.<>) 'replay'",
		.nargs = 2,
		.argtypes = {TEXTOID, INT8OID}
	};
	static SavedPlan upsert_rebuild = {
		.sql = "INSERT INTO dugong.rebuilds (projection, fingerprint, phase, total, pid, updated_at) "
		"VALUES ($1, $2, $3, $4, pg_catalog.pg_backend_pid(), pg_catalog.clock_timestamp()) ON CONFLICT (projection) DO UPDATE SET "
		"fingerprint = EXCLUDED.fingerprint, phase = EXCLUDED.phase, done = 0, total = EXCLUDED.total, pid = EXCLUDED.pid, "
		"cursor_tenant = NULL, cursor_id = NULL, started_at = EXCLUDED.started_at, updated_at = EXCLUDED.updated_at",
		.nargs = 4,
		.argtypes = {TEXTOID, INT8OID, TEXTOID, INT8OID}
	};
	MemoryContext context = CurrentMemoryContext;
	Datum		values[] = {
		CStringGetTextDatum(projection->name), Int64GetDatum(projection_fingerprint(projection)),
		CStringGetTextDatum(phase), Int64GetDatum(total)
	};
	bool		isnull;

	rebuild->projection = projection;
	rebuild->total = total;
	SPI_connect();
	if (strcmp(phase, "replay") != 0 && plan_execute(&select_rebuild, values, NULL, false) > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Datum		tenant = plan_result(0, 4, &isnull);

		rebuild->tenant_id = isnull ? NULL : DatumGetTextPCopy(tenant);
		rebuild->sweeping = DatumGetBool(plan_result(0, 1, &isnull));
		rebuild->done = DatumGetInt64(plan_result(0, 2, &isnull));
		rebuild->total = DatumGetInt64(plan_result(0, 3, &isnull));
		if (rebuild->tenant_id)
			rebuild->id = *DatumGetUUIDP(plan_result(0, 5, &isnull));
		MemoryContextSwitchTo(old);
	}
	else
		plan_execute(&upsert_rebuild, values, NULL, false);
	SPI_finish();
	CommandCounterIncrement();
}

static void
rebuild_save(const Rebuild *rebuild)
{
	static SavedPlan update_rebuild = {
		.sql = "UPDATE dugong.rebuilds SET phase = $2, done = $3, cursor_tenant = $4, cursor_id = $5, "
		"pid = pg_catalog.pg_backend_pid(), updated_at = pg_catalog.clock_timestamp() WHERE projection OPERATOR(pg_catalog.=) $1",
		.nargs = 5,
		.argtypes = {TEXTOID, TEXTOID, INT8OID, TEXTOID, UUIDOID}
	};
	Datum		values[] = {
		CStringGetTextDatum(rebuild->projection->name), CStringGetTextDatum(rebuild->sweeping ? "sweep" : "aggregates"),
		Int64GetDatum(rebuild->done), PointerGetDatum(rebuild->tenant_id), UUIDPGetDatum(&rebuild->id)
	};
	bool		nulls[] = {false, false, false, rebuild->tenant_id == NULL, rebuild->tenant_id == NULL};

	execute(&update_rebuild, values, nulls);
}

/* What the table holds is what today's code makes. */
static void
rebuild_end(const Projection *projection)
{
	static SavedPlan delete_rebuild = {
		.sql = "DELETE FROM dugong.rebuilds WHERE projection OPERATOR(pg_catalog.=) $1",.nargs = 1,.argtypes = {TEXTOID}
	};
	Datum		name = CStringGetTextDatum(projection->name);

	execute(&delete_rebuild, &name, NULL);
	checkpoint_accept(projection);
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
	*count = collect_next_aggregates(&work, limit, rebuild);
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
		UUIDPGetDatum(rebuild->tenant_id ? &rebuild->id : &lowest),
		PointerGetDatum(rebuild->tenant_id ? rebuild->tenant_id : cstring_to_text("")), Int32GetDatum(limit)
	};
	char		nulls[] = {' ', ' ', ' ', '\0'};
	Identity	before;
	AggregateKey *keys;
	uint64		nrows;

	nulls[0] = nulls[1] = rebuild->tenant_id ? ' ' : 'n';
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
		rebuild->id = keys[row].id;
		rebuild->tenant_id = keys[row].tenant_id;
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
		note_head(&work, change);
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
	rebuild->tenant_id = NULL;
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

/* The projection, locked and as it is now: still the caller's? */
static Projection *
lock_and_get(const char *name)
{
	Projection *projection;

	(void) projection_lock(name, true);
	projection = projection_get(name);
	require_owner(projection->owner, "projection", name);
	return projection;
}

/*
 * Rebuilds in place.  Each step is a transaction, unless atomic.  The steps'
 * cursor lives in the memory context of the procedure.
 */
static void
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
		rebuild.projection = lock_and_get(name);
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
		rebuild.tenant_id = rebuild.tenant_id ? DatumGetTextPCopy(PointerGetDatum(rebuild.tenant_id)) : NULL;
		MemoryContextReset(context);
		if (!atomic)
		{
			SPI_commit();
			fault_point("rebuild-step-is-done");
			run_batch_between(name);
		}
	} while (!finished);
}

static void
rethrow(ErrorData *error)
{
	if (error)
		ReThrowError(error);
}

/* Empties what the projection keeps, and sends its checkpoint back to the start. */
static void
reset(const Projection *projection, bool own_transaction)
{
	Checkpoint	checkpoint;

	call_reset_handler(projection, own_transaction);
	delete_parked(projection);
	PushActiveSnapshot(GetTransactionSnapshot());
	checkpoint_load(&checkpoint, projection);
	PopActiveSnapshot();
	checkpoint_reset(projection, checkpoint.position);
}

static void
fire_deferred(const Projection *projection)
{
	Actor		actor;

	handler_actor(&actor, projection, true);
	handler_fire_deferred(&actor);
}

/* Resets a projection, and replays all in one transaction. */
static void
reset_and_replay(const char *name, bool atomic)
{
	Identity	before;
	const Projection *projection;
	int64		total;

	projection = lock_and_get(name);
	identity_assume(&before, dugong_owner());
	if (projection->is_inline)
		moment_take(name, NULL);
	total = last_position() - projection->start_position;
	if (!atomic)
	{
		Rebuild		rebuild;

		/* For those who watch. */
		rebuild_begin(&rebuild, projection, "replay", total);
		identity_restore(&before);
		SPI_commit();
		projection = lock_and_get(name);
		identity_assume(&before, dugong_owner());
		if (projection->is_inline)
			moment_take(name, NULL);
	}
	reset(projection, !atomic);
	if (projection->is_inline)
		replay_all(projection);
	else
	{
		show_progress(0);
		rethrow(run_projection(name, false, !atomic, show_progress));
	}
	if (!atomic)
		fire_deferred(projection);
	rebuild_end(projection);
	identity_restore(&before);
	if (!atomic)
		SPI_commit();
}

/* Resets a projection, and replays in many transactions. */
static void
replay_offline(const char *name)
{
	Identity	before;
	const Projection *projection;

	projection = lock_and_get(name);
	identity_assume(&before, dugong_owner());
	reset(projection, true);
	fire_deferred(projection);
	identity_restore(&before);
	SPI_commit();
	rethrow(run_projection(name, true, true, NULL));
	projection = lock_and_get(name);
	identity_assume(&before, dugong_owner());
	rebuild_end(projection);
	identity_restore(&before);
	SPI_commit();
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
	note_head(&work, change);
	work_prepare(&work, true);
	do_work_again(&work);
	forget_parked(&work);
	pop_snapshot(snapshot);
	table_close(log, NoLock);
}

/* Writes the row of one aggregate again. */
static void
rebuild_one(const char *name, const pg_uuid_t *id, const text *tenant_id, bool atomic)
{
	Identity	before;
	const Projection *projection;
	AggregateKey key;

	projection = lock_and_get(name);
	identity_assume(&before, dugong_owner());
	if (!projection_is_of_states(projection))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("projection \"%s\" gets events, so one aggregate cannot be rebuilt alone", name)));
	key.type_id = linitial_int(projection->type_ids);
	key.id = *id;
	key.tenant_id = unconstify(text *, tenant_id);
	if (!projection_sees(projection, tenant_id))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("owner of projection \"%s\" does not see tenant \"%s\"", name, text_to_cstring(tenant_id))));
	if (projection->is_inline)
		aggregate_lock(&key);
	rebuild_aggregate(projection, &key, !atomic);
	identity_restore(&before);
}

/* rebuild_projection(projection, aggregate_id, tenant_id, offline) */
Datum
dugong_rebuild_projection(PG_FUNCTION_ARGS)
{
	bool		atomic = call_is_atomic(fcinfo);
	char	   *name = arg_needed_name(fcinfo, 0, "projection");
	bool		offline = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	text	   *tenant_id = PG_ARGISNULL(1) ? NULL : tenant_argument(fcinfo, 2);
	const Projection *projection = projection_get(name);

	PreventCommandIfReadOnly("CALL dugong.rebuild_projection()");
	require_owner(projection->owner, "projection", name);
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot rebuild a projection in a REPEATABLE READ or SERIALIZABLE transaction"),
				 errdetail("Its snapshot may not see all that is to be handled.")));
	if (PG_ARGISNULL(1) && !projection_is_of_states(projection) && projection->reset_handler == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("projection \"%s\" has no reset_handler", name),
				 errdetail("It must be emptied before its events are handled again."),
				 errhint("Give it one with dugong.alter_projection().")));
	if (offline && (atomic || projection_is_of_states(projection) || projection->is_inline))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot replay projection \"%s\" offline", name),
				 errdetail("Only an async projection of events can be, outside of a transaction block.")));
	SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC);
	if (!atomic)
		SPI_commit();
	if (!PG_ARGISNULL(1))
		rebuild_one(pstrdup(name), PG_GETARG_UUID_P(1), tenant_id, atomic);
	else if (offline)
		replay_offline(pstrdup(name));
	else if (projection->reset_handler)
		reset_and_replay(pstrdup(name), atomic);
	else
		rebuild_in_place(pstrdup(name), atomic);
	SPI_finish();
	PG_RETURN_VOID();
}
