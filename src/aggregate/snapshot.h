/*
 * snapshot.h
 *		Cached states of aggregates.
 */
#ifndef DUGONG_SNAPSHOT_H
#define DUGONG_SNAPSHOT_H

#include "postgres.h"

#include "aggregate/aggregate.h"

extern void snapshot_init(void);
extern void snapshot_after_append(const Aggregate *aggregate);
extern int64 snapshot_forget(const AggregateKey *key);
extern void snapshot_restore(Aggregate *aggregate, int64 to_sequence_number, Snapshot snapshot);

#endif							/* DUGONG_SNAPSHOT_H */
