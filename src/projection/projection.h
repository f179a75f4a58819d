/*
 * projection.h
 *		The registry of projections.
 */
#ifndef DUGONG_PROJECTION_H
#define DUGONG_PROJECTION_H

#include "postgres.h"

#include "fmgr.h"
#include "nodes/pg_list.h"
#include "storage/lock.h"
#include "store/aggregate_type.h"
#include "store/log.h"
#include "utils/timestamp.h"

typedef enum ProjectionKind
{
	KIND_QUERY_MODEL,			/* states into a table */
	KIND_AGGREGATE,				/* update_handler, delete_handler: a state each */
	KIND_AGGREGATE_SET,			/* set_handler: states of a batch */
	KIND_EVENT,					/* event_handler: an event each */
	KIND_EVENT_SET,				/* set_handler: events of a batch */
	KIND_SUBSCRIPTION			/* nothing: a program outside fetches events */
} ProjectionKind;

typedef enum ProjectionState
{
	PROJECTION_RUNNING,
	PROJECTION_PAUSED,
	PROJECTION_STOPPED			/* by an error */
} ProjectionState;

/* A row of dugong.projections. */
typedef struct Projection
{
	char	   *name;
	char	   *owner;			/* role whose rights its handlers have */
	char	   *search_path;
	ProjectionKind kind;
	List	   *type_ids;		/* int: aggregate types */
	List	   *types;			/* char *: event types; NIL = all */
	char	   *query_model;	/* qualified name of its table, or NULL */
	char	   *update_handler; /* signatures, or NULL */
	char	   *delete_handler;
	char	   *event_handler;
	char	   *set_handler;
	char	   *reset_handler;
	bool		is_inline;
	bool		stops_on_error;
	ProjectionState state;
	int64		start_position;
	Interval	visibility_timeout; /* of a subscription */
} Projection;

extern void projection_init(void);
extern List *projection_list(void);
extern Projection *projection_find(const char *name);
extern Projection *projection_get(const char *name);
extern bool projection_sees(const Projection *projection, const text *tenant_id);
extern bool projection_reads(const Projection *projection, const LogRow *row);
extern bool projection_handles(const Projection *projection, const LogRow *row);
extern bool projection_is_of_states(const Projection *projection);
extern bool projection_is_run(const Projection *projection);
extern bool projections_are_inline(int32 type_id);
extern LOCKTAG projection_lock_tag(const char *name);
extern bool projection_lock(const char *name, bool wait);
extern bool projection_is_locked(const char *name);
extern Projection *projection_own(FunctionCallInfo fcinfo);
extern void projection_stop(const char *name);
extern int64 projection_fingerprint(const Projection *projection);
extern const char *projection_kind_name(ProjectionKind kind);

#endif							/* DUGONG_PROJECTION_H */
