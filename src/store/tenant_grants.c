/*
 * tenant_grants.c
 *		Granting tenants, and the functions that views and policies ask.
 *
 * Roles are kept by name, so that a dump can carry them; a name that no role
 * has grants nothing.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/pathnodes.h"
#include "nodes/supportnodes.h"
#include "store/ownership.h"
#include "store/tenant.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "util/args.h"
#include "util/identity.h"
#include "util/names.h"

PG_FUNCTION_INFO_V1(dugong_sees_tenant);
PG_FUNCTION_INFO_V1(dugong_sees_tenant_support);
PG_FUNCTION_INFO_V1(dugong_grant_tenant);
PG_FUNCTION_INFO_V1(dugong_revoke_tenant);
PG_FUNCTION_INFO_V1(dugong_tenant_isolation_changed);

/* sees_tenant(tenant_id) */
Datum
dugong_sees_tenant(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(tenant_is_seen(GetUserId(), PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0)));
}

/*
 * While tenants are not isolated, the planner leaves the question out: views
 * cost what they would without it.  Such a plan goes when that changes, as if
 * it read the table of the grants.
 */
Datum
dugong_sees_tenant_support(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);
	PlannerGlobal *plan;

	if (!IsA(request, SupportRequestSimplify) || ((SupportRequestSimplify *) request)->root == NULL || tenants_are_isolated())
		PG_RETURN_POINTER(NULL);
	plan = ((SupportRequestSimplify *) request)->root->glob;
	plan->relationOids = lappend_oid(plan->relationOids, dugong_relid("tenant_grants"));
	PG_RETURN_POINTER(makeBoolConst(true, false));
}

/* 42501 unless the current user has the rights of the log's owner. */
void
require_log_owner(const char *what)
{
	if (!has_privs_of_role(GetUserId(), dugong_owner()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for %s", what),
				 errdetail("Only the owner of the event log may do that.")));
}

/* grant_tenant(role, tenant_id): is it new? */
Datum
dugong_grant_tenant(PG_FUNCTION_ARGS)
{
	static SavedPlan insert = {
		.sql = "INSERT INTO dugong.tenant_grants (role, tenant_id, granted_by) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
		.nargs = 3,
		.argtypes = {TEXTOID, TEXTOID, TEXTOID}
	};
	char	   *role = arg_needed_name(fcinfo, 0, "role");
	Datum		values[3];

	require_log_owner("dugong.grant_tenant()");
	(void) get_role_oid(role, false);
	values[0] = CStringGetTextDatum(role);
	values[1] = arg_needed(fcinfo, 1, "tenant id");
	values[2] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	PG_RETURN_BOOL(execute_as_owner(&insert, values, NULL) > 0);
}

/* revoke_tenant(role, tenant_id): was it granted?  The role may be gone. */
Datum
dugong_revoke_tenant(PG_FUNCTION_ARGS)
{
	static SavedPlan delete = {
		.sql = "DELETE FROM dugong.tenant_grants WHERE role OPERATOR(pg_catalog.=) $1 AND tenant_id OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID}
	};
	Datum		values[2];

	require_log_owner("dugong.revoke_tenant()");
	values[0] = CStringGetTextDatum(arg_needed_name(fcinfo, 0, "role"));
	values[1] = arg_needed(fcinfo, 1, "tenant id");
	PG_RETURN_BOOL(execute_as_owner(&delete, values, NULL) > 0);
}

/* The views of schema dugong: List of qualified names. */
static List *
own_views(void)
{
	static SavedPlan select_views = {
		.sql = "SELECT relname FROM pg_catalog.pg_class WHERE relnamespace OPERATOR(pg_catalog.=) $1 "
		"AND relkind OPERATOR(pg_catalog.=) 'v' ORDER BY relname",
		.nargs = 1,
		.argtypes = {OIDOID}
	};
	Datum		namespace = ObjectIdGetDatum(dugong_namespace());
	uint64		nrows = plan_execute(&select_views, &namespace, NULL, false);
	List	   *views = NIL;

	for (uint64 row = 0; row < nrows; row++)
		views = lappend(views, quote_qualified_identifier("dugong",
														  SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, 1)));
	return views;
}

/*
 * A view must look at the tenant of a row before a condition of its user's
 * does, whose function might tell what it gets.  That keeps the planner from
 * some ways, so it is so only while tenants are isolated.  It is done here and
 * not by who isolates them, because a dump has the table's row and not the
 * views' options.
 */
static void
set_barriers(bool isolated)
{
	Identity	before;
	ListCell   *cell;

	identity_assume(&before, dugong_owner());
	SPI_connect();
	foreach(cell, own_views())
	{
		const char *view = lfirst(cell);
		int			result = SPI_execute(isolated ?
										 psprintf("ALTER VIEW %s SET (security_barrier = true)", view) :
										 psprintf("ALTER VIEW %s RESET (security_barrier)", view), false, 0);

		if (result != SPI_OK_UTILITY)
			elog(ERROR, "could not alter view %s: %s", view, SPI_result_code_string(result));
	}
	SPI_finish();
	identity_restore(&before);
}

static bool
has_row(void)
{
	static SavedPlan select_row = {
		.sql = "SELECT 1 FROM dugong.tenant_isolation"
	};

	return execute_as_owner(&select_row, NULL, NULL) > 0;
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
	set_barriers(has_row());
	return PointerGetDatum(NULL);
}
