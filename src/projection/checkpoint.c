/*
 * checkpoint.c
 *		How far a projection has handled the log.
 *
 * A checkpoint is a position (dugong.checkpoints) and the holes below it that
 * may still fill (dugong.checkpoint_holes), a row for each range of
 * neighbouring positions, so that a poll writes only what changes.
 *
 * Whoever loads or saves one holds the projection's lock.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "projection/checkpoint.h"
#include "store/home.h"
#include "store/restore.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "util/plan.h"

static void
read_candidates(Candidates *candidates, Datum array)
{
	Datum	   *elements;
	int			count;

	deconstruct_array(DatumGetArrayTypeP(array), XID8OID, sizeof(uint64),
					  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &elements, NULL, &count);
	candidates->count = count;
	candidates->xids = palloc(count * sizeof(uint64));
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

static void
load_position(Checkpoint *checkpoint, Datum projection)
{
	static SavedPlan select_checkpoint = {
		.sql = "SELECT position, system_identifier, database_oid FROM dugong.checkpoints "
		"WHERE projection OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.argtypes = {TEXTOID}
	};
	bool		isnull;

	checkpoint->stored = plan_execute(&select_checkpoint, &projection, NULL, true) > 0;
	if (!checkpoint->stored)
		return;
	checkpoint->position = DatumGetInt64(plan_result(0, 1, &isnull));
	checkpoint->foreign =
		DatumGetInt64(plan_result(0, 2, &isnull)) != home_system_identifier() ||
		DatumGetObjectId(plan_result(0, 3, &isnull)) != MyDatabaseId;
}

static void
load_holes(Checkpoint *checkpoint, Datum projection, MemoryContext context)
{
	static SavedPlan select_holes = {
		.sql = "SELECT first_position, last_position, transactions FROM dugong.checkpoint_holes "
		"WHERE projection OPERATOR(pg_catalog.=) $1 ORDER BY first_position",
		.nargs = 1,
		.argtypes = {TEXTOID}
	};
	uint64		nrows = plan_execute(&select_holes, &projection, NULL, true);
	MemoryContext old = MemoryContextSwitchTo(context);

	for (uint64 row = 0; row < nrows; row++)
	{
		Hole	   *hole = palloc(sizeof(Hole));
		bool		isnull;

		hole->first = DatumGetInt64(plan_result(row, 1, &isnull));
		hole->last = DatumGetInt64(plan_result(row, 2, &isnull));
		read_candidates(&hole->candidates, plan_result(row, 3, &isnull));
		checkpoint->holes = lappend(checkpoint->holes, hole);
	}
	MemoryContextSwitchTo(old);
}

/* Reads it under the active snapshot, into the current memory context. */
void
checkpoint_load(Checkpoint *checkpoint, const char *projection)
{
	MemoryContext context = CurrentMemoryContext;

	memset(checkpoint, 0, sizeof(*checkpoint));
	SPI_connect();
	load_position(checkpoint, CStringGetTextDatum(projection));
	load_holes(checkpoint, CStringGetTextDatum(projection), context);
	SPI_finish();
}

void
checkpoint_add_hole(Checkpoint *checkpoint, int64 first, int64 last,
					const Candidates *candidates)
{
	Hole	   *hole = palloc(sizeof(Hole));

	hole->first = first;
	hole->last = last;
	hole->candidates = *candidates;
	checkpoint->added = lappend(checkpoint->added, hole);
}

static void
save_position(const Checkpoint *checkpoint, Datum projection)
{
	/* ON CONFLICT: a stale REPEATABLE READ snapshot gets 40001, not 23505. */
	static SavedPlan insert_checkpoint = {
		.sql = "INSERT INTO dugong.checkpoints (projection, position, system_identifier, database_oid) "
		"VALUES ($1, $2, $3, $4) ON CONFLICT (projection) DO NOTHING",
		.nargs = 4,
		.argtypes = {TEXTOID, INT8OID, INT8OID, OIDOID}
	};
	static SavedPlan update_checkpoint = {
		.sql = "UPDATE dugong.checkpoints SET position = $2, system_identifier = $3, database_oid = $4 "
		"WHERE projection OPERATOR(pg_catalog.=) $1",
		.nargs = 4,
		.argtypes = {TEXTOID, INT8OID, INT8OID, OIDOID}
	};
	Datum		values[] = {
		projection,
		Int64GetDatum(checkpoint->position),
		Int64GetDatum(home_system_identifier()),
		ObjectIdGetDatum(MyDatabaseId)
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

/* Writes what changed; the caller commits it with what the projection wrote. */
void
checkpoint_save(const Checkpoint *checkpoint, const char *projection)
{
	SPI_connect();
	save_position(checkpoint, CStringGetTextDatum(projection));
	save_holes(checkpoint, CStringGetTextDatum(projection));
	SPI_finish();
	restore_floor_moved();
}
