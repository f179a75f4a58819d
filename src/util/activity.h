/*
 * activity.h
 *		A background worker's transactions, as others see them.
 */
#ifndef DUGONG_ACTIVITY_H
#define DUGONG_ACTIVITY_H

#include "postgres.h"

extern void activity_begin(const char *activity);
extern void activity_commit(void);

#endif							/* DUGONG_ACTIVITY_H */
