/*
 * erasing.c
 *		What an erasure does to all that was made of events.
 *
 * One transaction takes the content out of the log (store/erasure.c), forgets
 * the snapshot, appends "$erased", has every projection of states write the
 * aggregate anew, takes out what errors may have told, and records it.  All of
 * it or nothing.
 *
 * Order of locks: the projections' in the order of their names, then the
 * aggregate's, as handlers that append take them.  So no batch that has read
 * the old events writes after the erasure, and the next one sees "$erased".  A
 * projection that is created meanwhile is told by that, too.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "aggregate/snapshot.h"
#include "catalog/heap.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "guc.h"
#include "miscadmin.h"
#include "projection/delivery.h"
#include "projection/erasing.h"
#include "projection/failure.h"
#include "projection/parked.h"
#include "projection/projection.h"
#include "projection/rebuild_states.h"
#include "store/aggregate_lock.h"
#include "store/append.h"
#include "store/erasure.h"
#include "store/event_type.h"
#include "store/ownership.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "util/ids.h"
#include "util/plan.h"

/* One row of the report; count < 0 = not counted. */
void
erasing_report(Erasing *erasing, const char *what, const char *name, int64 count, const char *note)
{
	Datum		values[] = {
		CStringGetTextDatum(what), CStringGetTextDatum(name), Int64GetDatum(count), CStringGetTextDatum(note)
	};
	bool		nulls[] = {false, false, count < 0, false};

	if (erasing->result == NULL)
		return;
	tuplestore_putvalues(erasing->result->setResult, erasing->result->setDesc, values, nulls);
}

void
erasing_check_transaction(void)
{
	PreventCommandIfReadOnly("an erasure");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot erase in a REPEATABLE READ or SERIALIZABLE transaction"),
				 errdetail("Its snapshot may not see all that is to be erased.")));
}

/* Does it read the type, and so may keep something of its events? */
static bool
reads_type(const Projection *projection, int32 type_id)
{
	return list_member_int(projection->type_ids, type_id);
}

/* See the head of this file. */
void
erasing_lock(const Erasing *erasing)
{
	ListCell   *cell;

	foreach(cell, projection_list())
	{
		const Projection *projection = lfirst(cell);

		if (projection->kind != KIND_SUBSCRIPTION && reads_type(projection, erasing->key.type_id))
			(void) projection_lock(projection->name, true);
	}
	aggregate_lock(&erasing->key);
}

/* The aggregate's last event, under its lock: UG002 if there is none, UG003 if all is erased. */
int64
erasing_require_not_erased(const Erasing *erasing)
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
	erasing_report(erasing, "event", ERASED_EVENT, 1, psprintf("appended with id %s", uuid_to_cstring(&erasing->id)));
}

static void
name_projection(void *arg)
{
	errcontext("correcting projection \"%s\" after an erasure", ((const Projection *) arg)->name);
}

/* Puts out that a projection or subscription is told; but it is not, if its owner does not see the tenant. */
static void
report_told(Erasing *erasing, const char *what, const Projection *projection, int64 count, const char *note)
{
	if (projection_sees(projection, erasing->key.tenant_id))
		erasing_report(erasing, what, projection->name, count, note);
	else
		erasing_report(erasing, "not reached", psprintf("%s %s", what, projection->name), -1,
					   "its owner does not see the tenant, so it is not told; what it has is for him to find");
}

static void
correct_states(Erasing *erasing, Projection *projection)
{
	ErrorContextCallback callback = {.callback = name_projection,.arg = projection,.previous = error_context_stack};
	bool		parked = parked_is(projection->name, &erasing->key);

	error_context_stack = &callback;
	/* An inline one was told by the append, if its owner sees the tenant. */
	if (!projection->is_inline || !projection_sees(projection, erasing->key.tenant_id))
		rebuild_aggregate(projection, &erasing->key, false);
	error_context_stack = callback.previous;
	if (projection->query_model)
		erasing_report(erasing, "projection", projection->name, 1,
					   psprintf("query model %s is corrected", projection->query_model));
	else
		report_told(erasing, "projection", projection, 1, "its handler was given the state anew");
	if (parked)
		erasing_report(erasing, "dead letter", projection->name, 1, "handled, and gone");
}

static void
correct_events(Erasing *erasing, const Projection *projection)
{
	report_told(erasing, "projection", projection, -1,
		   "gets the event " ERASED_EVENT "; what its handler has made of earlier ones is for that to find");
	if (parked_erase(projection->name, &erasing->key))
		erasing_report(erasing, "dead letter", projection->name, 1, "error is erased, and it is tried again");
}

static void
correct_subscription(Erasing *erasing, const Projection *subscription)
{
	int64		count = delivery_erase(subscription->name, &erasing->key, erasing->event_id);

	report_told(erasing, "subscription", subscription, -1,
		   "gets the event " ERASED_EVENT "; what its consumers keep is for them to find");
	if (count > 0)
		erasing_report(erasing, "delivery", subscription->name, count, "reason is erased; what was given up is delivered again");
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
		{
			correct_subscription(erasing, projection);
			continue;
		}
		/* It may have been created while the others' locks were waited for. */
		(void) projection_lock(projection->name, true);
		if (projection_is_of_states(projection))
			correct_states(erasing, projection);
		else
			correct_events(erasing, projection);
		if (failure_erase(projection->name))
			erasing_report(erasing, "error", projection->name, 1, "its last error is erased");
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

		erasing_report(erasing, what, name, isnull ? -1 : DatumGetInt64(count), note);
	}
	SPI_finish();
}

/* The log is changed; now all that was made of it. */
void
erasing_finish(Erasing *erasing)
{
	int64		snapshots;

	forget_statistics();
	snapshots = snapshot_forget(&erasing->key);
	if (snapshots > 0)
		erasing_report(erasing, "snapshot", text_to_cstring(erasing->type->name), snapshots, "dropped");
	append_event(erasing);
	correct_projections(erasing);
	record(erasing);
	if (erasing->result)
		report_unreachable(erasing);
}

void
erasing_erase_aggregate(Erasing *erasing)
{
	erasing->first = 1;
	erasing->last = erasing_require_not_erased(erasing);
	erasing->events = erase_stream(&erasing->key);
	CommandCounterIncrement();
	erasing_report(erasing, "events", text_to_cstring(erasing->type->name), erasing->events, "payload and metadata are erased");
}

/* The key names of the call, checked, and in an array of one dimension. */
void
erasing_check_keys(Erasing *erasing, Datum **names, int *count)
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

/* A payload type wants its fields to be there; they may be null. */
bool
erasing_keeps_fields(const Erasing *erasing, const LogRow *row)
{
	const EventVersion *declared = event_type_version(event_type_find(erasing->key.type_id, DatumGetTextPP(log_row_value(row, LOG_TYPE))),
													  DatumGetInt32(log_row_value(row, LOG_VERSION)));

	return declared != NULL && declared->payload_type != NULL;
}
