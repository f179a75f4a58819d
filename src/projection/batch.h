/*
 * batch.h
 *		One step of a projection: read, build, write, move the checkpoint.
 */
#ifndef DUGONG_BATCH_H
#define DUGONG_BATCH_H

#include "postgres.h"

#include "projection/projection.h"

typedef enum BatchResult
{
	BATCH_DONE,					/* it has caught up with its snapshot */
	BATCH_MORE,					/* the limit was reached, there may be more */
	BATCH_BUSY					/* another session has the projection */
} BatchResult;

extern BatchResult batch_run(const Projection *projection, bool wait);

#endif							/* DUGONG_BATCH_H */
