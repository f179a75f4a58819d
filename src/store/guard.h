/*
 * guard.h
 *		What keeps the log append-only and there.
 */
#ifndef DUGONG_GUARD_H
#define DUGONG_GUARD_H

#include "postgres.h"

#include "util/plan.h"

extern void guard_init(void);
extern void guard_check(void);
extern uint64 guard_execute(SavedPlan *statement, Datum *values);

#endif							/* DUGONG_GUARD_H */
