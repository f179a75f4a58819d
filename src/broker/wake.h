/*
 * wake.h
 *		Waking the background workers of a database.
 */
#ifndef DUGONG_WAKE_H
#define DUGONG_WAKE_H

#include "postgres.h"

extern void wake_register(int number);
extern void wake_unregister(int number);
extern bool wake_prepare(void);
extern void wake_workers(void);

#endif							/* DUGONG_WAKE_H */
