/*
 * worker.c
 *		The background workers that keep a database's query models.
 *
 * A worker's life: take its lock; then run batches until all have caught up,
 * sleep on the latch, and again when an appender has set it, when a notification
 * came (from the functions that change projections), or when
 * dugong.poll_interval has passed (for what does not wake: COMMIT PREPARED).
 *
 * Worker 0 starts the others, up to dugong.max_workers, as far as there are
 * projections for them.  Each has its share of the projections; but when
 * another is not there, or has been in one transaction for SLOW_TIME, the rest
 * takes over its share.  A projection's lock sees to it that only one works.
 *
 * A worker ends by itself (exit code 0, which is final for the postmaster) when
 * - another one has its lock, or the extension or database is gone;
 * - dugong.stop_workers() was called, or there is no share for it any more;
 * - it has had nothing to do for IDLE_TIME: the next append starts it again.
 *   While there are more databases than slots, it ends as soon as it has caught
 *   up, if it has had its turn.
 *
 * When somebody waits for the database's lock (DROP DATABASE, and CREATE DATABASE
 * with this one as the template) it ends with exit code 1: the postmaster starts
 * it again after WORKER_RESTART_TIME, and to connect it waits for that command.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "access/xact.h"
#include "broker/listen.h"
#include "broker/wake.h"
#include "catalog/pg_database.h"
#include "commands/extension.h"
#include "compat.h"
#include "common/relpath.h"
#include "guc.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "projection/announce.h"
#include "projection/candidates.h"
#include "projection/launch.h"
#include "projection/parked.h"
#include "projection/projection.h"
#include "projection/slots.h"
#include "projection/task.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "store/guard.h"
#include "store/home.h"
#include "store/horizon.h"
#include "store/log.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "util/activity.h"
#include "util/fault.h"
#include "util/monotonic.h"
#include "util/private_lock.h"

/* All in ms. */
#define LOOK_INTERVAL 2000		/* does somebody wait for the database? */
#define IDLE_TIME 10000
#define SLOW_TIME 100			/* in one transaction: others take over */
#define TURN 500				/* while slots are scarce, twice */

/*
 * After a round in which something was done, us.  A round costs more than an
 * event in it: under load the next one finds several, and appenders have the
 * processor meanwhile.  The first event after a pause is not delayed.
 */
#define REST 1000

PGDLLEXPORT void dugong_worker_main(Datum arg);

/* What was seen of another worker. */
typedef struct Colleague
{
	VirtualTransactionId vxid;	/* what it was in */
	TimestampTz since;
} Colleague;

static WorkerIdentity me;
static Colleague colleagues[MAX_WORKERS];
/* These, and what is due in work(), are times of monotonic_now(). */
static TimestampTz next_look;	/* when somebody else's share may be due */
static TimestampTz next_retry;	/* when something that was set aside is due */
static int	scarce_looks;		/* in a row that have found slots to be scarce */

/* What was in flight before the last poll; see nothing_new(). */
static int64 last_drawn;
static Candidates in_flight;
static MemoryContext flight_context;

/* Who was in flight when the worker's marker was put up, and may not have seen it. */
static Candidates unaware;

