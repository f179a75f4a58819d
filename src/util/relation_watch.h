/*
 * relation_watch.h
 *		Hearing of it when a relation changes.
 */
#ifndef DUGONG_RELATION_WATCH_H
#define DUGONG_RELATION_WATCH_H

#include "postgres.h"

#include "utils/inval.h"

extern void relation_watch(RelcacheCallbackFunction callback, Datum arg);

#endif							/* DUGONG_RELATION_WATCH_H */
