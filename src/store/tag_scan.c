/*
 * tag_scan.c
 *		Finding the events that a query for types and tags means.
 *
 * Under each key the index has positions in order.  The events of a term are
 * at the positions that all of its keys have: each key's cursor in turn goes
 * to where the one before it stands, until all stand at one position.  So a
 * rare tag costs little beside one that many events have.
 *
 * The index may know positions that the log does not: an INSERT of the log's
 * owner with ON CONFLICT DO NOTHING leaves them.  Who scans looks at the log.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "miscadmin.h"
#include "store/tag_query.h"
#include "utils/fmgroids.h"

static bool
is_forward(const TagScan *scan)
{
	return ScanDirectionIsForward(scan->direction);
}

/* Has the scan, at a position, come to another or gone by it? */
static bool
reaches(const TagScan *scan, int64 position, int64 other)
{
	return is_forward(scan) ? position >= other : position <= other;
}

static bool
cursor_next(TagCursor *cursor)
{
	bool		isnull;

	CHECK_FOR_INTERRUPTS();
	if (!log_scan_next(&cursor->scan))
		return false;
	cursor->position = DatumGetInt64(slot_getattr(cursor->scan.slot, 2, &isnull));
	return true;
}

static void
cursor_keys(const TagScan *scan, const TagCursor *cursor, int64 start, ScanKey keys)
{
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(cursor->key));
	if (is_forward(scan))
		ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(start));
	else
		ScanKeyInit(&keys[1], 2, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(start));
}

/* Goes to a position, or beyond it to the next that there is; false if there is none. */
static bool
cursor_seek(const TagScan *scan, TagCursor *cursor, int64 start)
{
	ScanKeyData keys[2];

	/* Mostly it is the next one. */
	if (cursor->position != 0)
	{
		if (reaches(scan, cursor->position, start))
			return true;
		if (!cursor_next(cursor))
			return false;
		if (reaches(scan, cursor->position, start))
			return true;
	}
	cursor_keys(scan, cursor, start, keys);
	index_rescan(cursor->scan.scan, keys, 2, NULL, 0);
	return cursor_next(cursor);
}

/* Sets the walk's position to the next from start on that all of its keys have. */
static void
walk_seek(const TagScan *scan, TagWalk *walk, int64 start)
{
	int			agreed = 0;

	walk->position = 0;
	for (int i = 0; agreed < walk->term->nkeys; i = (i + 1) % walk->term->nkeys)
	{
		TagCursor  *cursor = &walk->cursors[i];

		if (!cursor_seek(scan, cursor, start))
			return;
		agreed = cursor->position == start ? agreed + 1 : 1;
		start = cursor->position;
	}
	walk->position = start;
}

/* Starts at a position, which is included. */
void
tag_scan_begin(TagScan *scan, const TagQuery *query, int64 start, ScanDirection direction, Snapshot snapshot)
{
	ListCell   *cell;
	TagWalk    *walk;

	scan->index_table = table_open(dugong_relid("event_tags"), AccessShareLock);
	scan->direction = direction;
	scan->last = 0;
	scan->nwalks = list_length(query->terms);
	scan->walks = palloc0(scan->nwalks * sizeof(TagWalk));
	walk = scan->walks;
	foreach(cell, query->terms)
	{
		walk->term = lfirst(cell);
		walk->cursors = palloc0(walk->term->nkeys * sizeof(TagCursor));
		for (int i = 0; i < walk->term->nkeys; i++)
		{
			ScanKeyData keys[2];

			walk->cursors[i].key = &walk->term->keys[i];
			cursor_keys(scan, &walk->cursors[i], start, keys);
			log_scan_begin(&walk->cursors[i].scan, scan->index_table, "event_tags_pkey", keys, 2,
						   direction, snapshot);
		}
		walk_seek(scan, walk, start);
		walk++;
	}
}

/* The next position and a term that is there; NULL = no more.  Each position comes once. */
const TagTerm *
tag_scan_next(TagScan *scan, int64 *position)
{
	const TagWalk *next = NULL;

	for (int i = 0; i < scan->nwalks; i++)
	{
		TagWalk    *walk = &scan->walks[i];

		if (scan->last != 0 && walk->position == scan->last)
			walk_seek(scan, walk, scan->last + (is_forward(scan) ? 1 : -1));
		if (walk->position != 0 && (next == NULL || reaches(scan, next->position, walk->position)))
			next = walk;
	}
	if (next == NULL)
		return NULL;
	scan->last = *position = next->position;
	return next->term;
}

void
tag_scan_end(TagScan *scan)
{
	for (int i = 0; i < scan->nwalks; i++)
		for (int k = 0; k < scan->walks[i].term->nkeys; k++)
			log_scan_end(&scan->walks[i].cursors[k].scan);
	table_close(scan->index_table, NoLock);
}
