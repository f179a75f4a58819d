/*
 * aggregate_lock.h
 *		Commands on one aggregate queue here.
 */
#ifndef DUGONG_AGGREGATE_LOCK_H
#define DUGONG_AGGREGATE_LOCK_H

#include "postgres.h"

#include "store/log.h"
#include "storage/lockdefs.h"

/* A lock of a tag, and how it is to be taken. */
typedef struct TagLock
{
	uint64		key;
	LOCKMODE	mode;
} TagLock;

/* All zeros: none. */
typedef struct TagLocks
{
	int			count;
	int			size;
	TagLock    *locks;
} TagLocks;

/*
 * The lock table holds max_locks_per_transaction * max_connections locks for
 * all sessions together, 6,400 by default.
 */
#define MAX_AGGREGATE_LOCKS 1000

extern void aggregate_lock_init(void);
extern void aggregate_lock_new(const AggregateKey *key);
extern void aggregate_lock(const AggregateKey *key);
extern void aggregate_lock_with_tags(const AggregateKey *key, bool is_new, TagLocks *tags);
extern uint64 tag_lock_key(const pg_uuid_t *tag);
extern void tag_locks_add(TagLocks *locks, const pg_uuid_t *tag, LOCKMODE mode);
extern void tag_locks_compact(TagLocks *locks);
extern void tag_locks_take(TagLocks *locks);
extern void aggregate_lock_pair(const AggregateKey *one, const AggregateKey *other);
extern void aggregate_lock_several(const AggregateKey *const *keys, int count, TagLocks *tags);

#endif							/* DUGONG_AGGREGATE_LOCK_H */
