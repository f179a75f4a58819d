/*
 * upcast.c
 *		Old events as their type is now.
 *
 * Every read of the log passes here: an event of an older version than the
 * declared one shows the current version, and the payload that the chain of
 * upcast functions makes of it.  A version from which no chain leads to the
 * current one is shown as it is stored.
 *
 * An upcast is a user's function: it runs as the aggregate type's owner.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "fmgr.h"
#include "store/aggregate_type.h"
#include "store/event_type.h"
#include "store/upcast.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "util/identity.h"

PG_FUNCTION_INFO_V1(dugong_current_payload);
PG_FUNCTION_INFO_V1(dugong_current_version);

/* An upcast function, ready to be called. */
typedef struct UpcastFunction
{
	char	   *signature;
	FmgrInfo	info;
} UpcastFunction;

/*
 * context: lives as long as the statement, no longer: a session-wide cache
 * would go on with a function that was replaced.
 */
void
upcaster_init(Upcaster *upcaster, MemoryContext context)
{
	upcaster->context = context;
	upcaster->functions = NIL;
}

static FmgrInfo *
find_function(Upcaster *upcaster, const char *signature)
{
	ListCell   *cell;
	MemoryContext old;
	UpcastFunction *function;
	Oid			oid;

	foreach(cell, upcaster->functions)
	{
		function = lfirst(cell);
		if (strcmp(function->signature, signature) == 0)
			return &function->info;
	}
	oid = DatumGetObjectId(DirectFunctionCall1(regprocedurein, CStringGetDatum(signature)));
	old = MemoryContextSwitchTo(upcaster->context);
	function = palloc(sizeof(UpcastFunction));
	function->signature = pstrdup(signature);
	fmgr_info_cxt(oid, &function->info, upcaster->context);
	upcaster->functions = lappend(upcaster->functions, function);
	MemoryContextSwitchTo(old);
	return &function->info;
}

static Datum
call_function(FmgrInfo *info, Datum payload, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		result;

	if (*isnull && info->fn_strict)
		return payload;
	InitFunctionCallInfoData(*fcinfo, info, 1, DEFAULT_COLLATION_OID, NULL, NULL);
	fcinfo->args[0].value = payload;
	fcinfo->args[0].isnull = *isnull;
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}

/* What an error is about. */
typedef struct Step
{
	const char *type;
	int			version;
} Step;

static void
name_step(void *arg)
{
	const Step *step = arg;

	errcontext("upcast of event type \"%s\" from version %d", step->type, step->version);
}

/* The version that an event of this one is shown with. */
int
upcast_version(int32 aggregate_type_id, const text *type, int version)
{
	const EventType *declared = event_type_find(aggregate_type_id, type);

	return event_type_has_path(declared, version) ? declared->current : version;
}

/*
 * The payload in the current version; as it is if no chain leads there.
 *
 * Errors: 42883 if an upcast function is gone, and whatever it raises.
 */
Datum
upcast_payload(Upcaster *upcaster, int32 aggregate_type_id, const text *type,
			   int version, Datum payload, bool *isnull)
{
	const EventType *declared = event_type_find(aggregate_type_id, type);
	ErrorContextCallback callback = {.callback = name_step,.previous = error_context_stack};
	Step		step;
	Identity	before;

	if (!event_type_has_path(declared, version))
		return payload;
	step.type = text_to_cstring(type);
	step.version = version;
	callback.arg = &step;
	error_context_stack = &callback;
	aggregate_type_assume_owner(aggregate_type_get(aggregate_type_id), &before);
	/* The functions may change what is declared: look again at each step. */
	for (; event_type_has_path(declared, step.version); step.version++)
	{
		const EventVersion *next = event_type_version(declared, step.version + 1);

		if (next->upcast != NULL)
			payload = call_function(find_function(upcaster, next->upcast), payload, isnull);
		declared = event_type_find(aggregate_type_id, type);
	}
	identity_restore(&before);
	error_context_stack = callback.previous;
	return payload;
}

static Upcaster *
call_site_upcaster(FunctionCallInfo fcinfo)
{
	if (fcinfo->flinfo->fn_extra == NULL)
	{
		fcinfo->flinfo->fn_extra = MemoryContextAlloc(fcinfo->flinfo->fn_mcxt, sizeof(Upcaster));
		upcaster_init(fcinfo->flinfo->fn_extra, fcinfo->flinfo->fn_mcxt);
	}
	return fcinfo->flinfo->fn_extra;
}

/* current_version(aggregate_type_id, type, version): the version that is shown. */
Datum
dugong_current_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(upcast_version(PG_GETARG_INT32(0), PG_GETARG_TEXT_PP(1), PG_GETARG_INT32(2)));
}

/* current_payload(aggregate_type_id, type, version, payload): the payload that is shown. */
Datum
dugong_current_payload(PG_FUNCTION_ARGS)
{
	bool		isnull = PG_ARGISNULL(3);
	Datum		payload = isnull ? (Datum) 0 : PG_GETARG_DATUM(3);

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	payload = upcast_payload(call_site_upcaster(fcinfo), PG_GETARG_INT32(0), PG_GETARG_TEXT_PP(1),
							 PG_GETARG_INT32(2), payload, &isnull);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(payload);
}
