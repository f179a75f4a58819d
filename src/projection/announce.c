/*
 * announce.c
 *		Notifying applications of what has been appended.
 *
 * Worker 0 reads the log like a projection that handles nothing, and notifies
 * the channel of each aggregate type that it meets, once for all that it has
 * read.  So a notification comes when the events can be seen, and an append
 * pays nothing for it.
 *
 * How far it has come is kept in memory.  A worker that starts cannot know
 * what the one before it has said: it notifies every channel once, with a
 * count of 0, which means that there may be something.
 */
#include "postgres.h"

#include "access/table.h"
#include "broker/publish.h"
#include "guc.h"
#include "nodes/pg_list.h"
#include "projection/announce.h"
#include "projection/reader.h"
#include "store/aggregate_type.h"
#include "store/horizon.h"
#include "store/tenant.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* What is to be said of an aggregate type. */
typedef struct Announcement
{
	int32		type_id;
	int64		position;		/* the last */
	int64		count;
} Announcement;

/* How far it has come. */
typedef struct Place
{
	MemoryContext context;		/* holds the holes */
	int64		position;
	List	   *holes;			/* Hole */
} Place;

static Place place;				/* committed */
static Place next_place;		/* of the transaction that runs */

typedef struct Reading
{
	List	   *announcements;
	int			nread;
} Reading;

static void
note(void *arg, TupleTableSlot *slot)
{
	Reading    *reading = arg;
	Announcement *announcement = NULL;
	bool		isnull;
	int32		type_id = DatumGetInt32(slot_getattr(slot, LOG_AGGREGATE_TYPE_ID, &isnull));
	ListCell   *cell;

	foreach(cell, reading->announcements)
		if (((Announcement *) lfirst(cell))->type_id == type_id)
			announcement = lfirst(cell);
	if (announcement == NULL)
	{
		announcement = palloc0(sizeof(Announcement));
		announcement->type_id = type_id;
		reading->announcements = lappend(reading->announcements, announcement);
	}
	announcement->position = Max(announcement->position, DatumGetInt64(slot_getattr(slot, LOG_POSITION, &isnull)));
	announcement->count++;
	reading->nread++;
}

static bool
is_full(void *arg)
{
	return ((Reading *) arg)->nread >= dugong_batch_size;
}

/* Keeps what the checkpoint says beyond the transaction. */
static void
prepare_place(const Checkpoint *checkpoint)
{
	MemoryContext old;
	ListCell   *cell;

	if (next_place.context)
		MemoryContextDelete(next_place.context);
	next_place.context = NULL;
	next_place.context = AllocSetContextCreate(TopMemoryContext, "dugong announcements", ALLOCSET_SMALL_SIZES);
	next_place.position = checkpoint->position;
	next_place.holes = NIL;
	old = MemoryContextSwitchTo(next_place.context);
	foreach(cell, list_concat(list_difference_ptr(checkpoint->holes, checkpoint->removed), checkpoint->added))
		next_place.holes = lappend(next_place.holes, hole_copy(lfirst(cell)));
	MemoryContextSwitchTo(old);
}

/* Everybody may listen to a channel: while tenants are isolated it says that there may be something, and not how much. */
static void
notify(const char *channel, const char *key, const char *name, int64 position, int64 count)
{
	bool		hides = tenants_are_isolated();

	publish_notify(channel, key, name, hides ? 0 : position, hides ? 0 : count);
}

/* Says of every type that there may be something, and begins at what is settled. */
void
announce_begin(void)
{
	Checkpoint	checkpoint = {.position = horizon_get()};
	ListCell   *cell;

	prepare_place(&checkpoint);
	if (dugong_notify == NOTIFY_OFF)
		return;
	foreach(cell, aggregate_type_list())
	{
		const AggregateType *type = lfirst(cell);

		notify(type->channel, "aggregateType", text_to_cstring(type->name), checkpoint.position, 0);
	}
}

/*
 * Reads on, and queues notifications for when the transaction commits.
 * Returns whether there may be more.
 */
bool
announce(void)
{
	Checkpoint	checkpoint = {.position = place.position,.holes = place.holes};
	Relation	log = log_open(AccessShareLock);
	Snapshot	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	Reading		reading = {0};
	LogReader	reader = {
		.log = log,.snapshot = snapshot,.checkpoint = &checkpoint,
		.note = note,.is_full = is_full,.arg = &reading
	};
	ListCell   *cell;

	reader_read_holes(&reader);
	if (!is_full(&reading))
		reader_read_above(&reader, PG_INT64_MAX);
	foreach(cell, reading.announcements)
	{
		const Announcement *announcement = lfirst(cell);
		const AggregateType *type = aggregate_type_by_id(announcement->type_id);

		if (type && dugong_notify != NOTIFY_OFF)
			notify(type->channel, "aggregateType", text_to_cstring(type->name),
				   announcement->position, announcement->count);
	}
	prepare_place(&checkpoint);
	UnregisterSnapshot(snapshot);
	table_close(log, NoLock);
	return is_full(&reading);
}

/*
 * Tells who listens to a projection that its query model has moved on, or to
 * a subscription that events have come back; when the transaction commits.
 */
void
announce_projection(const char *name, int64 position, int64 count)
{
	char		channel[NAMEDATALEN];

	if (dugong_notify == NOTIFY_OFF)
		return;
	snprintf(channel, sizeof(channel), "projection-%s", name);
	notify(channel, "projection", name, position, count);
}

/* The transaction has committed: what it has said is said. */
void
announce_committed(void)
{
	if (place.context)
		MemoryContextDelete(place.context);
	place = next_place;
	next_place.context = NULL;
}
