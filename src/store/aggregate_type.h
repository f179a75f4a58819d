/*
 * aggregate_type.h
 *		The names of aggregate types and what is registered of them.
 */
#ifndef DUGONG_AGGREGATE_TYPE_H
#define DUGONG_AGGREGATE_TYPE_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "utils/array.h"
#include "util/identity.h"

/* A row of dugong.aggregate_types.  Entries stay at their address. */
typedef struct AggregateType
{
	int32		id;				/* hash key: derived from origin and name */
	bool		live;			/* was there at the last read */
	text	   *origin;
	text	   *name;
	char	   *channel;		/* origin-name */
	char	   *owner;			/* role whose rights its code has */
	char	   *search_path;	/* what its code finds names along */
	char	   *fold;			/* signature, or NULL */
	ArrayType  *depends_on;		/* text: signatures of what the fold calls; or NULL */
	int			snapshot_interval;	/* events; 0 = no snapshots */
	bool		has_default_interval;	/* the type does not say how often */
	bool		strict;			/* only declared event types */
	bool		external;		/* another service's: events are only received */
} AggregateType;

extern void aggregate_type_init(void);
extern const AggregateType *aggregate_type_by_id(int32 id);
extern const AggregateType *aggregate_type_get(int32 id);
extern const AggregateType *aggregate_type_by_name(const char *origin, const char *name);
extern const AggregateType *aggregate_type_find(const char *origin, const char *name);
extern const AggregateType *aggregate_type_find_channel(const char *channel);
extern const AggregateType *aggregate_type_by_channel(const char *name);
extern List *aggregate_type_list(void);
extern void aggregate_type_assume_owner(const AggregateType *type, Identity *before);

#endif							/* DUGONG_AGGREGATE_TYPE_H */
