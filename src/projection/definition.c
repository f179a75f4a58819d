/*
 * definition.c
 *		Creating, altering and dropping projections.
 *
 * These functions run with the caller's rights, who becomes the owner: his are
 * the rights of the handlers.  He needs EXECUTE on them, must own the query
 * model's table, and, for an inline projection, which can make appends fail,
 * the aggregate types.  Whoever may create projections may read all events, of
 * the tenants that he sees.
 *
 * Whoever changes a projection holds its lock until he commits.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "aggregate/fold.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "projection/checkpoint.h"
#include "projection/handler.h"
#include "projection/inline.h"
#include "projection/isolation.h"
#include "projection/launch.h"
#include "projection/mode.h"
#include "projection/projection.h"
#include "projection/query_model.h"
#include "projection/suspect.h"
#include "storage/lmgr.h"
#include "store/domain_event.h"
#include "store/horizon.h"
#include "store/ownership.h"
#include "store/tenant.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/varlena.h"
#include "util/args.h"
#include "util/identity.h"
#include "util/plan.h"

PG_FUNCTION_INFO_V1(dugong_create_projection);
PG_FUNCTION_INFO_V1(dugong_create_subscription);
PG_FUNCTION_INFO_V1(dugong_alter_subscription);
PG_FUNCTION_INFO_V1(dugong_drop_subscription);
PG_FUNCTION_INFO_V1(dugong_alter_projection);
PG_FUNCTION_INFO_V1(dugong_drop_projection);

/* "projection-" and the name are a channel. */
#define MAX_NAME_LENGTH (NAMEDATALEN - 1 - (int) strlen("projection-"))

#define MAX_VISIBILITY (INT64CONST(360) * 24 * 3600 * 1000)	/* ms */

static void
check_choice(const char *name, const char *value, const char *one, const char *other)
{
	if (strcmp(value, one) != 0 && strcmp(value, other) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be \"%s\" or \"%s\", not \"%s\"", name, one, other, value)));
}

static void
check_new_name(const char *name)
{
	if ((int) strlen(name) > MAX_NAME_LENGTH)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("projection name \"%s\" is too long", name),
				 errdetail("It may have %d bytes.", MAX_NAME_LENGTH)));
	if (projection_find(name) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("projection \"%s\" already exists", name)));
}

/* The aggregate types of a text or text[] argument: List of const AggregateType *. */
static List *
types_argument(FunctionCallInfo fcinfo, int number, const char *origin)
{
	List	   *types = NIL;
	Datum	   *names;
	bool	   *nulls;
	int			count;

	(void) arg_needed(fcinfo, number, "aggregate type");
	if (get_fn_expr_argtype(fcinfo->flinfo, number) != TEXTARRAYOID)
		return list_make1(unconstify(AggregateType *, aggregate_type_by_name(origin, arg_needed_name(fcinfo, number, "aggregate type"))));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(number), TEXTOID, -1, false, TYPALIGN_INT, &names, &nulls, &count);
	if (count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("aggregate_types must not be empty")));
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("aggregate type must not be null")));
		types = list_append_unique_ptr(types, unconstify(AggregateType *, aggregate_type_by_name(origin, TextDatumGetCString(names[i]))));
	}
	return types;
}

static Datum
type_ids_array(List *types)
{
	Datum	   *ids = palloc(list_length(types) * sizeof(Datum));
	ListCell   *cell;
	int			count = 0;

	foreach(cell, types)
		ids[count++] = Int32GetDatum(((const AggregateType *) lfirst(cell))->id);
	return PointerGetDatum(construct_array(ids, count, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

/* Event types: no NULL in it; may it be empty? */
static void
check_event_types(FunctionCallInfo fcinfo, int number, bool may_be_empty)
{
	ArrayType  *array;

	if (PG_ARGISNULL(number))
		return;
	array = PG_GETARG_ARRAYTYPE_P(number);
	if (!may_be_empty && ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("types must not be empty"),
				 errhint("NULL means all event types.")));
	if (array_contains_nulls(array))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("types must not contain null values")));
}

/* The handler arguments: oids, invalid = not given. */
typedef struct Handlers
{
	Oid			update;
	Oid			delete;
	Oid			event;
	Oid			set;
	Oid			reset;
} Handlers;

