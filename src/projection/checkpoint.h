/*
 * checkpoint.h
 *		How far a projection has handled the log.
 */
#ifndef DUGONG_CHECKPOINT_H
#define DUGONG_CHECKPOINT_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "projection/candidates.h"
#include "projection/projection.h"
#include "store/log.h"
#include "utils/hsearch.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

/* Neighbouring positions below the checkpoint where no event was seen. */
typedef struct Hole
{
	int64		first;
	int64		last;
	Candidates	candidates;		/* who may fill it; none = nobody any more */
	bool		probed;			/* looked into since its candidates were listed? */
	bool		removed;		/* set when it is saved */
} Hole;

typedef struct CheckpointMemory CheckpointMemory;

typedef struct Checkpoint
{
	int64		position;		/* events up to here are handled, holes apart */
	bool		stored;			/* is there a row? */
	bool		foreign;		/* its transaction ids are another cluster's */
	int64		fingerprint;	/* of what made the query model */
	bool		has_fingerprint;
	int64		replay_until;	/* events up to here were handled before */
	int64		batches;		/* saves so far */
	float8		rate;			/* events in a second, at updated_at */
	TimestampTz updated_at;
	List	   *holes;			/* Hole, ascending; as stored */
	List	   *removed;		/* Hole, of holes: to delete */
	List	   *added;			/* Hole: to insert */
	CheckpointMemory *memory;
} Checkpoint;

extern Hole *hole_copy(const Hole *hole);
extern void checkpoint_load(Checkpoint *checkpoint, const Projection *projection);
extern void checkpoint_look(Checkpoint *checkpoint, const Projection *projection);
extern void checkpoint_add_hole(Checkpoint *checkpoint, int64 first, int64 last,
								const Candidates *candidates, bool probed);
extern bool checkpoint_holes_have_events(const Checkpoint *checkpoint, int64 target, Relation log,
										 Snapshot snapshot);
extern int64 checkpoint_last_handled(const Checkpoint *checkpoint, const Projection *projection, Relation log,
									 const AggregateKey *key, int64 before, Snapshot snapshot);
extern void checkpoint_save(Checkpoint *checkpoint, const Projection *projection, int64 nevents);
extern void checkpoint_reset(const Projection *projection, int64 replay_until);
extern void checkpoint_settle(const Projection *projection, int64 position);
extern void checkpoint_accept(const Projection *projection);
extern void checkpoint_remove(const char *projection);
extern HTAB *checkpoint_ahead(const Checkpoint *checkpoint);
extern HTAB *checkpoint_make_ahead(CheckpointMemory *memory, Size entry_size, int max_entries);
extern text *checkpoint_keep_text(CheckpointMemory *memory, const text *value);

#endif							/* DUGONG_CHECKPOINT_H */
