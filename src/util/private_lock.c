/*
 * private_lock.c
 *		Heavyweight locks that belong to dugong alone.
 */
#include "postgres.h"

#include "util/private_lock.h"

LOCKTAG
private_lock_tag(Oid database, PrivateLockClass class, uint64 key)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, database, (uint32) (key >> 32), (uint32) key, class);
	return tag;
}
