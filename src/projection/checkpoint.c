/*
 * checkpoint.c
 *		How far a projection has handled the log.
 *
 * A checkpoint is a position (dugong.checkpoints) and the holes below it that
 * may still fill (dugong.checkpoint_holes), a row for each range of
 * neighbouring positions, so that a poll writes only what changes.
 *
 * A session remembers the holes, so that a poll reads only the position: there
 * may be thousands while one appender stays open.  What it remembers belongs
 * to one version of the checkpoint's row, known by its xmin and its counter;
 * it is dropped if the row is another one.
 *
 * Whoever loads or saves one holds the projection's lock.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "projection/checkpoint.h"
#include "store/home.h"
#include "store/restore.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "util/plan.h"

#define RATE_WINDOW 10.0		/* seconds that a rate looks back */

/* What this session knows of a version of a checkpoint's row. */
struct CheckpointMemory
{
	char		projection[NAMEDATALEN];	/* hash key */
	MemoryContext context;
	TransactionId xmin;			/* of the version; invalid = nothing is known */
	int64		batches;		/* of the version */
	List	   *holes;
	HTAB	   *ahead;			/* see checkpoint_ahead(); or NULL */
	MemoryContext ahead_context;	/* holds that, under context */
};

static HTAB *memories;			/* in CacheMemoryContext */

