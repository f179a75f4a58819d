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
	Fold		fold;
	MemoryContext context;		/* holds the state */
	MemoryContext event_context;	/* reset after each event */
	int64		sequence_number;	/* of the last event folded; 0 = none */
	Datum		state;
	bool		isnull;			/* no event yet, or deleted */
	Datum		last_state;		/* the last living one, if isnull */
	bool		last_isnull;
} Aggregate;

extern void aggregate_init(Aggregate *aggregate, const AggregateKey *key);
extern void aggregate_build(Aggregate *aggregate, Relation log,
							int64 to_sequence_number, Snapshot snapshot);
extern void aggregate_build_current(Aggregate *aggregate);
extern void aggregate_apply(Aggregate *aggregate, const LogRow *row);
extern void aggregate_free(Aggregate *aggregate);

#endif							/* DUGONG_AGGREGATE_H */