static Oid
oid_argument(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? InvalidOid : PG_GETARG_OID(number);
}

pg_noreturn static void
report_kind(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("a projection has a query_model, or an update_handler and a delete_handler, or an event_handler, or a set_handler")));
}

/* Which kind the arguments are of. */
static ProjectionKind
kind_of(bool has_query_model, const Handlers *handlers)
{
	bool		aggregate = OidIsValid(handlers->update) || OidIsValid(handlers->delete);

	if (has_query_model + aggregate + OidIsValid(handlers->event) + OidIsValid(handlers->set) != 1)
		report_kind();
	if (has_query_model)
		return KIND_QUERY_MODEL;
	if (aggregate && !(OidIsValid(handlers->update) && OidIsValid(handlers->delete)))
		report_kind();
	if (aggregate)
		return KIND_AGGREGATE;
	if (OidIsValid(handlers->event))
		return KIND_EVENT;
	{
		Oid		   *types;
		int			ntypes;

		if (!SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(handlers->set)))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 errmsg("function with OID %u does not exist", handlers->set)));
		(void) get_func_signature(handlers->set, &types, &ntypes);
		return ntypes == 1 ? KIND_EVENT_SET : KIND_AGGREGATE_SET;
	}
}

/* Checks the handlers that are given against what the kind calls them with. */
static void
check_handlers(const Handlers *handlers, ProjectionKind kind, Oid state_type, Oid role)
{
	Oid			event = domain_event_typeid();
	Oid			events = get_array_type(event);
	Oid			each[] = {UUIDOID, state_type};
	Oid			set[] = {UUIDARRAYOID, OidIsValid(state_type) ? get_array_type(state_type) : InvalidOid};

	if (OidIsValid(handlers->update))
		handler_check(handlers->update, role, "update handler", 2, each);
	if (OidIsValid(handlers->delete))
		handler_check(handlers->delete, role, "delete handler", 1, each);
	if (OidIsValid(handlers->event))
		handler_check(handlers->event, role, "event handler", 1, &event);
	if (OidIsValid(handlers->set) && kind == KIND_EVENT_SET)
		handler_check(handlers->set, role, "set handler", 1, &events);
	else if (OidIsValid(handlers->set))
		handler_check(handlers->set, role, "set handler", 2, set);
	if (OidIsValid(handlers->reset))
		handler_check(handlers->reset, role, "reset handler", 0, NULL);
}

/* The one aggregate type of a projection that gets states, and what its fold gives. */
static Oid
state_type_of(ProjectionKind kind, List *types)
{
	if (kind == KIND_EVENT || kind == KIND_EVENT_SET)
		return InvalidOid;
	if (list_length(types) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a projection of states has one aggregate type"),
				 errhint("Use an event_handler for several.")));
	return fold_result_type(linitial(types));
}

/* The name of a query model's table, which the caller must own. */
static char *
query_model_argument(Oid relid, Oid state_type)
{
	char	   *name = get_rel_name(relid);
	char	   *qualified;

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	if (!table_ownercheck(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(relid)), name);
	qualified = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name);
	query_model_check(qualified, state_type);
	return qualified;
}

static void
check_inline(List *types)
{
	ListCell   *cell;

	/* It can make appends fail. */
	foreach(cell, types)
	{
		const AggregateType *type = lfirst(cell);

		require_owner(type->owner, "aggregate type", text_to_cstring(type->name));
	}
}

/* Its aggregate types: const AggregateType *. */
static List *
types_of(const Projection *projection)
{
	List	   *types = NIL;
	ListCell   *cell;

	foreach(cell, projection->type_ids)
		types = lappend(types, unconstify(AggregateType *, aggregate_type_get(lfirst_int(cell))));
	return types;
}

/* NULL = from now on: after what is in the log for good at this moment. */
static int64
start_argument(FunctionCallInfo fcinfo, int number)
{
	if (PG_ARGISNULL(number))
	{
		Identity	before;
		int64		horizon;

		identity_assume(&before, dugong_owner());
		horizon = horizon_get();
		identity_restore(&before);
		return horizon;
	}
	if (PG_GETARG_INT64(number) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("start_position must not be negative")));
	return PG_GETARG_INT64(number);
}

