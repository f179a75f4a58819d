/*
 * message.c
 *		Domain events of other services.
 *
 * A message is a domain event in the form in which DugongJS serialises it: a
 * JSON object with camelCase keys.  dugong.to_message() writes it, in SQL;
 * dugong.receive_message() here takes it in, for an aggregate type that
 * belongs to another origin: once per id, in sequence.  A message that tells of
 * an erasure erases here, too: what does that registers itself.
 */
#include "postgres.h"

#include "access/table.h"
#include "errors.h"
#include "store/aggregate_type.h"
#include "store/append.h"
#include "store/domain_event.h"
#include "store/erasure.h"
#include "store/message.h"
#include "store/stored_event.h"
#include "store/tenant.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "util/args.h"
#include "util/identity.h"
#include "util/jsonb_fields.h"

PG_FUNCTION_INFO_V1(dugong_receive_message);

static ErasureHook receive_erasure;

/* There is one. */
void
message_set_erasure_hook(ErasureHook hook)
{
	receive_erasure = hook;
}

static void
set_needed_uuid(LogRow *row, LogColumn column, Jsonb *message, const char *key)
{
	(void) jsonb_needed_text(message, key);
	log_row_set(row, column, UUIDPGetDatum(jsonb_field_uuid(message, key)));
}

static void
set_uuid(LogRow *row, LogColumn column, Jsonb *message, const char *key)
{
	pg_uuid_t  *id = jsonb_field_uuid(message, key);

	if (id)
		log_row_set(row, column, UUIDPGetDatum(id));
}

static void
set_jsonb(LogRow *row, LogColumn column, Jsonb *message, const char *key)
{
	Jsonb	   *value = jsonb_field_value(message, key);

	if (value)
		log_row_set(row, column, JsonbPGetDatum(value));
}

/* Optional: null, or a string. */
static char *
optional_text(Jsonb *message, const char *key)
{
	return jsonb_field_value(message, key) ? jsonb_needed_text(message, key) : NULL;
}

static void
set_numbers(LogRow *row, Jsonb *message)
{
	int64		sequence_number;
	int			version = 1;

	if (!jsonb_field_bigint(message, "sequenceNumber", &sequence_number))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("key \"%s\" is missing or null", "sequenceNumber")));
	log_row_set(row, LOG_SEQUENCE_NUMBER, Int64GetDatum(sequence_number));
	(void) jsonb_field_int(message, "version", &version);
	log_row_set(row, LOG_VERSION, Int32GetDatum(version));
}

static void
set_texts(LogRow *row, Jsonb *message)
{
	char	   *tenant_id = optional_text(message, "tenantId");
	char	   *user_id = optional_text(message, "triggeredByUserId");
	char	   *timestamp = optional_text(message, "timestamp");

	log_row_set(row, LOG_TYPE, CStringGetTextDatum(jsonb_needed_text(message, "type")));
	log_row_set(row, LOG_TENANT_ID, CStringGetTextDatum(tenant_id ? tenant_id : ""));
	if (user_id)
		log_row_set(row, LOG_TRIGGERED_BY_USER_ID, CStringGetTextDatum(user_id));
	if (timestamp)
		log_row_set(row, LOG_TIMESTAMP,
					DirectFunctionCall3(timestamptz_in, CStringGetDatum(timestamp),
										ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

/* The row that a message stands for. */
static void
read_message(LogRow *row, Jsonb *message)
{
	char	   *origin = jsonb_needed_text(message, "origin");
	char	   *name = jsonb_needed_text(message, "aggregateType");

	memset(row->nulls, true, sizeof(row->nulls));
	log_row_set(row, LOG_AGGREGATE_TYPE_ID, Int32GetDatum(aggregate_type_by_name(origin, name)->id));
	set_needed_uuid(row, LOG_ID, message, "id");
	set_needed_uuid(row, LOG_AGGREGATE_ID, message, "aggregateId");
	set_numbers(row, message);
	set_texts(row, message);
	set_jsonb(row, LOG_PAYLOAD, message, "payload");
	set_jsonb(row, LOG_METADATA, message, "metadata");
	set_uuid(row, LOG_CORRELATION_ID, message, "correlationId");
	set_uuid(row, LOG_TRIGGERED_BY_EVENT_ID, message, "triggeredByEventId");
}

/*
 * Is the message's event in the log?  Then row becomes the stored one.
 *
 * Its sender may have upcast it since: in another version the payload may be
 * another, too.
 *
 * Errors: UG006 if it is another event.
 */
static bool
is_known(LogRow *row)
{
	Relation	log = log_open(AccessShareLock);
	LogRow		stored;
	LogRow		expected = *row;
	bool		found = event_find(log, DatumGetUUIDP(log_row_value(row, LOG_ID)), &stored);

	table_close(log, NoLock);
	if (!found)
		return false;
	if (log_row_value(row, LOG_VERSION) != log_row_value(&stored, LOG_VERSION))
	{
		expected.nulls[LOG_PAYLOAD - 1] = log_row_isnull(&stored, LOG_PAYLOAD);
		expected.values[LOG_PAYLOAD - 1] = log_row_value(&stored, LOG_PAYLOAD);
		expected.nulls[LOG_VERSION - 1] = true;
	}
	if (!event_has_same_content(&stored, &expected) ||
		log_row_value(row, LOG_SEQUENCE_NUMBER) != log_row_value(&stored, LOG_SEQUENCE_NUMBER))
		report_event_id_reused(DatumGetUUIDP(log_row_value(row, LOG_ID)));
	*row = stored;
	return true;
}

/* New events come in only for the types of other origins. */
static void
check_external(const LogRow *row)
{
	const AggregateType *type = aggregate_type_get(DatumGetInt32(log_row_value(row, LOG_AGGREGATE_TYPE_ID)));

	if (!type->external)
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_OTHER_ORIGIN),
				 errmsg("aggregate type \"%s\" belongs to this database",
						text_to_cstring(type->name)),
				 errdetail("Only events of another origin are received."),
				 errhint("Append with dugong.append_event().")));
}

/* receive_message(message) */
Datum
dugong_receive_message(PG_FUNCTION_ARGS)
{
	Jsonb	   *message = DatumGetJsonbP(arg_needed(fcinfo, 0, "message"));
	LogRow		row;
	Identity	before;

	if (!JB_ROOT_IS_OBJECT(message))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("message must be a JSON object")));
	read_message(&row, message);
	(void) tenant_require(DatumGetTextPP(log_row_value(&row, LOG_TENANT_ID)));
	identity_enter(&before);
	if (!is_known(&row))
	{
		check_external(&row);
		if (erasure_is_event(DatumGetTextPP(log_row_value(&row, LOG_TYPE))))
			receive_erasure(&row);
		else
			event_receive(&row);
	}
	identity_leave(&before);
	PG_RETURN_DATUM(domain_event_of_row(&row));
}
