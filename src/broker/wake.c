/*
 * wake.c
 *		Waking the background workers of a database.
 *
 * An appender wakes the workers by setting their latches, after its commit is
 * visible: that costs a system call only if the worker sleeps, and nothing is
 * written.  Finding the latch needs no shared memory of our own: a worker
 * holds a marker, a private lock whose key is its number and its place among
 * the server's processes.  Sessions remember the places, and look, before each
 * commit, whether the markers are still held.
 *
 * A worker that has its lock but no marker yet is about to poll, and sees
 * whatever is in flight (projection/worker.c).  One that may end has given up
 * the marker together with its lock.
 */
#include "postgres.h"

#include "broker/wake.h"
#include "compat.h"
#include "guc.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "util/private_lock.h"

#define NOBODY (-1)

static int	places[MAX_WORKERS];	/* of the workers in the server; NOBODY */
static int	nplaces;			/* that are initialized */

static uint64
marker_key(int number, int place)
{
	return (uint64) number << 32 | (uint32) place;
}

static LOCKTAG
my_marker(int number)
{
	return private_lock_tag(MyDatabaseId, LOCK_MARKER, marker_key(number, MyProcNumberCompat));
}

/*
 * Called by a worker, before it first looks for work.  Nobody else takes this
 * lock, but who looks for it has it for a moment.
 */
void
wake_register(int number)
{
	LOCKTAG		tag = my_marker(number);

	while (LockAcquire(&tag, ExclusiveLock, true, true) == LOCKACQUIRE_NOT_AVAIL)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(1000L);
	}
}

/* Called by a worker that gives up its lock: appenders must not count on it. */
void
wake_unregister(int number)
{
	LOCKTAG		tag = my_marker(number);

	(void) LockRelease(&tag, ExclusiveLock, true);
}

static bool
is_at(int number, int place)
{
	return place != NOBODY && private_lock_is_held(LOCK_MARKER, marker_key(number, place));
}

static int
find_place(int number)
{
	for (int place = 0; place < (int) ProcGlobal->allProcCount; place++)
	{
		const PGPROC *proc = &ProcGlobal->allProcs[place];

		if (proc->pid != 0 && proc->databaseId == MyDatabaseId && proc_is_background_worker(proc) && is_at(number, place))
			return place;
	}
	return NOBODY;
}

/*
 * Finds the workers that a commit is to wake.  Returns whether there is
 * anybody who will see to what is appended.
 */
bool
wake_prepare(void)
{
	int			count = Min(dugong_max_workers, MAX_WORKERS);
	bool		first = false;

	while (nplaces < MAX_WORKERS)
		places[nplaces++] = NOBODY;
	for (int number = 0; number < MAX_WORKERS; number++)
	{
		if (number >= count)
			places[number] = NOBODY;
		else if (!is_at(number, places[number]))
		{
			bool		exists = private_lock_is_held(LOCK_WORKER, number);

			places[number] = exists ? find_place(number) : NOBODY;
			first = first || (number == 0 && exists);
		}
		else
			first = first || number == 0;
	}
	return first;
}

/*
 * Called when the commit is visible.  Cannot fail; a process that has taken a
 * worker's place meanwhile is woken for nothing.
 */
void
wake_workers(void)
{
	for (int number = 0; number < nplaces; number++)
		if (places[number] != NOBODY)
			SetLatch(&ProcGlobal->allProcs[places[number]].procLatch);
}
