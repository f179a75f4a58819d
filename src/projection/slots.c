/*
 * slots.c
 *		More databases than slots for background workers.
 *
 * A worker that has caught up stays for a while, for the next append.  It must
 * not stay in the place of one that another database is waiting for, which may
 * be all that keeps that from being served: who finds no slot can only try
 * again at the next append.  Nobody knows who waits, but everybody sees that
 * there is no slot.
 */
#include "postgres.h"

#include "compat.h"
#include "miscadmin.h"
#include "projection/slots.h"
#include "util/private_lock.h"

/* Workers of other databases; of all, for a process that is in none. */
int
slots_of_other_workers(void)
{
	LockData   *locks = GetLockStatusData();
	int			count = 0;

	for (int i = 0; i < locks->nelements; i++)
	{
		const LOCKTAG *tag = &locks->locks[i].locktag;

		if (tag->locktag_type == LOCKTAG_ADVISORY && tag->locktag_field4 == LOCK_WORKER &&
			tag->locktag_field1 != MyDatabaseId && (locks->locks[i].holdMask & LOCKBIT_ON(ExclusiveLock)) != 0)
			count++;
	}
	pfree(locks->locks);
	pfree(locks);
	return count;
}

/*
 * Is no slot free, and is that mostly the doing of dugong's workers?  Parallel
 * queries that take all others for a moment do not make them give way.
 */
bool
slots_are_scarce(void)
{
	return !background_worker_is_free() && 2 * (slots_of_other_workers() + 1) >= max_worker_processes;
}
