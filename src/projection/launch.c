/*
 * launch.c
 *		Starting the background worker of a database.
 *
 * A transaction that has appended events looks, before it commits, whether the
 * worker holds its lock, and after it has committed wakes it, or launches one.  The
 * worker gives its lock up only if, after that, nobody holds the log's lock
 * and there is nothing new (worker.c): so either the appender sees that there
 * is no worker, or the worker sees the appender.
 *
 * Two may launch at once.  The second worker finds the lock taken and exits.
 */
#include "postgres.h"

#include <signal.h>

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "broker/publish.h"
#include "broker/wake.h"
#include "catalog/namespace.h"
#include "commands/async.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "guc.h"
#include "miscadmin.h"
#include "compat.h"
#include "projection/launch.h"
#include "store/home.h"
#include "store/log.h"
#include "store/ownership.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "util/fault.h"
#include "util/identity.h"
#include "util/monotonic.h"
#include "util/plan.h"
#include "util/private_lock.h"

PG_FUNCTION_INFO_V1(dugong_start_workers);
PG_FUNCTION_INFO_V1(dugong_stop_workers);

/* A session asks for a worker at most once in this time, ms, and says as seldom that there is no slot. */
#define LAUNCH_INTERVAL 1000

/* ... unless no slot was free: those who have a worker ask for the next one as often as they append. */
#define RETRY_INTERVAL 50

static bool wanted;				/* by this transaction, when it commits */
static bool stop_wanted;		/* likewise */
static bool no_slot;			/* was free: the session's next transactions try again */
static bool appended;			/* has this transaction, which commits, appended events? */

/* Workers that are to be terminated when this transaction has committed. */
static pid_t busy_workers[MAX_WORKERS];
static int	nbusy_workers;

/*
 * Registers a worker of a database; false if no slot is free.
 *
 * number: 0 = the first, which starts the others.
 * waits: is the caller to be woken when it has started?
 * handle: as RegisterDynamicBackgroundWorker(); may be NULL.
 */
