/*
 * launch.h
 *		Starting the background worker of a database.
 */
#ifndef DUGONG_LAUNCH_H
#define DUGONG_LAUNCH_H

#include "postgres.h"

#include "postmaster/bgworker.h"

/* Restart time of a worker that ended other than by its own decision, s. */
#define WORKER_RESTART_TIME 1

extern void launch_init(void);
extern bool launch_worker(Oid database, Oid tablespace,
						  BackgroundWorkerHandle **handle);

#endif							/* DUGONG_LAUNCH_H */
