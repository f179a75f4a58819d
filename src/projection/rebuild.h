/*
 * rebuild.h
 *		Making a query model anew from the log.
 */
#ifndef DUGONG_REBUILD_H
#define DUGONG_REBUILD_H

#include "postgres.h"

#include "projection/projection.h"

extern Projection *rebuild_lock(const char *name);

#endif							/* DUGONG_REBUILD_H */
