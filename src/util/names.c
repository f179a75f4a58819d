/*
 * names.c
 *		The objects of schema dugong, by name.
 *
 * An append asks for a dozen of them, so each session remembers what it has
 * found.  It forgets all when the schema or a type changes, or a relation that
 * it knows: DROP EXTENSION and CREATE EXTENSION give them other ids.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "util/names.h"
#include "util/relation_watch.h"

#define MAX_NAMES 64

typedef struct KnownRelation
{
	const char *name;			/* a constant */
	Oid			relid;
} KnownRelation;

static KnownRelation known[MAX_NAMES];
static int	nknown;
static Oid	namespace;
static Oid	event_type;
static Oid	owner;

static void
forget(void)
{
	nknown = 0;
	namespace = InvalidOid;
	event_type = InvalidOid;
	owner = InvalidOid;
}

static void
on_relation(Datum arg, Oid relid)
{
	if (relid == InvalidOid)
		forget();
	for (int i = 0; i < nknown; i++)
		if (known[i].relid == relid)
			forget();
}

static void
on_catalog(Datum arg, int cacheid, uint32 hashvalue)
{
	forget();
}

void
names_init(void)
{
	relation_watch(on_relation, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, on_catalog, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, on_catalog, (Datum) 0);
}

Oid
dugong_namespace(void)
{
	if (!OidIsValid(namespace))
		namespace = get_namespace_oid("dugong", false);
	return namespace;
}

/*
 * The relation of that name in schema dugong; an error if it is gone.
 *
 * name: a constant, which the session remembers by its address.
 */
Oid
dugong_relid(const char *name)
{
	Oid			relid;

	for (int i = 0; i < nknown; i++)
		if (known[i].name == name)
			return known[i].relid;
	relid = get_relname_relid(name, dugong_namespace());
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"dugong.%s\" does not exist", name),
				 errhint("Execute CREATE EXTENSION dugong.")));
	if (nknown < MAX_NAMES)
		known[nknown++] = (KnownRelation) {name, relid};
	return relid;
}

/* The role that owns the log and all that dugong writes. */
Oid
dugong_owner(void)
{
	HeapTuple	tuple;

	if (OidIsValid(owner))
		return owner;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(dugong_relid("event_log")));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"dugong.event_log\" does not exist")));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* The composite type dugong.domain_event. */
Oid
domain_event_typeid(void)
{
	if (!OidIsValid(event_type))
		event_type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("domain_event"),
									 ObjectIdGetDatum(dugong_namespace()));
	if (!OidIsValid(event_type))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("type \"dugong.domain_event\" does not exist")));
	return event_type;
}
