/*
 * projection.h
 *		The registry of projections.
 */
#ifndef DUGONG_PROJECTION_H
#define DUGONG_PROJECTION_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "store/aggregate_type.h"

/* A row of dugong.projections. */
typedef struct Projection
{
	char	   *name;
	const AggregateType *type;
	char	   *query_model;	/* qualified name of its table */
} Projection;

extern List *projection_list(void);

#endif							/* DUGONG_PROJECTION_H */
