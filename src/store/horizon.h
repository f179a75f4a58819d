/*
 * horizon.h
 *		Up to where the log cannot change any more.
 */
#ifndef DUGONG_HORIZON_H
#define DUGONG_HORIZON_H

#include "postgres.h"

#include "utils/rel.h"

extern void horizon_publish(Relation log);
extern int64 horizon_last_drawn(void);
extern int64 horizon_get(void);
extern void horizon_move_sequence(int64 position);

#endif							/* DUGONG_HORIZON_H */
