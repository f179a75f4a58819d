/*
 * batch.h
 *		One step of a projection: read, handle, move the checkpoint.
 */
#ifndef DUGONG_BATCH_H
#define DUGONG_BATCH_H

#include "postgres.h"

#include "projection/projection.h"

typedef enum BatchResult
{
	BATCH_DONE,					/* it has caught up with its snapshot, or does not run */
	BATCH_MORE,					/* a limit was reached, there may be more */
	BATCH_BUSY					/* another session has the projection */
} BatchResult;

/* How a batch is to be run. */
typedef struct BatchRequest
{
	const char *projection;
	int			limit;			/* events to handle at most */
	bool		wait;			/* for a session that has the projection */
	bool		own_transaction;	/* is nothing but the projection's work in it? */
	bool		defers;			/* does the caller fire deferred triggers at the end? */
	bool		isolates;		/* limit is 1: what fails is set aside */
	bool		fails;			/* is nothing to be set aside, whatever fails? */
	bool		patient;		/* and may that which another try may cure be tried again? */
} BatchRequest;

/* What it came to. */
typedef struct BatchOutcome
{
	int			handled;		/* events */
	int64		position;		/* of the checkpoint */
} BatchOutcome;

extern void batch_smaller(BatchRequest *request);
extern void batch_larger(BatchRequest *request);
extern BatchResult batch_run(const BatchRequest *request, BatchOutcome *outcome);
extern BatchResult batch_retry(const BatchRequest *request);

#endif							/* DUGONG_BATCH_H */
