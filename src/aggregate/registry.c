/*
 * registry.c
 *		Creating, altering and dropping aggregate types and event types.
 *
 * These functions run with the caller's rights, who becomes the owner of what
 * he creates: folds, upcasts and CHECKs of payload types run as he.  So he
 * must be allowed to use them.  The tables are written as their owner.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "aggregate/fold.h"
#include "aggregate/registry.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "compat.h"
#include "guc.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "store/aggregate_type.h"
#include "store/domain_event.h"
#include "store/erasure.h"
#include "store/event_tag.h"
#include "store/event_type.h"
#include "store/ownership.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "util/args.h"
#include "util/identity.h"
#include "util/plan.h"

PG_FUNCTION_INFO_V1(dugong_create_aggregate_type);
PG_FUNCTION_INFO_V1(dugong_alter_aggregate_type);
PG_FUNCTION_INFO_V1(dugong_drop_aggregate_type);
PG_FUNCTION_INFO_V1(dugong_create_event_type);
PG_FUNCTION_INFO_V1(dugong_drop_event_type);

/* Who changes the registry is alone: what he checks holds until he has changed it. */
static void
lock_registry(void)
{
	LockRelationOid(dugong_relid("aggregate_types"), ShareRowExclusiveLock);
}

/* Runs a statement on the registry, as its owner. */
static void
change_registry(SavedPlan *statement, Datum *values, const bool *nulls)
{
	Identity	before;

	identity_assume(&before, dugong_owner());
	plan_run(statement, values, nulls);
	identity_restore(&before);
	CommandCounterIncrement();
}

/* The signature of a fold argument that may be used; NULL if none is given. */
static char *
fold_argument(FunctionCallInfo fcinfo, int number)
{
	Oid			fold;

	if (PG_ARGISNULL(number))
		return NULL;
	fold = PG_GETARG_OID(number);
	require_execute(fold);
	fold_check(fold);
	return format_procedure_qualified(fold);
}

/*
 * The signatures of functions that a fold was said to call, as text[]; 0 if
 * nothing is said.  They are only looked at, never called.
 */
static Datum
dependencies_argument(FunctionCallInfo fcinfo, int number)
{
	Datum	   *functions;
	bool	   *nulls;
	int			count;

	if (PG_ARGISNULL(number))
		return (Datum) 0;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(number), REGPROCEDUREOID, sizeof(Oid), true, TYPALIGN_INT,
					  &functions, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("depends_on must not contain null values")));
		if (!SearchSysCacheExists1(PROCOID, functions[i]))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 errmsg("function with OID %u does not exist", DatumGetObjectId(functions[i]))));
		functions[i] = CStringGetTextDatum(format_procedure_qualified(DatumGetObjectId(functions[i])));
	}
	return PointerGetDatum(construct_array(functions, count, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
check_snapshot_interval(FunctionCallInfo fcinfo, int number)
{
	if (!PG_ARGISNULL(number) && PG_GETARG_INT32(number) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("snapshot_interval must not be negative"),
				 errhint("0 takes no snapshots.")));
}

/* The origin of what this database creates. */
static char *
local_origin(void)
{
	return dugong_origin[0] != '\0' ? dugong_origin : get_database_name(MyDatabaseId);
}

static void
check_new_name(const char *origin, const char *name)
{
	if (origin[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("origin must not be empty")));
	if (strchr(origin, '\n') || strchr(name, '\n'))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("origin and name of an aggregate type must not contain a newline")));
	if (strlen(origin) + 1 + strlen(name) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("channel name \"%s-%s\" is too long", origin, name),
				 errdetail("Origin and aggregate type, with a hyphen between them, may have %d bytes.",
						   NAMEDATALEN - 1)));
	if (aggregate_type_find(origin, name) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("aggregate type \"%s\" of origin \"%s\" already exists", name, origin)));
	if (aggregate_type_find_channel(psprintf("%s-%s", origin, name)) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("channel \"%s-%s\" already exists", origin, name),
				 errdetail("Another origin and aggregate type give the same name.")));
}

