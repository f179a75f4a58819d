/*
 * projection.c
 *		The registry of projections.
 *
 * Each session keeps it in memory.  Whoever changes a projection holds its
 * lock until he commits; so what is found under the lock, after invalidations
 * were taken in, holds until the lock is given up.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "aggregate/fingerprint.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "projection/projection.h"
#include "store/erasure.h"
#include "store/log.h"
#include "store/tenant.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "util/plan.h"
#include "util/private_lock.h"
#include "util/table_watch.h"

PG_FUNCTION_INFO_V1(dugong_refuse_projected_type);

static const char *const kind_names[] = {
	[KIND_QUERY_MODEL] = "query_model",
	[KIND_AGGREGATE] = "aggregate",
	[KIND_AGGREGATE_SET] = "aggregate_set",
	[KIND_EVENT] = "event",
	[KIND_EVENT_SET] = "event_set",
	[KIND_SUBSCRIPTION] = "subscription"
};

static MemoryContext context;	/* holds the list */
static List *projections;		/* Projection, by name */
static TableWatch watch;

void
projection_init(void)
{
	table_watch_init(&watch);
}

const char *
projection_kind_name(ProjectionKind kind)
{
	return kind_names[kind];
}

static void
clear_projections(void)
{
	if (context == NULL)
		context = AllocSetContextCreate(CacheMemoryContext, "dugong projections", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(context);
	projections = NIL;
}

static ProjectionKind
read_kind(const char *name)
{
	for (size_t i = 0; i < lengthof(kind_names); i++)
		if (strcmp(kind_names[i], name) == 0)
			return i;
	elog(ERROR, "projection is of unknown kind \"%s\"", name);
}

static ProjectionState
read_state(const char *name)
{
	if (strcmp(name, "running") == 0)
		return PROJECTION_RUNNING;
	return strcmp(name, "paused") == 0 ? PROJECTION_PAUSED : PROJECTION_STOPPED;
}

static List *
read_type_ids(Datum array)
{
	Datum	   *elements;
	int			count;
	List	   *ids = NIL;

	deconstruct_array(DatumGetArrayTypeP(array), INT4OID, sizeof(int32), true, TYPALIGN_INT,
					  &elements, NULL, &count);
	for (int i = 0; i < count; i++)
		ids = lappend_int(ids, DatumGetInt32(elements[i]));
	return ids;
}

static List *
read_types(Datum array)
{
	Datum	   *elements;
	int			count;
	List	   *types = NIL;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &elements, NULL, &count);
	for (int i = 0; i < count; i++)
		types = lappend(types, TextDatumGetCString(elements[i]));
	return types;
}

/* Enters one row of the last result into the list. */
static void
enter_row(int row)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	Projection *projection = palloc0(sizeof(Projection));
	char	  **strings[] = {&projection->name, &projection->owner, &projection->search_path,
		&projection->query_model, &projection->update_handler, &projection->delete_handler,
	&projection->event_handler, &projection->set_handler, &projection->reset_handler};
	Datum		values[17];
	bool		nulls[17];

	for (int i = 0; i < 17; i++)
		values[i] = plan_result(row, i + 1, &nulls[i]);
	for (size_t i = 0; i < lengthof(strings); i++)
		if (!nulls[i])
			*strings[i] = TextDatumGetCString(values[i]);
	projection->kind = read_kind(TextDatumGetCString(values[9]));
	projection->type_ids = read_type_ids(values[10]);
	if (!nulls[11])
		projection->types = read_types(values[11]);
	projection->is_inline = DatumGetBool(values[12]);
	projection->stops_on_error = DatumGetBool(values[13]);
	projection->state = read_state(TextDatumGetCString(values[14]));
	projection->start_position = DatumGetInt64(values[15]);
	if (!nulls[16])
		projection->visibility_timeout = *DatumGetIntervalP(values[16]);
	projections = lappend(projections, projection);
	MemoryContextSwitchTo(old);
}

static void
ensure_projections(void)
{
	static SavedPlan select_projections = {
		.sql = "SELECT name, owner, search_path, query_model, update_handler, delete_handler, event_handler, "
		"set_handler, reset_handler, kind, aggregate_type_ids, types, mode OPERATOR(pg_catalog.=) 'inline', "
		"on_error OPERATOR(pg_catalog.=) 'stop', state, start_position, visibility_timeout FROM dugong.projections "
		"ORDER BY name COLLATE pg_catalog.\"C\""
	};

	if (!watch.valid)
		table_watch_read(&watch, dugong_relid("projections"), dugong_owner(), &select_projections,
						 clear_projections, enter_row);
}

static char *
copy_string(const char *string)
{
	return string ? pstrdup(string) : NULL;
}

/* A copy in the current memory context: the list goes whenever the table changes. */
static Projection *
copy_projection(const Projection *projection)
{
	Projection *copy = palloc(sizeof(Projection));
	ListCell   *cell;

	*copy = *projection;
	copy->name = copy_string(projection->name);
	copy->owner = copy_string(projection->owner);
	copy->search_path = copy_string(projection->search_path);
	copy->type_ids = list_copy(projection->type_ids);
	copy->types = NIL;
	foreach(cell, projection->types)
		copy->types = lappend(copy->types, pstrdup(lfirst(cell)));
	copy->query_model = copy_string(projection->query_model);
	copy->update_handler = copy_string(projection->update_handler);
	copy->delete_handler = copy_string(projection->delete_handler);
	copy->event_handler = copy_string(projection->event_handler);
	copy->set_handler = copy_string(projection->set_handler);
	copy->reset_handler = copy_string(projection->reset_handler);
	return copy;
}

