/*
 * moment.c
 *		A moment without appends.
 *
 * Whoever holds SHARE ROW EXCLUSIVE on the log knows that no append is in
 * flight: all events are committed, or his own.  While that lock is waited
 * for, and while it is held, other appends queue behind it.  So it is tried for
 * HOLD_TIME at a time, with pauses in which they go on; what has to be done
 * under the lock counts, and is undone if it takes longer.  After MAX_TRIES
 * that is given up, and it is said who is in the way.
 *
 * Who needs more than that lock takes all of his in the same way: whoever would
 * deadlock with him goes on, and he tries again.
 *
 * What has to be done is done before each try, too, without the lock, so that
 * little is left: each time must take less than the one before, unless it is
 * short.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "projection/moment.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "store/log.h"
#include "utils/builtins.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "util/attempt.h"
#include "util/identity.h"
#include "util/monotonic.h"
#include "util/plan.h"

#define HOLD_TIME 80			/* ms; with the commit that follows no append waits for more than 100 */
#define PAUSE 200				/* ms between two tries */
#define MAX_TRIES 30
#define CATCH_UP_TIME 2000		/* ms; so long an action may always take without the lock */

/* An autovacuum of the log gives way when this has passed. */
#define DEADLOCK_TIMEOUT "20ms"

typedef struct Moment
{
	const char *projection;		/* NULL = for none */
	void		(*action) (const char *projection);
	void		(*lock) (void);
	bool		excludes_readers;	/* of the log, too */
	bool		locks;			/* in this try? */
	bool		late;			/* is it the action for which there was no time? */
} Moment;

static volatile sig_atomic_t is_over;

/* The time is over: as if somebody had cancelled what is being done. */
static void
at_timeout(void)
{
	is_over = true;
	QueryCancelPending = true;
	InterruptPending = true;
	SetLatch(MyLatch);
}

static TimeoutId
my_timeout(void)
{
	static TimeoutId id;
	static bool registered;

	if (!registered)
		id = RegisterTimeout(USER_TIMEOUT, at_timeout);
	registered = true;
	return id;
}

static void
lock_log(void)
{
	LockRelationOid(dugong_relid("event_log"), ShareRowExclusiveLock);
}

static void
take_locks(const Moment *moment)
{
	Identity	before;

	identity_assume_anew(&before, GetUserId(), 0, FIXED_SEARCH_PATH);
	identity_set("deadlock_timeout", DEADLOCK_TIMEOUT);
	moment->lock();
	identity_restore(&before);
}

static void
do_try(void *arg)
{
	Moment	   *moment = arg;

	moment->late = false;
	if (moment->locks)
		take_locks(moment);
	moment->late = true;
	if (moment->action)
		moment->action(moment->projection);
}

/* Did it fail because others were in the way? */
static bool
is_obstructed(const Moment *moment, const ErrorData *error)
{
	return (is_over && error->sqlerrcode == ERRCODE_QUERY_CANCELED) ||
		(moment->locks && !moment->late && error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED);
}

/* Does it in so many ms, 0 = however long it takes; false if that was too short, and nothing is done. */
static bool
try_within(Moment *moment, bool locks, int ms)
{
	ErrorData  *error;

	moment->locks = locks;
	is_over = false;
	if (ms > 0)
		enable_timeout_after(my_timeout(), ms);
	error = attempt(do_try, moment);
	disable_timeout(my_timeout(), false);
	if (is_over)
		QueryCancelPending = false;
	if (error && !is_obstructed(moment, error))
		ReThrowError(error);
	return error == NULL;
}

/* Who holds the log's lock, and has for some time: processes, and prepared transactions. */
static char *
blockers(const Moment *moment)
{
	static SavedPlan select_blockers = {
		.sql = "SELECT pg_catalog.string_agg(DISTINCT COALESCE('process ' OPERATOR(pg_catalog.||) l.pid::pg_catalog.text, "
		"'prepared transaction \"' OPERATOR(pg_catalog.||) p.gid OPERATOR(pg_catalog.||) '\"', 'a prepared transaction'), ', ') "
		"FROM pg_catalog.pg_locks l LEFT JOIN (pg_catalog.pg_locks x JOIN pg_catalog.pg_prepared_xacts p "
		"ON x.transactionid OPERATOR(pg_catalog.=) p.transaction AND x.pid IS NULL) "
		"ON x.virtualtransaction OPERATOR(pg_catalog.=) l.virtualtransaction AND l.pid IS NULL "
		"LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid OPERATOR(pg_catalog.=) l.pid "
		"WHERE l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.relation OPERATOR(pg_catalog.=) $1 AND l.granted "
		"AND l.database OPERATOR(pg_catalog.=) $2 "
		"AND ($3 OR l.mode OPERATOR(pg_catalog.<>) ALL ('{AccessShareLock,RowShareLock}'::pg_catalog.text[])) "
		"AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() "
		"AND COALESCE(a.xact_start, '-infinity') OPERATOR(pg_catalog.<) "
		"(pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) '1 second'::pg_catalog.interval)",
		.nargs = 3,
		.argtypes = {OIDOID, OIDOID, BOOLOID}
	};
	Datum		values[] = {
		ObjectIdGetDatum(dugong_relid("event_log")), ObjectIdGetDatum(MyDatabaseId), BoolGetDatum(moment->excludes_readers)
	};
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

pg_noreturn static void
report_blockers(const Moment *moment)
{
	char	   *names = blockers(moment);

	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 moment->projection ?
			 errmsg("could not find a moment without appends for projection \"%s\"", moment->projection) :
			 errmsg("could not find a moment in which nobody uses the log"),
			 moment->late ? errdetail("It does not catch up with what is appended.") :
			 names ? errdetail("The log's lock is held by %s.", names) : 0,
			 moment->late || !names ? errhint("Try again when less is appended.") :
			 errhint("Try again when those transactions have ended.")));
}

static void
take(Moment *moment)
{
	int			limit = 0;

	for (int i = 0; i < MAX_TRIES; i++)
	{
		TimestampTz start;

		if (i > 0)
			pg_usleep(PAUSE * 1000L);
		CHECK_FOR_INTERRUPTS();
		start = monotonic_now();
		if (moment->action && !try_within(moment, false, limit))
			break;
		limit = Max(CATCH_UP_TIME, TimestampDifferenceMilliseconds(start, monotonic_now()));
		if (try_within(moment, true, HOLD_TIME))
			return;
	}
	report_blockers(moment);
}

/*
 * Takes the log's lock, until the transaction ends, which should be soon.
 *
 * action: done under the lock; and before each try, so that little is left to
 * do then.  NULL = nothing.
 *
 * Errors: 55P03 if appenders do not end, or if the action takes too long.
 */
void
moment_take(const char *projection, void (*action) (const char *projection))
{
	Moment		moment = {.projection = projection,.action = action,.lock = lock_log};

	take(&moment);
}

/*
 * Takes locks that keep everybody from the log, and from more.
 *
 * Errors: 55P03 if others do not let go.
 */
void
moment_take_all(void (*lock) (void))
{
	Moment		moment = {.lock = lock,.excludes_readers = true};

	take(&moment);
}
