/*
 * isolation.c
 *		Keeping tenants apart.
 *
 * dugong's functions and views look at tenants themselves (store/tenant.c).
 * Its tables, and query models, get a policy for those who have rights on the
 * table: a restrictive one, which no policy of the owner's widens.  Where row
 * level security was off, it is switched on, and a second policy lets through
 * what the first one does.  Tables' owners, workers among them, pass by both.
 *
 * A table without tenants would show all tenants' rows to everybody, so no
 * query model may be one.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/policy.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "projection/isolation.h"
#include "projection/projection.h"
#include "storage/lmgr.h"
#include "store/ownership.h"
#include "store/tenant.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/varlena.h"
#include "util/identity.h"
#include "util/names.h"
#include "util/plan.h"

PG_FUNCTION_INFO_V1(dugong_enable_tenant_isolation);
PG_FUNCTION_INFO_V1(dugong_disable_tenant_isolation);

#define POLICY "dugong_tenant"
#define POLICY_OF_ALL "dugong_rows"

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid));
}

/* Runs a statement, whose middle is a table's name. */
static void
alter_table(const char *before, Oid relid, const char *after)
{
	char	   *sql = psprintf("%s %s %s", before, qualified_name(relid), after);
	int			result;

	SPI_connect();
	result = SPI_execute(sql, false, 0);
	if (result != SPI_OK_UTILITY)
		elog(ERROR, "could not execute \"%s\": %s", sql, SPI_result_code_string(result));
	SPI_finish();
	CommandCounterIncrement();
}

static bool
has_policy(Oid relid, const char *name)
{
	return OidIsValid(get_relation_policy_oid(relid, name, true));
}

/* Locks a table, which keeps its name, until the transaction ends.  Has it row level security? */
static bool
lock_table(Oid relid)
{
	Relation	table = table_open(relid, AccessExclusiveLock);
	bool		secured = table->rd_rel->relrowsecurity;

	table_close(table, NoLock);
	return secured;
}

/* Gives a table its policies: see the head of this file. */
static void
protect(Oid relid)
{
	bool		secured = lock_table(relid);

	if (has_policy(relid, POLICY) && secured)
		return;
	if (!secured)
	{
		if (!has_policy(relid, POLICY_OF_ALL))
			alter_table("CREATE POLICY " POLICY_OF_ALL " ON", relid, "USING (true)");
		alter_table("ALTER TABLE", relid, "ENABLE ROW LEVEL SECURITY");
	}
	if (!has_policy(relid, POLICY))
		alter_table("CREATE POLICY " POLICY " ON", relid, "AS RESTRICTIVE USING (dugong.sees_tenant(tenant_id))");
}

/* Takes it back. */
static void
unprotect(Oid relid)
{
	(void) lock_table(relid);
	if (has_policy(relid, POLICY))
		alter_table("DROP POLICY " POLICY " ON", relid, "");
	if (has_policy(relid, POLICY_OF_ALL))
	{
		alter_table("DROP POLICY " POLICY_OF_ALL " ON", relid, "");
		alter_table("ALTER TABLE", relid, "DISABLE ROW LEVEL SECURITY");
	}
}

static bool
has_tenants(Oid relid)
{
	AttrNumber	number = get_attnum(relid, "tenant_id");

	return number > 0 && get_atttype(relid, number) == TEXTOID;
}

/* dugong's own tables that have tenants, and query models: List of oids. */
static List *
all_tables(void)
{
	static SavedPlan select_tables = {
		.sql = "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid "
		"WHERE c.relnamespace OPERATOR(pg_catalog.=) $1 AND c.relkind OPERATOR(pg_catalog.=) 'r' "
		"AND a.attname OPERATOR(pg_catalog.=) 'tenant_id' ORDER BY c.relname",
		.nargs = 1,
		.argtypes = {OIDOID}
	};
	MemoryContext context = CurrentMemoryContext;
	Datum		namespace = ObjectIdGetDatum(dugong_namespace());
	List	   *tables = NIL;
	ListCell   *cell;
	uint64		nrows;

	SPI_connect();
	nrows = plan_execute(&select_tables, &namespace, NULL, false);
	for (uint64 row = 0; row < nrows; row++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		bool		isnull;

		tables = lappend_oid(tables, DatumGetObjectId(plan_result(row, 1, &isnull)));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	foreach(cell, projection_list())
	{
		const char *name = ((const Projection *) lfirst(cell))->query_model;
		Oid			relid = name ? RangeVarGetRelid(makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(name))),
													NoLock, true) : InvalidOid;

		/* One that was dropped is found missing when it is written. */
		if (OidIsValid(relid))
			tables = list_append_unique_oid(tables, relid);
	}
	return tables;
}

static void
report_without_tenants(const char *names)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("query model without a column \"tenant_id\" of type text while tenants are isolated"),
			 errdetail("It would show the rows of all tenants: %s.", names),
			 errhint("Give it the column, and a unique index on (id, tenant_id) instead of the one on (id).")));
}

static void
check_tables(List *tables)
{
	StringInfoData names;
	ListCell   *cell;

	initStringInfo(&names);
	foreach(cell, tables)
	{
		if (!has_tenants(lfirst_oid(cell)))
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", qualified_name(lfirst_oid(cell)));
	}
	if (names.len > 0)
		report_without_tenants(names.data);
}

/* A table becomes a query model: to be called by who owns it, with the projection's row written. */
void
isolation_protect(Oid relid)
{
	if (!tenants_are_isolated())
		return;
	check_tables(list_make1_oid(relid));
	protect(relid);
}

/*
 * enable_tenant_isolation(): were they not isolated?  Called again, it mends
 * what has been taken away from tables.
 */
Datum
dugong_enable_tenant_isolation(PG_FUNCTION_ARGS)
{
	static SavedPlan insert = {
		.sql = "INSERT INTO dugong.tenant_isolation (enabled, enabled_by) VALUES (true, $1) ON CONFLICT DO NOTHING",
		.nargs = 1,
		.argtypes = {TEXTOID}
	};
	Datum		by = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	List	   *tables;
	ListCell   *cell;
	bool		inserted;

	require_log_owner("dugong.enable_tenant_isolation()");
	/* A projection that is being created either is in the list, or finds tenants isolated. */
	LockRelationOid(dugong_relid("projections"), ShareRowExclusiveLock);
	tables = all_tables();
	check_tables(tables);
	inserted = execute_as_owner(&insert, &by, NULL) > 0;
	foreach(cell, tables)
		protect(lfirst_oid(cell));
	PG_RETURN_BOOL(inserted);
}

/* disable_tenant_isolation(): were they isolated? */
Datum
dugong_disable_tenant_isolation(PG_FUNCTION_ARGS)
{
	static SavedPlan delete = {
		.sql = "DELETE FROM dugong.tenant_isolation"
	};
	ListCell   *cell;
	bool		deleted;

	require_log_owner("dugong.disable_tenant_isolation()");
	LockRelationOid(dugong_relid("projections"), ShareRowExclusiveLock);
	deleted = execute_as_owner(&delete, NULL, NULL) > 0;
	foreach(cell, all_tables())
		unprotect(lfirst_oid(cell));
	PG_RETURN_BOOL(deleted);
}
