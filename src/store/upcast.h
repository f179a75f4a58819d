/*
 * upcast.h
 *		Old events as their type is now.
 */
#ifndef DUGONG_UPCAST_H
#define DUGONG_UPCAST_H

#include "postgres.h"

#include "nodes/pg_list.h"

/* The functions that were looked up so far; one for each statement or scan. */
typedef struct Upcaster
{
	MemoryContext context;		/* holds the list */
	List	   *functions;
} Upcaster;

extern void upcaster_init(Upcaster *upcaster, MemoryContext context);
extern int	upcast_version(int32 aggregate_type_id, const text *type, int version);
extern Datum upcast_payload(Upcaster *upcaster, int32 aggregate_type_id, const text *type,
							int version, Datum payload, bool *isnull);

#endif							/* DUGONG_UPCAST_H */
