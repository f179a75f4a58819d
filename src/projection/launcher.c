/*
 * launcher.c
 *		Starts the workers of all databases when the server starts.
 *
 * It exists if the library is in shared_preload_libraries.  It gives every
 * database a worker, one after the other, and ends; a worker ends at once
 * where the extension is not installed.  From then on appends start workers
 * (launch.c).  It is not connected to a database, so it sees shared catalogs
 * only and stands in nobody's way.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "guc.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "projection/launch.h"
#include "projection/launcher.h"
#include "projection/slots.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define RETRY_INTERVAL 1000		/* ms, while no worker slot is free */
#define MAX_TRIES 5				/* while there is no worker that could end */

typedef struct Database
{
	Oid			oid;
	Oid			tablespace;
} Database;

PGDLLEXPORT void dugong_launcher_main(Datum arg);

void
launcher_init(void)
{
	BackgroundWorker worker = {0};

	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	snprintf(worker.bgw_name, BGW_MAXLEN, "dugong launcher");
	snprintf(worker.bgw_type, BGW_MAXLEN, "dugong launcher");
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "dugong");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "dugong_launcher_main");
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = WORKER_RESTART_TIME;
	RegisterBackgroundWorker(&worker);
}

/* All databases that are open to connections and no templates. */
static List *
list_databases(void)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *databases = NIL;
	Relation	relation;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old = MemoryContextSwitchTo(context);

		if (form->datallowconn && !form->datistemplate)
		{
			Database   *database = palloc(sizeof(Database));

			database->oid = form->oid;
			database->tablespace = form->dattablespace;
			databases = lappend(databases, database);
		}
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	return databases;
}

/*
 * Tries until there is a slot, then until the worker has started.  False if
 * there will be none: it may be the launcher that has the only one.
 */
static bool
launch(const Database *database)
{
	BackgroundWorkerHandle *handle;
	int			tries = 0;
	pid_t		pid;

	while (!launch_worker(database->oid, database->tablespace, 0, true, &handle))
	{
		tries = slots_of_other_workers() > 0 ? 0 : tries + 1;
		if (tries > MAX_TRIES)
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 RETRY_INTERVAL, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	(void) WaitForBackgroundWorkerStartup(handle, &pid);
	return true;
}

void
dugong_launcher_main(Datum arg)
{
	MemoryContext context;
	ListCell   *cell;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (dugong_max_workers == 0)
		proc_exit(0);
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	context = AllocSetContextCreate(TopMemoryContext, "dugong launcher",
									ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(context);
	foreach(cell, list_databases())
		if (!launch(lfirst(cell)))
		{
			ereport(LOG,
					(errmsg("the dugong launcher has found no free background worker slot"),
					 errdetail("The first append in a database starts its worker."),
					 errhint("You might need to increase max_worker_processes.")));
			break;
		}
	proc_exit(0);
}
