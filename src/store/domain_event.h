/*
 * domain_event.h
 *		The composite type dugong.domain_event.
 */
#ifndef DUGONG_DOMAIN_EVENT_H
#define DUGONG_DOMAIN_EVENT_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "store/aggregate_type.h"
#include "store/log.h"
#include "store/upcast.h"
#include "utils/expandedrecord.h"

/* Attributes of dugong.domain_event, in their order (src/sql/store/types.sql). */
typedef enum EventAttribute
{
	EVENT_ID = 1,
	EVENT_ORIGIN,
	EVENT_AGGREGATE_TYPE,
	EVENT_AGGREGATE_ID,
	EVENT_TENANT_ID,
	EVENT_SEQUENCE_NUMBER,
	EVENT_TYPE,
	EVENT_VERSION,
	EVENT_PAYLOAD,
	EVENT_TIMESTAMP,
	EVENT_CORRELATION_ID,
	EVENT_TRIGGERED_BY_EVENT_ID,
	EVENT_TRIGGERED_BY_USER_ID,
	EVENT_METADATA,
	EVENT_POSITION
} EventAttribute;

#define EVENT_NATTRIBUTES EVENT_POSITION

/* The attributes of one domain event. */
typedef struct EventFields
{
	Datum		values[EVENT_NATTRIBUTES];
	bool		nulls[EVENT_NATTRIBUTES];
} EventFields;

#define event_value(fields, attribute) ((fields)->values[(attribute) - 1])
#define event_isnull(fields, attribute) ((fields)->nulls[(attribute) - 1])

/* Makes domain events out of rows of the log, as their types are now. */
typedef struct EventReader
{
	TupleDesc	desc;
	Upcaster	upcaster;
	const AggregateType *type;	/* of the last row */
	ExpandedRecordHeader *record;	/* what event_reader_record() gives, or NULL */
	EventFields given;			/* the fields that were put into it */
} EventReader;

extern void event_reader_open(EventReader *reader);
extern void event_reader_close(EventReader *reader);
extern void event_reader_fields(EventReader *reader, const LogRow *row, EventFields *fields);
extern Datum event_reader_form(EventReader *reader, const LogRow *row);
extern Datum event_reader_record(EventReader *reader, const LogRow *row);
extern Datum domain_event_of_row(const LogRow *row);
extern void domain_event_deform(Datum event, EventFields *fields);
extern void event_fields_to_row(const EventFields *fields, LogRow *row);

#endif							/* DUGONG_DOMAIN_EVENT_H */
