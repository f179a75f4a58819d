/*
 * launch.c
 *		Starting the background worker of a database.
 *
 * A transaction that has appended events looks, before it commits, whether the
 * worker holds its lock, and launches one after it has committed if not.  The
 * worker gives its lock up only if, after that, nobody holds the log's lock
 * and there is nothing new (worker.c): so either the appender sees that there
 * is no worker, or the worker sees the appender.
 *
 * Two may launch at once.  The second worker finds the lock taken and exits.
 */
#include "postgres.h"

#include "access/xact.h"
#include "broker/publish.h"
#include "commands/extension.h"
#include "fmgr.h"
#include "guc.h"
#include "miscadmin.h"
#include "projection/launch.h"
#include "store/home.h"
#include "utils/timestamp.h"
#include "util/private_lock.h"

PG_FUNCTION_INFO_V1(dugong_start_workers);

/* A session asks for a worker at most once in this time, ms. */
#define LAUNCH_INTERVAL 1000

static bool wanted;				/* by this transaction, when it commits */

/*
 * Registers the worker of a database; false if no slot is free.
 *
 * handle: as RegisterDynamicBackgroundWorker(); may be NULL.
 */
bool
launch_worker(Oid database, Oid tablespace, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker = {0};

	snprintf(worker.bgw_name, BGW_MAXLEN, "dugong worker for database %u", database);
	snprintf(worker.bgw_type, BGW_MAXLEN, "dugong worker");
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "dugong");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "dugong_worker_main");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = WORKER_RESTART_TIME;
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	memcpy(worker.bgw_extra, &tablespace, sizeof(tablespace));
	if (handle)
		worker.bgw_notify_pid = MyProcPid;	/* it is going to wait */
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/* Is it this transaction's turn to launch a worker? */
static bool
worker_is_missing(void)
{
	LOCKTAG		worker = private_lock_tag(MyDatabaseId, LOCK_WORKER, 0);
	LOCKTAG		launch = private_lock_tag(MyDatabaseId, LOCK_WORKER_LAUNCH, 0);

	if (dugong_max_workers == 0 || IsBinaryUpgrade)
		return false;
	if (LockAcquire(&worker, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	LockRelease(&worker, ShareLock, false);

	/* Kept to the end of the transaction, so that one of many launches. */
	return LockAcquire(&launch, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* Runs after the commit, where nothing may fail. */
static void
launch_if_due(void)
{
	static TimestampTz last_launch;
	TimestampTz now = GetCurrentTimestamp();

	if (!TimestampDifferenceExceeds(last_launch, now, LAUNCH_INTERVAL))
		return;
	last_launch = now;
	if (!launch_worker(MyDatabaseId, MyDatabaseTableSpace, NULL))
		ereport(LOG,
				(errmsg("could not start the dugong worker: no free background worker slot"),
				 errhint("You might need to increase max_worker_processes.")));
}

static void
at_transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (wanted || publish_pending())
				wanted = worker_is_missing();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
			if (wanted)
				launch_if_due();
			wanted = false;
			break;
		case XACT_EVENT_ABORT:
			wanted = false;
			break;
		default:
			break;
	}
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
	if (!creating_extension)
		home_claim();
	wanted = true;
	PG_RETURN_VOID();
}
