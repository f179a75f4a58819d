/*
 * announce.h
 *		Notifying applications of what has been appended.
 */
#ifndef DUGONG_ANNOUNCE_H
#define DUGONG_ANNOUNCE_H

#include "postgres.h"

extern void announce_begin(void);
extern bool announce(void);
extern void announce_projection(const char *name, int64 position, int64 count);
extern void announce_committed(void);

#endif							/* DUGONG_ANNOUNCE_H */
