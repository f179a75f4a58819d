/*
 * wait.c
 *		CALL dugong.wait_for_projection(): read your own writes.
 *
 * It looks at the checkpoint again and again, each time under a new snapshot
 * that it gives up before it waits; so it holds nothing back, and hears of a
 * commit within milliseconds.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "broker/publish.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "errors.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "projection/checkpoint.h"
#include "projection/launch.h"
#include "projection/projection.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "store/log.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "tcop/pquery.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "util/args.h"
#include "util/identity.h"
#include "util/monotonic.h"
#include "util/pause.h"

PG_FUNCTION_INFO_V1(dugong_wait_for_projection);

/* ms */
#define MIN_WAIT 1
#define MAX_WAIT 10
#define CHECK_INTERVAL 20		/* is the worker waiting for us? is there one? */

/*
 * Has the projection handled every event up to the target that can be seen
 * now?  A target of 0 becomes the last event.
 */
static bool
has_arrived(const Projection *projection, int64 *target)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dugong wait", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Relation	log = log_open(AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	Checkpoint	checkpoint;
	Identity	before;
	bool		arrived;

	identity_assume(&before, dugong_owner());
	PushActiveSnapshot(snapshot);
	if (*target == 0)
		*target = log_last_position(log, snapshot);
	checkpoint_load(&checkpoint, projection);
	arrived = checkpoint.position >= *target && !checkpoint_holes_have_events(&checkpoint, *target, log, snapshot);
	PopActiveSnapshot();
	identity_restore(&before);
	UnregisterSnapshot(snapshot);
	table_close(log, AccessShareLock);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return arrived;
}

/* Does whoever runs the projection wait for a lock of this session? */
static bool
waits_for_us(const char *projection)
{
	LOCKTAG		tag = projection_lock_tag(projection);
	int			count;
	VirtualTransactionId *holders = GetLockConflicts(&tag, ShareLock, &count);
	bool		found = false;

	for (int i = 0; i < count && !found; i++)
	{
		PGPROC	   *proc = vxid_get_proc(holders[i]);
		Datum	   *pids;
		int			npids;

		if (proc == NULL || proc->pid == 0)
			continue;
		deconstruct_array(DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids, Int32GetDatum(proc->pid))),
						  INT4OID, sizeof(int32), true, TYPALIGN_INT, &pids, NULL, &npids);
		for (int j = 0; j < npids; j++)
			found = found || DatumGetInt32(pids[j]) == MyProcPid;
	}
	pfree(holders);
	return found;
}

pg_noreturn static void
report_own_transaction(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_DUGONG_OWN_TRANSACTION),
			 errmsg("would wait for the caller's own transaction"),
			 errdetail("%s", detail),
			 errhint("Commit before you wait.")));
}

/* Refuses to wait for what cannot come. */
static void
check_projection(const Projection *projection)
{
	if (projection->state != PROJECTION_RUNNING)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("projection \"%s\" is %s", projection->name,
						projection->state == PROJECTION_PAUSED ? "paused" : "stopped"),
				 errhint("Use dugong.resume_projection().")));
}

static void
check_blocking(const char *projection)
{
	if (waits_for_us(projection))
		report_own_transaction("The projection waits for a lock that this session holds.");
	launch_if_missing();
}

/* Waits until the projection has come to the target. */
static void
wait_for(const char *name, int64 timeout, int64 target)
{
	TimestampTz start = monotonic_now();
	long		last_check = -CHECK_INTERVAL;
	int			pause = MIN_WAIT;

	for (;;)
	{
		const Projection *projection = projection_get(name);
		long		elapsed;

		check_projection(projection);
		if (has_arrived(projection, &target))
			return;
		elapsed = TimestampDifferenceMilliseconds(start, monotonic_now());
		if (elapsed >= timeout)
			ereport(ERROR,
					(errcode(ERRCODE_DUGONG_TIMEOUT),
					 errmsg("projection \"%s\" has not come to position " INT64_FORMAT " in time", name, target),
					 errhint("See dugong.projection_status.")));
		if (elapsed - last_check >= CHECK_INTERVAL)
		{
			check_blocking(name);
			last_check = elapsed;
		}
		pause_for(Min(pause, Max(timeout - elapsed, 1)));
		pause = Min(pause * 2, MAX_WAIT);
	}
}

/* wait_for_projection(projection, timeout, target_position) */
Datum
dugong_wait_for_projection(PG_FUNCTION_ARGS)
{
	char	   *name = arg_needed_name(fcinfo, 0, "projection");
	int64		timeout = arg_needed_milliseconds(fcinfo, 1, "timeout");
	int64		target = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT64(2);
	bool		popped;

	if (projection_get(name)->kind == KIND_SUBSCRIPTION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a subscription", name),
				 errhint("Use dugong.wait_for_events().")));
	if (projection_get(name)->is_inline)
		PG_RETURN_VOID();
	if (publish_pending())
		report_own_transaction("It has appended events that are not committed.");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot wait for a projection in a REPEATABLE READ or SERIALIZABLE transaction"),
				 errdetail("Its snapshot would not see what it has waited for.")));
	popped = call_pop_snapshot(fcinfo);
	wait_for(name, timeout, target);
	if (popped)
		EnsurePortalSnapshotExists();
	PG_RETURN_VOID();
}
