/*
 * replay.h
 *		Handling all that is in the log again.
 */
#ifndef DUGONG_REPLAY_H
#define DUGONG_REPLAY_H

#include "postgres.h"

#include "projection/projection.h"

extern void replay_all(const Projection *projection);
extern void replay_at_once(const char *name, bool atomic);
extern void replay_offline(const char *name);

#endif							/* DUGONG_REPLAY_H */
