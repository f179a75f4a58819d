/*
 * erase.c
 *		dugong.erase_aggregate() and dugong.erase_payload().
 *
 * One transaction takes the content out of the log (store/erasure.c), forgets
 * the snapshot, appends "$erased", has every projection of states write the
 * aggregate anew, takes out what errors may have told, and records it.  All of
 * it or nothing.
 *
 * A message that tells of an erasure at its origin does the same to what came
 * from there, with that message in the place of the event.
 *
 * Order of locks: the projections' in the order of their names, then the
 * aggregate's, as handlers that append take them.  So no batch that has read
 * the old events writes after the erasure, and the next one sees "$erased".  A
 * projection that is created meanwhile is told by that, too.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "aggregate/aggregate.h"
#include "aggregate/snapshot.h"
#include "catalog/heap.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "fmgr.h"
#include "funcapi.h"
#include "guc.h"
#include "miscadmin.h"
#include "projection/delivery.h"
#include "projection/erase.h"
#include "projection/failure.h"
#include "projection/parked.h"
#include "projection/projection.h"
#include "projection/rebuild.h"
#include "store/aggregate_lock.h"
#include "store/append.h"
#include "store/context.h"
#include "store/erasure.h"
#include "store/event_type.h"
#include "store/message.h"
#include "store/ownership.h"
#include "store/stored_event.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "util/args.h"
#include "util/fault.h"
#include "util/identity.h"
#include "util/ids.h"
#include "util/jsonb_fields.h"
#include "util/plan.h"

PG_FUNCTION_INFO_V1(dugong_erase_aggregate);
PG_FUNCTION_INFO_V1(dugong_erase_payload);

/* An erasure, and its report. */
typedef struct Erasing
{
	ReturnSetInfo *result;		/* NULL = nobody wants the report */
	AggregateKey key;
	const AggregateType *type;
	text	   *reason;
	pg_uuid_t  *event_id;		/* NULL = all events */
	ArrayType  *keys;			/* NULL = all of them */
	int64		events;			/* of which something was erased */
	int64		first;			/* their sequence numbers */
	int64		last;
	LogRow	   *message;		/* what tells of it, if it comes from elsewhere */
	pg_uuid_t	id;				/* of the event that tells of it */
} Erasing;

/* One row of the report; count < 0 = not counted. */
static void
report(Erasing *erasing, const char *what, const char *name, int64 count, const char *note)
{
	Datum		values[] = {
		CStringGetTextDatum(what), CStringGetTextDatum(name), Int64GetDatum(count), CStringGetTextDatum(note)
	};
	bool		nulls[] = {false, false, count < 0, false};

	if (erasing->result == NULL)
		return;
	tuplestore_putvalues(erasing->result->setResult, erasing->result->setDesc, values, nulls);
}

static void
check_transaction(void)
{
	PreventCommandIfReadOnly("an erasure");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot erase in a REPEATABLE READ or SERIALIZABLE transaction"),
				 errdetail("Its snapshot may not see all that is to be erased.")));
}

/* The reason is at argument number. */
static void
begin(Erasing *erasing, FunctionCallInfo fcinfo, int number)
{
	memset(erasing, 0, sizeof(*erasing));
	check_transaction();
	erasing->reason = DatumGetTextPP(arg_needed(fcinfo, number, "reason"));
	if (strspn(text_to_cstring(erasing->reason), " \t\r\n") == VARSIZE_ANY_EXHDR(erasing->reason))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reason must not be empty")));
	InitMaterializedSRF(fcinfo, 0);
	erasing->result = (ReturnSetInfo *) fcinfo->resultinfo;
}

/* Does somebody else's code keep what it was given of the type's events? */
static bool
reads_type(const Projection *projection, int32 type_id)
{
	return list_member_int(projection->type_ids, type_id);
}

/* See the head of this file. */
static void
lock_all(const Erasing *erasing)
{
	ListCell   *cell;

	foreach(cell, projection_list())
	{
		const Projection *projection = lfirst(cell);

		if (projection->kind != KIND_SUBSCRIPTION && reads_type(projection, erasing->key.type_id))
			(void) projection_lock(projection->name, true);
	}
	aggregate_lock(&erasing->key);
	fault_point("erasure-locked");
}

