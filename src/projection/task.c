/*
 * task.c
 *		The projections that a worker runs.
 *
 * Each gets a slice of time in turn, until all have caught up.  An error ends
 * the batch, not the worker: the next one is smaller, down to one event, whose
 * aggregate is set aside (batch.c).  What fails even then is tried again after a
 * pause that grows to TASK_MAX_PAUSE.
 */
#include "postgres.h"

#include <limits.h>

#include "access/xact.h"
#include "broker/listen.h"
#include "catalog/pg_database.h"
#include "guc.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "projection/batch.h"
#include "projection/failure.h"
#include "projection/task.h"
#include "storage/lmgr.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "util/activity.h"
#include "util/monotonic.h"

/* All in ms. */
#define MAX_PAUSE 10000
#define TIME_SLICE 200			/* for one projection, then it is the next one's turn */

struct Task
{
	char		name[NAMEDATALEN];	/* hash key */
	BatchRequest request;		/* of the next batch */
	int			tries;			/* failures in a row, not counting larger batches */
	long		pause;			/* ms */
	TimestampTz next_try;		/* not before, by monotonic_now() */
	bool		stops_on_error;
	bool		more;			/* is there more to do in this round? */
	const ErrorData *error;		/* what is being recorded */
};

static HTAB *tasks;				/* Task, by name */

