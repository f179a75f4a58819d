/*
 * reader.c
 *		Reading on in the log from a checkpoint.
 *
 * All is read under one snapshot: first what has appeared in the holes, then
 * what lies above the position.  Only after that are the candidates listed who
 * may fill the holes that were seen (candidates.c).  The checkpoint in memory
 * moves with what is read; to store it is the caller's.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "projection/reader.h"

static int64
slot_position(TupleTableSlot *slot)
{
	bool		isnull;

	return DatumGetInt64(slot_getattr(slot, LOG_POSITION, &isnull));
}

/* Neighbouring holes mostly have the same candidates: the last answers are kept. */
#define KNOWN_CANDIDATES 64

typedef struct KnownCandidates
{
	uint64		xids[KNOWN_CANDIDATES]; /* 0 = none */
	bool		ended[KNOWN_CANDIDATES];
} KnownCandidates;

static bool
has_ended(KnownCandidates *known, uint64 xid, Snapshot snapshot)
{
	int			slot = xid % KNOWN_CANDIDATES;

	if (known->xids[slot] != xid)
	{
		known->xids[slot] = xid;
		known->ended[slot] = candidate_has_ended(xid, snapshot);
	}
	return known->ended[slot];
}

/*
 * Has nobody ended who may fill a hole that somebody may fill?  One who ended
 * after the snapshot of the poll that noted it, but before the candidates were
 * listed, is none of them: so it is looked into once in any case.
 */
static bool
is_unchanged(const LogReader *reader, KnownCandidates *known, const Hole *hole)
{
	if (!hole->probed)
		return false;
	for (int i = 0; i < hole->candidates.count; i++)
		if (has_ended(known, hole->candidates.xids[i], reader->snapshot))
			return false;
	return hole->candidates.count > 0;
}

/* The candidates of a hole that have not ended, as the snapshot sees them. */
static Candidates
still_running(const LogReader *reader, KnownCandidates *known, const Hole *hole)
{
	Candidates	running = {0, palloc(Max(hole->candidates.count, 1) * sizeof(uint64))};

	for (int i = 0; i < hole->candidates.count; i++)
		if (!has_ended(known, hole->candidates.xids[i], reader->snapshot))
			running.xids[running.count++] = hole->candidates.xids[i];
	return running;
}

/*
 * Reads what has appeared in a hole.  What is still empty stays a hole as long
 * as somebody may fill it; the part beyond the batch's limit stays as it was.
 */
static void
probe_hole(LogReader *reader, const Hole *hole, const Candidates *running)
{
	int64		next = hole->first; /* first position not accounted for */
	bool		limit = false;
	LogScan		scan;

	log_scan_positions(&scan, reader->log, hole->first, hole->last, ForwardScanDirection, reader->snapshot);
	while (!limit && log_scan_next(&scan))
	{
		int64		position = slot_position(scan.slot);

		if (position > next && running)
			checkpoint_add_hole(reader->checkpoint, next, position - 1, running, !reader->checkpoint->foreign);
		next = position + 1;
		reader->note(reader->arg, scan.slot);
		limit = reader->is_full(reader->arg);
	}
	log_scan_end(&scan);

	if (next <= hole->last && (limit || running))
		checkpoint_add_hole(reader->checkpoint, next, hole->last,
							limit ? &hole->candidates : running,
							limit ? hole->probed : !reader->checkpoint->foreign);
}

/*
 * Probes the holes of which a candidate has ended.  The candidates of another
 * cluster mean nothing here: its holes are probed, and kept once more with
 * those that run here.
 */
void
reader_read_holes(LogReader *reader)
{
	Checkpoint *checkpoint = reader->checkpoint;
	KnownCandidates known = {0};
	Candidates	here;
	ListCell   *cell;

	if (checkpoint->foreign)
		candidates_list(&here);
	foreach(cell, checkpoint->holes)
	{
		Hole	   *hole = lfirst(cell);
		Candidates	running;

		if (reader->is_full(reader->arg))
			break;
		if (checkpoint->foreign)
			running = here;
		else
		{
			if (is_unchanged(reader, &known, hole))
				continue;
			running = still_running(reader, &known, hole);
		}
		checkpoint->removed = lappend(checkpoint->removed, hole);
		probe_hole(reader, hole,
				   checkpoint->foreign || running.count > 0 ? &running : NULL);
	}
}

/*
 * Reads on from the position, and notes the holes that it passes.
 *
 * last: does not go beyond.
 */
void
reader_read_above(LogReader *reader, int64 last)
{
	Checkpoint *checkpoint = reader->checkpoint;
	List	   *starts = NIL;
	LogScan		scan;
	Candidates	candidates;
	ListCell   *cell;

	log_scan_positions(&scan, reader->log, checkpoint->position + 1, last,
					   ForwardScanDirection, reader->snapshot);
	while (!reader->is_full(reader->arg) && log_scan_next(&scan))
	{
		int64		position = slot_position(scan.slot);

		CHECK_FOR_INTERRUPTS();
		if (position > checkpoint->position + 1)
		{
			Hole	   *hole = palloc(sizeof(Hole));

			hole->first = checkpoint->position + 1;
			hole->last = position - 1;
			starts = lappend(starts, hole);
		}
		checkpoint->position = position;
		reader->note(reader->arg, scan.slot);
	}
	log_scan_end(&scan);

	if (starts == NIL)
		return;
	candidates_list(&candidates);
	foreach(cell, starts)
	{
		Hole	   *hole = lfirst(cell);

		checkpoint_add_hole(checkpoint, hole->first, hole->last, &candidates, false);
	}
}
