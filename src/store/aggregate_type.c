/*
 * aggregate_type.c
 *		The names of aggregate types and what is registered of them.
 *
 * The log stores a small id instead of origin and name.  Each session keeps
 * the registry in memory: it has few rows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "store/aggregate_type.h"
#include "store/log.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "util/table_watch.h"

/* See docs/architecture.md for the measurement. */
#define DEFAULT_SNAPSHOT_INTERVAL 20

static HTAB *types;				/* in CacheMemoryContext, by id */
static TableWatch watch;

void
aggregate_type_init(void)
{
	table_watch_init(&watch);
}

static void
create_cache(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(int32);
	ctl.entrysize = sizeof(AggregateType);
	ctl.hcxt = CacheMemoryContext;
	types = hash_create("dugong aggregate types", 64, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Replaces a string in the cache if it is another one now. */
static void
keep_string(char **kept, const char *string)
{
	char	   *replaced;

	if (*kept && string && strcmp(*kept, string) == 0)
		return;
	replaced = *kept;
	*kept = string ? MemoryContextStrdup(CacheMemoryContext, string) : NULL;
	if (replaced)
		pfree(replaced);
}

/* As keep_string(), of an array. */
static void
keep_array(ArrayType **kept, ArrayType *array)
{
	ArrayType  *replaced;

	if (*kept && array && VARSIZE(*kept) == VARSIZE(array) && memcmp(*kept, array, VARSIZE(array)) == 0)
		return;
	replaced = *kept;
	*kept = array ? memcpy(MemoryContextAlloc(CacheMemoryContext, VARSIZE(array)), array, VARSIZE(array)) : NULL;
	if (replaced)
		pfree(replaced);
}

/* A new entry; memory may run out before it is made, but not in between. */
static AggregateType *
create_type(int32 id, const char *origin, const char *name)
{
	MemoryContext old = MemoryContextSwitchTo(CacheMemoryContext);
	AggregateType fresh = {
		.id = id,.origin = cstring_to_text(origin),.name = cstring_to_text(name),.channel = psprintf("%s-%s", origin, name)
	};
	AggregateType *type;

	MemoryContextSwitchTo(old);
	type = hash_search(types, &id, HASH_ENTER, NULL);
	*type = fresh;
	return type;
}

/* Enters one row of the last result into the cache. */
static void
enter_row(int row)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;
	HeapTuple	tuple = SPI_tuptable->vals[row];
	bool		isnull;
	int32		id = DatumGetInt32(plan_result(row, 1, &isnull));
	AggregateType *type = hash_search(types, &id, HASH_FIND, NULL);
	Datum		depends_on;

	if (type == NULL)
		type = create_type(id, SPI_getvalue(tuple, desc, 2), SPI_getvalue(tuple, desc, 3));
	keep_string(&type->owner, SPI_getvalue(tuple, desc, 4));
	keep_string(&type->search_path, SPI_getvalue(tuple, desc, 5));
	keep_string(&type->fold, SPI_getvalue(tuple, desc, 6));
	type->strict = DatumGetBool(plan_result(row, 7, &isnull));
	type->external = DatumGetBool(plan_result(row, 8, &isnull));
	type->snapshot_interval = DatumGetInt32(plan_result(row, 9, &isnull));
	type->has_default_interval = isnull;
	if (isnull)
		type->snapshot_interval = DEFAULT_SNAPSHOT_INTERVAL;
	depends_on = plan_result(row, 10, &isnull);
	keep_array(&type->depends_on, isnull ? NULL : DatumGetArrayTypeP(depends_on));
	type->live = true;
}

/* Entries stay, for those who point to them. */
static void
clear_types(void)
{
	HASH_SEQ_STATUS seq;
	AggregateType *type;

	if (types == NULL)
		create_cache();
	hash_seq_init(&seq, types);
	while ((type = hash_seq_search(&seq)) != NULL)
		type->live = false;
}

static void
ensure_types(void)
{
	static SavedPlan select_types = {
		.sql = "SELECT id, origin, name, owner, search_path, fold, strict, external, snapshot_interval, depends_on FROM dugong.aggregate_types"
	};

	if (!watch.valid)
		table_watch_read(&watch, dugong_relid("aggregate_types"), dugong_owner(), &select_types,
						 clear_types, enter_row);
}

/* The type of an id, or NULL. */
const AggregateType *
aggregate_type_by_id(int32 id)
{
	AggregateType *type;

	ensure_types();
	type = hash_search(types, &id, HASH_FIND, NULL);
	return type && type->live ? type : NULL;
}

/* All types that there are: const AggregateType *. */
List *
aggregate_type_list(void)
{
	List	   *list = NIL;
	HASH_SEQ_STATUS seq;
	AggregateType *type;

	ensure_types();
	hash_seq_init(&seq, types);
	while ((type = hash_seq_search(&seq)) != NULL)
		if (type->live)
			list = lappend(list, type);
	return list;
}

static bool
text_is(const text *value, const char *string)
{
	return VARSIZE_ANY_EXHDR(value) == strlen(string) &&
		memcmp(VARDATA_ANY(value), string, strlen(string)) == 0;
}

/* Says which origins have a type of that name, for the error's hint. */
static void
report_ambiguous(const char *name)
{
	StringInfoData origins;
	HASH_SEQ_STATUS seq;
	AggregateType *type;

	initStringInfo(&origins);
	hash_seq_init(&seq, types);
	while ((type = hash_seq_search(&seq)) != NULL)
		if (type->live && text_is(type->name, name))
			appendStringInfo(&origins, "%s\"%s\"", origins.len ? ", " : "",
							 text_to_cstring(type->origin));
	ereport(ERROR,
			(errcode(ERRCODE_AMBIGUOUS_PARAMETER),
			 errmsg("aggregate type \"%s\" exists in several origins", name),
			 errdetail("The origins are %s.", origins.data),
			 errhint("Say which origin is meant.")));
}

/*
 * The type of a name, or NULL.
 *
 * origin: NULL = the only type of that name, whatever its origin.
 * Errors: 42P08 if there are several.
 */
const AggregateType *
aggregate_type_find(const char *origin, const char *name)
{
	HASH_SEQ_STATUS seq;
	AggregateType *type;
	AggregateType *found = NULL;
	int			nfound = 0;

	ensure_types();
	hash_seq_init(&seq, types);
	while ((type = hash_seq_search(&seq)) != NULL)
	{
		if (type->live && text_is(type->name, name) &&
			(origin == NULL || text_is(type->origin, origin)))
		{
			found = type;
			nfound++;
		}
	}
	if (nfound > 1)
		report_ambiguous(name);
	return found;
}

static void
report_missing(const char *origin, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 origin ?
			 errmsg("aggregate type \"%s\" of origin \"%s\" does not exist", name, origin) :
			 errmsg("aggregate type \"%s\" does not exist", name),
			 errhint("Create it with dugong.create_aggregate_type().")));
}

