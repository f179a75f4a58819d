/*
 * domain_event.c
 *		The composite type dugong.domain_event.
 *
 * It is a row of the log with the aggregate type's id replaced by origin and
 * name, in the order that users see.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "store/aggregate_type.h"
#include "store/domain_event.h"
#include "store/erasure.h"
#include "store/event_type.h"
#include "utils/builtins.h"
#include "utils/typcache.h"

/* Which attribute is which column of the log; the others come from the aggregate type. */
#define FOR_EACH_COLUMN(DO) \
	DO(EVENT_ID, LOG_ID) \
	DO(EVENT_AGGREGATE_ID, LOG_AGGREGATE_ID) \
	DO(EVENT_TENANT_ID, LOG_TENANT_ID) \
	DO(EVENT_SEQUENCE_NUMBER, LOG_SEQUENCE_NUMBER) \
	DO(EVENT_TYPE, LOG_TYPE) \
	DO(EVENT_VERSION, LOG_VERSION) \
	DO(EVENT_PAYLOAD, LOG_PAYLOAD) \
	DO(EVENT_TIMESTAMP, LOG_TIMESTAMP) \
	DO(EVENT_CORRELATION_ID, LOG_CORRELATION_ID) \
	DO(EVENT_TRIGGERED_BY_EVENT_ID, LOG_TRIGGERED_BY_EVENT_ID) \
	DO(EVENT_TRIGGERED_BY_USER_ID, LOG_TRIGGERED_BY_USER_ID) \
	DO(EVENT_METADATA, LOG_METADATA) \
	DO(EVENT_POSITION, LOG_POSITION)

#define TO_EVENT(attribute, column) \
	event_value(fields, attribute) = log_row_value(row, column); \
	event_isnull(fields, attribute) = log_row_isnull(row, column);

#define TO_ROW(attribute, column) \
	log_row_value(row, column) = event_value(fields, attribute); \
	log_row_isnull(row, column) = event_isnull(fields, attribute);

/* Opens a reader for the time of a statement, in the current memory context. */
void
event_reader_open(EventReader *reader)
{
	reader->desc = lookup_rowtype_tupdesc(domain_event_typeid(), -1);
	upcaster_init(&reader->upcaster, CurrentMemoryContext);
	reader->type = NULL;
	reader->record = NULL;
}

void
event_reader_close(EventReader *reader)
{
	if (reader->record)
		DeleteExpandedObject(ExpandedRecordGetDatum(reader->record));
	ReleaseTupleDesc(reader->desc);
}

/* The payload and version that everybody sees.  A payload that was erased is not made up again. */
static void
upcast_fields(EventReader *reader, EventFields *fields, int32 type_id)
{
	text	   *type = DatumGetTextPP(event_value(fields, EVENT_TYPE));
	int			version = DatumGetInt32(event_value(fields, EVENT_VERSION));

	if (!event_isnull(fields, EVENT_PAYLOAD) ||
		erasure_of(event_value(fields, EVENT_METADATA), event_isnull(fields, EVENT_METADATA)) < ERASED_PAYLOAD)
		event_value(fields, EVENT_PAYLOAD) =
			upcast_payload(&reader->upcaster, type_id, type, version,
						   event_value(fields, EVENT_PAYLOAD), &event_isnull(fields, EVENT_PAYLOAD));
	event_value(fields, EVENT_VERSION) = Int32GetDatum(upcast_version(type_id, type, version));
}

/*
 * The attributes of a row of the log.  They point into the row, but for what
 * an upcast made in the current memory context.
 */
void
event_reader_fields(EventReader *reader, const LogRow *row, EventFields *fields)
{
	int32		type_id = DatumGetInt32(log_row_value(row, LOG_AGGREGATE_TYPE_ID));

	if (reader->type == NULL || reader->type->id != type_id)
		reader->type = aggregate_type_get(type_id);
	FOR_EACH_COLUMN(TO_EVENT)
	event_value(fields, EVENT_ORIGIN) = PointerGetDatum(reader->type->origin);
	event_isnull(fields, EVENT_ORIGIN) = false;
	event_value(fields, EVENT_AGGREGATE_TYPE) = PointerGetDatum(reader->type->name);
	event_isnull(fields, EVENT_AGGREGATE_TYPE) = false;
	if (event_types_any())
		upcast_fields(reader, fields, type_id);
}

