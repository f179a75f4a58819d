/*
 * aggregate_lock.h
 *		Commands on one aggregate queue here.
 */
#ifndef DUGONG_AGGREGATE_LOCK_H
#define DUGONG_AGGREGATE_LOCK_H

#include "postgres.h"

#include "store/log.h"

extern void aggregate_lock_init(void);
extern void aggregate_lock_new(const AggregateKey *key);
extern void aggregate_lock(const AggregateKey *key);
extern void aggregate_lock_pair(const AggregateKey *one, const AggregateKey *other);

#endif							/* DUGONG_AGGREGATE_LOCK_H */
