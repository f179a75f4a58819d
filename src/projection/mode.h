/*
 * mode.h
 *		Changing a projection from async to inline, and back.
 */
#ifndef DUGONG_MODE_H
#define DUGONG_MODE_H

#include "postgres.h"

#include "projection/projection.h"

extern void mode_change(const Projection *projection, bool to_inline);

#endif							/* DUGONG_MODE_H */
