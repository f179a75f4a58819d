/*
 * event_type.h
 *		Event types that were declared, with their versions.
 */
#ifndef DUGONG_EVENT_TYPE_H
#define DUGONG_EVENT_TYPE_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "store/log.h"

/* One declared version; both names are kept as text and may be NULL. */
typedef struct EventVersion
{
	char	   *payload_type;	/* composite type, or domain */
	char	   *upcast;			/* function that makes it of the version before */
} EventVersion;

/* The declared versions of one event type: lowest, lowest + 1, ... current. */
typedef struct EventType
{
	int			lowest;
	int			current;
	EventVersion *versions;
} EventType;

extern void event_type_init(void);
extern bool event_types_any(void);
extern const EventType *event_type_find(int32 aggregate_type_id, const text *type);
extern const EventVersion *event_type_version(const EventType *type, int version);
extern bool event_type_has_path(const EventType *type, int version);
extern int	event_type_current_version(int32 aggregate_type_id, const text *type);
/* A declared version of one of a type's events. */
typedef struct DeclaredUpcast
{
	char	   *type;
	int			version;
	char	   *upcast;			/* NULL = none */
} DeclaredUpcast;

extern List *event_type_upcasts(int32 aggregate_type_id);
extern void event_type_check(const LogRow *row);
extern void event_check_stored(const LogRow *row);

#endif							/* DUGONG_EVENT_TYPE_H */
