/*
 * handler.c
 *		Users' code that a projection runs.
 *
 * Handlers, and the triggers of a query model, run as the projection's owner
 * (a query model's: as the table's), with the search_path of whoever
 * registered the projection.  They must not get back to the rights of the
 * session that runs them, which is the worker's, a superuser's.  A
 * security-restricted operation sees to that, but it refuses deferred
 * triggers, and every foreign key of some frameworks is one.
 *
 * So where the transaction is dugong's own, handlers run under
 * SECURITY_LOCAL_USERID_CHANGE and a mark of our own in the security context,
 * and three things take the place of the restricted operation:
 * - a utility statement under the mark runs as a restricted operation: so no
 *   temporary objects, no cursors WITH HOLD, no PREPARE, LISTEN or DISCARD;
 * - what was deferred is fired before the transaction gets back to its own
 *   rights, as the same actor, and that as a restricted operation;
 * - settings go back after each call.
 * Elsewhere (inline projections, a caller's transaction, folds) it is a
 * restricted operation: the caller's deferred triggers are not ours to fire;
 * nor are they the code's, so SET CONSTRAINTS is refused.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "commands/trigger.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "projection/handler.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/varlena.h"
#include "util/ids.h"

PG_FUNCTION_INFO_V1(dugong_is_replaying);

static ProcessUtility_hook_type next_process_utility;
static bool replaying;

/* Statements that only bring others, which are looked at when they come. */
static bool
is_container(const Node *statement)
{
	return IsA(statement, CallStmt) || IsA(statement, DoStmt) || IsA(statement, ExecuteStmt) ||
		IsA(statement, CopyStmt) ||
		(IsA(statement, ExplainStmt) && ((const Query *) ((const ExplainStmt *) statement)->query)->commandType != CMD_UTILITY);
}

static void
run_utility(PlannedStmt *statement, const char *query, bool read_only_tree, ProcessUtilityContext context,
			ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	if (next_process_utility)
		next_process_utility(statement, query, read_only_tree, context, params, environment, dest, completion);
	else
		standard_ProcessUtility(statement, query, read_only_tree, context, params, environment, dest, completion);
}

static void
process_utility(PlannedStmt *statement, const char *query, bool read_only_tree, ProcessUtilityContext context,
				ParamListInfo params, QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	Oid			user;
	int			sec_context;

	GetUserIdAndSecContext(&user, &sec_context);
	if ((sec_context & SECURITY_GUEST) != 0 && IsA(statement->utilityStmt, ConstraintsSetStmt))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("cannot execute SET CONSTRAINTS within the transaction of somebody else"),
				 errdetail("It would fire deferred triggers that are not this code's.")));
	if ((sec_context & SECURITY_HANDLER) == 0 || is_container(statement->utilityStmt))
	{
		run_utility(statement, query, read_only_tree, context, params, environment, dest, completion);
		return;
	}
	/* An error puts it back by itself. */
	SetUserIdAndSecContext(user, sec_context | SECURITY_RESTRICTED_OPERATION);
	run_utility(statement, query, read_only_tree, context, params, environment, dest, completion);
	SetUserIdAndSecContext(user, sec_context);
}

void
handler_init(void)
{
	next_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}

/*
 * Checks that a function can be a handler, and that a role may call it.
 *
 * name: what it is to be, for the message.
 * Errors: 42883, 42501, 42P13 for another signature.
 */
void
handler_check(Oid function, Oid role, const char *name, int nargs, const Oid *argtypes)
{
	Oid		   *types;
	int			ntypes;
	bool		fits;
	StringInfoData wanted;

	if (!SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(function)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	if (function_aclcheck(function, role) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(function));
	(void) get_func_signature(function, &types, &ntypes);
	fits = get_func_prokind(function) == PROKIND_FUNCTION && !get_func_retset(function) && ntypes == nargs;
	for (int i = 0; fits && i < nargs; i++)
		fits = types[i] == argtypes[i];
	if (fits)
		return;
	initStringInfo(&wanted);
	for (int i = 0; i < nargs; i++)
		appendStringInfo(&wanted, "%s%s", i > 0 ? ", " : "", format_type_be(argtypes[i]));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
			 errmsg("function %s cannot be the %s", format_procedure(function), name),
			 errdetail("It must be a function of (%s), and return no set.", wanted.data)));
}

