/*
 * aggregate_type.c
 *		The names of aggregate types and what is registered of them.
 *
 * The log stores a small id instead of origin and name.  Each session keeps
 * the registry in memory: it has few rows.  A statement trigger on the table
 * (dugong.aggregate_types_changed) sends a relcache invalidation, whose
 * callback sets a flag and nothing more; the next look-up reads the table
 * again.  An abort processes the invalidation too, so a type whose creation
 * is rolled back is forgotten.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "lib/stringinfo.h"
#include "store/aggregate_type.h"
#include "store/log.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "util/plan.h"

PG_FUNCTION_INFO_V1(dugong_aggregate_types_changed);

static HTAB *types;				/* in CacheMemoryContext, by id */
static Oid	types_relid;		/* the table they were read from */
static bool types_valid;

static void
invalidate(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == types_relid)
		types_valid = false;
}

void
aggregate_type_init(void)
{
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
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

static char *
keep_string(const char *string)
{
	return string ? MemoryContextStrdup(CacheMemoryContext, string) : NULL;
}

/* Enters one row of the last result into the cache. */
static void
enter_row(int row)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;
	HeapTuple	tuple = SPI_tuptable->vals[row];
	bool		isnull;
	bool		found;
	int32		id = DatumGetInt32(plan_result(row, 1, &isnull));
	char	   *origin = SPI_getvalue(tuple, desc, 2);
	char	   *name = SPI_getvalue(tuple, desc, 3);
	char	   *fold = SPI_getvalue(tuple, desc, 4);
	AggregateType *type = hash_search(types, &id, HASH_ENTER, &found);

	if (!found)
	{
		MemoryContext old = MemoryContextSwitchTo(CacheMemoryContext);

		type->fold = NULL;
		type->origin = cstring_to_text(origin);
		type->name = cstring_to_text(name);
		type->channel = psprintf("%s-%s", origin, name);
		MemoryContextSwitchTo(old);
	}
	if (type->fold == NULL || fold == NULL || strcmp(type->fold, fold) != 0)
		type->fold = keep_string(fold);
	type->live = true;
}

static void
read_types(void)
{
	static SavedPlan select_types = {
		.sql = "SELECT id, origin, name, fold FROM dugong.aggregate_types"
	};
	Oid			relid = dugong_relid("aggregate_types");
	HASH_SEQ_STATUS seq;
	AggregateType *type;
	uint64		nrows;

	if (types == NULL)
		create_cache();
	hash_seq_init(&seq, types);
	while ((type = hash_seq_search(&seq)) != NULL)
		type->live = false;

	types_relid = relid;
	types_valid = true;
	SPI_connect();
	/* A parallel worker may not begin a command, and has a snapshot. */
	nrows = plan_execute(&select_types, NULL, NULL, IsInParallelMode());
	for (uint64 row = 0; row < nrows; row++)
		enter_row(row);
	SPI_finish();
}

/* The type of an id, or NULL. */
const AggregateType *
aggregate_type_by_id(int32 id)
{
	AggregateType *type;

	if (!types_valid)
		read_types();
	type = hash_search(types, &id, HASH_FIND, NULL);
	return type && type->live ? type : NULL;
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
 * The type of a name.
 *
 * origin: NULL = the only type of that name, whatever its origin.
 * Errors: 42704 if there is none, 42725 if there are several.
 */
const AggregateType *
aggregate_type_by_name(const char *origin, const char *name)
{
	HASH_SEQ_STATUS seq;
	AggregateType *type;
	AggregateType *found = NULL;
	int			nfound = 0;

	if (!types_valid)
		read_types();
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
	if (nfound == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 origin ?
				 errmsg("aggregate type \"%s\" of origin \"%s\" does not exist", name, origin) :
				 errmsg("aggregate type \"%s\" does not exist", name)));
	return found;
}

/* AFTER statement trigger on dugong.aggregate_types. */
Datum
dugong_aggregate_types_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as a trigger")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}
