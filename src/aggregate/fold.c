/*
 * fold.c
 *		The SQL aggregate that makes a state out of events.
 *
 * A fold is an ordinary aggregate function of one dugong.domain_event, so that
 * a user can call it in a query.  The engine takes its parts from the catalogs
 * and calls the transition function itself.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "aggregate/fold.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "store/domain_event.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

static Oid
fold_oid(const AggregateType *type)
{
	if (type->fold == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("aggregate type \"%s\" has no fold", text_to_cstring(type->name))));
	return DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum(type->fold)));
}

static void
read_initial(Fold *fold, HeapTuple tuple)
{
	Datum		value;
	Oid			input;
	Oid			ioparam;

	value = SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval, &fold->initial_isnull);
	if (fold->initial_isnull)
		return;
	getTypeInputInfo(fold->state_type, &input, &ioparam);
	fold->initial = OidInputFunctionCall(input, TextDatumGetCString(value), ioparam, -1);
}

static void pg_attribute_noreturn()
report_unusable(Oid oid, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("function %s cannot be used as a fold", format_procedure(oid)),
			 errdetail("%s", why),
			 errhint("A fold is an aggregate function of one dugong.domain_event.")));
}

/*
 * Checks that a function can be a fold, and returns its transition function.
 *
 * Errors: 42809.
 */
Oid
fold_check(Oid oid)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(oid));
	Form_pg_aggregate aggregate;
	Oid		   *argtypes;
	int			nargs;
	Oid			transition;

	if (!HeapTupleIsValid(tuple))
		report_unusable(oid, "It is not an aggregate function.");
	aggregate = (Form_pg_aggregate) GETSTRUCT(tuple);
	if (aggregate->aggkind != AGGKIND_NORMAL)
		report_unusable(oid, "It is an ordered-set aggregate.");
	if (OidIsValid(aggregate->aggfinalfn))
		report_unusable(oid, "It has a final function.");
	(void) get_func_signature(oid, &argtypes, &nargs);
	if (nargs != 1 || argtypes[0] != domain_event_typeid())
		report_unusable(oid, "Its argument is not dugong.domain_event.");
	if (aggregate->aggtranstype == INTERNALOID || IsPolymorphicType(aggregate->aggtranstype))
		report_unusable(oid, "Its state has no definite type.");
	transition = aggregate->aggtransfn;
	ReleaseSysCache(tuple);
	return transition;
}

/*
 * Reads a type's fold from the catalogs, into the current memory context.
 *
 * Errors: 55000 if the type has none, 42809 if it is no plain aggregate.
 */
void
fold_open(Fold *fold, const AggregateType *type)
{
	Oid			oid = fold_oid(type);
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(oid));
	Form_pg_aggregate aggregate;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("function \"%s\" is not an aggregate function", type->fold)));
	aggregate = (Form_pg_aggregate) GETSTRUCT(tuple);
	if (aggregate->aggkind != AGGKIND_NORMAL || OidIsValid(aggregate->aggfinalfn))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("aggregate function \"%s\" cannot be used as a fold", type->fold)));

	fmgr_info(aggregate->aggtransfn, &fold->transition);
	fold->collation = DEFAULT_COLLATION_OID;
	fold->state_type = aggregate->aggtranstype;
	get_typlenbyval(fold->state_type, &fold->typlen, &fold->typbyval);
	read_initial(fold, tuple);
	ReleaseSysCache(tuple);
}

/*
 * The state after one more event, in the current memory context.
 *
 * isnull: of the state, in and out.
 */
Datum
fold_step(Fold *fold, Datum state, bool *isnull, Datum event)
{
	LOCAL_FCINFO(fcinfo, 2);
	Datum		result;

	if (*isnull && fold->transition.fn_strict)
		return state;
	InitFunctionCallInfoData(*fcinfo, &fold->transition, 2, fold->collation, NULL, NULL);
	fcinfo->args[0].value = state;
	fcinfo->args[0].isnull = *isnull;
	fcinfo->args[1].value = event;
	fcinfo->args[1].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}
