/*
 * to_jsonb.c
 *		Any value as jsonb.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "util/to_jsonb.h"

/*
 * The value as to_jsonb() shows it, in the current memory context.
 *
 * to_jsonb() learns its argument's type from the expression that calls it, so
 * there has to be one.  It may call users' casts: mind whose rights they have.
 */
Jsonb *
datum_to_jsonb(Datum value, Oid type)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo	to_jsonb;
	Node	   *argument;

	if (type == JSONBOID)
		return DatumGetJsonbP(value);
	argument = (Node *) makeNullConst(type, -1, InvalidOid);
	fmgr_info(F_TO_JSONB, &to_jsonb);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(argument),
											 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL),
					   &to_jsonb);
	InitFunctionCallInfoData(*fcinfo, &to_jsonb, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = value;
	fcinfo->args[0].isnull = false;
	return DatumGetJsonbP(FunctionCallInvoke(fcinfo));
}
