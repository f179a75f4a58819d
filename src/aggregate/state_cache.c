/*
 * state_cache.c
 *		States that a process has built, kept for the next time.
 *
 * A projection is asked for the same aggregates again and again, a few events
 * later.  A state that is here saves it the snapshot and the events before.
 *
 * What is stored must be made of committed events only, and whoever loads it
 * must see them all: a batch in a transaction of its own that has appended
 * nothing yet, whose snapshot is later than the one before.  An event never changes, so such a state is right
 * for as long as the fold is the same: its fingerprint is compared.  What is erased of an event is told by one that
 * follows: whoever meets that begins anew (aggregate.c).
 *
 * Those that were used least recently go first.
 */
#include "postgres.h"

#include "aggregate/state_cache.h"
#include "lib/ilist.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#define MAX_BYTES (4 * 1024 * 1024)

typedef struct Entry
{
	AggregateKey key;
	dlist_node	node;			/* in uses */
	int64		fingerprint;
	int64		sequence_number;
	Datum		transition;
	bool		isnull;
	bool		byval;
	Size		bytes;
} Entry;

static MemoryContext context;	/* child of CacheMemoryContext; holds all of it */
static HTAB *entries;
static dlist_head uses = DLIST_STATIC_INIT(uses);	/* last used first */
static Size bytes;

static void
remove_entry(Entry *entry)
{
	AggregateKey key = entry->key;

	dlist_delete(&entry->node);
	bytes -= entry->bytes;
	if (!entry->isnull && !entry->byval)
		pfree(DatumGetPointer(entry->transition));
	hash_search(entries, &key, HASH_REMOVE, NULL);
	pfree(key.tenant_id);
}

static void
create(void)
{
	context = AllocSetContextCreate(CacheMemoryContext, "dugong states", ALLOCSET_DEFAULT_SIZES);
	entries = aggregate_table_create("dugong states", sizeof(Entry), context);
}

/* Starts an aggregate without events from the state that is here, if there is one. */
void
state_cache_load(Aggregate *aggregate)
{
	const FoldType *type = &aggregate->fold->state;
	Entry	   *entry = entries ? hash_search(entries, &aggregate->key, HASH_FIND, NULL) : NULL;
	MemoryContext old;

	Assert(aggregate->sequence_number == 0);
	if (entry == NULL)
		return;
	if (entry->fingerprint != aggregate->fingerprint)
	{
		remove_entry(entry);
		return;
	}
	dlist_move_head(&uses, &entry->node);
	aggregate->sequence_number = entry->sequence_number;
	aggregate->transition_isnull = entry->isnull;
	if (entry->isnull)
		return;
	old = MemoryContextSwitchTo(aggregate->context);
	aggregate->transition = datumCopy(entry->transition, type->typbyval, type->typlen);
	MemoryContextSwitchTo(old);
}

/* Keeps the state of an aggregate, in the place of an older one. */
void
state_cache_store(const Aggregate *aggregate)
{
	const FoldType *type = &aggregate->fold->state;
	Size		size = aggregate->transition_isnull ? 0 : datumGetSize(aggregate->transition, type->typbyval, type->typlen);
	MemoryContext old;
	Datum		transition = (Datum) 0;
	AggregateKey key = aggregate->key;
	Entry	   *entry;

	if (entries == NULL)
		create();
	entry = hash_search(entries, &aggregate->key, HASH_FIND, NULL);
	if (entry)
		remove_entry(entry);
	if (size > MAX_BYTES / 16 || aggregate->erased)
		return;
	old = MemoryContextSwitchTo(context);
	if (!aggregate->transition_isnull)
		transition = datumCopy(aggregate->transition, type->typbyval, type->typlen);
	/* An entry whose key is not its own must not stay if memory runs out. */
	key.tenant_id = DatumGetTextPCopy(PointerGetDatum(key.tenant_id));
	entry = hash_search(entries, &key, HASH_ENTER, NULL);
	MemoryContextSwitchTo(old);
	entry->fingerprint = aggregate->fingerprint;
	entry->sequence_number = aggregate->sequence_number;
	entry->transition = transition;
	entry->isnull = aggregate->transition_isnull;
	entry->byval = type->typbyval;
	entry->bytes = sizeof(Entry) + size + VARSIZE_ANY(entry->key.tenant_id) + 64;
	dlist_push_head(&uses, &entry->node);
	bytes += entry->bytes;
	while (bytes > MAX_BYTES)
		remove_entry(dlist_tail_element(Entry, node, &uses));
}
