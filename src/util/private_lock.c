/*
 * private_lock.c
 *		Heavyweight locks that belong to dugong alone.
 */
#include "postgres.h"

#include "miscadmin.h"
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
	LockRelease(&tag, ShareLock, false);
	return false;
}