static void
create_tasks(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = NAMEDATALEN;
	ctl.entrysize = sizeof(Task);
	ctl.hcxt = TopMemoryContext;
	tasks = hash_create("dugong tasks", 16, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

/* The task of a projection; it lives as long as the worker. */
Task *
task_get(const Projection *projection)
{
	Task	   *task;
	char		key[NAMEDATALEN] = {0};
	bool		found;

	if (tasks == NULL)
		create_tasks();
	strlcpy(key, projection->name, NAMEDATALEN);
	task = hash_search(tasks, key, HASH_ENTER, &found);
	if (!found)
	{
		memset(&task->request, 0, sizeof(task->request));
		task->request.projection = task->name;
		task->request.limit = INT_MAX;
		task->request.own_transaction = true;
		task->request.patient = true;
		task->tries = 0;
		task->pause = 0;
		task->next_try = 0;
	}
	task->stops_on_error = projection->stops_on_error;
	task->more = true;
	task->error = NULL;
	return task;
}

static void
record_failure(Task *task)
{
	const ErrorData *error = task->error;
	bool		stop = task->stops_on_error && failure_class(error) != FAILURE_OF_SERVER && !failure_is_lack(error) &&
		(task->tries >= dugong_max_attempts || failure_is_death(error));

	failure_record(task->name, error, task->tries);
	if (!stop)
		return;
	(void) projection_lock(task->name, true);
	projection_stop(task->name);
	ereport(WARNING,
			(errmsg("projection \"%s\" has stopped after %d attempts", task->name, task->tries),
			 errhint("Use dugong.resume_projection() when the cause is mended.")));
}

/* Runs a function in a transaction of its own; the error that it ended with, if so. */
static ErrorData *
try_transaction(const char *activity, void (*action) (Task *task), Task *task)
{
	MemoryContext outer = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;

	PG_TRY();
	{
		activity_begin(activity);
		action(task);
		activity_commit();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(outer);
		HOLD_INTERRUPTS();
		error = CopyErrorData();
		AbortCurrentTransaction();
		FlushErrorState();
		MemoryContextSwitchTo(outer);
		listen_forget();
		pgstat_report_activity(STATE_IDLE, NULL);
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(outer);
	return error;
}

/*
 * Does a command have, or wait for, the database to itself?  Whoever connects
 * takes ROW EXCLUSIVE on it for a moment; this tries the same.
 */
bool
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

/* What the last batch of a task came to. */
static BatchResult last_result;
static Round last_round;

static void
note_result(BatchResult result)
{
	last_result = result;
	last_round = result == BATCH_BUSY ? ROUND_BUSY :
		TransactionIdIsValid(GetTopTransactionIdIfAny()) ? ROUND_WORKED : ROUND_CAUGHT_UP;
}

static void
run_batch(Task *task)
{
	BatchOutcome outcome;

	note_result(batch_run(&task->request, &outcome));
}

static void
run_retry(Task *task)
{
	note_result(batch_retry(&task->request));
}

static void
forget_failure(Task *task)
{
	failure_forget(task->name);
}

static void
note_success(Task *task)
{
	bool		recorded = task->tries > 0;

	batch_larger(&task->request);
	task->tries = 0;
	task->pause = 0;
	if (recorded)
		(void) try_transaction("dugong: recording a success", forget_failure, task);
}

/* Decides how it goes on after an error; it is logged if a pause follows. */
static void
note_failure(Task *task, ErrorData *error)
{
	if (!task->request.isolates && failure_class(error) != FAILURE_OF_SERVER)
	{
		batch_smaller(&task->request);
		return;
	}
	task->tries++;
	task->request.patient = task->tries + 1 < dugong_max_attempts;
	task->pause = Min(Max(task->pause * 2, TASK_MIN_PAUSE), TASK_MAX_PAUSE);
	task->next_try = TimestampTzPlusMilliseconds(monotonic_now(), task->pause);
	task->more = false;
	ereport(LOG,
			(errcode(error->sqlerrcode),
			 errmsg("projection \"%s\" has failed: %s", task->name, error->message),
			 error->detail ? errdetail_internal("%s", error->detail) : 0,
			 error->context ? errcontext("%s", error->context) : 0));
	/* Where nothing can be written this fails as well, and what has failed is in the server's log. */
	task->error = error;
	(void) try_transaction("dugong: recording an error", record_failure, task);
	task->error = NULL;
}

/* Gives a task some time, or less if it catches up. */
static Round
run_task(Task *task)
{
	TimestampTz start = monotonic_now();
	Round		round = ROUND_CAUGHT_UP;
	char		activity[NAMEDATALEN * 2];

	if (task->next_try > start)
	{
		task->more = false;
		return ROUND_CAUGHT_UP;
	}
	snprintf(activity, sizeof(activity), "dugong: projection %s", task->name);
	do
	{
		ErrorData  *error;

		CHECK_FOR_INTERRUPTS();
		last_round = ROUND_WORKED;
		error = try_transaction(activity, run_batch, task);
		if (error == NULL)
			note_success(task);
		else
			note_failure(task, error);
		round = Max(round, last_round);
		if (database_is_wanted())
			return ROUND_WANTED;
		if (error == NULL && last_result != BATCH_MORE)
			task->more = false;
	} while (task->more && !TimestampDifferenceExceeds(start, monotonic_now(), TIME_SLICE));
	return round;
}

/* Tries again what a task has set aside and is due. */
static void
run_retries(Task *task)
{
	ErrorData  *error;

	do
	{
		CHECK_FOR_INTERRUPTS();
		last_result = BATCH_DONE;
		error = try_transaction("dugong: retrying", run_retry, task);
		if (error)
			note_failure(task, error);
	} while (error == NULL && last_result == BATCH_MORE);
}

/* Runs them in turn until they have caught up. */
Round
tasks_run(List *chosen)
{
	Round		round = ROUND_CAUGHT_UP;
	bool		more;
	ListCell   *cell;

	do
	{
		more = false;
		foreach(cell, chosen)
		{
			Task	   *task = lfirst(cell);
			Round		one;

			if (!task->more)
				continue;
			one = run_task(task);
			round = Max(round, one);
			if (round == ROUND_WANTED)
				return round;
			more = more || task->more;
		}
	} while (more);
	return round;
}

/* Tries again what they have set aside and is due. */
void
tasks_retry(List *chosen)
{
	ListCell   *cell;

	foreach(cell, chosen)
	{
		Task	   *task = lfirst(cell);

		if (task->next_try <= monotonic_now())
			run_retries(task);
	}
}

/* When the first of them is tried again that fails now; DT_NOEND = none does. */
TimestampTz
tasks_next_try(TimestampTz after)
{
	TimestampTz first = DT_NOEND;
	HASH_SEQ_STATUS seq;
	const Task *task;

	if (tasks == NULL)
		return first;
	hash_seq_init(&seq, tasks);
	while ((task = hash_seq_search(&seq)) != NULL)
		if (task->next_try > after)
			first = Min(first, task->next_try);
	return first;
}
