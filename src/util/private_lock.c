/*
 * private_lock.c
 *		Heavyweight locks that belong to dugong alone.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "util/fault.h"
#include "util/private_lock.h"

LOCKTAG
private_lock_tag(Oid database, PrivateLockClass class, uint64 key)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, database, (uint32) (key >> 32), (uint32) key, class);
	return tag;
}

/* Does another session hold a lock exclusively, in this database? */
bool
private_lock_is_held(PrivateLockClass class, uint64 key)
{
	LOCKTAG		tag = private_lock_tag(MyDatabaseId, class, key);

	if (LockAcquire(&tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return true;
	if (class == LOCK_MARKER)
		fault_point("marker-is-looked-for");
	LockRelease(&tag, ShareLock, false);
	return false;
}

/*
 * Does another process hold a lock exclusively, rather than look for it?
 * Takes no lock, but looks through all of them.
 */
bool
private_lock_has_owner(const LOCKTAG *tag)
{
	LockData   *locks = GetLockStatusData();

	for (int i = 0; i < locks->nelements; i++)
	{
		const LockInstanceData *lock = &locks->locks[i];

		if (memcmp(&lock->locktag, tag, sizeof(LOCKTAG)) == 0 &&
			(lock->holdMask & LOCKBIT_ON(ExclusiveLock)) != 0 && lock->pid != MyProcPid)
			return true;
	}
	return false;
}