/* create_aggregate_type(name, fold, snapshot_interval, strict, depends_on, origin, external) */
Datum
dugong_create_aggregate_type(PG_FUNCTION_ARGS)
{
	static SavedPlan insert_type = {
		.sql = "INSERT INTO dugong.aggregate_types "
		"(id, origin, name, owner, fold, snapshot_interval, strict, external, search_path, depends_on) "
		"VALUES (dugong.aggregate_type_id($1, $2), $1, $2, $3, $4, $5, $6, $7, $8, $9)",
		.nargs = 9,
		.argtypes = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID, BOOLOID, BOOLOID, TEXTOID, TEXTARRAYOID}
	};
	char	   *name = arg_needed_name(fcinfo, 0, "name");
	char	   *fold = fold_argument(fcinfo, 1);
	bool		strict = DatumGetBool(arg_needed(fcinfo, 3, "strict"));
	Datum		depends_on = dependencies_argument(fcinfo, 4);
	char	   *origin = PG_ARGISNULL(5) ? local_origin() : arg_name(fcinfo, 5);
	bool		external = PG_ARGISNULL(6) ? strcmp(origin, local_origin()) != 0 : PG_GETARG_BOOL(6);
	Datum		values[9];
	bool		nulls[9] = {false};

	check_snapshot_interval(fcinfo, 2);
	lock_registry();
	check_new_name(origin, name);
	values[0] = CStringGetTextDatum(origin);
	values[1] = CStringGetTextDatum(name);
	values[2] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	nulls[3] = fold == NULL;
	values[3] = fold ? CStringGetTextDatum(fold) : (Datum) 0;
	nulls[4] = PG_ARGISNULL(2);
	values[4] = PG_GETARG_DATUM(2);
	values[5] = BoolGetDatum(strict);
	values[6] = BoolGetDatum(external);
	values[7] = CStringGetTextDatum(identity_search_path());
	nulls[8] = depends_on == (Datum) 0;
	values[8] = depends_on;
	change_registry(&insert_type, values, nulls);
	PG_RETURN_VOID();
}

/* The type that the caller names and owns; 42704, 42P08, 42501. */
const AggregateType *
registry_own_type(FunctionCallInfo fcinfo, int name, int origin)
{
	const AggregateType *type;

	lock_registry();
	type = aggregate_type_by_name(arg_name(fcinfo, origin),
								  arg_needed_name(fcinfo, name, "aggregate type"));
	require_owner(type->owner, "aggregate type", text_to_cstring(type->name));
	return type;
}

/* alter_aggregate_type(name, fold, snapshot_interval, strict, depends_on, owner, origin): NULL leaves as it is; a fold brings its search_path */
Datum
dugong_alter_aggregate_type(PG_FUNCTION_ARGS)
{
	static SavedPlan update_type = {
		.sql = "UPDATE dugong.aggregate_types SET fold = COALESCE($2, fold), "
		"snapshot_interval = COALESCE($3, snapshot_interval), strict = COALESCE($4, strict), "
		"owner = COALESCE($5, owner), search_path = COALESCE($6, search_path), depends_on = COALESCE($7, depends_on) WHERE id OPERATOR(pg_catalog.=) $1",
		.nargs = 7,
		.argtypes = {INT4OID, TEXTOID, INT4OID, BOOLOID, TEXTOID, TEXTOID, TEXTARRAYOID}
	};
	const AggregateType *type = registry_own_type(fcinfo, 0, 6);
	char	   *fold = fold_argument(fcinfo, 1);
	Datum		depends_on = dependencies_argument(fcinfo, 4);
	char	   *owner = owner_argument(fcinfo, 5);
	Datum		values[7];
	bool		nulls[7] = {false, fold == NULL, PG_ARGISNULL(2), PG_ARGISNULL(3), owner == NULL, fold == NULL,
	depends_on == (Datum) 0};

	check_snapshot_interval(fcinfo, 2);
	values[0] = Int32GetDatum(type->id);
	values[1] = fold ? CStringGetTextDatum(fold) : (Datum) 0;
	values[2] = PG_GETARG_DATUM(2);
	values[3] = PG_GETARG_DATUM(3);
	values[4] = owner ? CStringGetTextDatum(owner) : (Datum) 0;
	values[5] = fold ? CStringGetTextDatum(identity_search_path()) : (Datum) 0;
	values[6] = depends_on;
	change_registry(&update_type, values, nulls);
	PG_RETURN_VOID();
}

