/*
 * worker.c
 *		The background worker that keeps a database's query models.
 *
 * Its life: take the worker's lock; listen to the channels of the aggregate
 * types that the projections read; then run batches until all have caught up,
 * sleep on the latch, and again when a notification came, or when
 * dugong.poll_interval has passed (for what cannot notify: COMMIT PREPARED).
 *
 * It ends by itself (exit code 0, which is final for the postmaster) when
 * - another worker has the lock, or the extension or database is gone;
 * - somebody waits for the database's lock: DROP DATABASE, and CREATE DATABASE
 *   with this one as the template;
 * - it has had nothing to do for IDLE_TIME: the next append starts it again.
 *
 * An error ends the batch, not the worker.  It tries again after a pause that
 * grows to MAX_PAUSE.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/table.h"
#include "access/xact.h"
#include "broker/listen.h"
#include "catalog/pg_database.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "common/relpath.h"
#include "guc.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "projection/batch.h"
#include "projection/candidates.h"
#include "projection/launch.h"
#include "projection/projection.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "store/home.h"
#include "store/log.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "util/private_lock.h"

/* All in ms. */
#define LOOK_INTERVAL 2000		/* does somebody wait for the database? */
#define IDLE_TIME 10000
#define MIN_PAUSE 100
#define MAX_PAUSE 10000

PGDLLEXPORT void dugong_worker_main(Datum arg);

/* What a round of batches came to. */
typedef enum Round
{
	ROUND_CAUGHT_UP,			/* and nothing was written */
	ROUND_WORKED,				/* something was done */
	ROUND_BUSY,					/* another session has a projection */
	ROUND_GONE					/* the extension is not there */
} Round;

/* Settings of the database or the configuration must not change how it works. */
static void
pin_settings(void)
{
	static const char *const pinned[][2] = {
		{"application_name", "dugong worker"},
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"transaction_timeout", "0"},	/* since 17 */
		{"lock_timeout", "1s"},
		{"session_replication_role", "origin"}
	};

	for (size_t i = 0; i < lengthof(pinned); i++)
		if (GetConfigOption(pinned[i][0], true, false) != NULL)
			SetConfigOption(pinned[i][0], pinned[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

static void
transaction_begin(const char *activity)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	pgstat_report_activity(STATE_RUNNING, activity);
}

static void
transaction_commit(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(true);
	pgstat_report_activity(STATE_IDLE, NULL);
}

/* Is this a database in which to work: existing, no template, open? */
static bool
database_is_ordinary(void)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(MyDatabaseId));
	bool		ordinary = false;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		ordinary = database->datallowconn && !database->datistemplate;
		ReleaseSysCache(tuple);
	}
	return ordinary;
}

/*
 * Warns of a trigger of the log that no longer fires always: ENABLE TRIGGER
 * ALL, which pg_restore --disable-triggers issues, makes it an ordinary one.
 */
static void
check_guards(void)
{
	static const char *const guards[] = {"event_assign", "event_mark", "refuse_change"};
	Relation	log = log_open(AccessShareLock);
	int			ntriggers = log->trigdesc ? log->trigdesc->numtriggers : 0;

	for (int i = 0; i < ntriggers; i++)
	{
		Trigger    *trigger = &log->trigdesc->triggers[i];

		for (size_t j = 0; j < lengthof(guards); j++)
			if (strcmp(trigger->tgname, guards[j]) == 0 &&
				trigger->tgenabled != TRIGGER_FIRES_ALWAYS)
				ereport(WARNING,
						(errmsg("trigger \"%s\" of the event log is not always enabled", guards[j]),
						 errhint("Execute ALTER TABLE dugong.event_log ENABLE ALWAYS TRIGGER %s.", guards[j])));
	}
	table_close(log, AccessShareLock);
}

/* Listens to every channel that a projection reads from. */
static void
listen_for_projections(void)
{
	ListCell   *cell;

	foreach(cell, projection_list())
		listen_to(((Projection *) lfirst(cell))->type->channel);
}

/* Returns false if there is nothing to do in this database. */
static bool
prepare_work(void)
{
	bool		proceed;

	transaction_begin("dugong: starting");
	proceed = dugong_max_workers > 0 && database_is_ordinary() &&
		OidIsValid(get_extension_oid("dugong", true)) && log_exists();
	if (proceed)
	{
		check_guards();
		listen_for_projections();
	}
	transaction_commit();
	return proceed;
}

/* The projections, kept in the given context; NIL if the worker may not work. */
static Round
list_work(List **projections, MemoryContext context)
{
	MemoryContext old;
	Round		round = ROUND_CAUGHT_UP;

	*projections = NIL;
	transaction_begin("dugong: looking for work");
	if (!OidIsValid(get_extension_oid("dugong", true)))
		round = ROUND_GONE;
	else if (home_is_here())
	{
		old = MemoryContextSwitchTo(context);
		*projections = projection_list();
		MemoryContextSwitchTo(old);
	}
	transaction_commit();
	return round;
}

