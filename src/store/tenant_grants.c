/*
 * tenant_grants.c
 *		Granting tenants, and the functions that views and policies ask.
 *
 * Roles are kept by name, so that a dump can carry them; a name that no role
 * has grants nothing.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/pathnodes.h"
#include "nodes/supportnodes.h"
#include "store/ownership.h"
#include "store/tenant.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "util/args.h"
#include "util/names.h"

PG_FUNCTION_INFO_V1(dugong_sees_tenant);
PG_FUNCTION_INFO_V1(dugong_sees_tenant_support);
PG_FUNCTION_INFO_V1(dugong_grant_tenant);
PG_FUNCTION_INFO_V1(dugong_revoke_tenant);

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
