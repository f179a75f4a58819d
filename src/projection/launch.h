/*
 * launch.h
 *		Starting the background worker of a database.
 */
#ifndef DUGONG_LAUNCH_H
#define DUGONG_LAUNCH_H

#include "postgres.h"

#include "postmaster/bgworker.h"

/* What wakes the workers, other than the channels of aggregate types. */
#define WORKER_CHANNEL "dugong"

/* Restart time of a worker that ended other than by its own decision, s. */
#define WORKER_RESTART_TIME 1

/* What a worker is told, in bgw_extra. */
typedef struct WorkerIdentity
{
	Oid			tablespace;		/* of the database */
	int			number;			/* 0 .. dugong.max_workers - 1 */
} WorkerIdentity;

extern void launch_init(void);
extern void launch_want_worker(void);
extern void launch_if_missing(void);
extern bool workers_are_stopped(void);
extern bool launch_worker(Oid database, Oid tablespace, int number, bool waits,
						  BackgroundWorkerHandle **handle);

#endif							/* DUGONG_LAUNCH_H */
