/*
 * slots.h
 *		More databases than slots for background workers.
 */
#ifndef DUGONG_SLOTS_H
#define DUGONG_SLOTS_H

#include "postgres.h"

extern int	slots_of_other_workers(void);
extern bool slots_are_scarce(void);

#endif							/* DUGONG_SLOTS_H */