bool
launch_worker(Oid database, Oid tablespace, int number, bool waits, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {0};
	WorkerIdentity identity = {tablespace, number};

	snprintf(worker.bgw_name, BGW_MAXLEN, "dugong worker %d for database %u", number, database);
	snprintf(worker.bgw_type, BGW_MAXLEN, "dugong worker");
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "dugong");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "dugong_worker_main");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = WORKER_RESTART_TIME;
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	memcpy(worker.bgw_extra, &identity, sizeof(identity));
	if (waits)
		worker.bgw_notify_pid = MyProcPid;
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/* Has somebody stopped the workers?  As a latest snapshot sees it. */
bool
workers_are_stopped(void)
{
	Oid			relid = get_relname_relid("stopped_workers", get_namespace_oid("dugong", true));
	Relation	table;
	Snapshot	snapshot;
	TableScanDesc scan;
	bool		stopped;

	if (!OidIsValid(relid))
		return false;
	table = table_open(relid, AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = table_beginscan(table, snapshot, 0, NULL);
	stopped = heap_getnext(scan, ForwardScanDirection) != NULL;
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(table, AccessShareLock);
	return stopped;
}

/* Is it this transaction's turn to launch a worker? */
static bool
worker_is_missing(void)
{
	LOCKTAG		launch = private_lock_tag(MyDatabaseId, LOCK_WORKER_LAUNCH, 0);

	if (dugong_max_workers == 0 || IsBinaryUpgrade)
		return false;
	if (wake_prepare() || workers_are_stopped())
		return false;

	/* Kept to the end of the transaction, so that one of many launches. */
	return LockAcquire(&launch, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* Without a slot it tries again soon, and tells of it now and then. */
static void
launch(BackgroundWorkerHandle **handle, TimestampTz now)
{
	static TimestampTz last_complaint;

	no_slot = !launch_worker(MyDatabaseId, MyDatabaseTableSpace, 0, false, handle);
	if (!no_slot || !TimestampDifferenceExceeds(last_complaint, now, LAUNCH_INTERVAL))
		return;
	last_complaint = now;
	ereport(LOG,
			(errmsg("could not start the dugong worker: no free background worker slot"),
			 errhint("You might need to increase max_worker_processes.")));
}

/*
 * Runs after the commit, where an error would be a PANIC: to launch takes some
 * memory, and if there is none, the next append tries again.  A worker that
 * this session has launched is given a moment to take its lock, unless it has
 * ended.
 */
static void
launch_if_due(void)
{
	static TimestampTz last_launch;
	static BackgroundWorkerHandle *last_worker; /* in TopMemoryContext */
	TimestampTz now = monotonic_now();
	MemoryContext old = CurrentMemoryContext;
	uint32		holdoff = InterruptHoldoffCount;
	pid_t		pid;

	if (!TimestampDifferenceExceeds(last_launch, now, no_slot ? RETRY_INTERVAL : LAUNCH_INTERVAL) &&
		!(last_worker && GetBackgroundWorkerPid(last_worker, &pid) == BGWH_STOPPED))
		return;
	last_launch = now;
	if (last_worker)
		pfree(last_worker);
	last_worker = NULL;
	PG_TRY();
	{
		MemoryContextSwitchTo(TopMemoryContext);
		launch(&last_worker, now);
	}
	PG_CATCH();
	{
		/* The commit goes on as if there had been no error. */
		InterruptHoldoffCount = holdoff;
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
}

/* Finds the workers that are in a transaction: the others are only to be woken. */
static void
find_busy_workers(void)
{
	nbusy_workers = 0;
	for (int number = 0; number < MAX_WORKERS; number++)
	{
		LOCKTAG		tag = private_lock_tag(MyDatabaseId, LOCK_WORKER, number);
		int			count;
		VirtualTransactionId *holders = GetLockConflicts(&tag, ShareLock, &count);
		PGPROC	   *proc = count > 0 ? vxid_get_proc(holders[0]) : NULL;

		if (proc != NULL && proc->pid != 0)
			busy_workers[nbusy_workers++] = proc->pid;
		pfree(holders);
	}
}

static void
at_transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (stop_wanted)
				find_busy_workers();
			appended = publish_pending();
			if (wanted || appended || no_slot)
				wanted = worker_is_missing();
			no_slot = no_slot && wanted;
			if (appended)
				fault_point("append-commits");
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			if (appended && event == XACT_EVENT_COMMIT)
			{
				fault_point_without_wait("append-committed");
				wake_workers();
			}
			if (wanted)
				launch_if_due();
			for (int i = 0; stop_wanted && i < nbusy_workers; i++)
				kill(busy_workers[i], SIGTERM);
			wanted = stop_wanted = appended = false;
			break;
		case XACT_EVENT_ABORT:
			wanted = stop_wanted = appended = false;
			break;
		default:
			break;
	}
}

/* For who waits for a worker's work: launches one now, if there is none. */
void
launch_if_missing(void)
{
	if (dugong_max_workers > 0 && !RecoveryInProgress() && !private_lock_is_held(LOCK_WORKER, 0))
		launch_if_due();
}

/* Has the worker started when the transaction commits, and woken if it sleeps. */
void
launch_want_worker(void)
{
	wanted = true;
	Async_Notify(WORKER_CHANNEL, "");
}

void
launch_init(void)
{
	RegisterXactCallback(at_transaction_event, NULL);
}

/*
 * dugong.start_workers(): declares that the log may be consumed here, as after
 * a restore, and starts the worker when the transaction commits.  CREATE
 * EXTENSION calls it too, and may be the beginning of a restore.
 */
Datum
dugong_start_workers(PG_FUNCTION_ARGS)
{
	static SavedPlan delete_stop = {.sql = "DELETE FROM dugong.stopped_workers"};

	if (!creating_extension)
	{
		home_claim();
		(void) execute_as_owner(&delete_stop, NULL, NULL);
	}
	launch_want_worker();
	PG_RETURN_VOID();
}

/*
 * dugong.stop_workers(): no worker runs from the commit on, until
 * start_workers().  Idle ones are woken, and see it; those in the middle of
 * something are terminated.
 */
Datum
dugong_stop_workers(PG_FUNCTION_ARGS)
{
	static SavedPlan insert_stop = {
		.sql = "INSERT INTO dugong.stopped_workers (stopped_at) SELECT pg_catalog.clock_timestamp() "
		"WHERE NOT EXISTS (SELECT 1 FROM dugong.stopped_workers)"
	};

	(void) execute_as_owner(&insert_stop, NULL, NULL);
	Async_Notify(WORKER_CHANNEL, "");
	stop_wanted = true;
	PG_RETURN_VOID();
}
