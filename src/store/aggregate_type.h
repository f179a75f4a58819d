/*
 * aggregate_type.h
 *		The names of aggregate types and what is registered of them.
 */
#ifndef DUGONG_AGGREGATE_TYPE_H
#define DUGONG_AGGREGATE_TYPE_H

#include "postgres.h"

/* A row of dugong.aggregate_types.  Entries stay at their address. */
typedef struct AggregateType
{
	int32		id;				/* hash key: derived from origin and name */
	bool		live;			/* was there at the last read */
	text	   *origin;
	text	   *name;
	char	   *channel;		/* origin-name */
	char	   *fold;			/* signature, or NULL */
} AggregateType;

extern void aggregate_type_init(void);
extern const AggregateType *aggregate_type_by_id(int32 id);
extern const AggregateType *aggregate_type_by_name(const char *origin, const char *name);

#endif							/* DUGONG_AGGREGATE_TYPE_H */
