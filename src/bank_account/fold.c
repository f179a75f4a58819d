/*
 * fold.c
 *		The transition function of bank_account_fold.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "bank_account/account.h"
#include "bank_account/events.h"
#include "errors.h"
#include "fmgr.h"
#include "funcapi.h"
#include "store/domain_event.h"
#include "store/erasure.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
#include "util/jsonb_fields.h"

PG_FUNCTION_INFO_V1(bank_account_apply);

static bool
event_is(const EventFields *event, const char *type)
{
	text	   *name = DatumGetTextPP(event_value(event, EVENT_TYPE));

	return VARSIZE_ANY_EXHDR(name) == strlen(type) &&
		memcmp(VARDATA_ANY(name), type, strlen(type)) == 0;
}

static void
report_payload(const EventFields *event, const char *key, const char *kind)
{
	ereport(ERROR,
			(errcode(ERRCODE_DUGONG_EVENT_TYPE_MISMATCH),
			 errmsg("payload of event type \"%s\" has no %s \"%s\"",
					TextDatumGetCString(event_value(event, EVENT_TYPE)), kind, key)));
}

static Jsonb *
payload_of(const EventFields *event)
{
	return event_isnull(event, EVENT_PAYLOAD) ? NULL :
		DatumGetJsonbP(event_value(event, EVENT_PAYLOAD));
}

/* In a query of somebody's own it may get what the engine keeps from it. */
static bool
is_skeleton(const EventFields *event)
{
	return event_isnull(event, EVENT_PAYLOAD) &&
		erasure_of(event_value(event, EVENT_METADATA), event_isnull(event, EVENT_METADATA)) == ERASED_AGGREGATE;
}

static Datum
payload_number(const EventFields *event, const char *key)
{
	Numeric		number = jsonb_field_number(payload_of(event), key);

	if (number == NULL)
		report_payload(event, key, "number");
	return NumericGetDatum(number);
}

static Datum
payload_text(const EventFields *event, const char *key)
{
	char	   *string = jsonb_field_text(payload_of(event), key);

	if (string == NULL)
		report_payload(event, key, "string");
	return CStringGetTextDatum(string);
}

/* The row type of the state, kept for the calls to come. */
static TupleDesc
state_desc(FunctionCallInfo fcinfo)
{
	FmgrInfo   *flinfo = fcinfo->flinfo;

	if (flinfo->fn_extra == NULL)
	{
		TupleDesc	desc = lookup_rowtype_tupdesc(get_func_rettype(flinfo->fn_oid), -1);
		MemoryContext old = MemoryContextSwitchTo(flinfo->fn_mcxt);

		flinfo->fn_extra = CreateTupleDescCopy(desc);
		MemoryContextSwitchTo(old);
		ReleaseTupleDesc(desc);
	}
	return flinfo->fn_extra;
}

static Datum
make_state(FunctionCallInfo fcinfo, Datum *fields)
{
	bool		nulls[ACCOUNT_NATTRIBUTES] = {false};

	return HeapTupleGetDatum(heap_form_tuple(state_desc(fcinfo), fields, nulls));
}

static void
take_apart(FunctionCallInfo fcinfo, HeapTupleHeader state, Datum *fields)
{
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(state),.t_data = state};
	bool		nulls[ACCOUNT_NATTRIBUTES];

	ItemPointerSetInvalid(&tuple.t_self);
	heap_deform_tuple(&tuple, state_desc(fcinfo), fields, nulls);
	for (int i = 0; i < ACCOUNT_NATTRIBUTES; i++)
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("state of a bank account must not have null fields")));
}

/*
 * The state with another balance.  That is the last field: if it is short, as
 * it always is but for hundreds of digits, what comes before it is copied.
 * Forming the tuple anew costs six times that.
 */
static Datum
with_balance(FunctionCallInfo fcinfo, HeapTupleHeader state, Datum *fields, Datum balance)
{
	Pointer		before = DatumGetPointer(fields[ACCOUNT_BALANCE - 1]);
	Pointer		after = DatumGetPointer(balance);
	Size		offset = before - (Pointer) state;
	HeapTupleHeader copy;

	fields[ACCOUNT_BALANCE - 1] = balance;
	if (!VARATT_IS_SHORT(before) || !VARATT_CAN_MAKE_SHORT(after))
		return make_state(fcinfo, fields);
	copy = palloc(offset + VARATT_CONVERTED_SHORT_SIZE(after));
	memcpy(copy, state, offset);
	SET_VARSIZE_SHORT((Pointer) copy + offset, VARATT_CONVERTED_SHORT_SIZE(after));
	memcpy(VARDATA_SHORT((Pointer) copy + offset), VARDATA(after), VARSIZE(after) - VARHDRSZ);
	HeapTupleHeaderSetDatumLength(copy, offset + VARATT_CONVERTED_SHORT_SIZE(after));
	return HeapTupleHeaderGetDatum(copy);
}

/* The state with the event's amount added to or taken from its balance. */
static Datum
move_money(FunctionCallInfo fcinfo, const EventFields *event, PGFunction operation)
{
	HeapTupleHeader state;
	Datum		fields[ACCOUNT_NATTRIBUTES];

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_CORRUPT_STREAM),
				 errmsg("event type \"%s\" needs an open bank account",
						TextDatumGetCString(event_value(event, EVENT_TYPE)))));
	state = PG_GETARG_HEAPTUPLEHEADER(0);
	take_apart(fcinfo, state, fields);
	return with_balance(fcinfo, state, fields,
						DirectFunctionCall2(operation, fields[ACCOUNT_BALANCE - 1], payload_number(event, KEY_AMOUNT)));
}

static Datum
open_account(FunctionCallInfo fcinfo, const EventFields *event)
{
	Datum		fields[ACCOUNT_NATTRIBUTES];

	fields[ACCOUNT_ID - 1] = event_value(event, EVENT_AGGREGATE_ID);
	fields[ACCOUNT_OWNER - 1] = payload_text(event, KEY_OWNER);
	fields[ACCOUNT_BALANCE - 1] = payload_number(event, KEY_INITIAL_BALANCE);
	return make_state(fcinfo, fields);
}

/*
 * bank_account_apply(bank_account_state, dugong.domain_event)
 *
 * The account after the event; NULL after AccountClosed, and of an account that
 * was erased.  An event type that it does not know changes nothing.
 *
 * Errors: UG008 if the payload lacks what the type needs, UG007 if money moves
 * on an account that is not open.
 */
Datum
bank_account_apply(PG_FUNCTION_ARGS)
{
	EventFields event;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("domain event must not be null")));
	domain_event_deform(PG_GETARG_DATUM(1), &event);
	if (event_isnull(&event, EVENT_TYPE) || event_isnull(&event, EVENT_AGGREGATE_ID))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("type and aggregate id of a domain event must not be null")));

	if (is_skeleton(&event))
		PG_RETURN_NULL();
	if (event_is(&event, MONEY_DEPOSITED))
		PG_RETURN_DATUM(move_money(fcinfo, &event, numeric_add));
	if (event_is(&event, MONEY_WITHDRAWN))
		PG_RETURN_DATUM(move_money(fcinfo, &event, numeric_sub));
	if (event_is(&event, ACCOUNT_OPENED))
		PG_RETURN_DATUM(open_account(fcinfo, &event));
	if (event_is(&event, ACCOUNT_CLOSED) || PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(PG_GETARG_DATUM(0));
}
