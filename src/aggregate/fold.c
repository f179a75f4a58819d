/*
 * fold.c
 *		The SQL aggregate that makes a state out of events.
 *
 * A fold is an ordinary aggregate function of one dugong.domain_event, so that
 * a user can call it in a query.  The engine takes its parts from the catalogs
 * and calls the transition and final functions itself, as an Agg node would.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "aggregate/fingerprint.h"
#include "aggregate/fold.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "parser/parse_agg.h"
#include "store/domain_event.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "util/identity.h"

/* Folds that a session keeps. */
#define MAX_IDLE 16

pg_noreturn static void
report_unusable(Oid oid, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("function %s cannot be used as a fold", format_procedure(oid)),
			 errdetail("%s", why),
			 errhint("A fold is an aggregate function of one dugong.domain_event.")));
}

static void
check_arguments(Oid oid)
{
	Oid		   *argtypes;
	int			nargs;

	if (OidIsValid(get_func_variadictype(oid)))
		report_unusable(oid, "It is variadic.");
	(void) get_func_signature(oid, &argtypes, &nargs);
	if (nargs != 1)
		report_unusable(oid, "It does not have one argument.");
	if (IsPolymorphicType(argtypes[0]))
		report_unusable(oid, "It is polymorphic.");
	if (argtypes[0] != domain_event_typeid())
		report_unusable(oid, "Its argument is not dugong.domain_event.");
}

/*
 * Checks that a function can be a fold, and that the current user may call
 * what it is made of.
 *
 * Errors: 42809, 42501.
 */
void
fold_check(Oid oid)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(oid));
	Form_pg_aggregate aggregate;

	if (!HeapTupleIsValid(tuple))
		report_unusable(oid, "It is not an aggregate function.");
	aggregate = (Form_pg_aggregate) GETSTRUCT(tuple);
	if (aggregate->aggkind == AGGKIND_HYPOTHETICAL)
		report_unusable(oid, "It is a hypothetical-set aggregate.");
	if (aggregate->aggkind != AGGKIND_NORMAL)
		report_unusable(oid, "It is an ordered-set aggregate.");
	check_arguments(oid);
	if (aggregate->aggtranstype == INTERNALOID)
		report_unusable(oid, "Its state is of type internal.");
	if (get_typtype(aggregate->aggtranstype) == TYPTYPE_PSEUDO)
		report_unusable(oid, "Its state is of a pseudo-type.");
	if (OidIsValid(aggregate->aggfinalfn) && aggregate->aggfinalmodify != AGGMODIFY_READ_ONLY)
		report_unusable(oid, "Its final function is not read-only.");
	require_execute(aggregate->aggtransfn);
	if (OidIsValid(aggregate->aggfinalfn))
		require_execute(aggregate->aggfinalfn);
	ReleaseSysCache(tuple);
}

static Oid
fold_oid(const AggregateType *type)
{
	if (type->fold == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("aggregate type \"%s\" has no fold", text_to_cstring(type->name)),
				 errhint("Give it one with dugong.alter_aggregate_type().")));
	return DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum(type->fold)));
}

/* The type of the states that a type's fold gives; 55000 if it has none, 42883 if it is gone. */
Oid
fold_result_type(const AggregateType *type)
{
	return get_func_rettype(fold_oid(type));
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
	getTypeInputInfo(fold->state.oid, &input, &ioparam);
	fold->initial = OidInputFunctionCall(input, TextDatumGetCString(value), ioparam, -1);
}

static void
read_type(FoldType *type, Oid oid)
{
	type->oid = oid;
	get_typlenbyval(oid, &type->typlen, &type->typbyval);
}

/* What polymorphic transition and final functions know their types by. */
static void
set_expressions(Fold *fold)
{
	Oid			event = domain_event_typeid();
	Expr	   *expression;

	build_aggregate_transfn_expr(&event, 1, 0, false, fold->state.oid, DEFAULT_COLLATION_OID,
								 fold->transition.fn_oid, InvalidOid, &expression, NULL);
	fmgr_info_set_expr((Node *) expression, &fold->transition);
	if (!fold->has_final)
		return;
	build_aggregate_finalfn_expr(&event, fold->final_nargs, fold->state.oid, fold->result.oid,
								 DEFAULT_COLLATION_OID, fold->final.fn_oid, &expression);
	fmgr_info_set_expr((Node *) expression, &fold->final);
}

/* Is it a C function of this library? */
static bool
is_dugongs(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool		found = false;

	if (HeapTupleIsValid(tuple) && ((Form_pg_proc) GETSTRUCT(tuple))->prolang == ClanguageId)
	{
		bool		isnull;
		Datum		library = SysCacheGetAttr(PROCOID, tuple, Anum_pg_proc_probin, &isnull);

		found = !isnull && strcmp(TextDatumGetCString(library), "$libdir/dugong") == 0;
	}
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return found;
}