/* The aggregate's last event, under its lock: UG002 if there is none, UG003 if all is erased. */
static int64
require_not_erased(const Erasing *erasing)
{
	Relation	log = log_open(RowExclusiveLock);
	Snapshot	snapshot = snapshot_register_latest();
	AggregateHead head;
	char	   *name = text_to_cstring(erasing->type->name);
	char	   *id = uuid_to_cstring(&erasing->key.id);

	aggregate_head(log, &erasing->key, 0, snapshot, &head);
	UnregisterSnapshot(snapshot);
	table_close(log, NoLock);
	if (head.sequence_number == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_AGGREGATE_NOT_FOUND),
				 errmsg("aggregate \"%s\" with id \"%s\" does not exist", name, id)));
	if (head.erased)
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_AGGREGATE_DELETED),
				 errmsg("aggregate \"%s\" with id \"%s\" is erased", name, id)));
	return head.sequence_number;
}

/* Statistics that were made before their making was switched off. */
static void
forget_statistics(void)
{
	static const struct
	{
		const char *table;
		const char *column;
	}			columns[] = {
		{"event_log", "payload"}, {"event_log", "metadata"}, {"aggregate_snapshots", "state"},
		{"parked_aggregates", "message"}, {"parked_aggregates", "detail"}, {"parked_aggregates", "context"},
		{"projection_failures", "message"}, {"projection_failures", "detail"}, {"projection_failures", "context"},
		{"deliveries", "reason"}, {"deliveries", "context"}
	};

	for (size_t i = 0; i < lengthof(columns); i++)
	{
		Oid			table = dugong_relid(columns[i].table);
		AttrNumber	column = get_attnum(table, columns[i].column);

		if (SearchSysCacheExists3(STATRELATTINH, ObjectIdGetDatum(table), Int16GetDatum(column), BoolGetDatum(false)))
			RemoveStatistics(table, column);
	}
}

/* {"eventIds": [id], "keys": [key ...]}; null = all. */
static Datum
payload_of_event(const Erasing *erasing)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoString(&json, "{\"eventIds\": ");
	if (erasing->event_id)
		appendStringInfo(&json, "[\"%s\"]", uuid_to_cstring(erasing->event_id));
	else
		appendStringInfoString(&json, "null");
	appendStringInfo(&json, ", \"keys\": %s}", erasing->keys == NULL ? "null" :
					 TextDatumGetCString(DirectFunctionCall1(array_to_json, PointerGetDatum(erasing->keys))));
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/* Appends what tells of it; inline projections run within. */
static void
append_event(Erasing *erasing)
{
	LogRow		row;

	if (erasing->message)
	{
		(void) event_receive(erasing->message);
		erasing->id = *DatumGetUUIDP(log_row_value(erasing->message, LOG_ID));
		return;
	}
	memset(row.nulls, true, sizeof(row.nulls));
	log_row_set(&row, LOG_AGGREGATE_TYPE_ID, Int32GetDatum(erasing->key.type_id));
	log_row_set(&row, LOG_AGGREGATE_ID, UUIDPGetDatum(&erasing->key.id));
	log_row_set(&row, LOG_TENANT_ID, PointerGetDatum(erasing->key.tenant_id));
	log_row_set(&row, LOG_TYPE, CStringGetTextDatum(ERASED_EVENT));
	log_row_set(&row, LOG_PAYLOAD, payload_of_event(erasing));
	event_append_own(&row);
	erasing->id = *DatumGetUUIDP(log_row_value(&row, LOG_ID));
	report(erasing, "event", ERASED_EVENT, 1, psprintf("appended with id %s", uuid_to_cstring(&erasing->id)));
}

static void
name_projection(void *arg)
{
	errcontext("correcting projection \"%s\" after an erasure", ((const Projection *) arg)->name);
}

static void
correct_states(Erasing *erasing, Projection *projection)
{
	ErrorContextCallback callback = {.callback = name_projection,.arg = projection,.previous = error_context_stack};
	bool		parked = parked_is(projection->name, &erasing->key);

	error_context_stack = &callback;
	/* An inline one was told by the append. */
	if (!projection->is_inline)
		rebuild_aggregate(projection, &erasing->key, false);
	error_context_stack = callback.previous;
	report(erasing, "projection", projection->name, 1, projection->query_model ?
		   psprintf("query model %s is corrected", projection->query_model) : "its handler was given the state anew");
	if (parked)
		report(erasing, "dead letter", projection->name, 1, "handled, and gone");
}

static void
correct_events(Erasing *erasing, const Projection *projection)
{
	report(erasing, "projection", projection->name, -1,
		   "gets the event " ERASED_EVENT "; what its handler has made of earlier ones is for that to find");
	if (parked_erase(projection->name, &erasing->key))
		report(erasing, "dead letter", projection->name, 1, "error is erased, and it is tried again");
}