/* Runs one projection until it has caught up. */
static Round
run_projection(const Projection *projection)
{
	Round		round = ROUND_CAUGHT_UP;
	BatchResult result;
	char		activity[NAMEDATALEN * 2];

	snprintf(activity, sizeof(activity), "dugong: projection %s", projection->name);
	do
	{
		CHECK_FOR_INTERRUPTS();
		transaction_begin(activity);
		result = batch_run(projection, false);
		if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
			round = ROUND_WORKED;
		transaction_commit();
	} while (result == BATCH_MORE);
	return result == BATCH_BUSY ? ROUND_BUSY : round;
}

static Round
run_projections(MemoryContext context)
{
	List	   *projections;
	ListCell   *cell;
	Round		round;

	MemoryContextReset(context);
	round = list_work(&projections, context);
	foreach(cell, projections)
	{
		Round		one = run_projection(lfirst(cell));

		round = Max(round, one);
	}
	return round;
}

/* As run_projections(); an error is logged, and counts as ROUND_BUSY. */
static Round
try_projections(MemoryContext context)
{
	MemoryContext outer = CurrentMemoryContext;
	volatile Round round = ROUND_BUSY;

	PG_TRY();
	{
		round = run_projections(context);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(outer);
		HOLD_INTERRUPTS();
		EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		pgstat_report_activity(STATE_IDLE, NULL);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	return round;
}

/*
 * Does a command have, or wait for, the database to itself?  Whoever connects
 * takes ROW EXCLUSIVE on it for a moment; this tries the same.
 */
static bool
database_is_wanted(void)
{
	LOCKTAG		tag;
	bool		wanted;

	SET_LOCKTAG_OBJECT(tag, InvalidOid, DatabaseRelationId, MyDatabaseId, 0);
	StartTransactionCommand();
	wanted = LockAcquire(&tag, RowExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL;
	CommitTransactionCommand();
	return wanted;
}

static bool
take_worker_lock(Oid database)
{
	LOCKTAG		tag = private_lock_tag(database, LOCK_WORKER, 0);

	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

/*
 * Gives the worker's lock up, if nothing can be left undone by that.
 *
 * An appender looks for the lock before it commits (launch.c).  One that still
 * saw it is either committed by now, and then the last round finds its events,
 * or it holds the log's lock.
 */
static bool
retire(Oid database, MemoryContext context)
{
	LOCKTAG		tag = private_lock_tag(database, LOCK_WORKER, 0);
	bool		appenders;

	LockRelease(&tag, ExclusiveLock, true);
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	appenders = !OidIsValid(get_extension_oid("dugong", true)) ? false : log_has_appenders();
	PopActiveSnapshot();
	CommitTransactionCommand();
	if (!appenders && try_projections(context) != ROUND_BUSY)
		return true;

	/* If somebody has launched another by now, that one does the rest. */
	return !take_worker_lock(database);
}

static void
wait_for_work(long timeout)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

static long
elapsed(TimestampTz since)
{
	return TimestampDifferenceMilliseconds(since, GetCurrentTimestamp());
}

/* Works until it is time to end. */
static void
work(Oid database)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "dugong worker",
												  ALLOCSET_DEFAULT_SIZES);
	TimestampTz last_work = GetCurrentTimestamp();
	TimestampTz last_poll = 0;
	long		pause = 0;		/* until the next try; 0 = none is due */

	for (;;)
	{
		/* A latch that was set meanwhile makes the wait below return at once. */
		bool		notified = listen_receive();

		if (notified || elapsed(last_poll) >= (pause > 0 ? pause : dugong_poll_interval))
		{
			Round		round = try_projections(context);

			last_poll = GetCurrentTimestamp();
			if (round == ROUND_GONE)
				return;
			if (round != ROUND_CAUGHT_UP)
				last_work = last_poll;
			pause = round != ROUND_BUSY ? 0 : Min(Max(pause * 2, MIN_PAUSE), MAX_PAUSE);
			continue;
		}
		if (database_is_wanted())
			return;
		if (pause == 0 && elapsed(last_work) >= IDLE_TIME)
		{
			if (retire(database, context))
				return;
			last_work = GetCurrentTimestamp();
		}
		wait_for_work(Min(pause > 0 ? pause : dugong_poll_interval, LOOK_INTERVAL));
	}
}

/* Is the database's directory there?  If not, to connect is a FATAL error. */
static bool
database_exists(Oid database, Oid tablespace)
{
	struct stat status;

	return stat(GetDatabasePath(database, tablespace), &status) == 0;
}

/*
 * Entry point.
 *
 * arg: the database's oid; bgw_extra holds its tablespace's.
 */
void
dugong_worker_main(Datum arg)
{
	Oid			database = DatumGetObjectId(arg);
	Oid			tablespace;

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	memcpy(&tablespace, MyBgworkerEntry->bgw_extra, sizeof(tablespace));
	if (!database_exists(database, tablespace) || !take_worker_lock(database))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);
	pin_settings();
	if (prepare_work())
		work(database);
	proc_exit(0);
}