static void
set_signature(Datum *value, bool *isnull, Oid function)
{
	*isnull = !OidIsValid(function);
	*value = *isnull ? (Datum) 0 : CStringGetTextDatum(format_procedure_qualified(function));
}

/* Deletes all that dugong keeps under a name. */
static void
forget(const char *name)
{
	static SavedPlan statements[] = {
		{.sql = "DELETE FROM dugong.projections WHERE name OPERATOR(pg_catalog.=) $1",.nargs = 1,.argtypes = {TEXTOID}},
		{.sql = "DELETE FROM dugong.parked_aggregates WHERE projection OPERATOR(pg_catalog.=) $1",.nargs = 1,.argtypes = {TEXTOID}},
		{.sql = "DELETE FROM dugong.projection_failures WHERE projection OPERATOR(pg_catalog.=) $1",.nargs = 1,.argtypes = {TEXTOID}},
		{.sql = "DELETE FROM dugong.rebuilds WHERE projection OPERATOR(pg_catalog.=) $1",.nargs = 1,.argtypes = {TEXTOID}},
		{.sql = "DELETE FROM dugong.deliveries WHERE subscription OPERATOR(pg_catalog.=) $1",.nargs = 1,.argtypes = {TEXTOID}}
	};
	Datum		value = CStringGetTextDatum(name);
	Identity	before;

	for (size_t i = 0; i < lengthof(statements); i++)
		(void) execute_as_owner(&statements[i], &value, NULL);
	identity_assume(&before, dugong_owner());
	checkpoint_remove(name);
	identity_restore(&before);
	suspect_forget(name);
}

/*
 * Takes the name of a new projection.  Nothing of one that had it before is
 * left behind for it: not even what a handler has written that dropped its own.
 */
static void
take_name(const char *name)
{
	(void) projection_lock(name, true);
	check_new_name(name);
	forget(name);
}

/* Arguments of create_projection(), in their order. */
enum
{
	CREATE_NAME, CREATE_TYPE, CREATE_QUERY_MODEL, CREATE_MODE, CREATE_UPDATE, CREATE_DELETE, CREATE_EVENT,
	CREATE_SET, CREATE_RESET, CREATE_TYPES, CREATE_ON_ERROR, CREATE_START, CREATE_ORIGIN
};

/* create_projection(...) */
Datum
dugong_create_projection(PG_FUNCTION_ARGS)
{
	static SavedPlan insert_projection = {
		.sql = "INSERT INTO dugong.projections (name, owner, search_path, kind, aggregate_type_ids, types, query_model, "
		"update_handler, delete_handler, event_handler, set_handler, reset_handler, mode, on_error, state, start_position) "
		"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 'running', $15)",
		.nargs = 15,
		.argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4ARRAYOID, TEXTARRAYOID, TEXTOID,
		TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT8OID}
	};
	char	   *name = arg_needed_name(fcinfo, CREATE_NAME, "name");
	char	   *mode = arg_needed_name(fcinfo, CREATE_MODE, "mode");
	char	   *on_error = arg_needed_name(fcinfo, CREATE_ON_ERROR, "on_error");
	List	   *types = types_argument(fcinfo, CREATE_TYPE, arg_name(fcinfo, CREATE_ORIGIN));
	Handlers	handlers = {
		oid_argument(fcinfo, CREATE_UPDATE), oid_argument(fcinfo, CREATE_DELETE), oid_argument(fcinfo, CREATE_EVENT),
		oid_argument(fcinfo, CREATE_SET), oid_argument(fcinfo, CREATE_RESET)
	};
	ProjectionKind kind = kind_of(!PG_ARGISNULL(CREATE_QUERY_MODEL), &handlers);
	Oid			state_type = state_type_of(kind, types);
	Datum		values[15] = {0};
	bool		nulls[15] = {false};

	check_choice("mode", mode, "async", "inline");
	check_choice("on_error", on_error, "park", "stop");
	check_event_types(fcinfo, CREATE_TYPES, false);
	check_handlers(&handlers, kind, state_type, GetUserId());
	if (strcmp(mode, "inline") == 0)
		check_inline(types);
	take_name(name);
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	values[2] = CStringGetTextDatum(identity_search_path());
	values[3] = CStringGetTextDatum(projection_kind_name(kind));
	values[4] = type_ids_array(types);
	nulls[5] = PG_ARGISNULL(CREATE_TYPES);
	values[5] = PG_GETARG_DATUM(CREATE_TYPES);
	nulls[6] = kind != KIND_QUERY_MODEL;
	if (kind == KIND_QUERY_MODEL)
		values[6] = CStringGetTextDatum(query_model_argument(PG_GETARG_OID(CREATE_QUERY_MODEL), state_type));
	set_signature(&values[7], &nulls[7], handlers.update);
	set_signature(&values[8], &nulls[8], handlers.delete);
	set_signature(&values[9], &nulls[9], handlers.event);
	set_signature(&values[10], &nulls[10], handlers.set);
	set_signature(&values[11], &nulls[11], handlers.reset);
	values[12] = CStringGetTextDatum(mode);
	values[13] = CStringGetTextDatum(on_error);
	values[14] = Int64GetDatum(start_argument(fcinfo, CREATE_START));
	(void) execute_as_owner(&insert_projection, values, nulls);
	if (kind == KIND_QUERY_MODEL)
		isolation_protect(PG_GETARG_OID(CREATE_QUERY_MODEL));
	if (strcmp(mode, "inline") == 0)
		inline_catch_up(name);
	launch_want_worker();
	PG_RETURN_VOID();
}

