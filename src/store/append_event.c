/*
 * append_event.c
 *		dugong.append_event() and dugong.append_events().
 *
 * Each is there twice: the second takes a condition (append_condition.c).
 */
#include "postgres.h"

#include "access/table.h"
#include "errors.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "store/aggregate_type.h"
#include "store/append.h"
#include "store/domain_event.h"
#include "store/stored_event.h"
#include "store/tenant.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/jsonb.h"
#include "util/args.h"
#include "util/identity.h"
#include "util/ids.h"
#include "util/jsonb_fields.h"

PG_FUNCTION_INFO_V1(dugong_append_event);
PG_FUNCTION_INFO_V1(dugong_append_events);
PG_FUNCTION_INFO_V1(dugong_append_event_if);
PG_FUNCTION_INFO_V1(dugong_append_events_if);

static void
set_optional(LogRow *row, LogColumn column, FunctionCallInfo fcinfo, int number)
{
	if (!PG_ARGISNULL(number))
		log_row_set(row, column, PG_GETARG_DATUM(number));
}

/* The aggregate type: where there is a condition it is a name and not a text, src/sql/store/tags.sql says why. */
static char *
type_argument(FunctionCallInfo fcinfo, bool is_name)
{
	char	   *name;

	if (!is_name)
		return arg_needed_name(fcinfo, 0, "aggregate type");
	name = NameStr(*DatumGetName(arg_needed(fcinfo, 0, "aggregate type")));
	if (name[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("aggregate type must not be empty")));
	return name;
}

/*
 * Starts a row with what names its aggregate: arguments 0 and 1 are the
 * aggregate's type and id, tenant and tenant + 1 its tenant and origin.
 */
static void
set_aggregate(LogRow *row, FunctionCallInfo fcinfo, int tenant, bool is_name)
{
	char	   *type = type_argument(fcinfo, is_name);

	memset(row->nulls, true, sizeof(row->nulls));
	log_row_set(row, LOG_AGGREGATE_TYPE_ID,
				Int32GetDatum(aggregate_type_by_name(arg_name(fcinfo, tenant + 1), type)->id));
	log_row_set(row, LOG_AGGREGATE_ID,
				UUIDPGetDatum(arg_needed_uuid(fcinfo, 1, "aggregate id")));
	log_row_set(row, LOG_TENANT_ID, PointerGetDatum(tenant_argument(fcinfo, tenant)));
}

/* The expected sequence number; -1 = any. */
static int64
expected_argument(FunctionCallInfo fcinfo, int number)
{
	int64		expected;

	if (PG_ARGISNULL(number))
		return -1;
	expected = PG_GETARG_INT64(number);
	if (expected < 0 || expected == PG_INT64_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("expected sequence number " INT64_FORMAT " is out of range", expected)));
	return expected;
}

/* if_none_match and after_position, which is the next argument. */
static void
condition_argument(AppendCondition *condition, FunctionCallInfo fcinfo, int number, const LogRow *row)
{
	Jsonb	   *items = DatumGetJsonbP(arg_needed(fcinfo, number, "if_none_match"));
	Identity	before;

	identity_enter(&before);
	append_condition_make(condition, items, DatumGetTextPP(log_row_value(row, LOG_TENANT_ID)),
						  PG_ARGISNULL(number + 1) ? 0 : PG_GETARG_INT64(number + 1));
	identity_leave(&before);
}

/*
 * append_event(aggregate_type, aggregate_id, type, payload,
 * expected_sequence_number, event_id, version, metadata, correlation_id,
 * triggered_by_event_id, triggered_by_user_id, event_timestamp)
 */
static void
set_event(LogRow *row, FunctionCallInfo fcinfo, int tenant, bool is_name)
{
	int64		expected = expected_argument(fcinfo, 4);

	set_aggregate(row, fcinfo, tenant, is_name);
	log_row_set(row, LOG_TYPE, arg_needed(fcinfo, 2, "type"));
	set_optional(row, LOG_PAYLOAD, fcinfo, 3);
	if (expected >= 0)
		log_row_set(row, LOG_SEQUENCE_NUMBER, Int64GetDatum(expected + 1));
	set_optional(row, LOG_ID, fcinfo, 5);
	set_optional(row, LOG_VERSION, fcinfo, 6);
	set_optional(row, LOG_METADATA, fcinfo, 7);
	set_optional(row, LOG_CORRELATION_ID, fcinfo, 8);
	set_optional(row, LOG_TRIGGERED_BY_EVENT_ID, fcinfo, 9);
	set_optional(row, LOG_TRIGGERED_BY_USER_ID, fcinfo, 10);
	set_optional(row, LOG_TIMESTAMP, fcinfo, 11);
}