/*
 * Reads a type's fold from the catalogs, into the current memory context.
 *
 * Errors: 55000 if the type has none, 42883 if it is gone, 42809 if it is no
 * aggregate any more.
 */
static void
read_fold(Fold *fold, const AggregateType *type)
{
	Oid			oid = fold_oid(type);
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(oid));
	Form_pg_aggregate aggregate;

	if (!HeapTupleIsValid(tuple))
		report_unusable(oid, "It is not an aggregate function.");
	aggregate = (Form_pg_aggregate) GETSTRUCT(tuple);
	read_type(&fold->state, aggregate->aggtranstype);
	read_type(&fold->result, get_func_rettype(oid));
	fmgr_info(aggregate->aggtransfn, &fold->transition);
	fold->has_final = OidIsValid(aggregate->aggfinalfn);
	if (fold->has_final)
	{
		fmgr_info(aggregate->aggfinalfn, &fold->final);
		fold->final_nargs = aggregate->aggfinalextra ? 2 : 1;
	}
	set_expressions(fold);
	read_initial(fold, tuple);
	fold->starts_with_event = fold->initial_isnull && fold->transition.fn_strict;
	fold->is_dugongs = is_dugongs(fold->transition.fn_oid) && !fold->has_final && fold->initial_isnull;
	ReleaseSysCache(tuple);
}

/*
 * Folds that nobody uses at the moment; each is in use by one only, because
 * FmgrInfo cannot be shared with a call that it makes itself.
 */
static Fold *idle[MAX_IDLE];

static Fold *
take_idle(int32 type_id)
{
	for (int i = 0; i < MAX_IDLE; i++)
	{
		Fold	   *fold = idle[i];

		if (fold == NULL || fold->type_id != type_id)
			continue;
		idle[i] = NULL;
		if (fold->age == fingerprint_age())
			return fold;
		MemoryContextDelete(fold->context);
	}
	return NULL;
}

/*
 * The fold of a type, for the caller alone.  It goes with the current memory
 * context, unless it is given back before.
 *
 * Errors: as read_fold().
 */
Fold *
fold_take(const AggregateType *type)
{
	Fold	   *fold = take_idle(type->id);
	MemoryContext context;
	MemoryContext old;
	Identity	before;

	if (fold)
	{
		MemoryContextSetParent(fold->context, CurrentMemoryContext);
		return fold;
	}
	context = AllocSetContextCreate(CurrentMemoryContext, "dugong fold", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	fold = palloc0(sizeof(Fold));
	fold->context = context;
	fold->type_id = type->id;
	fold->age = fingerprint_age();
	/* The input function of its state's type reads the initial value. */
	aggregate_type_assume_owner(type, &before);
	read_fold(fold, type);
	identity_restore(&before);
	MemoryContextSwitchTo(old);
	return fold;
}

/* Keeps a fold for who takes it next. */
void
fold_give_back(Fold *fold)
{
	int			place = (uint32) fold->type_id % MAX_IDLE;

	if (idle[place] != NULL)
		MemoryContextDelete(idle[place]->context);
	MemoryContextSetParent(fold->context, CacheMemoryContext);
	idle[place] = fold;
}

/*
 * The state after one more event, in the current memory context.
 *
 * isnull: of the state, in and out.  A strict transition function is not
 * called for a null state: that stays null; but without an initial value the
 * first event is the state, as for any aggregate function.
 * first: is it the first event?
 */
Datum
fold_step(Fold *fold, Datum state, bool *isnull, Datum event, bool first)
{
	LOCAL_FCINFO(fcinfo, 2);
	Datum		result;

	if (first && fold->starts_with_event)
	{
		*isnull = false;
		return event;
	}
	if (*isnull && fold->transition.fn_strict)
		return state;
	InitFunctionCallInfoData(*fcinfo, &fold->transition, 2, DEFAULT_COLLATION_OID, NULL, NULL);
	fcinfo->args[0].value = state;
	fcinfo->args[0].isnull = *isnull;
	fcinfo->args[1].value = event;
	fcinfo->args[1].isnull = false;
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}

/* What the fold gives for a state, in the current memory context; isnull: in and out. */
Datum
fold_finish(Fold *fold, Datum state, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 2);
	Datum		result;

	if (!fold->has_final)
		return state;
	if (fold->final.fn_strict && (*isnull || fold->final_nargs > 1))
	{
		*isnull = true;
		return (Datum) 0;
	}
	InitFunctionCallInfoData(*fcinfo, &fold->final, fold->final_nargs, DEFAULT_COLLATION_OID, NULL, NULL);
	fcinfo->args[0].value = state;
	fcinfo->args[0].isnull = *isnull;
	if (fold->final_nargs > 1)
	{
		fcinfo->args[1].value = (Datum) 0;
		fcinfo->args[1].isnull = true;
	}
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}
