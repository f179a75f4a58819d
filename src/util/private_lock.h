/*
 * private_lock.h
 *		Heavyweight locks that belong to dugong alone.
 */
#ifndef DUGONG_PRIVATE_LOCK_H
#define DUGONG_PRIVATE_LOCK_H

#include "postgres.h"

#include "storage/lock.h"

/*
 * What a lock stands for.  PostgreSQL's advisory locks use classes 1 and 2 of
 * the same lock tag (pg_locks.objsubid), so these cannot clash with the
 * application's.
 */
typedef enum PrivateLockClass
{
	LOCK_AGGREGATE = 0xD601,	/* key: hash of type, id and tenant */
	LOCK_PROJECTION = 0xD602,	/* key: hash of the projection's name */
	LOCK_WORKER = 0xD603,		/* key: its number; a session lock of the live worker */
	LOCK_WORKER_LAUNCH = 0xD604,	/* key 0; who is about to launch the worker */
	LOCK_PROGRESS = 0xD606,		/* key: how much of a rebuild or an import is done */
	LOCK_MARKER = 0xD607,		/* key: a worker's number and place; a session lock */
	LOCK_IMPORT = 0xD60A,		/* key: hash of the source's name */
	LOCK_TAG = 0xD610,			/* key: hash of a tag of events */
	LOCK_HORIZON = 0xD605		/* key: a position that all of the transaction's
								 * are above */
} PrivateLockClass;

extern bool private_lock_has_owner(const LOCKTAG *tag);
extern bool private_lock_is_held(PrivateLockClass class, uint64 key);
extern LOCKTAG private_lock_tag(Oid database, PrivateLockClass class, uint64 key);

#endif							/* DUGONG_PRIVATE_LOCK_H */