/* Months and days are of different lengths: with MAX_VISIBILITY a lease ends after it began, and before time does. */
static void
check_visibility_timeout(FunctionCallInfo fcinfo, int number)
{
	int64		milliseconds = arg_needed_milliseconds(fcinfo, number, "visibility_timeout");
	const Interval *interval = PG_GETARG_INTERVAL_P(number);

	if (interval->time < 0 || interval->day < 0 || interval->month < 0 || milliseconds <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("visibility_timeout must be greater than zero")));
	if (milliseconds > MAX_VISIBILITY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("visibility_timeout must not be longer than 360 days")));
}

/* Arguments of create_subscription(), in their order. */
enum
{
	SUBSCRIBE_NAME, SUBSCRIBE_AGGREGATE_TYPES, SUBSCRIBE_TYPES, SUBSCRIBE_START, SUBSCRIBE_VISIBILITY, SUBSCRIBE_ORIGIN
};

/* create_subscription(...): a projection without code */
Datum
dugong_create_subscription(PG_FUNCTION_ARGS)
{
	static SavedPlan insert_subscription = {
		.sql = "INSERT INTO dugong.projections (name, owner, search_path, kind, aggregate_type_ids, types, mode, on_error, "
		"state, start_position, visibility_timeout) VALUES ($1, $2, $3, 'subscription', $4, $5, 'async', 'park', 'running', $6, $7)",
		.nargs = 7,
		.argtypes = {TEXTOID, TEXTOID, TEXTOID, INT4ARRAYOID, TEXTARRAYOID, INT8OID, INTERVALOID}
	};
	char	   *name = arg_needed_name(fcinfo, SUBSCRIBE_NAME, "name");
	List	   *types = types_argument(fcinfo, SUBSCRIBE_AGGREGATE_TYPES, arg_name(fcinfo, SUBSCRIBE_ORIGIN));
	Datum		values[7];
	bool		nulls[7] = {false};

	check_event_types(fcinfo, SUBSCRIBE_TYPES, false);
	check_visibility_timeout(fcinfo, SUBSCRIBE_VISIBILITY);
	take_name(name);
	values[0] = CStringGetTextDatum(name);
	values[1] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	values[2] = CStringGetTextDatum(identity_search_path());
	values[3] = type_ids_array(types);
	nulls[4] = PG_ARGISNULL(SUBSCRIBE_TYPES);
	values[4] = PG_GETARG_DATUM(SUBSCRIBE_TYPES);
	values[5] = Int64GetDatum(start_argument(fcinfo, SUBSCRIBE_START));
	values[6] = PG_GETARG_DATUM(SUBSCRIBE_VISIBILITY);
	(void) execute_as_owner(&insert_subscription, values, nulls);
	PG_RETURN_VOID();
}

/* The projection that the caller names and owns, locked; 42704, 42501. */
Projection *
projection_own(FunctionCallInfo fcinfo)
{
	char	   *name = arg_needed_name(fcinfo, 0, "projection");
	Projection *projection;

	require_owner(projection_get(name)->owner, "projection", name);
	(void) projection_lock(name, true);
	projection = projection_get(name);
	/* It may have become somebody else's meanwhile. */
	require_owner(projection->owner, "projection", name);
	return projection;
}

