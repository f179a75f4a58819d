/*
 * replay.c
 *		Handling all that is in the log again.
 *
 * A projection of events, and one of handlers that bring a reset_handler, is
 * reset and replayed in one transaction, or, offline, in many: then its
 * checkpoint goes back to the start, and an error, a crash or the worker's
 * going on loses nothing.
 *
 * An inline projection has no worker: it is replayed while nobody appends.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "guc.h"
#include "miscadmin.h"
#include "projection/checkpoint.h"
#include "projection/moment.h"
#include "projection/next_aggregates.h"
#include "projection/parked.h"
#include "projection/rebuild.h"
#include "projection/rebuild_record.h"
#include "projection/replay.h"
#include "projection/run.h"
#include "projection/work.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "util/identity.h"
#include "util/names.h"
#include "util/progress.h"

#define CHUNK 500				/* aggregates that are built in one go */

static void
replay_states(const Projection *projection, Relation log, Snapshot snapshot)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dugong replay", ALLOCSET_DEFAULT_SIZES);
	AggregateCursor cursor = {0};
	int64		done = 0;
	int			count;

	do
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Work		work;

		work_begin(&work, projection, false, log, snapshot);
		count = work_collect_next(&work, CHUNK, &cursor);
		if (count > 0)
		{
			work_prepare(&work, true);
			work_do(&work);
		}
		MemoryContextSwitchTo(old);
		if (cursor.tenant_id)
			cursor.tenant_id = DatumGetTextPCopy(PointerGetDatum(cursor.tenant_id));
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
	parked_remove_all(projection->name);
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
void
replay_at_once(const char *name, bool atomic)
{
	Identity	before;
	const Projection *projection;
	int64		total;

	projection = rebuild_lock(name);
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
		projection = rebuild_lock(name);
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
void
replay_offline(const char *name)
{
	Identity	before;
	const Projection *projection;

	projection = rebuild_lock(name);
	identity_assume(&before, dugong_owner());
	reset(projection, true);
	fire_deferred(projection);
	identity_restore(&before);
	SPI_commit();
	rethrow(run_projection(name, true, true, NULL));
	projection = rebuild_lock(name);
	identity_assume(&before, dugong_owner());
	rebuild_end(projection);
	identity_restore(&before);
	SPI_commit();
}
