/*
 * suspect.h
 *		What a worker was at when its process died.
 */
#ifndef DUGONG_SUSPECT_H
#define DUGONG_SUSPECT_H

#include "postgres.h"

#include "utils/uuid.h"

/* So often may a process die over an event before that is set aside. */
#define MAX_DEATHS 3

extern void suspect_init(int worker);
extern bool suspect_is(const char *projection);
extern void suspect_batch(const char *projection, int limit);
extern int	suspect_event(const pg_uuid_t *event_id);
extern void suspect_clear(int handled);

#endif							/* DUGONG_SUSPECT_H */