/* hint: the function for subscriptions. */
static Projection *
not_subscription(Projection *projection, const char *hint)
{
	if (projection->kind == KIND_SUBSCRIPTION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a subscription", projection->name),
				 errhint("Use %s.", hint)));
	return projection;
}

/* hint: the function for projections. */
static Projection *
own_subscription(FunctionCallInfo fcinfo, const char *hint)
{
	Projection *subscription = projection_own(fcinfo);

	if (subscription->kind != KIND_SUBSCRIPTION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a projection", subscription->name),
				 errhint("Use %s.", hint)));
	return subscription;
}

/* The new owner of a projection must have the rights of its table's owner. */
static void
check_owner_of_table(const char *query_model, Oid role)
{
	Oid			relid = RangeVarGetRelid(makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(query_model))),
										 NoLock, false);

	if (!table_ownercheck(relid, role))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(relid)), get_rel_name(relid));
}

/* Arguments of alter_projection(), in their order. */
enum
{
	ALTER_NAME, ALTER_UPDATE, ALTER_DELETE, ALTER_EVENT, ALTER_SET, ALTER_RESET, ALTER_TYPES, ALTER_ON_ERROR,
	ALTER_OWNER, ALTER_ACCEPT, ALTER_MODE
};

/* A handler can be replaced, but the projection stays of its kind. */
static void
check_kind_stays(const Projection *projection, const Handlers *handlers)
{
	bool		fits = true;

	if (OidIsValid(handlers->update) || OidIsValid(handlers->delete))
		fits = projection->kind == KIND_AGGREGATE;
	if (OidIsValid(handlers->event))
		fits = fits && projection->kind == KIND_EVENT;
	if (OidIsValid(handlers->set))
		fits = fits && (projection->kind == KIND_EVENT_SET || projection->kind == KIND_AGGREGATE_SET);
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("projection \"%s\" is of kind \"%s\"", projection->name, projection_kind_name(projection->kind)),
				 errhint("Only handlers that it has can be replaced.")));
}