/* Looks a handler up by its signature, and checks that it is still one. */
void
handler_open(FmgrInfo *info, const char *signature, const Actor *actor, const char *name,
			 int nargs, const Oid *argtypes)
{
	Oid			function = DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum(signature)));

	handler_check(function, actor->role, name, nargs, argtypes);
	fmgr_info(function, info);
}

static Oid
table_owner(const char *table)
{
	RangeVar   *name = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(table)));
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(RangeVarGetRelid(name, NoLock, false)));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"%s\" does not exist", table)));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * Whose rights a projection's handlers have.
 *
 * own_transaction: is nothing but this projection's work in the transaction?
 * Errors: 42704 if the owner is gone.
 */
void
handler_owner(Actor *actor, const Projection *projection, bool own_transaction)
{
	actor->role = get_role_oid(projection->owner, false);
	actor->search_path = projection->search_path;
	actor->restricted = !own_transaction;
}

/*
 * Whose rights the code has that handles events: the owner's, but that of a
 * query model its table's owner's.  The projection's owner must have those
 * rights, still: a name may have become another table.
 *
 * Errors: 42704 if the owner is gone, 42P01 if the query model is, 42501.
 */
void
handler_actor(Actor *actor, const Projection *projection, bool own_transaction)
{
	handler_owner(actor, projection, own_transaction);
	if (projection->query_model)
	{
		Oid			owner = table_owner(projection->query_model);

		if (!has_privs_of_role(actor->role, owner))
			ereport(ERROR,
					(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
					 errmsg("owner of projection \"%s\" is not owner of its query model %s",
							projection->name, projection->query_model)));
		actor->role = owner;
	}
}

static void
set_uuid(const char *name, const pg_uuid_t *uuid)
{
	identity_set(name, uuid ? uuid_to_cstring(uuid) : "");
}

/* Becomes the actor; context may be NULL. */
void
handler_begin(const Actor *actor, const HandledContext *context, Identity *before)
{
	static const HandledContext none;

	if (context == NULL)
		context = &none;
	identity_assume_anew(before, actor->role, actor->restricted ? SECURITY_RESTRICTED_OPERATION | SECURITY_GUEST :
						 SECURITY_LOCAL_USERID_CHANGE | SECURITY_HANDLER, actor->search_path);
	identity_set("dugong.tenant_id", context->tenant_id ? text_to_cstring(context->tenant_id) : "");
	set_uuid("dugong.correlation_id", context->correlation_id);
	set_uuid("dugong.triggered_by_event_id", context->event_id);
	identity_set("dugong.triggered_by_user_id", "");
	identity_set("dugong.metadata", "");
	identity_set("row_security", "on");
	identity_fix_formats();
}

void
handler_end(const Identity *before)
{
	identity_restore(before);
}

/* Calls a function as the actor; the arguments are not null. */
void
handler_call(FmgrInfo *function, const Actor *actor, const HandledContext *context,
			 int nargs, const Datum *args)
{
	LOCAL_FCINFO(fcinfo, 3);
	PgStat_FunctionCallUsage usage;
	Identity	before;

	handler_begin(actor, context, &before);
	InitFunctionCallInfoData(*fcinfo, function, nargs, InvalidOid, NULL, NULL);
	for (int i = 0; i < nargs; i++)
	{
		fcinfo->args[i].value = args[i];
		fcinfo->args[i].isnull = false;
	}
	pgstat_init_function_usage(fcinfo, &usage);
	(void) FunctionCallInvoke(fcinfo);
	pgstat_end_function_usage(&usage, true);
	handler_end(&before);
}

/* Fires what was deferred in this transaction, as the actor who did. */
void
handler_fire_deferred(const Actor *actor)
{
	ConstraintsSetStmt *all;
	Identity	before;

	if (actor->restricted)
		return;
	all = makeNode(ConstraintsSetStmt);
	all->constraints = NIL;
	all->deferred = false;
	identity_assume_anew(&before, actor->role, SECURITY_RESTRICTED_OPERATION, actor->search_path);
	AfterTriggerSetState(all);
	handler_end(&before);
}

/* Runs something during which is_replaying() says so, or not. */
void
handler_replay(bool now, void (*action) (void *arg), void *arg)
{
	bool		before = replaying;

	replaying = now;
	PG_TRY();
	{
		action(arg);
	}
	PG_FINALLY();
	{
		replaying = before;
	}
	PG_END_TRY();
}

/* is_replaying() */
Datum
dugong_is_replaying(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(replaying);
}
