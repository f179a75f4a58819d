/*
 * next_aggregates.h
 *		The aggregates of a projection of states, in the order of their keys.
 */
#ifndef DUGONG_NEXT_AGGREGATES_H
#define DUGONG_NEXT_AGGREGATES_H

#include "postgres.h"

#include "projection/work.h"

/* The last aggregate that was collected. */
typedef struct AggregateCursor
{
	text	   *tenant_id;		/* NULL = none yet */
	pg_uuid_t	id;
} AggregateCursor;

extern void work_note_last(Work *work, Change *change);
extern int	work_collect_next(Work *work, int limit, AggregateCursor *cursor);

#endif							/* DUGONG_NEXT_AGGREGATES_H */
