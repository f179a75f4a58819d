/*
 * mode.c
 *		Changing a projection from async to inline, and back.
 *
 * Both ways there must be a moment at which no append is in flight: an append
 * looks for inline projections after it has taken the log's lock, so whoever
 * holds SHARE ROW EXCLUSIVE on the log knows that all events are either
 * committed, and those before him by the old mode, or will follow the new one.
 *
 * While that lock is waited for, other appends queue behind it.  So it is tried
 * for LOCK_TIME at a time, with pauses in which they go on; after MAX_TRIES it
 * gives up and names who is in the way.
 *
 * To inline: the projection catches up first without the lock, then with it,
 * when little is left.  To async: the checkpoint is set to the last event; all
 * up to there is handled, and no hole below can fill any more.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "miscadmin.h"
#include "projection/checkpoint.h"
#include "projection/mode.h"
#include "projection/parked.h"
#include "projection/run.h"
#include "storage/lmgr.h"
#include "store/log.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "util/attempt.h"
#include "util/identity.h"
#include "util/plan.h"

#define LOCK_TIME "100ms"
#define PAUSE 200				/* ms between two tries */
#define MAX_TRIES 30

static void
lock_log(void *arg)
{
	Identity	before;

	identity_assume_anew(&before, GetUserId(), 0, FIXED_SEARCH_PATH);
	identity_set("lock_timeout", LOCK_TIME);
	LockRelationOid(dugong_relid("event_log"), ShareRowExclusiveLock);
	identity_restore(&before);
}

/* Who holds the log's lock: processes, and prepared transactions. */
static char *
blockers(void)
{
	static SavedPlan select_blockers = {
		.sql = "SELECT pg_catalog.string_agg(DISTINCT COALESCE('process ' OPERATOR(pg_catalog.||) l.pid::pg_catalog.text, "
		"'prepared transaction \"' OPERATOR(pg_catalog.||) p.gid OPERATOR(pg_catalog.||) '\"', 'a prepared transaction'), ', ') "
		"FROM pg_catalog.pg_locks l LEFT JOIN (pg_catalog.pg_locks x JOIN pg_catalog.pg_prepared_xacts p "
		"ON x.transactionid OPERATOR(pg_catalog.=) p.transaction AND x.pid IS NULL) "
		"ON x.virtualtransaction OPERATOR(pg_catalog.=) l.virtualtransaction AND l.pid IS NULL "
		"WHERE l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.relation OPERATOR(pg_catalog.=) $1 AND l.granted "
		"AND l.database OPERATOR(pg_catalog.=) $2 "
		"AND l.mode OPERATOR(pg_catalog.<>) ALL ('{AccessShareLock,RowShareLock}'::pg_catalog.text[]) "
		"AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()",
		.nargs = 2,
		.argtypes = {OIDOID, OIDOID}
	};
	Datum		values[] = {ObjectIdGetDatum(dugong_relid("event_log")), ObjectIdGetDatum(MyDatabaseId)};
	MemoryContext context = CurrentMemoryContext;
	char	   *names = NULL;
	bool		isnull;
	Datum		value;

	SPI_connect();
	plan_execute(&select_blockers, values, NULL, false);
	value = plan_result(0, 1, &isnull);
	if (!isnull)
		names = MemoryContextStrdup(context, TextDatumGetCString(value));
	SPI_finish();
	return names;
}

/* Takes the log's lock without holding appends up for longer than LOCK_TIME at a time. */
static void
lock_log_patiently(const char *projection)
{
	char	   *names = NULL;

	for (int i = 0; i < MAX_TRIES; i++)
	{
		ErrorData  *error = attempt(lock_log, NULL);

		if (error == NULL)
			return;
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			ReThrowError(error);
		names = blockers();
		CHECK_FOR_INTERRUPTS();
		pg_usleep(PAUSE * 1000L);
	}
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("could not change the mode of projection \"%s\": appends are in flight", projection),
			 names ? errdetail("The log's lock is held by %s.", names) : 0,
			 errhint("Try again when those transactions have ended.")));
}

static void
check(const Projection *projection)
{
	if (projection->kind == KIND_SUBSCRIPTION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a subscription", projection->name)));
	if (projection->state != PROJECTION_RUNNING)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("projection \"%s\" is not running", projection->name),
				 errhint("Use dugong.resume_projection().")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot change the mode of a projection in a REPEATABLE READ or SERIALIZABLE transaction"),
				 errdetail("Its snapshot may not see all that is to be handled.")));
}

static void
check_nothing_parked(const Projection *projection)
{
	if (parked_any(projection->name))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("projection \"%s\" has set aggregates aside", projection->name),
				 errdetail("An inline projection cannot handle them later."),
				 errhint("See dugong.dead_letters.")));
}

static void
set_mode(const char *name, const char *mode)
{
	static SavedPlan update_mode = {
		.sql = "UPDATE dugong.projections SET mode = $2 WHERE name OPERATOR(pg_catalog.=) $1",
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID}
	};
	Datum		values[] = {CStringGetTextDatum(name), CStringGetTextDatum(mode)};

	SPI_connect();
	plan_execute(&update_mode, values, NULL, false);
	SPI_finish();
	CommandCounterIncrement();
}

static void
change_to_async(const Projection *projection)
{
	Relation	log;
	Snapshot	snapshot;

	lock_log_patiently(projection->name);
	log = log_open(AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	checkpoint_place(projection, log_last_position(log, snapshot));
	UnregisterSnapshot(snapshot);
	table_close(log, NoLock);
	set_mode(projection->name, "async");
}

static void
change_to_inline(const Projection *projection)
{
	check_nothing_parked(projection);
	run_in_transaction(projection->name);
	lock_log_patiently(projection->name);
	run_in_transaction(projection->name);
	check_nothing_parked(projection);
	set_mode(projection->name, "inline");
}

/*
 * Changes the mode, in the current transaction.  The caller holds the
 * projection's lock, and commits soon: appends wait until then.
 *
 * Errors: 55P03 if appenders do not end; 55000, 25001, 42809 as said; and
 * whatever a handler raises while it catches up.
 */
void
mode_change(const Projection *projection, bool to_inline)
{
	Identity	before;

	if (projection->is_inline == to_inline)
		return;
	check(projection);
	identity_assume(&before, dugong_owner());
	if (to_inline)
		change_to_inline(projection);
	else
		change_to_async(projection);
	identity_restore(&before);
}
