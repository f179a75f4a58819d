/*
 * moment.h
 *		A moment without appends.
 */
#ifndef DUGONG_MOMENT_H
#define DUGONG_MOMENT_H

#include "postgres.h"

extern void moment_take(const char *projection, void (*action) (const char *projection));
extern void moment_take_all(void (*lock) (void));

#endif							/* DUGONG_MOMENT_H */