static CheckpointMemory *
find_memory(const char *projection)
{
	CheckpointMemory *memory;
	char		key[NAMEDATALEN] = {0};
	bool		found;

	if (memories == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = NAMEDATALEN;
		ctl.entrysize = sizeof(CheckpointMemory);
		ctl.hcxt = CacheMemoryContext;
		memories = hash_create("dugong checkpoints", 16, &ctl, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}
	strlcpy(key, projection, NAMEDATALEN);
	memory = hash_search(memories, key, HASH_ENTER, &found);
	if (!found)
	{
		memory->context = NULL;
		memory->xmin = InvalidTransactionId;
		memory->holes = NIL;
		memory->ahead = NULL;
	}
	if (memory->context == NULL)
		memory->context = AllocSetContextCreate(CacheMemoryContext, "dugong checkpoint", ALLOCSET_DEFAULT_SIZES);
	return memory;
}

static void
forget(CheckpointMemory *memory)
{
	memory->xmin = InvalidTransactionId;
	memory->holes = NIL;
	memory->ahead = NULL;
	MemoryContextReset(memory->context);
}

static void
read_candidates(Candidates *candidates, Datum array)
{
	Datum	   *elements;
	int			count;

	deconstruct_array(DatumGetArrayTypeP(array), XID8OID, sizeof(uint64),
					  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &elements, NULL, &count);
	candidates->count = count;
	candidates->xids = palloc(Max(count, 1) * sizeof(uint64));
	for (int i = 0; i < count; i++)
		candidates->xids[i] = DatumGetUInt64(elements[i]);
}

static Datum
candidates_array(const Candidates *candidates)
{
	Datum	   *elements = palloc(candidates->count * sizeof(Datum));

	for (int i = 0; i < candidates->count; i++)
		elements[i] = UInt64GetDatum(candidates->xids[i]);
	return PointerGetDatum(construct_array(elements, candidates->count, XID8OID,
										   sizeof(uint64), FLOAT8PASSBYVAL,
										   TYPALIGN_DOUBLE));
}

/* Returns the version of the row: its xmin. */
static TransactionId
load_position(Checkpoint *checkpoint, Datum projection)
{
	static SavedPlan select_checkpoint = {
		.sql = "SELECT position, system_identifier, database_oid, fingerprint, replay_until, batches, rate, "
		"updated_at, xmin FROM dugong.checkpoints WHERE projection OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.argtypes = {TEXTOID}
	};
	bool		isnull;

	checkpoint->stored = plan_execute(&select_checkpoint, &projection, NULL, true) > 0;
	if (!checkpoint->stored)
		return InvalidTransactionId;
	checkpoint->position = DatumGetInt64(plan_result(0, 1, &isnull));
	checkpoint->foreign =
		DatumGetInt64(plan_result(0, 2, &isnull)) != home_system_identifier() ||
		DatumGetObjectId(plan_result(0, 3, &isnull)) != MyDatabaseId;
	checkpoint->fingerprint = DatumGetInt64(plan_result(0, 4, &isnull));
	checkpoint->has_fingerprint = !isnull && !checkpoint->foreign;
	checkpoint->replay_until = DatumGetInt64(plan_result(0, 5, &isnull));
	checkpoint->batches = DatumGetInt64(plan_result(0, 6, &isnull));
	checkpoint->rate = DatumGetFloat8(plan_result(0, 7, &isnull));
	checkpoint->updated_at = DatumGetTimestampTz(plan_result(0, 8, &isnull));
	return DatumGetTransactionId(plan_result(0, 9, &isnull));
}

static List *
load_holes(Datum projection, MemoryContext context)
{
	static SavedPlan select_holes = {
		.sql = "SELECT first_position, last_position, transactions FROM dugong.checkpoint_holes "
		"WHERE projection OPERATOR(pg_catalog.=) $1 ORDER BY first_position",
		.nargs = 1,
		.argtypes = {TEXTOID}
	};
	uint64		nrows = plan_execute(&select_holes, &projection, NULL, true);
	MemoryContext old = MemoryContextSwitchTo(context);
	List	   *holes = NIL;

	for (uint64 row = 0; row < nrows; row++)
	{
		Hole	   *hole = palloc0(sizeof(Hole));
		bool		isnull;

		hole->first = DatumGetInt64(plan_result(row, 1, &isnull));
		hole->last = DatumGetInt64(plan_result(row, 2, &isnull));
		read_candidates(&hole->candidates, plan_result(row, 3, &isnull));
		holes = lappend(holes, hole);
	}
	MemoryContextSwitchTo(old);
	return holes;
}

/* Reads it under the active snapshot.  Without a row it is where the projection starts. */
void
checkpoint_load(Checkpoint *checkpoint, const Projection *projection)
{
	CheckpointMemory *memory = find_memory(projection->name);
	Datum		name = CStringGetTextDatum(projection->name);
	TransactionId xmin;

	memset(checkpoint, 0, sizeof(*checkpoint));
	checkpoint->position = projection->start_position;
	checkpoint->memory = memory;
	SPI_connect();
	xmin = load_position(checkpoint, name);
	if (!TransactionIdIsValid(xmin) || memory->xmin != xmin || memory->batches != checkpoint->batches)
	{
		forget(memory);
		memory->holes = load_holes(name, memory->context);
		memory->xmin = xmin;
		memory->batches = checkpoint->batches;
	}
	SPI_finish();
	checkpoint->holes = memory->holes;
}

/*
 * The same for who does not hold the projection's lock and only looks: nothing
 * is remembered.  It lives in the current memory context.
 */
void
checkpoint_look(Checkpoint *checkpoint, const Projection *projection)
{
	MemoryContext context = CurrentMemoryContext;
	Datum		name = CStringGetTextDatum(projection->name);

	memset(checkpoint, 0, sizeof(*checkpoint));
	checkpoint->position = projection->start_position;
	SPI_connect();
	(void) load_position(checkpoint, name);
	checkpoint->holes = load_holes(name, context);
	SPI_finish();
}

/*
 * Aggregates whose states were written ahead of the checkpoint, in a
 * transaction that the checkpoint's row is of: a table by AggregateKey that
 * the caller fills; NULL = there are none.
 */
HTAB *
checkpoint_ahead(const Checkpoint *checkpoint)
{
	return checkpoint->memory->ahead;
}

/* The same, made now if there is none; it is emptied when it has too many entries. */
HTAB *
checkpoint_make_ahead(CheckpointMemory *memory, Size entry_size, int max_entries)
{
	if (memory->ahead && hash_get_num_entries(memory->ahead) < max_entries)
		return memory->ahead;
	if (memory->ahead)
	{
		memory->ahead = NULL;
		MemoryContextDelete(memory->ahead_context);
	}
	memory->ahead_context = AllocSetContextCreate(memory->context, "dugong ahead", ALLOCSET_DEFAULT_SIZES);
	memory->ahead = aggregate_table_create("dugong ahead", entry_size, memory->ahead_context);
	return memory->ahead;
}

/* A copy that lives as long as that table. */
text *
checkpoint_keep_text(CheckpointMemory *memory, const text *value)
{
	return memcpy(MemoryContextAlloc(memory->ahead_context, VARSIZE_ANY(value)), value, VARSIZE_ANY(value));
}

void
checkpoint_add_hole(Checkpoint *checkpoint, int64 first, int64 last,
					const Candidates *candidates, bool probed)
{
	Hole	   *hole = palloc0(sizeof(Hole));

	hole->first = first;
	hole->last = last;
	hole->candidates = *candidates;
	hole->probed = probed;
	checkpoint->added = lappend(checkpoint->added, hole);
}

/* Is there an event in a hole of the checkpoint, up to the target? */
bool
checkpoint_holes_have_events(const Checkpoint *checkpoint, int64 target, Relation log, Snapshot snapshot)
{
	ListCell   *cell;

	foreach(cell, checkpoint->holes)
	{
		const Hole *hole = lfirst(cell);
		LogScan		scan;
		bool		found;

		if (hole->first > target)
			return false;
		log_scan_positions(&scan, log, hole->first, Min(hole->last, target), ForwardScanDirection, snapshot);
		found = log_scan_next(&scan);
		log_scan_end(&scan);
		if (found)
			return true;
	}
	return false;
}

/* Is the position in one of the holes, which ascend? */
static bool
is_in_hole(const List *holes, int64 position)
{
	int			low = 0;
	int			high = list_length(holes);

	while (low < high)
	{
		int			middle = (low + high) / 2;
		const Hole *hole = list_nth(holes, middle);

		if (position < hole->first)
			high = middle;
		else if (position > hole->last)
			low = middle + 1;
		else
			return true;
	}
	return false;
}

/* Is the event one that the projection gets, and that its checkpoint covers? */
static bool
is_handled(const Checkpoint *checkpoint, const Projection *projection, const LogRow *row)
{
	int64		position = DatumGetInt64(log_row_value(row, LOG_POSITION));

	if (!projection_reads(projection, row))
		return false;
	return projection->is_inline ||
		(position > projection->start_position && position <= checkpoint->position &&
		 !is_in_hole(checkpoint->holes, position));
}

/* The last event of an aggregate that is handled, before one; its sequence number, 0 = none. */
int64
checkpoint_last_handled(const Checkpoint *checkpoint, const Projection *projection, Relation log,
						const AggregateKey *key, int64 before, Snapshot snapshot)
{
	LogScan		scan;
	int64		last = 0;

	log_scan_stream(&scan, log, key, 1, before < PG_INT64_MAX ? before - 1 : before, BackwardScanDirection, snapshot);
	while (last == 0 && log_scan_next(&scan))
	{
		LogRow		row;

		CHECK_FOR_INTERRUPTS();
		log_row_from_slot(&row, scan.slot);
		if (is_handled(checkpoint, projection, &row))
			last = DatumGetInt64(log_row_value(&row, LOG_SEQUENCE_NUMBER));
	}
	log_scan_end(&scan);
	return last;
}

/* The rate after more events, by exponential smoothing. */
static float8
next_rate(const Checkpoint *checkpoint, int64 nevents, TimestampTz now)
{
	float8		seconds = Max(now - checkpoint->updated_at, 1000) / 1000000.0;
	float8		weight = exp(-seconds / RATE_WINDOW);

	if (!checkpoint->stored)
		return nevents / RATE_WINDOW;
	return checkpoint->rate * weight + nevents / seconds * (1 - weight);
}

static void
save_position(const Checkpoint *checkpoint, const Projection *projection, int64 nevents)
{
	/* ON CONFLICT: a stale REPEATABLE READ snapshot gets 40001, not 23505. */
	static SavedPlan insert_checkpoint = {
		.sql = "INSERT INTO dugong.checkpoints (projection, position, system_identifier, database_oid, "
		"fingerprint, batches, events, rate, updated_at) VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $8) "
		"ON CONFLICT (projection) DO NOTHING",
		.nargs = 8,
		.argtypes = {TEXTOID, INT8OID, INT8OID, OIDOID, INT8OID, INT8OID, FLOAT8OID, TIMESTAMPTZOID}
	};
	static SavedPlan update_checkpoint = {
		.sql = "UPDATE dugong.checkpoints SET position = $2, system_identifier = $3, database_oid = $4, "
		"fingerprint = $5, batches = batches OPERATOR(pg_catalog.+) 1, events = events OPERATOR(pg_catalog.+) $6, "
		"rate = $7, updated_at = $8 WHERE projection OPERATOR(pg_catalog.=) $1",
		.nargs = 8,
		.argtypes = {TEXTOID, INT8OID, INT8OID, OIDOID, INT8OID, INT8OID, FLOAT8OID, TIMESTAMPTZOID}
	};
	TimestampTz now = GetCurrentTimestamp();
	Datum		values[] = {
		CStringGetTextDatum(projection->name),
		Int64GetDatum(checkpoint->position),
		Int64GetDatum(home_system_identifier()),
		ObjectIdGetDatum(MyDatabaseId),
		Int64GetDatum(checkpoint->has_fingerprint ? checkpoint->fingerprint : projection_fingerprint(projection)),
		Int64GetDatum(nevents),
		Float8GetDatum(next_rate(checkpoint, nevents, now)),
		TimestampTzGetDatum(now)
	};

	plan_execute(checkpoint->stored ? &update_checkpoint : &insert_checkpoint,
				 values, NULL, false);
}

static void
save_holes(const Checkpoint *checkpoint, Datum projection)
{
	static SavedPlan delete_hole = {
		.sql = "DELETE FROM dugong.checkpoint_holes WHERE projection OPERATOR(pg_catalog.=) $1 "
		"AND first_position OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.argtypes = {TEXTOID, INT8OID}
	};
	static SavedPlan insert_hole = {
		.sql = "INSERT INTO dugong.checkpoint_holes (projection, first_position, last_position, transactions) "
		"VALUES ($1, $2, $3, $4)",
		.nargs = 4,
		.argtypes = {TEXTOID, INT8OID, INT8OID, XID8ARRAYOID}
	};
	ListCell   *cell;

	foreach(cell, checkpoint->removed)
	{
		Hole	   *hole = lfirst(cell);
		Datum		values[] = {projection, Int64GetDatum(hole->first)};

		plan_execute(&delete_hole, values, NULL, false);
	}
	foreach(cell, checkpoint->added)
	{
		Hole	   *hole = lfirst(cell);
		Datum		values[] = {
			projection, Int64GetDatum(hole->first), Int64GetDatum(hole->last),
			candidates_array(&hole->candidates)
		};

		plan_execute(&insert_hole, values, NULL, false);
	}
}

/* In the current memory context. */
Hole *
hole_copy(const Hole *hole)
{
	Hole	   *copy = palloc(sizeof(Hole));

	*copy = *hole;
	copy->candidates.xids = palloc(Max(hole->candidates.count, 1) * sizeof(uint64));
	memcpy(copy->candidates.xids, hole->candidates.xids, hole->candidates.count * sizeof(uint64));
	return copy;
}

static int
compare_holes(const ListCell *one, const ListCell *other)
{
	const Hole *a = lfirst(one);
	const Hole *b = lfirst(other);

	return a->first < b->first ? -1 : a->first > b->first;
}

/* The holes that stay, as a new list; frees the others. */
static List *
without_removed(List *holes, List *removed)
{
	List	   *kept = NIL;
	ListCell   *cell;

	foreach(cell, removed)
		((Hole *) lfirst(cell))->removed = true;
	foreach(cell, holes)
	{
		Hole	   *hole = lfirst(cell);

		if (!hole->removed)
			kept = lappend(kept, hole);
		else
		{
			pfree(hole->candidates.xids);
			pfree(hole);
		}
	}
	list_free(holes);
	return kept;
}

/* Remembers what the row's new version says; if it never commits, nobody meets its xmin again. */
static void
remember(Checkpoint *checkpoint)
{
	CheckpointMemory *memory = checkpoint->memory;
	MemoryContext old = MemoryContextSwitchTo(memory->context);
	ListCell   *cell;

	/* If memory runs out on the way, they are those of no row. */
	memory->xmin = InvalidTransactionId;
	/* First: what is added may be a part of what is removed, with its candidates. */
	foreach(cell, checkpoint->added)
		memory->holes = lappend(memory->holes, hole_copy(lfirst(cell)));
	if (checkpoint->removed != NIL)
		memory->holes = without_removed(memory->holes, checkpoint->removed);
	if (checkpoint->added != NIL)
		list_sort(memory->holes, compare_holes);
	MemoryContextSwitchTo(old);
	memory->xmin = GetCurrentTransactionId();
	memory->batches = checkpoint->batches + 1;
}

/*
 * Writes what changed; the caller commits it with what the projection wrote.
 *
 * nevents: that were handled since it was loaded.
 */
void
checkpoint_save(Checkpoint *checkpoint, const Projection *projection, int64 nevents)
{
	SPI_connect();
	save_position(checkpoint, projection, nevents);
	save_holes(checkpoint, CStringGetTextDatum(projection->name));
	SPI_finish();
	remember(checkpoint);
	checkpoint->removed = NIL;
	checkpoint->added = NIL;
	restore_floor_moved();
}

/* Forgets a projection's checkpoint and holes: it starts anew where it started. */
void
checkpoint_remove(const char *projection)
{
	static SavedPlan delete_holes = {
		.sql = "DELETE FROM dugong.checkpoint_holes WHERE projection OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.argtypes = {TEXTOID}
	};
	static SavedPlan delete_checkpoint = {
		.sql = "DELETE FROM dugong.checkpoints WHERE projection OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.argtypes = {TEXTOID}
	};
	Datum		name = CStringGetTextDatum(projection);

	SPI_connect();
	plan_execute(&delete_holes, &name, NULL, false);
	plan_execute(&delete_checkpoint, &name, NULL, false);
	SPI_finish();
	restore_floor_moved();
}

/* All up to the position is handled, and no hole can fill any more.  What the projection was made by stays. */
void
checkpoint_settle(const Projection *projection, int64 position)
{
	Checkpoint	checkpoint;

	checkpoint_load(&checkpoint, projection);
	checkpoint.position = position;
	checkpoint.removed = list_copy(checkpoint.holes);
	checkpoint_save(&checkpoint, projection, 0);
	CommandCounterIncrement();
}

/* Begins a checkpoint anew, without holes: all up to the position is handled. */
static void
begin_anew(const Projection *projection, int64 position)
{
	Checkpoint	checkpoint = {.position = position,.memory = find_memory(projection->name)};

	checkpoint_remove(projection->name);
	forget(checkpoint.memory);
	checkpoint_save(&checkpoint, projection, 0);
	forget(checkpoint.memory);
	CommandCounterIncrement();
}

/* Sends a projection back to where it started. */
void
checkpoint_reset(const Projection *projection, int64 replay_until)
{
	static SavedPlan set_until = {
		.sql = "UPDATE dugong.checkpoints SET replay_until = $2 WHERE projection OPERATOR(pg_catalog.=) $1",
		.nargs = 2,
		.argtypes = {TEXTOID, INT8OID}
	};
	Datum		values[] = {CStringGetTextDatum(projection->name), Int64GetDatum(replay_until)};

	begin_anew(projection, projection->start_position);
	plan_run(&set_until, values, NULL);
}

/* What the query model holds is what today's code would have made. */
void
checkpoint_accept(const Projection *projection)
{
	static SavedPlan set_fingerprint = {
		.sql = "UPDATE dugong.checkpoints SET fingerprint = $2 WHERE projection OPERATOR(pg_catalog.=) $1",
		.nargs = 2,
		.argtypes = {TEXTOID, INT8OID}
	};
	Datum		values[] = {CStringGetTextDatum(projection->name), Int64GetDatum(projection_fingerprint(projection))};

	plan_run(&set_fingerprint, values, NULL);
}
