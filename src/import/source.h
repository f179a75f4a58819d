/*
 * source.h
 *		The table that an import reads, and how its rows become events.
 */
#ifndef DUGONG_SOURCE_H
#define DUGONG_SOURCE_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "nodes/pg_list.h"
#include "store/log.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

/*
 * Columns of what the query gives, counted from 0: the attributes of a domain
 * event in the order of dugong.domain_event, and two numbers to check them by.
 */
typedef enum SourceColumn
{
	SOURCE_ID,
	SOURCE_ORIGIN,
	SOURCE_AGGREGATE_TYPE,
	SOURCE_AGGREGATE_ID,
	SOURCE_TENANT_ID,
	SOURCE_SEQUENCE_NUMBER,
	SOURCE_TYPE,
	SOURCE_VERSION,
	SOURCE_PAYLOAD,
	SOURCE_TIMESTAMP,
	SOURCE_CORRELATION_ID,
	SOURCE_TRIGGERED_BY_EVENT_ID,
	SOURCE_TRIGGERED_BY_USER_ID,
	SOURCE_METADATA,
	SOURCE_NUMBER,				/* the place in its aggregate by sequence number */
	SOURCE_PLACE				/* the same by order_by; another one: they disagree */
} SourceColumn;

#define SOURCE_NFIELDS (SOURCE_METADATA + 1)
#define SOURCE_NCOLUMNS (SOURCE_PLACE + 1)

typedef struct Source
{
	const char *name;			/* quoted and qualified */
	const char *expressions[SOURCE_NFIELDS];	/* SQL; NULL = not there */
	const char *order_by;		/* SQL, or NULL: by timestamp */
	const char *condition;		/* SQL, or NULL: all rows */
	pg_uuid_t	namespace;		/* of ids that are no UUIDs */
	pg_uuid_t	event_namespace;	/* of such ids of events: the table's own */
	MemoryContext context;		/* holds all of it, from the first transaction to the last */
	bool		create_types;	/* aggregate types that do not exist */
	TupleDesc	desc;			/* of what the query gives, once it runs */
	List	   *types;			/* of SourceType: aggregate types met so far */
} Source;

/* A row of what the query gives. */
typedef struct SourceRow
{
	Datum		values[SOURCE_NCOLUMNS];
	bool		nulls[SOURCE_NCOLUMNS];
} SourceRow;

extern char *source_name(Oid relid);
extern void source_read_mapping(Source *source, Oid relid, Jsonb *mapping);
extern char *source_query(const Source *source);
extern bool source_find_type(Source *source, const SourceRow *row, int32 *type_id);
extern void source_to_event(Source *source, const SourceRow *row, int32 type_id, LogRow *event);

#endif							/* DUGONG_SOURCE_H */
