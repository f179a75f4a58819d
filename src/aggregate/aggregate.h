/*
 * aggregate.h
 *		An aggregate, rebuilt from its events.
 */
#ifndef DUGONG_AGGREGATE_H
#define DUGONG_AGGREGATE_H

#include "postgres.h"

#include "aggregate/fold.h"
#include "store/log.h"

typedef struct Aggregate
{
	AggregateKey key;
	const AggregateType *type;
	int64		fingerprint;	/* of the fold, before it was opened */
	Fold	   *fold;
	MemoryContext context;		/* holds the state */
	MemoryContext event_context;	/* reset after each event */
	MemoryContext other_context;	/* may hold the state of dugong's own fold */
	int64		sequence_number;	/* of the last event folded; 0 = none */
	Datum		transition;		/* state of the transition function */
	bool		transition_isnull;
	Datum		state;			/* what the fold gives for it */
	bool		isnull;			/* no event yet, or deleted */
	Datum		last;			/* the last living state, if isnull */
	bool		last_isnull;
	TimestampTz timestamp;		/* of the last event folded; 0 = not known */
	uint64		appends;		/* the session's, when it was built as it is now */
	bool		is_current;
	bool		erased;			/* then it has no state, and will have none */
	ItemPointerData snapshot_tid;	/* of the stored snapshot that was read, good or not */
	bool		skip_snapshot;	/* fold all of the log */
	bool		wants_last;		/* keep it also if that costs a call for each event */
} Aggregate;

/* How far a build goes: to the first event beyond either. */
typedef struct BuildLimit
{
	int64		sequence_number;
	TimestampTz as_of;
} BuildLimit;

extern void aggregate_init(Aggregate *aggregate, const AggregateKey *key);
extern void aggregate_build(Aggregate *aggregate, Relation log,
							const BuildLimit *limit, Snapshot snapshot);
extern void aggregate_build_current(Aggregate *aggregate);
extern const AggregateHead *aggregate_known_head(const Aggregate *aggregate, AggregateHead *head);
extern void aggregate_apply(Aggregate *aggregate, const LogRow *row);
extern void aggregate_release_fold(Aggregate *aggregate);
extern void aggregate_free(Aggregate *aggregate);

#endif							/* DUGONG_AGGREGATE_H */
