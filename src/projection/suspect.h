/*
 * suspect.h
 *		What a process was at when it died.
 */
#ifndef DUGONG_SUSPECT_H
#define DUGONG_SUSPECT_H

#include "postgres.h"

#include "utils/uuid.h"

/* So often may a process die over an aggregate before that is set aside. */
#define MAX_DEATHS 3

extern void suspect_init(void);
extern bool suspect_look(const char *projection);
extern void suspect_batch(const char *projection, int nevents);
extern int	suspect_aggregate(const pg_uuid_t *id);
extern bool suspect_set_aside(void);
extern void suspect_done(const char *projection, int nevents);
extern void suspect_forget(const char *projection);

#endif							/* DUGONG_SUSPECT_H */