/* The type of an id; 42704 if there is none, or none any more. */
const AggregateType *
aggregate_type_get(int32 id)
{
	const AggregateType *type = aggregate_type_by_id(id);

	if (type == NULL)
	{
		type = hash_search(types, &id, HASH_FIND, NULL);
		if (type != NULL)
			report_missing(text_to_cstring(type->origin), text_to_cstring(type->name));
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("aggregate type with id %d does not exist", id),
				 errhint("Create it with dugong.create_aggregate_type().")));
	}
	return type;
}

/*
 * The type of a name, as aggregate_type_find().
 *
 * Errors: 42704 if there is none, 42P08 if there are several.
 */
const AggregateType *
aggregate_type_by_name(const char *origin, const char *name)
{
	const AggregateType *type = aggregate_type_find(origin, name);

	if (type == NULL)
		report_missing(origin, name);
	return type;
}

/* The type of a channel, or NULL. */
const AggregateType *
aggregate_type_find_channel(const char *channel)
{
	HASH_SEQ_STATUS seq;
	AggregateType *type;
	AggregateType *found = NULL;

	ensure_types();
	hash_seq_init(&seq, types);
	while ((type = hash_seq_search(&seq)) != NULL)
		if (type->live && strcmp(type->channel, channel) == 0)
			found = type;
	return found;
}

/* The type of a channel, or of a name that is not ambiguous. */
const AggregateType *
aggregate_type_by_channel(const char *name)
{
	const AggregateType *type = aggregate_type_find_channel(name);

	return type ? type : aggregate_type_by_name(NULL, name);
}

static Oid
owner_oid(const AggregateType *type)
{
	Oid			role = get_role_oid(type->owner, true);

	if (!OidIsValid(role))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("role \"%s\" does not exist", type->owner),
				 errdetail("It owns aggregate type \"%s\".", text_to_cstring(type->name)),
				 errhint("Give the type another owner with dugong.alter_aggregate_type().")));
	return role;
}

/*
 * Becomes the role whose rights the type's fold, upcasts and CHECKs have;
 * identity_restore() goes back.  Errors: 42704 if the role is gone.
 */
void
aggregate_type_assume_owner(const AggregateType *type, Identity *before)
{
	Oid			owner = owner_oid(type);

	if (identity_formats_are_fixed())
	{
		identity_assume_restricted(before, owner, type->search_path);
		return;
	}
	identity_assume_anew(before, owner, SECURITY_RESTRICTED_OPERATION | SECURITY_GUEST, type->search_path);
	identity_fix_formats();
}
