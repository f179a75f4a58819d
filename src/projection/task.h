/*
 * task.h
 *		The projections that a worker runs.
 */
#ifndef DUGONG_TASK_H
#define DUGONG_TASK_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "projection/projection.h"
#include "utils/timestamp.h"

/* After an error, ms: the first one, and what it grows to. */
#define TASK_MIN_PAUSE 100
#define TASK_MAX_PAUSE 10000

/* What a round of batches came to. */
typedef enum Round
{
	ROUND_CAUGHT_UP,			/* and nothing was written */
	ROUND_WORKED,				/* something was done */
	ROUND_BUSY,					/* another session has a projection, or it has failed */
	ROUND_GONE,					/* there is nothing to do here any more */
	ROUND_WANTED				/* somebody wants the database for himself */
} Round;

/* What a worker knows of a projection. */
typedef struct Task Task;

extern Task *task_get(const Projection *projection);
extern Round tasks_run(List *chosen);
extern void tasks_retry(List *chosen);
extern TimestampTz tasks_next_try(TimestampTz after);
extern bool database_is_wanted(void);

#endif							/* DUGONG_TASK_H */
