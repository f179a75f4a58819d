/*
 * rebuild_states.h
 *		Writing what a projection of states keeps again, in place.
 */
#ifndef DUGONG_REBUILD_STATES_H
#define DUGONG_REBUILD_STATES_H

#include "postgres.h"

#include "projection/projection.h"

extern void rebuild_in_place(const char *name, bool atomic);
extern void rebuild_aggregate(const Projection *projection, const AggregateKey *key, bool own_transaction);

#endif							/* DUGONG_REBUILD_STATES_H */