static void
correct_subscription(Erasing *erasing, const Projection *subscription)
{
	int64		count = delivery_erase(subscription->name, &erasing->key, erasing->event_id);

	report(erasing, "subscription", subscription->name, -1,
		   "gets the event " ERASED_EVENT "; what its consumers keep is for them to find");
	if (count > 0)
		report(erasing, "delivery", subscription->name, count, "reason is erased; what was given up is delivered again");
}

/* All that reads the aggregate's type. */
static void
correct_projections(Erasing *erasing)
{
	ListCell   *cell;

	foreach(cell, projection_list())
	{
		Projection *projection = lfirst(cell);

		if (!reads_type(projection, erasing->key.type_id))
			continue;
		if (projection->kind == KIND_SUBSCRIPTION)
			correct_subscription(erasing, projection);
		else if (projection_is_of_states(projection))
			correct_states(erasing, projection);
		else
			correct_events(erasing, projection);
		if (failure_erase(projection->name))
			report(erasing, "error", projection->name, 1, "its last error is erased");
	}
}

static void
record(const Erasing *erasing)
{
	static SavedPlan insert = {
		.sql = "INSERT INTO dugong.erasure_log (id, aggregate_type_id, aggregate_id, tenant_id, event_id, keys, reason, "
		"erased_by, triggered_by_user_id, first_sequence_number, last_sequence_number, events) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULLIF($9, ''), $10, $11, $12)",
		.nargs = 12,
		.argtypes = {UUIDOID, INT4OID, UUIDOID, TEXTOID, UUIDOID, TEXTARRAYOID, TEXTOID, TEXTOID, TEXTOID, INT8OID, INT8OID, INT8OID}
	};
	Datum		values[] = {
		UUIDPGetDatum(&erasing->id), Int32GetDatum(erasing->key.type_id), UUIDPGetDatum(&erasing->key.id),
		PointerGetDatum(erasing->key.tenant_id), UUIDPGetDatum(erasing->event_id), PointerGetDatum(erasing->keys),
		PointerGetDatum(erasing->reason), CStringGetTextDatum(GetUserNameFromId(GetSessionUserId(), false)),
		CStringGetTextDatum(dugong_triggered_by_user_id), Int64GetDatum(erasing->first), Int64GetDatum(erasing->last),
		Int64GetDatum(erasing->events)
	};
	bool		nulls[12] = {[4] = erasing->event_id == NULL,[5] = erasing->keys == NULL};

	(void) execute_as_owner(&insert, values, nulls);
}

/* What is out of reach, as far as the database knows of it. */
static void
report_unreachable(Erasing *erasing)
{
	static SavedPlan select_unreachable = {
		.sql = "SELECT 'kept', 'triggered_by_user_id', pg_catalog.count(*), 'is part of what is left of the events' FROM dugong.event_log "
		"WHERE aggregate_id OPERATOR(pg_catalog.=) $1 AND aggregate_type_id OPERATOR(pg_catalog.=) $2 "
		"AND tenant_id COLLATE \"C\" OPERATOR(pg_catalog.=) $3 AND sequence_number OPERATOR(pg_catalog.>=) $4 "
		"AND sequence_number OPERATOR(pg_catalog.<=) $5 AND triggered_by_user_id IS NOT NULL "
		"HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 0 "
		"UNION ALL SELECT 'not reached', 'old row versions', NULL, 'in the files of tables and query models: VACUUM frees them for reuse, VACUUM FULL removes them' "
		"UNION ALL SELECT 'not reached', 'WAL', NULL, 'has what was appended until its files are recycled' "
		"UNION ALL SELECT 'not reached', 'archive', NULL, 'WAL is archived' "
		"WHERE pg_catalog.current_setting('archive_mode') OPERATOR(pg_catalog.<>) 'off' "
		"UNION ALL SELECT 'not reached', 'backups', NULL, 'those taken before have all of it' "
		"UNION ALL SELECT 'not reached', 'server log', NULL, 'has the messages and statements that show it' "
		"UNION ALL SELECT 'not reached', 'publication ' OPERATOR(pg_catalog.||) p.pubname, NULL, 'subscribers get the update; see to their snapshots, query models and row versions there' "
		"FROM pg_catalog.pg_publication_tables p WHERE p.schemaname OPERATOR(pg_catalog.=) 'dugong' AND p.tablename OPERATOR(pg_catalog.=) 'event_log' "
		"UNION ALL SELECT 'not reached', 'replication slot ' OPERATOR(pg_catalog.||) s.slot_name, NULL, 'holds WAL that has it; a standby has its row versions' "
		"FROM pg_catalog.pg_replication_slots s WHERE s.database IS NULL OR s.database OPERATOR(pg_catalog.=) pg_catalog.current_database()",
		.nargs = 5,
		.argtypes = {UUIDOID, INT4OID, TEXTOID, INT8OID, INT8OID}
	};
	Datum		values[] = {
		UUIDPGetDatum(&erasing->key.id), Int32GetDatum(erasing->key.type_id), PointerGetDatum(erasing->key.tenant_id),
		Int64GetDatum(erasing->first), Int64GetDatum(erasing->last)
	};
	uint64		nrows;

	SPI_connect();
	nrows = plan_execute(&select_unreachable, values, NULL, false);
	for (uint64 row = 0; row < nrows; row++)
	{
		bool		isnull;
		char	   *what = TextDatumGetCString(plan_result(row, 1, &isnull));
		char	   *name = TextDatumGetCString(plan_result(row, 2, &isnull));
		char	   *note = TextDatumGetCString(plan_result(row, 4, &isnull));
		Datum		count = plan_result(row, 3, &isnull);

		report(erasing, what, name, isnull ? -1 : DatumGetInt64(count), note);
	}
	SPI_finish();
}