/* alter_projection(...): NULL leaves as it is; types '{}' means all; a handler brings its search_path */
Datum
dugong_alter_projection(PG_FUNCTION_ARGS)
{
	static SavedPlan update_projection = {
		.sql = "UPDATE dugong.projections SET update_handler = COALESCE($2, update_handler), "
		"delete_handler = COALESCE($3, delete_handler), event_handler = COALESCE($4, event_handler), "
		"set_handler = COALESCE($5, set_handler), reset_handler = COALESCE($6, reset_handler), "
		"types = CASE WHEN pg_catalog.cardinality($7) OPERATOR(pg_catalog.=) 0 THEN NULL ELSE COALESCE($7, types) END, on_error = COALESCE($8, on_error), owner = COALESCE($9, owner), "
		"search_path = COALESCE($10, search_path) WHERE name OPERATOR(pg_catalog.=) $1",
		.nargs = 10,
		.argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, TEXTOID, TEXTOID, TEXTOID}
	};
	Projection *projection = not_subscription(projection_own(fcinfo), "dugong.alter_subscription()");
	Handlers	handlers = {
		oid_argument(fcinfo, ALTER_UPDATE), oid_argument(fcinfo, ALTER_DELETE), oid_argument(fcinfo, ALTER_EVENT),
		oid_argument(fcinfo, ALTER_SET), oid_argument(fcinfo, ALTER_RESET)
	};
	bool		has_handler = OidIsValid(handlers.update) || OidIsValid(handlers.delete) ||
		OidIsValid(handlers.event) || OidIsValid(handlers.set) || OidIsValid(handlers.reset);
	char	   *on_error = arg_name(fcinfo, ALTER_ON_ERROR);
	char	   *mode = arg_name(fcinfo, ALTER_MODE);
	char	   *owner = owner_argument(fcinfo, ALTER_OWNER);
	Oid			state_type = projection_is_of_states(projection) ?
		fold_result_type(aggregate_type_get(linitial_int(projection->type_ids))) : InvalidOid;
	Datum		values[10] = {0};
	bool		nulls[10] = {false};

	if (on_error)
		check_choice("on_error", on_error, "park", "stop");
	if (mode)
		check_choice("mode", mode, "async", "inline");
	check_kind_stays(projection, &handlers);
	if (owner && projection->query_model)
		check_owner_of_table(projection->query_model, PG_GETARG_OID(ALTER_OWNER));
	check_handlers(&handlers, projection->kind, state_type,
				   owner ? PG_GETARG_OID(ALTER_OWNER) : get_role_oid(projection->owner, false));
	check_event_types(fcinfo, ALTER_TYPES, true);
	values[0] = CStringGetTextDatum(projection->name);
	set_signature(&values[1], &nulls[1], handlers.update);
	set_signature(&values[2], &nulls[2], handlers.delete);
	set_signature(&values[3], &nulls[3], handlers.event);
	set_signature(&values[4], &nulls[4], handlers.set);
	set_signature(&values[5], &nulls[5], handlers.reset);
	nulls[6] = PG_ARGISNULL(ALTER_TYPES);
	values[6] = PG_GETARG_DATUM(ALTER_TYPES);
	nulls[7] = on_error == NULL;
	values[7] = on_error ? CStringGetTextDatum(on_error) : (Datum) 0;
	nulls[8] = owner == NULL;
	values[8] = owner ? CStringGetTextDatum(owner) : (Datum) 0;
	nulls[9] = !has_handler;
	values[9] = has_handler ? CStringGetTextDatum(identity_search_path()) : (Datum) 0;
	(void) execute_as_owner(&update_projection, values, nulls);
	if (has_handler)
		suspect_forget(projection->name);
	if (!PG_ARGISNULL(ALTER_ACCEPT) && PG_GETARG_BOOL(ALTER_ACCEPT))
	{
		Identity	before;

		identity_assume(&before, dugong_owner());
		checkpoint_accept(projection_get(projection->name));
		identity_restore(&before);
	}
	if (mode)
	{
		bool		to_inline = strcmp(mode, "inline") == 0;

		if (to_inline)
			check_inline(types_of(projection));
		mode_change(projection_get(projection->name), to_inline);
	}
	launch_want_worker();
	PG_RETURN_VOID();
}

/* drop_projection(name) */
Datum
dugong_drop_projection(PG_FUNCTION_ARGS)
{
	forget(not_subscription(projection_own(fcinfo), "dugong.drop_subscription()")->name);
	PG_RETURN_VOID();
}

/* alter_subscription(name, types, visibility_timeout, owner): NULL leaves as it is; types '{}' means all */
Datum
dugong_alter_subscription(PG_FUNCTION_ARGS)
{
	static SavedPlan update_subscription = {
		.sql = "UPDATE dugong.projections SET "
		"types = CASE WHEN pg_catalog.cardinality($2) OPERATOR(pg_catalog.=) 0 THEN NULL ELSE COALESCE($2, types) END, "
		"visibility_timeout = COALESCE($3, visibility_timeout), owner = COALESCE($4, owner) "
		"WHERE name OPERATOR(pg_catalog.=) $1",
		.nargs = 4,
		.argtypes = {TEXTOID, TEXTARRAYOID, INTERVALOID, TEXTOID}
	};
	const Projection *subscription = own_subscription(fcinfo, "dugong.alter_projection()");
	char	   *owner = owner_argument(fcinfo, 3);
	bool		nulls[4] = {false, PG_ARGISNULL(1), PG_ARGISNULL(2), owner == NULL};
	Datum		values[4];

	check_event_types(fcinfo, 1, true);
	if (!PG_ARGISNULL(2))
		check_visibility_timeout(fcinfo, 2);
	values[0] = CStringGetTextDatum(subscription->name);
	values[1] = PG_GETARG_DATUM(1);
	values[2] = PG_GETARG_DATUM(2);
	values[3] = owner ? CStringGetTextDatum(owner) : (Datum) 0;
	(void) execute_as_owner(&update_subscription, values, nulls);
	PG_RETURN_VOID();
}

/* drop_subscription(name) */
Datum
dugong_drop_subscription(PG_FUNCTION_ARGS)
{
	forget(own_subscription(fcinfo, "dugong.drop_projection()")->name);
	PG_RETURN_VOID();
}
