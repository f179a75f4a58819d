/*
 * rebuild.h
 *		Making a query model anew from the log.
 */
#ifndef DUGONG_REBUILD_H
#define DUGONG_REBUILD_H

#include "postgres.h"

#include "projection/projection.h"

extern void rebuild_aggregate(const Projection *projection, const AggregateKey *key, bool own_transaction);
extern void replay_all(const Projection *projection);

#endif							/* DUGONG_REBUILD_H */
