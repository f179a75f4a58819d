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
 * All locks are taken in one moment (moment.c): those who append, and hold some
 * of them in an order of their own, neither deadlock with it nor queue behind
 * it.
 *
 * A table without tenants would show all tenants' rows to everybody, so no
 * query model may be one.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/policy.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "projection/isolation.h"
#include "projection/moment.h"
#include "projection/projection.h"
#include "rewrite/rowsecurity.h"
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
PG_FUNCTION_INFO_V1(dugong_tenant_isolation_changed);

#define POLICY "dugong_tenant"
#define POLICY_OF_ALL "dugong_rows"

static char *
qualified_name(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid));
}

/* Runs a statement, whose middle is the name of a table or view. */
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
protect_one(Oid relid)
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

/* Has a table, which is locked and has row level security, any policies? */
static bool
has_policies(Oid relid)
{
	Relation	table = table_open(relid, NoLock);
	bool		any = table->rd_rsdesc && table->rd_rsdesc->policies != NIL;

	table_close(table, NoLock);
	return any;
}

/* Takes it back.  Policies that the owner has come to rely on hold on. */
static void
unprotect_one(Oid relid)
{
	(void) lock_table(relid);
	if (has_policy(relid, POLICY))
		alter_table("DROP POLICY " POLICY " ON", relid, "");
	if (has_policy(relid, POLICY_OF_ALL))
	{
		alter_table("DROP POLICY " POLICY_OF_ALL " ON", relid, "");
		if (!has_policies(relid))
			alter_table("ALTER TABLE", relid, "DISABLE ROW LEVEL SECURITY");
	}
}

/* Does it to a table and to its partitions: who reads one of these by its name is bound by its own policies alone. */
static void
for_partitions(Oid relid, void (*action) (Oid relid))
{
	ListCell   *cell;

	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		action(relid);
	else
		foreach(cell, find_all_inheritors(relid, AccessExclusiveLock, NULL))
			action(lfirst_oid(cell));
}

static void
protect(Oid relid)
{
	for_partitions(relid, protect_one);
}

static void
unprotect(Oid relid)
{
	for_partitions(relid, unprotect_one);
}

static bool
has_tenants(Oid relid)
{
	AttrNumber	number = get_attnum(relid, "tenant_id");

	return number > 0 && get_atttype(relid, number) == TEXTOID;
}

/* The relations that a statement finds: List of oids. */
static List *
find_relations(SavedPlan *select, Datum *values)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *relations = NIL;
	uint64		nrows;

	SPI_connect();
	nrows = plan_execute(select, values, NULL, false);
	for (uint64 row = 0; row < nrows; row++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		bool		isnull;

		relations = lappend_oid(relations, DatumGetObjectId(plan_result(row, 1, &isnull)));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return relations;
}

/* The views of schema dugong. */
static List *
own_views(void)
{
	static SavedPlan select_views = {
		.sql = "SELECT oid FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) $1 "
		"AND relkind OPERATOR(pg_catalog.=) 'v' ORDER BY relname",
		.nargs = 1,
		.argtypes = {OIDOID}
	};
	Datum		namespace = ObjectIdGetDatum(dugong_namespace());

	return find_relations(&select_views, &namespace);
}

/*
 * A view must look at the tenant of a row before a condition of its user's
 * does, whose function might tell what it gets.  That keeps the planner from
 * some ways, so it is so only while tenants are isolated.
 */
static void
set_barriers(bool isolated)
{
	ListCell   *cell;

	foreach(cell, own_views())
		alter_table("ALTER VIEW", lfirst_oid(cell),
					isolated ? "SET (security_barrier = true)" : "RESET (security_barrier)");
}

static bool
has_row(void)
{
	static SavedPlan select_row = {
		.sql = "SELECT 1 FROM dugong.tenant_isolation"
	};

	return execute_as_owner(&select_row, NULL, NULL) > 0;
}

/* The extension's tables that have tenants. */
static List *
own_tables(void)
{
	static SavedPlan select_tables = {
		.sql = "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid "
		"JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass "
		"AND d.objid OPERATOR(pg_catalog.=) c.oid AND d.deptype OPERATOR(pg_catalog.=) 'e' "
		"JOIN pg_catalog.pg_extension e ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass "
		"AND d.refobjid OPERATOR(pg_catalog.=) e.oid AND e.extname OPERATOR(pg_catalog.=) 'dugong' "
		"WHERE c.relkind OPERATOR(pg_catalog.=) 'r' AND a.attname OPERATOR(pg_catalog.=) 'tenant_id' ORDER BY c.relname"
	};

	return find_relations(&select_tables, NULL);
}

/*
 * What belongs to the extension.  It is done by the trigger and not by who
 * isolates tenants, because a dump has the table's row, but neither the views'
 * options nor the policies of an extension's tables.
 */
static void
apply_to_own(bool isolated)
{
	Identity	before;
	ListCell   *cell;

	identity_assume(&before, dugong_owner());
	set_barriers(isolated);
	foreach(cell, own_tables())
		(isolated ? protect : unprotect) (lfirst_oid(cell));
	identity_restore(&before);
}

/* The tables of query models: List of oids. */
static List *
query_models(void)
{
	List	   *tables = NIL;
	ListCell   *cell;

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

/* All that is altered, and the registry: who creates a projection either is in the list, or finds the change. */
static void
lock_all(void)
{
	ListCell   *cell;

	LockRelationOid(dugong_relid("event_log"), AccessExclusiveLock);
	LockRelationOid(dugong_relid("projections"), ShareRowExclusiveLock);
	foreach(cell, own_tables())
		LockRelationOid(lfirst_oid(cell), AccessExclusiveLock);
	foreach(cell, own_views())
		LockRelationOid(lfirst_oid(cell), AccessExclusiveLock);
	foreach(cell, query_models())
		LockRelationOid(lfirst_oid(cell), AccessExclusiveLock);
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
	moment_take_all(lock_all);
	tables = query_models();
	check_tables(tables);
	inserted = execute_as_owner(&insert, &by, NULL) > 0;
	if (!inserted)
		apply_to_own(true);
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
	moment_take_all(lock_all);
	deleted = execute_as_owner(&delete, NULL, NULL) > 0;
	foreach(cell, query_models())
		unprotect(lfirst_oid(cell));
	PG_RETURN_BOOL(deleted);
}

/* AFTER statement trigger of dugong.tenant_isolation. */
Datum
dugong_tenant_isolation_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) ||
		RelationGetRelid(trigger->tg_relation) != dugong_relid("tenant_isolation"))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as the trigger of dugong.tenant_isolation")));
	tenant_isolation_forget();
	apply_to_own(has_row());
	return PointerGetDatum(NULL);
}