/* Refuses to drop a type that has events.  Nobody appends meanwhile. */
static void
check_no_events(const AggregateType *type)
{
	Relation	log = log_open(ShareRowExclusiveLock);
	Snapshot	snapshot = snapshot_register_latest();
	LogScan		scan;
	bool		found;

	log_scan_first_events(&scan, log, type->id, NULL, NULL, snapshot);
	found = log_scan_next(&scan);
	log_scan_end(&scan);
	UnregisterSnapshot(snapshot);
	table_close(log, NoLock);
	if (found)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop aggregate type \"%s\" because it has events",
						text_to_cstring(type->name))));
}

/* drop_aggregate_type(name, origin) */
Datum
dugong_drop_aggregate_type(PG_FUNCTION_ARGS)
{
	static SavedPlan delete_event_types = {
		.sql = "DELETE FROM dugong.event_types WHERE aggregate_type_id OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.argtypes = {INT4OID}
	};
	static SavedPlan delete_type = {
		.sql = "DELETE FROM dugong.aggregate_types WHERE id OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.argtypes = {INT4OID}
	};
	static SavedPlan delete_tags = {
		.sql = "DELETE FROM dugong.tag_declarations WHERE aggregate_type_id OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.argtypes = {INT4OID}
	};
	const AggregateType *type = registry_own_type(fcinfo, 0, 1);
	Datum		id = Int32GetDatum(type->id);

	check_no_events(type);
	change_registry(&delete_event_types, &id, NULL);
	if (tags_exist())
		change_registry(&delete_tags, &id, NULL);
	change_registry(&delete_type, &id, NULL);
	PG_RETURN_VOID();
}

/* The name of a payload type that may be used; NULL if none is given. */
static char *
payload_type_argument(FunctionCallInfo fcinfo, int number)
{
	Oid			type;
	char		typtype;
	AclResult	result;

	if (PG_ARGISNULL(number))
		return NULL;
	type = PG_GETARG_OID(number);
	if (!SearchSysCacheExists1(TYPEOID, ObjectIdGetDatum(type)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("type with OID %u does not exist", type)));
	typtype = get_typtype(type);
	if (typtype != TYPTYPE_COMPOSITE && typtype != TYPTYPE_DOMAIN)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("type %s cannot be a payload type", format_type_be(type)),
				 errdetail("A payload type is a composite type or a domain.")));
	result = type_aclcheck(type, GetUserId());
	if (result != ACLCHECK_OK)
		aclcheck_error_type(result, type);
	return format_type_extended(type, -1, FORMAT_TYPE_FORCE_QUALIFY);
}

/* The signature of an upcast that may be used; NULL if none is given. */
static char *
upcast_argument(FunctionCallInfo fcinfo, int number)
{
	Oid			function;
	Oid		   *argtypes;
	int			nargs;

	if (PG_ARGISNULL(number))
		return NULL;
	function = PG_GETARG_OID(number);
	require_execute(function);
	if (get_func_prokind(function) != PROKIND_FUNCTION || get_func_retset(function) ||
		get_func_signature(function, &argtypes, &nargs) != JSONBOID ||
		nargs != 1 || argtypes[0] != JSONBOID)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("function %s cannot be an upcast", format_procedure(function)),
				 errdetail("An upcast has one argument of type jsonb and returns jsonb.")));
	return format_procedure_qualified(function);
}