/* The log is changed; now all that was made of it. */
static void
finish(Erasing *erasing)
{
	int64		snapshots;

	forget_statistics();
	snapshots = snapshot_forget(&erasing->key);
	if (snapshots > 0)
		report(erasing, "snapshot", text_to_cstring(erasing->type->name), snapshots, "dropped");
	append_event(erasing);
	fault_point("erasure-appended");
	correct_projections(erasing);
	record(erasing);
	if (erasing->result)
		report_unreachable(erasing);
}

static void
erase_aggregate(Erasing *erasing)
{
	erasing->first = 1;
	erasing->last = require_not_erased(erasing);
	erasing->events = erase_stream(&erasing->key);
	CommandCounterIncrement();
	report(erasing, "events", text_to_cstring(erasing->type->name), erasing->events, "payload and metadata are erased");
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
	erasing.key.tenant_id = PG_ARGISNULL(3) ? context_tenant_id() : PG_GETARG_TEXT_PP(3);
	identity_assume(&before, dugong_owner());
	lock_all(&erasing);
	erase_aggregate(&erasing);
	finish(&erasing);
	identity_restore(&before);
	return (Datum) 0;
}

/* Finds the event, into the current memory context. */
static void
find_event(const pg_uuid_t *id, LogRow *row)
{
	Relation	log = log_open(AccessShareLock);
	bool		found = event_find(log, id, row);

	table_close(log, NoLock);
	if (!found)
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

/* The key names of the call, checked, and in an array of one dimension. */
static void
check_keys(Erasing *erasing, Datum **names, int *count)
{
	bool	   *nulls;

	deconstruct_array(erasing->keys, TEXTOID, -1, false, TYPALIGN_INT, names, &nulls, count);
	if (*count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("keys must not be empty"),
				 errhint("NULL erases all of the payload and the metadata.")));
	for (int i = 0; i < *count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("keys must not be null")));
		if (erasure_name_is_reserved(DatumGetTextPP((*names)[i])))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("key \"%s\" is reserved", TextDatumGetCString((*names)[i]))));
	}
	erasing->keys = construct_array(*names, *count, TEXTOID, -1, false, TYPALIGN_INT);
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

/* A payload type wants its fields to be there; they may be null. */
static bool
keeps_fields(const Erasing *erasing, const LogRow *row)
{
	const EventVersion *declared = event_type_version(event_type_find(erasing->key.type_id, DatumGetTextPP(log_row_value(row, LOG_TYPE))),
													  DatumGetInt32(log_row_value(row, LOG_VERSION)));

	return declared != NULL && declared->payload_type != NULL;
}

