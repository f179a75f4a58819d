/*
 * args.c
 *		Arguments of SQL-callable functions.
 */
#include "postgres.h"

#include "nodes/parsenodes.h"
#include "utils/builtins.h"
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