/* Versions follow each other, so that a chain of upcasts has no gap. */
static void
check_new_version(const AggregateType *type, text *event_type, int version, bool has_upcast)
{
	const EventType *declared = event_type_find(type->id, event_type);

	if (erasure_name_is_reserved(event_type))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event type \"%s\" is reserved", text_to_cstring(event_type))));
	if (version < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("version must be greater than zero")));
	if (has_upcast && version == 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("version 1 cannot have an upcast"),
				 errdetail("An upcast turns the version before into the declared one.")));
	if (event_type_version(declared, version) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("event type \"%s\" version %d of aggregate type \"%s\" already exists",
						text_to_cstring(event_type), version, text_to_cstring(type->name))));
	if (declared != NULL && version != declared->current + 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the next version of event type \"%s\" is %d",
						text_to_cstring(event_type), declared->current + 1)));
}

/* create_event_type(aggregate_type, type, version, payload_type, upcast, origin) */
Datum
dugong_create_event_type(PG_FUNCTION_ARGS)
{
	static SavedPlan insert_type = {
		.sql = "INSERT INTO dugong.event_types (aggregate_type_id, type, version, payload_type, upcast) "
		"VALUES ($1, $2, $3, $4, $5)",
		.nargs = 5,
		.argtypes = {INT4OID, TEXTOID, INT4OID, TEXTOID, TEXTOID}
	};
	const AggregateType *type = registry_own_type(fcinfo, 0, 5);
	char	   *event_type = arg_needed_name(fcinfo, 1, "type");
	int			version = DatumGetInt32(arg_needed(fcinfo, 2, "version"));
	char	   *payload_type = payload_type_argument(fcinfo, 3);
	char	   *upcast = upcast_argument(fcinfo, 4);
	Datum		values[5];
	bool		nulls[5] = {false, false, false, payload_type == NULL, upcast == NULL};

	check_new_version(type, cstring_to_text(event_type), version, upcast != NULL);
	values[0] = Int32GetDatum(type->id);
	values[1] = CStringGetTextDatum(event_type);
	values[2] = Int32GetDatum(version);
	values[3] = payload_type ? CStringGetTextDatum(payload_type) : (Datum) 0;
	values[4] = upcast ? CStringGetTextDatum(upcast) : (Datum) 0;
	change_registry(&insert_type, values, nulls);
	PG_RETURN_VOID();
}

/* drop_event_type(aggregate_type, type, version, origin): the latest version, or what is said */
Datum
dugong_drop_event_type(PG_FUNCTION_ARGS)
{
	static SavedPlan delete_type = {
		.sql = "DELETE FROM dugong.event_types WHERE aggregate_type_id OPERATOR(pg_catalog.=) $1 "
		"AND type OPERATOR(pg_catalog.=) $2 AND version OPERATOR(pg_catalog.=) $3",
		.nargs = 3,
		.argtypes = {INT4OID, TEXTOID, INT4OID}
	};
	const AggregateType *type = registry_own_type(fcinfo, 0, 3);
	char	   *event_type = arg_needed_name(fcinfo, 1, "type");
	const EventType *declared = event_type_find(type->id, cstring_to_text(event_type));
	int			version;
	Datum		values[3];

	if (declared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("event type \"%s\" of aggregate type \"%s\" is not declared",
						event_type, text_to_cstring(type->name))));
	version = PG_ARGISNULL(2) ? declared->current : PG_GETARG_INT32(2);
	if (version != declared->current)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("only the latest version of event type \"%s\" can be dropped", event_type),
				 errdetail("The latest version is %d.", declared->current)));
	values[0] = Int32GetDatum(type->id);
	values[1] = CStringGetTextDatum(event_type);
	values[2] = Int32GetDatum(version);
	change_registry(&delete_type, values, NULL);
	PG_RETURN_VOID();
}
