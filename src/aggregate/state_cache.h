/*
 * state_cache.h
 *		States that a process has built, kept for the next time.
 */
#ifndef DUGONG_STATE_CACHE_H
#define DUGONG_STATE_CACHE_H

#include "postgres.h"

#include "aggregate/aggregate.h"

extern void state_cache_load(Aggregate *aggregate);
extern void state_cache_store(const Aggregate *aggregate);

#endif							/* DUGONG_STATE_CACHE_H */
