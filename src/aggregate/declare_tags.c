/*
 * declare_tags.c
 *		Declaring what tags the events of a type have.
 *
 * The events that are there get their entries in the same transaction.  No
 * append runs meanwhile: the log's lock is held, SHARE ROW EXCLUSIVE, until
 * the transaction ends.  So an event is in the index either by its append or
 * by this.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "aggregate/registry.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "store/event_tag.h"
#include "store/ownership.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "util/args.h"

PG_FUNCTION_INFO_V1(dugong_declare_tags);
PG_FUNCTION_INFO_V1(dugong_drop_tags);

/* Excludes appends, and whoever changes the registry. */
static Relation
lock_log(void)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot change tags in a REPEATABLE READ or SERIALIZABLE transaction"),
				 errdetail("Its snapshot may not see all events.")));
	return log_open(ShareRowExclusiveLock);
}

/* Takes back what is declared of an event type, with its entries; returns how many declarations. */
static int64
forget_tags(int32 type_id, const char *event_type)
{
	static SavedPlan delete_declaration = {
		.sql = "DELETE FROM dugong.tag_declarations WHERE aggregate_type_id OPERATOR(pg_catalog.=) $1 "
		"AND type OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.argtypes = {INT4OID, TEXTOID}
	};
	static SavedPlan delete_tags = {
		.sql = "DELETE FROM dugong.event_tags t USING dugong.event_log e "
		"WHERE e.position OPERATOR(pg_catalog.=) t.position "
		"AND e.aggregate_type_id OPERATOR(pg_catalog.=) $1 AND e.type OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.argtypes = {INT4OID, TEXTOID}
	};
	Datum		values[] = {Int32GetDatum(type_id), CStringGetTextDatum(event_type)};
	int64		deleted = execute_as_owner(&delete_declaration, values, NULL);

	if (deleted > 0)
		(void) execute_as_owner(&delete_tags, values, NULL);
	return deleted;
}

static void
name_event(void *arg)
{
	errcontext("tags of the event at position " INT64_FORMAT, *(int64 *) arg);
}

static void
enter_event(const LogRow *row)
{
	int64		position = DatumGetInt64(log_row_value(row, LOG_POSITION));
	TagKeys		tags;
	ErrorContextCallback callback = {
		.callback = name_event,
		.arg = &position,
		.previous = error_context_stack
	};

	error_context_stack = &callback;
	event_tags(row, &tags);
	event_tags_write(&tags, position);
	error_context_stack = callback.previous;
}

static bool
is_of(const LogRow *row, int32 type_id, const char *event_type)
{
	text	   *type = DatumGetTextPP(log_row_value(row, LOG_TYPE));

	return DatumGetInt32(log_row_value(row, LOG_AGGREGATE_TYPE_ID)) == type_id &&
		VARSIZE_ANY_EXHDR(type) == strlen(event_type) &&
		memcmp(VARDATA_ANY(type), event_type, strlen(event_type)) == 0;
}

/* Enters the events of a type that are in the log. */
static void
enter_events(Relation log, int32 type_id, const char *event_type)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dugong tags", ALLOCSET_DEFAULT_SIZES);
	Snapshot	snapshot = snapshot_register_latest();
	TupleTableSlot *slot = table_slot_create(log, NULL);
	TableScanDesc scan = table_beginscan(log, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		LogRow		row;

		CHECK_FOR_INTERRUPTS();
		log_row_from_slot(&row, slot);
		if (is_of(&row, type_id, event_type))
			enter_event(&row);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	MemoryContextDelete(context);
}

/* declare_tags(aggregate_type, type, tags, origin): in the place of what was declared before */
Datum
dugong_declare_tags(PG_FUNCTION_ARGS)
{
	static SavedPlan insert_declaration = {
		.sql = "INSERT INTO dugong.tag_declarations (aggregate_type_id, type, tags) VALUES ($1, $2, $3)",
		.nargs = 3,
		.argtypes = {INT4OID, TEXTOID, JSONBOID}
	};
	const AggregateType *type = registry_own_type(fcinfo, 0, 3);
	char	   *event_type = arg_needed_name(fcinfo, 1, "type");
	Datum		values[] = {Int32GetDatum(type->id), CStringGetTextDatum(event_type), arg_needed(fcinfo, 2, "tags")};
	int			ntags;
	Relation	log;

	(void) tag_paths_parse(DatumGetJsonbP(values[2]), &ntags);
	log = lock_log();
	(void) forget_tags(type->id, event_type);
	(void) execute_as_owner(&insert_declaration, values, NULL);
	enter_events(log, type->id, event_type);
	table_close(log, NoLock);
	PG_RETURN_VOID();
}

/* drop_tags(aggregate_type, type, origin) */
Datum
dugong_drop_tags(PG_FUNCTION_ARGS)
{
	const AggregateType *type = registry_own_type(fcinfo, 0, 2);
	char	   *event_type = arg_needed_name(fcinfo, 1, "type");
	Relation	log = lock_log();

	if (forget_tags(type->id, event_type) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("event type \"%s\" of aggregate type \"%s\" declares no tags",
						event_type, text_to_cstring(type->name))));
	table_close(log, NoLock);
	PG_RETURN_VOID();
}
