/*
 * aggregate_lock.c
 *		Commands on one aggregate queue here.
 *
 * Whoever decides on an aggregate's state holds, until its transaction ends,
 * either the aggregate's private lock or, past MAX_AGGREGATE_LOCKS aggregates,
 * SHARE ROW EXCLUSIVE on the log; and ROW EXCLUSIVE on the log in any case.
 *
 * Order: the aggregate's lock, then those of tags (event_tag.c) in the order of
 * their keys, then the log's, then the snapshot that the state is read with.
 * The other way round, one who waits for an aggregate would hold the log
 * against him who escalates, and the two would deadlock.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "compat.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "store/aggregate_lock.h"
#include "utils/memutils.h"
#include "util/private_lock.h"

#define MAX_NEW_AGGREGATE_LOCKS 100

/* Locks taken at each nesting level of subtransactions, and their sum. */
static int *taken_at_level;
static int	nlevels;
static int	taken;

static void
count_taken(void)
{
	int			level = GetCurrentTransactionNestLevel();

	if (level >= nlevels)
	{
		int			wanted = Max(16, level * 2);

		if (taken_at_level == NULL)
			taken_at_level = MemoryContextAllocZero(TopMemoryContext,
													wanted * sizeof(int));
		else
		{
			taken_at_level = repalloc(taken_at_level, wanted * sizeof(int));
			memset(taken_at_level + nlevels, 0, (wanted - nlevels) * sizeof(int));
		}
		nlevels = wanted;
	}
	taken_at_level[level]++;
	taken++;
}

/* A subtransaction's locks go to its parent, or are released. */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mine,
					  SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	if (level >= nlevels || taken_at_level[level] == 0)
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		taken_at_level[level - 1] += taken_at_level[level];
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		taken -= taken_at_level[level];
	else
		return;
	taken_at_level[level] = 0;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			if (taken > 0)
				memset(taken_at_level, 0, nlevels * sizeof(int));
			taken = 0;
			break;
		default:
			break;
	}
}

void
aggregate_lock_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}

static uint64
lock_key(const AggregateKey *key)
{
	uint64		hash = hash_bytes_extended(key->id.data, UUID_LEN, (uint32) key->type_id);

	return hash_bytes_extended((unsigned char *) VARDATA_ANY(key->tenant_id),
							   VARSIZE_ANY_EXHDR(key->tenant_id), hash);
}

static void
lock_one(PrivateLockClass class, uint64 key, LOCKMODE mode)
{
	LOCKTAG		tag = private_lock_tag(MyDatabaseId, class, key);

	if (taken >= MAX_AGGREGATE_LOCKS)
	{
		if (lock_held_by_me(&tag, mode))
			return;
		LockRelationOid(dugong_relid("event_log"), ShareRowExclusiveLock);
		return;
	}
	if (LockAcquire(&tag, mode, false, false) == LOCKACQUIRE_OK)
		count_taken();
}

/* What the lock of a tag is known by. */
uint64
tag_lock_key(const pg_uuid_t *tag)
{
	uint64		key;

	memcpy(&key, tag->data, sizeof(key));
	return key;
}

void
tag_locks_add(TagLocks *locks, const pg_uuid_t *tag, LOCKMODE mode)
{
	if (locks->count == locks->size)
	{
		locks->size = Max(16, locks->size * 2);
		locks->locks = locks->locks ?
			repalloc_huge(locks->locks, locks->size * sizeof(TagLock)) :
			palloc(locks->size * sizeof(TagLock));
	}
	locks->locks[locks->count++] = (TagLock) {tag_lock_key(tag), mode};
}

/* By key, the stronger mode first. */
static int
compare_tag_locks(const void *one, const void *other)
{
	const TagLock *a = one;
	const TagLock *b = other;

	return a->key != b->key ? (a->key < b->key ? -1 : 1) : b->mode - a->mode;
}

/* Puts them in the order of their keys, each once. */
void
tag_locks_compact(TagLocks *locks)
{
	int			count = 0;

	if (locks->count > 1)
		qsort(locks->locks, locks->count, sizeof(TagLock), compare_tag_locks);
	for (int i = 0; i < locks->count; i++)
		if (count == 0 || locks->locks[i].key != locks->locks[count - 1].key)
			locks->locks[count++] = locks->locks[i];
	locks->count = count;
}

/* Takes them in the order of their keys, so that two calls cannot deadlock, and empties the list. */
void
tag_locks_take(TagLocks *locks)
{
	tag_locks_compact(locks);
	for (int i = 0; i < locks->count; i++)
		lock_one(LOCK_TAG, locks->locks[i].key, locks->locks[i].mode);
	if (locks->locks)
		pfree(locks->locks);
	*locks = (TagLocks) {0};
}

/*
 * Waits until no other transaction decides on the aggregate, nor on tags.
 *
 * is_new: the aggregate is about to be opened: its unique key decides, so the
 * lock is not needed.  With it, who comes second is refused before he draws a
 * position; so it is taken while there are few.
 */
void
aggregate_lock_with_tags(const AggregateKey *key, bool is_new, TagLocks *tags)
{
	if (!is_new || taken < MAX_NEW_AGGREGATE_LOCKS)
		lock_one(LOCK_AGGREGATE, lock_key(key), ExclusiveLock);
	tag_locks_take(tags);
	LockRelationOid(dugong_relid("event_log"), RowExclusiveLock);
}

void
aggregate_lock_new(const AggregateKey *key)
{
	TagLocks	none = {0};

	aggregate_lock_with_tags(key, true, &none);
}

void
aggregate_lock(const AggregateKey *key)
{
	TagLocks	none = {0};

	aggregate_lock_with_tags(key, false, &none);
}

/* Locks two aggregates, in the order of their lock keys. */
void
aggregate_lock_pair(const AggregateKey *one, const AggregateKey *other)
{
	uint64		one_key = lock_key(one);
	uint64		other_key = lock_key(other);

	lock_one(LOCK_AGGREGATE, Min(one_key, other_key), ExclusiveLock);
	lock_one(LOCK_AGGREGATE, Max(one_key, other_key), ExclusiveLock);
	LockRelationOid(dugong_relid("event_log"), RowExclusiveLock);
}

static int
compare_keys(const void *one, const void *other)
{
	uint64		a = *(const uint64 *) one;
	uint64		b = *(const uint64 *) other;

	return a < b ? -1 : a > b;
}

/* Locks as many, in the order of their lock keys, and the tags of what comes to them. */
void
aggregate_lock_several(const AggregateKey *const *keys, int count, TagLocks *tags)
{
	uint64	   *lock_keys = palloc(Max(count, 1) * sizeof(uint64));

	for (int i = 0; i < count; i++)
		lock_keys[i] = lock_key(keys[i]);
	qsort(lock_keys, count, sizeof(uint64), compare_keys);
	for (int i = 0; i < count; i++)
		lock_one(LOCK_AGGREGATE, lock_keys[i], ExclusiveLock);
	pfree(lock_keys);
	tag_locks_take(tags);
	LockRelationOid(dugong_relid("event_log"), RowExclusiveLock);
}