/* The composite value of a row of the log, in the current memory context. */
Datum
event_reader_form(EventReader *reader, const LogRow *row)
{
	EventFields fields;

	event_reader_fields(reader, row, &fields);
	return HeapTupleGetDatum(heap_form_tuple(reader->desc, fields.values, fields.nulls));
}

/* Who wanted the flat value has put a copy in the place of each field that was stored out of line. */
static void
free_replaced(EventReader *reader)
{
	ExpandedRecordHeader *record = reader->record;

	for (int i = 0; i < EVENT_NATTRIBUTES; i++)
		if (record->dvalues[i] != reader->given.values[i])
			pfree(DatumGetPointer(record->dvalues[i]));
}

/*
 * The same as an expanded record, whose fields point into the row: read-only,
 * and good until the next one.  Code that looks at some of the fields needs
 * nothing formed and taken apart again; any other gets the flat value from it.
 */
Datum
event_reader_record(EventReader *reader, const LogRow *row)
{
	EventFields *fields = &reader->given;
	ExpandedRecordHeader *record = reader->record;

	if (record && record->flat_size > 0)
		free_replaced(reader);
	if (record == NULL)
	{
		record = make_expanded_record_from_typeid(domain_event_typeid(), -1, reader->upcaster.context);
		reader->record = record;
		/* None of the fields is the record's to free: see free_replaced(). */
		record->fstartptr = NULL;
		record->fendptr = (char *) UINTPTR_MAX;
	}
	event_reader_fields(reader, row, fields);
	memcpy(record->dvalues, fields->values, sizeof(fields->values));
	memcpy(record->dnulls, fields->nulls, sizeof(fields->nulls));
	record->flags = (record->flags & ER_FLAGS_NON_DATA) | ER_FLAG_DVALUES_VALID | ER_FLAG_HAVE_EXTERNAL;
	record->flat_size = 0;
	return EOHPGetRODatum(&record->hdr);
}

/* The same for a single row. */
Datum
domain_event_of_row(const LogRow *row)
{
	EventReader reader;
	Datum		event;

	event_reader_open(&reader);
	event = event_reader_form(&reader, row);
	event_reader_close(&reader);
	return event;
}

/*
 * The row of the log that the attributes stand for.
 *
 * Errors: 22004 without an aggregate type; 42704, 42P08 as
 * aggregate_type_by_name().
 */
void
event_fields_to_row(const EventFields *fields, LogRow *row)
{
	const AggregateType *type;

	if (event_isnull(fields, EVENT_AGGREGATE_TYPE))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("aggregate type must not be null")));
	type = aggregate_type_by_name(event_isnull(fields, EVENT_ORIGIN) ? NULL :
								  TextDatumGetCString(event_value(fields, EVENT_ORIGIN)),
								  TextDatumGetCString(event_value(fields, EVENT_AGGREGATE_TYPE)));
	FOR_EACH_COLUMN(TO_ROW)
	log_row_set(row, LOG_AGGREGATE_TYPE_ID, Int32GetDatum(type->id));
}

/* Takes a composite value apart; the attributes point into it. */
void
domain_event_deform(Datum event, EventFields *fields)
{
	HeapTupleHeader header;
	HeapTupleData tuple;
	TupleDesc	desc;

	if (VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(event)))
	{
		ExpandedRecordHeader *record = (ExpandedRecordHeader *) DatumGetEOHP(event);

		deconstruct_expanded_record(record);
		Assert(record->nfields == EVENT_NATTRIBUTES);
		memcpy(fields->values, record->dvalues, sizeof(fields->values));
		memcpy(fields->nulls, record->dnulls, sizeof(fields->nulls));
		return;
	}
	header = DatumGetHeapTupleHeader(event);
	desc = lookup_rowtype_tupdesc(domain_event_typeid(), -1);
	tuple.t_len = HeapTupleHeaderGetDatumLength(header);
	tuple.t_data = header;
	ItemPointerSetInvalid(&tuple.t_self);
	tuple.t_tableOid = InvalidOid;
	heap_deform_tuple(&tuple, desc, fields->values, fields->nulls);
	ReleaseTupleDesc(desc);
}
