/*
 * snapshot.h
 *		Cached states of aggregates.
 */
#ifndef DUGONG_SNAPSHOT_H
#define DUGONG_SNAPSHOT_H

#include "postgres.h"

#include "aggregate/aggregate.h"
#include "util/attempt.h"

extern void snapshot_init(void);
extern void snapshot_after_append(const Aggregate *aggregate);
extern int64 snapshot_forget(const AggregateKey *key);
extern bytea *snapshot_make(const Aggregate *aggregate);
extern void snapshot_store(const Aggregate *aggregate, bytea *state);
extern ErrorData *snapshot_attempt_state(AttemptAction action, void *arg);
extern void snapshot_restore(Aggregate *aggregate, int64 to_sequence_number, Snapshot snapshot);

#endif							/* DUGONG_SNAPSHOT_H */
