/*
 * inline.h
 *		Projections that run within the append.
 */
#ifndef DUGONG_INLINE_H
#define DUGONG_INLINE_H

#include "postgres.h"

extern void inline_init(void);
extern void inline_catch_up(const char *projection);

#endif							/* DUGONG_INLINE_H */