/* append_event(... see set_event(), tenant_id, origin) */
Datum
dugong_append_event(PG_FUNCTION_ARGS)
{
	Identity	before;
	LogRow		row;

	set_event(&row, fcinfo, 12, false);
	identity_enter(&before);
	event_append(&row);
	identity_leave(&before);
	PG_RETURN_DATUM(domain_event_of_row(&row));
}

/* append_event(... see set_event(), if_none_match, after_position, tenant_id, origin) */
Datum
dugong_append_event_if(PG_FUNCTION_ARGS)
{
	Identity	before;
	LogRow		row;
	AppendCondition condition;

	set_event(&row, fcinfo, 14, true);
	condition_argument(&condition, fcinfo, 12, &row);
	identity_enter(&before);
	event_append_if(&row, &condition);
	identity_leave(&before);
	PG_RETURN_DATUM(domain_event_of_row(&row));
}

/* Names the element of the array that an error is about. */
static void
name_element(void *arg)
{
	errcontext("element %d of events", *(int *) arg);
}

static void
check_element(Jsonb *element)
{
	static const char *const keys[] = {"type", "payload", "eventId", "version", "metadata"};
	char	   *unknown;

	if (element == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("each of events must be a JSON object")));
	unknown = jsonb_unknown_key(element, keys, lengthof(keys));
	if (unknown)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key \"%s\" of an event is not known", unknown),
				 errhint("Keys are type, payload, eventId, version and metadata.")));
}

/* Adds to a row what an element of the array says. */
static void
set_from_element(LogRow *row, Jsonb *element)
{
	Jsonb	   *value;
	pg_uuid_t  *id;
	int			version;

	check_element(element);
	log_row_set(row, LOG_TYPE, CStringGetTextDatum(jsonb_needed_text(element, "type")));
	if ((value = jsonb_field_value(element, "payload")) != NULL)
		log_row_set(row, LOG_PAYLOAD, JsonbPGetDatum(value));
	if ((value = jsonb_field_value(element, "metadata")) != NULL)
		log_row_set(row, LOG_METADATA, JsonbPGetDatum(value));
	if ((id = jsonb_field_uuid(element, "eventId")) != NULL)
		log_row_set(row, LOG_ID, UUIDPGetDatum(id));
	if (jsonb_field_int(element, "version", &version))
		log_row_set(row, LOG_VERSION, Int32GetDatum(version));
}

/* The rows that the array stands for. */
static LogRow *
read_elements(Jsonb *events, const LogRow *common, int *count)
{
	LogRow	   *rows;
	int			number = 0;
	ErrorContextCallback callback = {
		.callback = name_element,
		.arg = &number,
		.previous = error_context_stack
	};

	if (!JB_ROOT_IS_ARRAY(events) || JB_ROOT_IS_SCALAR(events))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("events must be a JSON array")));
	*count = JB_ROOT_COUNT(events);
	rows = palloc_extended(Max(*count, 1) * sizeof(LogRow), MCXT_ALLOC_HUGE);
	error_context_stack = &callback;
	while (number < *count)
	{
		CHECK_FOR_INTERRUPTS();
		rows[number] = *common;
		number++;
		set_from_element(&rows[number - 1], jsonb_element(events, number - 1));
	}
	error_context_stack = callback.previous;
	return rows;
}

/* The same id for two events of one call would make them one. */
static void
check_distinct_ids(const LogRow *rows, int count)
{
	HASHCTL		ctl = {.keysize = UUID_LEN,.entrysize = UUID_LEN,.hcxt = CurrentMemoryContext};
	HTAB	   *seen = hash_create("dugong event ids", Max(count, 1), &ctl,
								   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	for (int i = 0; i < count; i++)
	{
		bool		found = false;

		if (log_row_isnull(&rows[i], LOG_ID))
			continue;
		hash_search(seen, DatumGetUUIDP(log_row_value(&rows[i], LOG_ID)), HASH_ENTER, &found);
		if (found)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("event id \"%s\" is given twice",
							uuid_to_cstring(DatumGetUUIDP(log_row_value(&rows[i], LOG_ID))))));
	}
	hash_destroy(seen);
}

/*
 * Is the call a retry?  Then every event has an id and is stored, and rows
 * become the stored ones.  An id that is stored in a call that is not is UG006.
 */
