/*
 * relation_change.h
 *		Hearing that a relation's catalog entries have changed.
 */
#ifndef DUGONG_RELATION_CHANGE_H
#define DUGONG_RELATION_CHANGE_H

#include "postgres.h"

/* Called with the relation, or InvalidOid for all; as restricted as a relcache callback. */
typedef void (*RelationChangeCallback) (void *arg, Oid relid);

extern void relation_change_hear(RelationChangeCallback callback, void *arg);

#endif							/* DUGONG_RELATION_CHANGE_H */