/* All projections, in the order of their names, in the current memory context. */
List *
projection_list(void)
{
	List	   *copies = NIL;
	ListCell   *cell;

	ensure_projections();
	foreach(cell, projections)
		copies = lappend(copies, copy_projection(lfirst(cell)));
	return copies;
}

/* The projection of a name, in the current memory context, or NULL. */
Projection *
projection_find(const char *name)
{
	ListCell   *cell;

	ensure_projections();
	foreach(cell, projections)
	{
		const Projection *projection = lfirst(cell);

		if (strcmp(projection->name, name) == 0)
			return copy_projection(projection);
	}
	return NULL;
}

/* As projection_find(); 42704 if there is none. */
Projection *
projection_get(const char *name)
{
	Projection *projection = projection_find(name);

	if (projection == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("projection \"%s\" does not exist", name)));
	return projection;
}

/*
 * Does it get what belongs to a tenant?  If its owner sees that.  Errors:
 * 42704 if he is gone: to pass over events then would lose them.
 */
bool
projection_sees(const Projection *projection, const text *tenant_id)
{
	return !tenants_are_isolated() || tenant_is_seen(get_role_oid(projection->owner, false), tenant_id);
}

/* Does it read the event?  Of an erasure everybody is told, whatever types he has asked for. */
bool
projection_reads(const Projection *projection, const LogRow *row)
{
	const text *event_type;
	ListCell   *cell;

	if (!list_member_int(projection->type_ids, DatumGetInt32(log_row_value(row, LOG_AGGREGATE_TYPE_ID))) ||
		!projection_sees(projection, DatumGetTextPP(log_row_value(row, LOG_TENANT_ID))))
		return false;
	event_type = DatumGetTextPP(log_row_value(row, LOG_TYPE));
	if (projection->types == NIL || erasure_is_event(event_type))
		return true;
	foreach(cell, projection->types)
	{
		const char *type = lfirst(cell);

		if (strlen(type) == VARSIZE_ANY_EXHDR(event_type) &&
			memcmp(type, VARDATA_ANY(event_type), VARSIZE_ANY_EXHDR(event_type)) == 0)
			return true;
	}
	return false;
}

/* Does it handle the event?  A handler of events does not get what is left of an erased aggregate's. */
bool
projection_handles(const Projection *projection, const LogRow *row)
{
	return projection_reads(projection, row) &&
		(projection_is_of_states(projection) || !erasure_is_skeleton(row));
}

/* Does it get states, not events? */
bool
projection_is_of_states(const Projection *projection)
{
	return projection->kind <= KIND_AGGREGATE_SET;
}

/* Is it for the workers, or for run_projections()? */
bool
projection_is_run(const Projection *projection)
{
	return !projection->is_inline && projection->kind != KIND_SUBSCRIPTION &&
		projection->state == PROJECTION_RUNNING;
}

/* Is there an inline projection of an aggregate type? */
bool
projections_are_inline(int32 type_id)
{
	ListCell   *cell;

	ensure_projections();
	foreach(cell, projections)
	{
		const Projection *projection = lfirst(cell);

		if (projection->is_inline && list_member_int(projection->type_ids, type_id))
			return true;
	}
	return false;
}

LOCKTAG
projection_lock_tag(const char *name)
{
	return private_lock_tag(MyDatabaseId, LOCK_PROJECTION,
							hash_bytes_extended((const unsigned char *) name, strlen(name), 0));
}

/*
 * Takes a projection's lock until the transaction ends, and takes in what
 * others have changed.  False if it is not to be waited for, and somebody has
 * it.
 */
bool
projection_lock(const char *name, bool wait)
{
	LOCKTAG		tag = projection_lock_tag(name);

	if (LockAcquire(&tag, ExclusiveLock, false, !wait) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	AcceptInvalidationMessages();
	return true;
}

/* Has another session its lock?  It is not disturbed. */
bool
projection_is_locked(const char *name)
{
	LOCKTAG		tag = projection_lock_tag(name);
	int			count;

	(void) GetLockConflicts(&tag, ShareLock, &count);
	return count > 0;
}

/* What its query model is made with, today. */
int64
projection_fingerprint(const Projection *projection)
{
	const char *names[] = {projection->update_handler, projection->delete_handler,
	projection->event_handler, projection->set_handler};
	const AggregateType *type = projection_is_of_states(projection) ?
		aggregate_type_by_id(linitial_int(projection->type_ids)) : NULL;
	int64		fingerprint = type && type->fold ? fingerprint_get(type) : 0;
	ListCell   *cell;

	for (size_t i = 0; i < lengthof(names); i++)
		if (names[i])
			fingerprint = fingerprint_add_function(fingerprint, names[i]);
	foreach(cell, projection->types)
		fingerprint = fingerprint_add_string(fingerprint, lfirst(cell));
	if (projection->query_model)
		fingerprint = fingerprint_add_table(fingerprint, projection->query_model);
	return fingerprint;
}

/* BEFORE DELETE row trigger of dugong.aggregate_types. */
Datum
dugong_refuse_projected_type(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	bool		isnull;
	int32		id;
	ListCell   *cell;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ||
		RelationGetRelid(trigger->tg_relation) != dugong_relid("aggregate_types"))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as the trigger of dugong.aggregate_types")));
	id = DatumGetInt32(heap_getattr(trigger->tg_trigtuple, 1, RelationGetDescr(trigger->tg_relation), &isnull));
	ensure_projections();
	foreach(cell, projections)
	{
		const Projection *projection = lfirst(cell);

		if (list_member_int(projection->type_ids, id))
			ereport(ERROR,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg("cannot drop the aggregate type because projection \"%s\" depends on it",
							projection->name)));
	}
	return PointerGetDatum(trigger->tg_trigtuple);
}
