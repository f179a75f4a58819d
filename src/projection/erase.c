/*
 * erase.c
 *		dugong.erase_aggregate() and dugong.erase_payload().
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "aggregate/aggregate.h"
#include "errors.h"
#include "fmgr.h"
#include "funcapi.h"
#include "projection/erasing.h"
#include "store/erasure.h"
#include "store/event_type.h"
#include "store/stored_event.h"
#include "store/tenant.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "util/args.h"
#include "util/identity.h"
#include "util/ids.h"

PG_FUNCTION_INFO_V1(dugong_erase_aggregate);
PG_FUNCTION_INFO_V1(dugong_erase_payload);

/* The reason is at argument number. */
static void
begin(Erasing *erasing, FunctionCallInfo fcinfo, int number)
{
	memset(erasing, 0, sizeof(*erasing));
	erasing_check_transaction();
	erasing->reason = DatumGetTextPP(arg_needed(fcinfo, number, "reason"));
	if (strspn(text_to_cstring(erasing->reason), " \t\r\n") == VARSIZE_ANY_EXHDR(erasing->reason))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reason must not be empty")));
	InitMaterializedSRF(fcinfo, 0);
	erasing->result = (ReturnSetInfo *) fcinfo->resultinfo;
}

/* erase_aggregate(aggregate_type, aggregate_id, reason, tenant_id, origin) */
Datum
dugong_erase_aggregate(PG_FUNCTION_ARGS)
{
	Erasing		erasing;
	Identity	before;

	begin(&erasing, fcinfo, 2);
	erasing.type = aggregate_type_by_name(arg_name(fcinfo, 4), arg_needed_name(fcinfo, 0, "aggregate type"));
	erasing.key.type_id = erasing.type->id;
	erasing.key.id = *arg_needed_uuid(fcinfo, 1, "aggregate id");
	erasing.key.tenant_id = tenant_argument(fcinfo, 3);
	identity_assume(&before, dugong_owner());
	erasing_lock(&erasing);
	erasing_erase_aggregate(&erasing);
	erasing_finish(&erasing);
	identity_restore(&before);
	return (Datum) 0;
}

/* Finds the event, into the current memory context; what a role does not see is not there for it. */
static void
find_event(const pg_uuid_t *id, Oid caller, LogRow *row)
{
	Relation	log = log_open(AccessShareLock);
	bool		found = event_find(log, id, row);

	table_close(log, NoLock);
	if (!found || !tenant_is_seen(caller, DatumGetTextPP(log_row_value(row, LOG_TENANT_ID))))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("event \"%s\" does not exist", uuid_to_cstring(id))));
}

static void
require_erasable(const Erasing *erasing, const LogRow *row)
{
	if (erasure_is_event(DatumGetTextPP(log_row_value(row, LOG_TYPE))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event \"%s\" tells of an erasure and cannot be erased", uuid_to_cstring(erasing->event_id))));
	/* What tells of it would take the sequence number of the next message. */
	if (erasing->type->external)
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_OTHER_ORIGIN),
				 errmsg("aggregate type \"%s\" belongs to origin \"%s\"",
						text_to_cstring(erasing->type->name), text_to_cstring(erasing->type->origin)),
				 errhint("Erase the aggregate, which ends its stream here, or the event at its origin.")));
}

/* Has a column of the row the key, with a value? */
static bool
has_key(const LogRow *row, LogColumn column, const char *key)
{
	Jsonb	   *object;
	JsonbValue	value;

	if (log_row_isnull(row, column))
		return false;
	object = DatumGetJsonbP(log_row_value(row, column));
	return JB_ROOT_IS_OBJECT(object) &&
		getKeyJsonValueFromContainer(&object->root, key, strlen(key), &value) != NULL && value.type != jbvNull;
}

static void
report_nothing(const Erasing *erasing)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("event \"%s\" has nothing of that to erase", uuid_to_cstring(erasing->event_id))));
}

static void
erase_named_keys(Erasing *erasing, const LogRow *row)
{
	bool		any = false;
	Datum	   *names;
	int			count;

	erasing_check_keys(erasing, &names, &count);
	for (int i = 0; i < count; i++)
	{
		const char *key = TextDatumGetCString(names[i]);
		int			there = has_key(row, LOG_PAYLOAD, key) + has_key(row, LOG_METADATA, key);

		any |= there > 0;
		erasing_report(erasing, "key", key, there, there > 0 ? "erased" : "was not there");
	}
	if (!any)
		report_nothing(erasing);
	erase_keys(erasing->event_id, erasing->keys, erasing_keeps_fields(erasing, row));
}

static void
erase_all(Erasing *erasing, const LogRow *row)
{
	if (log_row_isnull(row, LOG_PAYLOAD) && (log_row_isnull(row, LOG_METADATA) || erasure_of_row(row) == ERASED_PAYLOAD))
		report_nothing(erasing);
	erase_event(erasing->event_id);
}

static void
say_refused(void *arg)
{
	errcontext("reading the aggregate without what is to be erased");
	errhint("Erase other keys, or the aggregate.");
}

/* Can the event still be read, and the aggregate be built? */
static void
check_readable(const Erasing *erasing)
{
	ErrorContextCallback callback = {.callback = say_refused,.previous = error_context_stack};
	Aggregate	aggregate;
	LogRow		row;

	error_context_stack = &callback;
	find_event(erasing->event_id, dugong_owner(), &row);
	event_check_stored(&row);
	if (erasing->type->fold)
	{
		aggregate_init(&aggregate, &erasing->key);
		aggregate.skip_snapshot = true;
		aggregate_build_current(&aggregate);
		aggregate_free(&aggregate);
	}
	error_context_stack = callback.previous;
}

/* erase_payload(event_id, keys, reason) */
Datum
dugong_erase_payload(PG_FUNCTION_ARGS)
{
	Erasing		erasing;
	LogRow		row;
	Identity	before;

	begin(&erasing, fcinfo, 2);
	erasing.event_id = arg_needed_uuid(fcinfo, 0, "event id");
	erasing.keys = PG_ARGISNULL(1) ? NULL : PG_GETARG_ARRAYTYPE_P(1);
	identity_assume(&before, dugong_owner());
	find_event(erasing.event_id, before.user, &row);
	log_row_key(&row, &erasing.key);
	erasing.type = aggregate_type_get(erasing.key.type_id);
	require_erasable(&erasing, &row);
	erasing_lock(&erasing);
	(void) erasing_require_not_erased(&erasing);
	/* Another erasure may have been first. */
	find_event(erasing.event_id, before.user, &row);
	erasing.events = 1;
	erasing.first = erasing.last = DatumGetInt64(log_row_value(&row, LOG_SEQUENCE_NUMBER));
	if (erasing.keys)
		erase_named_keys(&erasing, &row);
	else
		erase_all(&erasing, &row);
	CommandCounterIncrement();
	erasing_report(&erasing, "events", text_to_cstring(erasing.type->name), 1,
		   erasing.keys ? "keys of payload and metadata are erased" : "payload and metadata are erased");
	check_readable(&erasing);
	erasing_finish(&erasing);
	identity_restore(&before);
	return (Datum) 0;
}
