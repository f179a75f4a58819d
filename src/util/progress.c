/*
 * progress.c
 *		How far a transaction has come, for others to see.
 */
#include "postgres.h"

#include "compat.h"
#include "miscadmin.h"
#include "util/private_lock.h"
#include "util/progress.h"

/*
 * Others see how far a transaction has come as the key of a lock: what it
 * writes they do not see before it commits.
 */
void
show_progress(int64 done)
{
	static LOCKTAG shown;
	LOCKTAG		tag = private_lock_tag(MyDatabaseId, LOCK_PROGRESS, (uint64) done);

	if (done == 0)
		shown.locktag_field4 = 0;	/* of an earlier one; it goes with its transaction */
	if (shown.locktag_field4 != 0 && lock_held_by_me(&shown, ShareLock))
		LockRelease(&shown, ShareLock, false);
	if (LockAcquire(&tag, ShareLock, false, true) != LOCKACQUIRE_NOT_AVAIL)
		shown = tag;
}
