/*
 * args.c
 *		Arguments of SQL-callable functions.
 */
#include "postgres.h"

#include "nodes/parsenodes.h"
#include "utils/builtins.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "util/args.h"

/* An argument that must not be null: 22004. */
Datum
arg_needed(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
	return PG_GETARG_DATUM(number);
}

pg_uuid_t *
arg_needed_uuid(FunctionCallInfo fcinfo, int number, const char *name)
{
	return DatumGetUUIDP(arg_needed(fcinfo, number, name));
}

/* A text that must be neither null (22004) nor empty (22023). */
char *
arg_needed_name(FunctionCallInfo fcinfo, int number, const char *name)
{
	char	   *value = TextDatumGetCString(arg_needed(fcinfo, number, name));

	if (value[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be empty", name)));
	return value;
}

/* NULL if the argument is. */
pg_uuid_t *
arg_uuid(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL : PG_GETARG_UUID_P(number);
}

/* NULL if the argument is. */
char *
arg_name(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(number));
}

/* For procedures: must the call stay within one transaction? */
bool
call_is_atomic(FunctionCallInfo fcinfo)
{
	return !(fcinfo->context && IsA(fcinfo->context, CallContext) &&
			 !castNode(CallContext, fcinfo->context)->atomic);
}

/* An interval; a month counts as 30 days. */
int64
arg_needed_milliseconds(FunctionCallInfo fcinfo, int number, const char *name)
{
	Interval   *interval = DatumGetIntervalP(arg_needed(fcinfo, number, name));

	return interval->time / 1000 + ((int64) interval->day + (int64) interval->month * 30) * 86400000;
}

/*
 * For procedures that wait: gives up the snapshot that the call holds, which
 * would keep vacuum back.  If this returns true, the procedure calls
 * EnsurePortalSnapshotExists() before it returns.
 */
bool
call_pop_snapshot(FunctionCallInfo fcinfo)
{
	if (call_is_atomic(fcinfo) || !ActiveSnapshotSet())
		return false;
	ForgetPortalSnapshots();
	return true;
}
