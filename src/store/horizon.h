/*
 * horizon.h
 *		Up to where the log cannot change any more.
 */
#ifndef DUGONG_HORIZON_H
#define DUGONG_HORIZON_H

#include "postgres.h"

#include "storage/lock.h"
#include "utils/rel.h"

/* Does a lock that another transaction holds say that it matters? */
typedef bool (*LockChoice) (const LockInstanceData *lock, const void *arg);

extern void horizon_publish(Relation log);
extern int64 horizon_last_drawn(void);
extern int64 horizon_get(void);
extern int64 horizon_get_of(LockChoice matters, const void *arg);
extern void horizon_move_sequence(int64 position);

#endif							/* DUGONG_HORIZON_H */