/*
 * Settings of the database or the configuration must not change how it works.
 * It does not wait for the disk: what a crash takes of its work it takes with
 * the checkpoint, and it is done again.
 */
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
		{"exit_on_error", "off"},
		{"session_replication_role", "origin"},
		{"synchronous_commit", "off"}
	};

	for (size_t i = 0; i < lengthof(pinned); i++)
		if (GetConfigOption(pinned[i][0], true, false) != NULL)
			SetConfigOption(pinned[i][0], pinned[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

/*
 * Nor who it is: ALTER DATABASE ... SET role is for those who log in.  Inside
 * a transaction.
 */
static void
pin_identity(void)
{
	SetConfigOption("session_authorization", GetUserNameFromId(GetAuthenticatedUserId(), false), PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("role", "none", PGC_SUSET, PGC_S_OVERRIDE);
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

/* Returns false if there is nothing to do in this database. */
static bool
prepare_work(void)
{
	bool		proceed;

	activity_begin("dugong: starting");
	pin_identity();
	proceed = dugong_max_workers > me.number && database_is_ordinary() &&
		OidIsValid(get_extension_oid("dugong", true)) && log_exists() && !workers_are_stopped();
	if (proceed)
		listen_to(WORKER_CHANNEL);
	activity_commit();
	return proceed;
}

/*
 * Is another worker not there, or in one transaction for long?  If it is in
 * one for less, it is looked at again.
 */
static bool
needs_help(int number)
{
	Colleague  *colleague = &colleagues[number];
	LOCKTAG		tag = private_lock_tag(MyDatabaseId, LOCK_WORKER, number);
	TimestampTz now = monotonic_now();
	VirtualTransactionId *holders;
	VirtualTransactionId vxid;
	int			count;

	if (!private_lock_is_held(LOCK_WORKER, number))
		return true;
	holders = GetLockConflicts(&tag, ShareLock, &count);
	SetInvalidVirtualTransactionId(vxid);
	if (count > 0)
		vxid = holders[0];
	pfree(holders);
	if (!VirtualTransactionIdIsValid(vxid))
		return false;
	if (!VirtualTransactionIdEquals(vxid, colleague->vxid))
	{
		colleague->vxid = vxid;
		colleague->since = now;
	}
	if (TimestampDifferenceExceeds(colleague->since, now, SLOW_TIME))
		return true;
	next_look = Min(next_look, TimestampTzPlusMilliseconds(colleague->since, SLOW_TIME + 1));
	return false;
}

/* The tasks that this worker looks after in this round, in the given context. */
static List *
choose_tasks(List *projections, MemoryContext context)
{
	List	   *chosen = NIL;
	int			nworkers = Min(list_length(projections), dugong_max_workers);
	int8		helps[MAX_WORKERS] = {0};	/* 1 = needs help, -1 = does not */
	ListCell   *cell;
	MemoryContext old;

	foreach(cell, projections)
	{
		int			number = foreach_current_index(cell) % Max(nworkers, 1);

		if (number != me.number && helps[number] == 0)
			helps[number] = needs_help(number) ? 1 : -1;
		if (number != me.number && helps[number] < 0)
			continue;
		old = MemoryContextSwitchTo(context);
		chosen = lappend(chosen, task_get(lfirst(cell)));
		MemoryContextSwitchTo(old);
	}
	return chosen;
}

/* Worker 0 starts those that have a share. */
static void
launch_others(int nprojections)
{
	if (me.number != 0)
		return;
	for (int number = 1; number < Min(nprojections, dugong_max_workers); number++)
		if (!private_lock_is_held(LOCK_WORKER, number))
			(void) launch_worker(MyDatabaseId, me.tablespace, number, false, NULL);
}

static List *
running_projections(void)
{
	List	   *running = NIL;
	ListCell   *cell;

	foreach(cell, projection_list())
	{
		Projection *projection = lfirst(cell);

		if (projection_is_run(projection))
			running = lappend(running, projection);
	}
	return running;
}

/* Notes who may commit events that a poll from now on does not see. */
static void
note_flight(void)
{
	MemoryContext old;

	if (flight_context == NULL)
		flight_context = AllocSetContextCreate(TopMemoryContext, "dugong flight", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(flight_context);
	old = MemoryContextSwitchTo(flight_context);
	last_drawn = horizon_last_drawn();
	candidates_list(&in_flight);
	MemoryContextSwitchTo(old);
}

/*
 * May the worker sleep after a poll that has found nothing?
 *
 * An appender sets the worker's latch after its commit is visible, but
 * whatever waits within a poll may reset the latch.  So the latch is reset
 * once more, and then this is asked.  Claim: an event that the poll did not see
 * either makes this false, or its appender sets the latch from now on.  It has
 * a position p.  If p was drawn before last_drawn was read, its transaction
 * was in flight when they were listed (or the poll saw it); either it still
 * is, or it has ended, and that is seen here.  If p was drawn later, but
 * before the look below, then that is seen here.  Later than that, the commit
 * comes after the reset.
 */
static bool
nothing_new(void)
{
	bool		nothing;

	activity_begin("dugong: going to sleep");
	nothing = !OidIsValid(get_extension_oid("dugong", true)) || !log_exists() ||
		horizon_last_drawn() == last_drawn;
	activity_commit();
	for (int i = 0; nothing && i < in_flight.count; i++)
		nothing = candidate_is_running(in_flight.xids[i]);
	fault_point_without_wait("worker-has-looked");
	return nothing;
}

/* When something that was set aside is due, by monotonic_now(). */
static TimestampTz
next_parked_retry(void)
{
	TimestampTz at = parked_next_retry();

	return at == DT_NOEND ? DT_NOEND : monotonic_now() + Max(at - GetCurrentTimestamp(), 0);
}

/* Finds out what there is to do; the tasks are in the given context. */
static Round
list_work(List **chosen, MemoryContext context)
{
	Round		round = ROUND_CAUGHT_UP;

	*chosen = NIL;
	activity_begin("dugong: looking for work");
	next_look = next_retry = DT_NOEND;
	if (!OidIsValid(get_extension_oid("dugong", true)) || workers_are_stopped())
		round = ROUND_GONE;
	else
	{
		List	   *projections = NIL;

		note_flight();
		if (home_is_here())
			projections = running_projections();

		if (me.number > 0 && me.number >= Min(list_length(projections), dugong_max_workers))
			round = ROUND_GONE;
		else
		{
			listen_to(WORKER_CHANNEL);
			if (me.number == 0)
				guard_check();
			launch_others(list_length(projections));
			*chosen = choose_tasks(projections, context);
			next_retry = next_parked_retry();
		}
	}
	activity_commit();
	return round;
}

/* Notifies applications.  Worker 0 does; its first call says that there may be something. */
static void
run_announcements(void)
{
	static bool begun;
	bool		more = true;

	if (me.number != 0)
		return;
	while (more)
	{
		CHECK_FOR_INTERRUPTS();
		activity_begin("dugong: notifying");
		if (begun)
			more = announce();
		else
			announce_begin();
		activity_commit();
		announce_committed();
		begun = true;
	}
}

/* A round, in the given context. */
static Round
run_round(MemoryContext context)
{
	MemoryContext outer = CurrentMemoryContext;
	Round		round;
	List	   *chosen;

	MemoryContextReset(context);
	round = list_work(&chosen, context);
	MemoryContextSwitchTo(context);
	if (round != ROUND_GONE)
	{
		run_announcements();
		round = tasks_run(chosen);
		if (round != ROUND_WANTED && next_retry <= monotonic_now())
			tasks_retry(chosen);
	}
	MemoryContextSwitchTo(outer);
	return round;
}

/*
 * Takes the worker's lock; false if another worker has it.  Who looks for a
 * worker has it for a moment, too.
 */
static bool
become_worker(Oid database)
{
	LOCKTAG		tag = private_lock_tag(database, LOCK_WORKER, me.number);

	while (LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
	{
		if (private_lock_has_owner(&tag))
			return false;
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000L);
	}
	return true;
}

/* Lets appenders find the worker; those in flight may have looked before. */
static void
show_marker(void)
{
	MemoryContext old;

	fault_point_without_wait("worker-has-no-marker");
	wake_register(me.number);
	activity_begin("dugong: starting");
	old = MemoryContextSwitchTo(TopMemoryContext);
	if (OidIsValid(get_extension_oid("dugong", true)) && log_exists())
		candidates_list(&unaware);
	MemoryContextSwitchTo(old);
	activity_commit();
}

/*
 * Somebody else's code may have given up all session locks.  False if another
 * worker has come for it: that one does the rest.
 */
static bool
keep_worker_lock(Oid database)
{
	LOCKTAG		tag = private_lock_tag(database, LOCK_WORKER, me.number);

	if (lock_held_by_me(&tag, ExclusiveLock))
		return true;
	if (!become_worker(database))
		return false;
	show_marker();
	return true;
}

/*
 * Gives the worker's lock up, and the marker, if nothing can be left undone by
 * that.
 *
 * An appender looks for them before it commits (launch.c, wake.c).  One that
 * still saw them is either committed by now, and then the last round finds its
 * events, or it holds the log's lock.
 */
static bool
retire(Oid database, MemoryContext context)
{
	LOCKTAG		tag = private_lock_tag(database, LOCK_WORKER, me.number);
	bool		appenders;

	fault_point_without_wait("worker-is-idle");
	wake_unregister(me.number);
	LockRelease(&tag, ExclusiveLock, true);
	fault_point_without_wait("worker-has-given-up");
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	appenders = !OidIsValid(get_extension_oid("dugong", true)) ? false : log_has_appenders();
	PopActiveSnapshot();
	CommitTransactionCommand();
	if (!appenders && run_round(context) < ROUND_BUSY && next_retry == DT_NOEND)
	{
		fault_point_without_wait("worker-ends");
		return true;
	}

	/* If somebody has launched another by now, that one does the rest. */
	return !keep_worker_lock(database);
}

/* Returns whether somebody has woken the worker. */
static bool
wait_for_work(long timeout)
{
	int			events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	/* As between the commands of a session, there is nothing to cancel. */
	QueryCancelPending = false;
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	return (events & WL_LATCH_SET) != 0;
}

static long
elapsed(TimestampTz since)
{
	return TimestampDifferenceMilliseconds(since, monotonic_now());
}

/*
 * Has the worker been here for long enough, for one whose slot others need?
 * Asked when it has caught up.
 */
static bool
turn_is_over(void)
{
	static TimestampTz last_look;

	if (last_look == 0)
		last_look = monotonic_now();
	if (elapsed(last_look) < TURN)
		return false;
	last_look = monotonic_now();
	scarce_looks = slots_are_scarce() ? scarce_looks + 1 : 0;
	return scarce_looks >= 2;
}

/* Has the worker nothing to do, and nothing to come back to, for long enough to end? */
static bool
is_idle(TimestampTz last_work)
{
	return tasks_next_try(monotonic_now()) == DT_NOEND && next_retry == DT_NOEND &&
		(elapsed(last_work) >= IDLE_TIME || turn_is_over());
}

/* The earliest time at which something is due that nobody will tell us of. */
static TimestampTz
next_due(TimestampTz last_poll)
{
	TimestampTz soon = TimestampTzPlusMilliseconds(last_poll, TASK_MIN_PAUSE);
	TimestampTz due = Min(next_look, Max(next_retry, soon));

	due = Min(due, TimestampTzPlusMilliseconds(last_poll, dugong_poll_interval));
	due = Min(due, tasks_next_try(last_poll));
	return due;
}

/* May one who does not know of the marker have committed since the last poll, or do so? */
static bool
is_unaware_appender_left(void)
{
	bool		left = unaware.count > 0;
	int			running = 0;

	for (int i = 0; i < unaware.count; i++)
		if (candidate_is_running(unaware.xids[i]))
			unaware.xids[running++] = unaware.xids[i];
	unaware.count = running;
	return left;
}

/* Where a worker is between two steps. */
typedef struct Course
{
	Oid			database;
	MemoryContext context;
	TimestampTz last_work;
	TimestampTz last_poll;
	TimestampTz due;			/* the next poll */
	long		pause;			/* ms, after an error outside of a batch */
	bool		busy;
	bool		woken;
	bool		worked;
	Round		round;			/* ROUND_GONE or ROUND_WANTED: it is over */
} Course;

/* A round, and whether it may sleep after it. */
static void
poll_log(Course *course)
{
	Round		round;

	if (course->worked)
		pg_usleep(REST);
	round = run_round(course->context);
	course->worked = round == ROUND_WORKED;

	course->last_poll = monotonic_now();
	if (round >= ROUND_GONE)
	{
		course->round = round;
		return;
	}
	if (round != ROUND_CAUGHT_UP)
		course->last_work = course->last_poll;
	course->busy = round == ROUND_BUSY;
	course->due = next_due(course->last_poll);
	/* What it has set aside in this round it did not know before. */
	if (course->busy || round == ROUND_WORKED)
		course->due = Min(course->due, TimestampTzPlusMilliseconds(course->last_poll, TASK_MIN_PAUSE));
	if (!keep_worker_lock(course->database))
	{
		course->round = ROUND_GONE;
		return;
	}
	if (is_unaware_appender_left())
		course->due = Min(course->due, TimestampTzPlusMilliseconds(course->last_poll, TASK_MIN_PAUSE));
	fault_point_without_wait("worker-has-polled");
	ResetLatch(MyLatch);
	course->woken = (round != ROUND_CAUGHT_UP || !nothing_new()) && !course->busy;
	course->pause = 0;
}

/* Polls, ends, or waits, as the time has come to. */
static void
step(Course *course)
{
	/* A latch that is set meanwhile makes the wait below return at once. */
	bool		notified = listen_receive();

	/* After an error nobody calls it before its time. */
	if ((course->pause == 0 && (notified || course->woken)) || course->due <= monotonic_now())
		poll_log(course);
	else if (database_is_wanted())
		course->round = ROUND_WANTED;
	else if (!course->busy && is_idle(course->last_work))
	{
		if (retire(course->database, course->context))
			course->round = ROUND_GONE;
		/* Who has looked in the meantime does not know of it. */
		course->last_work = monotonic_now();
		course->woken = true;
	}
	else
		course->woken = wait_for_work(Min(TimestampDifferenceMilliseconds(monotonic_now(), course->due) + 1,
										  scarce_looks > 0 ? TURN : LOOK_INTERVAL));
}

/*
 * A step.  An error outside of a batch is logged, and ends the step, not the
 * worker: there is another one after a pause, which grows.
 */
static void
try_step(Course *course)
{
	MemoryContext outer = CurrentMemoryContext;

	PG_TRY();
	{
		step(course);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(outer);
		HOLD_INTERRUPTS();
		EmitErrorReport();
		AbortCurrentTransaction();
		FlushErrorState();
		listen_forget();
		pgstat_report_activity(STATE_IDLE, NULL);
		RESUME_INTERRUPTS();
		course->busy = true;
		course->woken = false;
		course->pause = Min(Max(course->pause * 2, TASK_MIN_PAUSE), TASK_MAX_PAUSE);
		course->due = TimestampTzPlusMilliseconds(monotonic_now(), course->pause);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(outer);
}

/* Works until it is time to end, for good or, if the database is wanted, for a while. */
static Round
work(Oid database)
{
	Course		course = {.database = database,.last_work = monotonic_now(),.round = ROUND_CAUGHT_UP};

	course.context = AllocSetContextCreate(TopMemoryContext, "dugong worker", ALLOCSET_DEFAULT_SIZES);
	while (course.round < ROUND_GONE)
		try_step(&course);
	return course.round;
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
 * arg: the database's oid; bgw_extra holds a WorkerIdentity.
 */
void
dugong_worker_main(Datum arg)
{
	Oid			database = DatumGetObjectId(arg);

	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();

	memcpy(&me, MyBgworkerEntry->bgw_extra, sizeof(me));
	if (!database_exists(database, me.tablespace) || !become_worker(database))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(database, InvalidOid, BGWORKER_BYPASS_ALLOWCONN);
	pin_settings();
	show_marker();
	if (!prepare_work() || work(database) != ROUND_WANTED)
		proc_exit(0);
	proc_exit(1);
}
