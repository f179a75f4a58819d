/*
 * checkpoint.h
 *		How far a projection has handled the log.
 */
#ifndef DUGONG_CHECKPOINT_H
#define DUGONG_CHECKPOINT_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "projection/candidates.h"

/* Neighbouring positions below the checkpoint where no event was seen. */
typedef struct Hole
{
	int64		first;
	int64		last;
	Candidates	candidates;		/* who may fill it; none = nobody any more */
} Hole;

typedef struct Checkpoint
{
	int64		position;		/* events up to here are handled, holes apart */
	bool		stored;			/* is there a row? */
	bool		foreign;		/* its transaction ids are another cluster's */
	List	   *holes;			/* Hole, ascending; as stored */
	List	   *removed;		/* Hole, of holes: to delete */
	List	   *added;			/* Hole: to insert */
} Checkpoint;

extern void checkpoint_load(Checkpoint *checkpoint, const char *projection);
extern void checkpoint_add_hole(Checkpoint *checkpoint, int64 first, int64 last,
								const Candidates *candidates);
extern void checkpoint_save(const Checkpoint *checkpoint, const char *projection);

#endif							/* DUGONG_CHECKPOINT_H */
