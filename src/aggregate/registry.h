/*
 * registry.h
 *		Creating, altering and dropping aggregate types and event types.
 */
#ifndef DUGONG_REGISTRY_H
#define DUGONG_REGISTRY_H

#include "postgres.h"

#include "fmgr.h"
#include "store/aggregate_type.h"

extern const AggregateType *registry_own_type(FunctionCallInfo fcinfo, int name, int origin);

#endif							/* DUGONG_REGISTRY_H */