static bool
are_stored(LogRow *rows, int count)
{
	Relation	log = log_open(RowExclusiveLock);
	int			nstored = 0;
	const pg_uuid_t *one_stored = NULL;

	for (int i = 0; i < count; i++)
	{
		LogRow		stored;
		pg_uuid_t  *id;

		CHECK_FOR_INTERRUPTS();
		if (log_row_isnull(&rows[i], LOG_ID))
			continue;
		id = DatumGetUUIDP(log_row_value(&rows[i], LOG_ID));
		if (!event_is_stored(log, &rows[i], &stored))
			continue;
		one_stored = id;
		rows[i] = stored;
		nstored++;
	}
	table_close(log, NoLock);
	if (nstored > 0 && nstored < count)
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_EVENT_ID_REUSED),
				 errmsg("event id \"%s\" is in the log, but not all of the events are",
						uuid_to_cstring(one_stored)),
				 errhint("Repeat a call with all of its events, each with its id, or not at all.")));
	return nstored > 0;
}

static void
check_condition(AppendCondition *condition)
{
	Relation	log = log_open(RowExclusiveLock);

	append_condition_check(condition, log);
	table_close(log, NoLock);
}

static void
append_rows(LogRow *rows, int count, int64 expected)
{
	/* All or none: nothing is drawn if one is refused. */
	for (int i = 0; i < count; i++)
		event_check(&rows[i]);
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (expected >= 0)
			log_row_set(&rows[i], LOG_SEQUENCE_NUMBER, Int64GetDatum(expected + 1 + i));
		event_append_checked(&rows[i]);
		/* The others go behind the first, wherever that went. */
		if (expected < 0)
			expected = DatumGetInt64(log_row_value(&rows[i], LOG_SEQUENCE_NUMBER)) - 1;
	}
	if (count > 0)
		append_done(&rows[count - 1], count);
}

/* What a call of append_events() is about: arguments 0, 1 and 4 to 8. */
static void
set_common(LogRow *common, FunctionCallInfo fcinfo, int tenant, bool is_name)
{
	set_aggregate(common, fcinfo, tenant, is_name);
	set_optional(common, LOG_METADATA, fcinfo, 4);
	set_optional(common, LOG_CORRELATION_ID, fcinfo, 5);
	set_optional(common, LOG_TRIGGERED_BY_EVENT_ID, fcinfo, 6);
	set_optional(common, LOG_TRIGGERED_BY_USER_ID, fcinfo, 7);
	set_optional(common, LOG_TIMESTAMP, fcinfo, 8);
}

/*
 * Locks what is needed, and makes rows the events of the aggregate that common
 * names: appended now, or by the call that this one repeats.
 */
static void
append_or_find(const LogRow *common, LogRow *rows, int count, int64 expected, AppendCondition *condition)
{
	AggregateKey key;

	log_row_key(common, &key);
	append_lock(rows, count, &key, expected == 0, condition);
	if (are_stored(rows, count))
		return;
	if (expected >= 0)
		event_check_head(&key, expected);
	if (condition)
		check_condition(condition);
	append_rows(rows, count, expected);
}

/*
 * append_events(aggregate_type, aggregate_id, events,
 * expected_sequence_number, metadata, correlation_id, triggered_by_event_id,
 * triggered_by_user_id, event_timestamp)
 *
 * Metadata is that of the events that bring none.  condition: may be NULL.
 */
static void
append_events(FunctionCallInfo fcinfo, const LogRow *common, AppendCondition *condition)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int64		expected = expected_argument(fcinfo, 3);
	Jsonb	   *events = DatumGetJsonbP(arg_needed(fcinfo, 2, "events"));
	LogRow	   *rows;
	int			count;
	EventReader reader;
	Identity	before;

	InitMaterializedSRF(fcinfo, 0);
	rows = read_elements(events, common, &count);
	check_distinct_ids(rows, count);

	identity_enter(&before);
	append_or_find(common, rows, count, expected, condition);
	identity_leave(&before);

	event_reader_open(&reader);
	for (int i = 0; i < count; i++)
	{
		EventFields fields;

		event_reader_fields(&reader, &rows[i], &fields);
		tuplestore_putvalues(result->setResult, result->setDesc, fields.values, fields.nulls);
	}
	event_reader_close(&reader);
}

/* append_events(... see append_events(), tenant_id, origin) */
Datum
dugong_append_events(PG_FUNCTION_ARGS)
{
	LogRow		common;

	set_common(&common, fcinfo, 9, false);
	append_events(fcinfo, &common, NULL);
	return (Datum) 0;
}

/* append_events(... see append_events(), if_none_match, after_position, tenant_id, origin) */
Datum
dugong_append_events_if(PG_FUNCTION_ARGS)
{
	LogRow		common;
	AppendCondition condition;

	set_common(&common, fcinfo, 11, true);
	condition_argument(&condition, fcinfo, 9, &common);
	append_events(fcinfo, &common, &condition);
	return (Datum) 0;
}