static void
erase_named_keys(Erasing *erasing, const LogRow *row)
{
	bool		any = false;
	Datum	   *names;
	int			count;

	check_keys(erasing, &names, &count);
	for (int i = 0; i < count; i++)
	{
		const char *key = TextDatumGetCString(names[i]);
		int			there = has_key(row, LOG_PAYLOAD, key) + has_key(row, LOG_METADATA, key);

		any |= there > 0;
		report(erasing, "key", key, there, there > 0 ? "erased" : "was not there");
	}
	if (!any)
		report_nothing(erasing);
	erase_keys(erasing->event_id, erasing->keys, keeps_fields(erasing, row));
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
	find_event(erasing->event_id, &row);
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
	find_event(erasing.event_id, &row);
	log_row_key(&row, &erasing.key);
	erasing.type = aggregate_type_get(erasing.key.type_id);
	require_erasable(&erasing, &row);
	lock_all(&erasing);
	(void) require_not_erased(&erasing);
	/* Another erasure may have been first. */
	find_event(erasing.event_id, &row);
	erasing.events = 1;
	erasing.first = erasing.last = DatumGetInt64(log_row_value(&row, LOG_SEQUENCE_NUMBER));
	if (erasing.keys)
		erase_named_keys(&erasing, &row);
	else
		erase_all(&erasing, &row);
	CommandCounterIncrement();
	report(&erasing, "events", text_to_cstring(erasing.type->name), 1,
		   erasing.keys ? "keys of payload and metadata are erased" : "payload and metadata are erased");
	check_readable(&erasing);
	finish(&erasing);
	identity_restore(&before);
	return (Datum) 0;
}

static void pg_attribute_noreturn()
report_payload(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("payload of event type \"%s\" must name one event, or none", ERASED_EVENT)));
}

/* What a message says is erased: eventIds is null, or has one id; keys is null, or an array of strings. */
static void
read_message(Erasing *erasing)
{
	const LogRow *row = erasing->message;
	Jsonb	   *payload = log_row_isnull(row, LOG_PAYLOAD) ? NULL : DatumGetJsonbP(log_row_value(row, LOG_PAYLOAD));
	Jsonb	   *ids;
	Jsonb	   *keys;
	JsonbValue *id;
	Datum	   *names;
	int			count;

	if (payload == NULL || !JB_ROOT_IS_OBJECT(payload))
		report_payload();
	ids = jsonb_field_value(payload, "eventIds");
	if (ids == NULL)
		return;
	if (JB_ROOT_IS_SCALAR(ids) || !JB_ROOT_IS_ARRAY(ids) || JB_ROOT_COUNT(ids) != 1 ||
		(id = getIthJsonbValueFromContainer(&ids->root, 0))->type != jbvString)
		report_payload();
	erasing->event_id = DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(
		pnstrdup(id->val.string.val, id->val.string.len))));
	keys = jsonb_field_value(payload, "keys");
	if (keys == NULL)
		return;
	if (JB_ROOT_IS_SCALAR(keys) || !JB_ROOT_IS_ARRAY(keys))
		report_payload();
	count = JB_ROOT_COUNT(keys);
	names = palloc(Max(count, 1) * sizeof(Datum));
	for (int i = 0; i < count; i++)
	{
		JsonbValue *name = getIthJsonbValueFromContainer(&keys->root, i);

		if (name->type != jbvString)
			report_payload();
		names[i] = PointerGetDatum(cstring_to_text_with_len(name->val.string.val, name->val.string.len));
	}
	erasing->keys = construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT);
	check_keys(erasing, &names, &count);
}

/* Erases the one event that a message names, if it is here and of the message's aggregate. */
static void
erase_received(Erasing *erasing)
{
	Relation	log = log_open(AccessShareLock);
	LogRow		row;
	AggregateKey key;
	bool		found = event_find(log, erasing->event_id, &row);

	table_close(log, NoLock);
	erasing->first = erasing->last = DatumGetInt64(log_row_value(erasing->message, LOG_SEQUENCE_NUMBER));
	if (!found)
		return;
	log_row_key(&row, &key);
	if (!aggregate_key_equal(&key, &erasing->key))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event \"%s\" is of another aggregate", uuid_to_cstring(erasing->event_id))));
	erasing->events = 1;
	erasing->first = erasing->last = DatumGetInt64(log_row_value(&row, LOG_SEQUENCE_NUMBER));
	if (erasing->keys)
		erase_keys(erasing->event_id, erasing->keys, keeps_fields(erasing, &row));
	else
		erase_event(erasing->event_id);
	CommandCounterIncrement();
}

/* See message_set_erasure_hook(). */
static void
receive(LogRow *row)
{
	Erasing		erasing = {.message = row,.reason = cstring_to_text("erased at its origin")};
	Identity	before;

	check_transaction();
	log_row_key(row, &erasing.key);
	erasing.type = aggregate_type_get(erasing.key.type_id);
	read_message(&erasing);
	identity_assume(&before, dugong_owner());
	lock_all(&erasing);
	if (erasing.event_id)
		erase_received(&erasing);
	else
		erase_aggregate(&erasing);
	finish(&erasing);
	identity_restore(&before);
}

void
erase_init(void)
{
	message_set_erasure_hook(receive);
}
