/*
 * build.c
 *		Functions that build aggregates: build_aggregate(), load_for_update(),
 *		aggregate_history().
 *
 * The fold, and casts of its result to JSON, run as the aggregate type's
 * owner.
 */
#include "postgres.h"

#include "access/table.h"
#include "aggregate/aggregate.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "store/aggregate_lock.h"
#include "store/domain_event.h"
#include "store/tenant.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "util/args.h"
#include "util/identity.h"
#include "util/ids.h"
#include "util/jsonb_fields.h"
#include "util/to_jsonb.h"

PG_FUNCTION_INFO_V1(dugong_build_aggregate_jsonb);
PG_FUNCTION_INFO_V1(dugong_build_aggregate);
PG_FUNCTION_INFO_V1(dugong_load_for_update);
PG_FUNCTION_INFO_V1(dugong_aggregate_history);

/*
 * Which aggregate a call names: type and id at arguments first and first + 1,
 * tenant and origin at last - 1 and last.
 */
static void
key_arguments(FunctionCallInfo fcinfo, int first, int last, AggregateKey *key)
{
	char	   *type = arg_needed_name(fcinfo, first, "aggregate type");

	key->type_id = aggregate_type_by_name(arg_name(fcinfo, last), type)->id;
	key->id = *arg_needed_uuid(fcinfo, first + 1, "aggregate id");
	key->tenant_id = tenant_argument(fcinfo, last - 1);
}

/* The state that is asked for: the living one, or the last that was. */
static Datum
asked_state(const Aggregate *aggregate, bool return_deleted, bool *isnull)
{
	*isnull = aggregate->isnull && !(return_deleted && !aggregate->last_isnull);
	return aggregate->isnull ? aggregate->last : aggregate->state;
}

/* 42804 unless the first argument's type is the one that the fold gives. */
static void
check_state_type(FunctionCallInfo fcinfo, const Aggregate *aggregate)
{
	Oid			wanted = get_fn_expr_argtype(fcinfo->flinfo, 0);

	if (wanted != aggregate->fold->result.oid)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("state of aggregate type \"%s\" is of type %s, not %s",
						text_to_cstring(aggregate->type->name),
						format_type_be(aggregate->fold->result.oid), format_type_be(wanted))));
}

/*
 * Builds what a call of build_aggregate() asks for: its aggregate at arguments
 * first and first + 1, then to_sequence_number, as_of, return_deleted,
 * skip_snapshot, tenant_id and origin.  first > 0: argument 0 has the type of
 * the state.
 */
static Datum
build(FunctionCallInfo fcinfo, int first, Aggregate *aggregate, bool *isnull)
{
	bool		return_deleted = !PG_ARGISNULL(first + 4) && PG_GETARG_BOOL(first + 4);
	BuildLimit	limit = {PG_INT64_MAX, DT_NOEND};
	AggregateKey key;
	Relation	log;
	Identity	before;

	if (!PG_ARGISNULL(first + 2))
		limit.sequence_number = PG_GETARG_INT64(first + 2);
	if (!PG_ARGISNULL(first + 3))
		limit.as_of = PG_GETARG_TIMESTAMPTZ(first + 3);
	key_arguments(fcinfo, first, first + 7, &key);
	identity_enter(&before);
	aggregate_init(aggregate, &key);
	if (first > 0)
		check_state_type(fcinfo, aggregate);
	aggregate->skip_snapshot = !PG_ARGISNULL(first + 5) && PG_GETARG_BOOL(first + 5);
	aggregate->wants_last = return_deleted;
	log = log_open(AccessShareLock);
	aggregate_build(aggregate, log, &limit, GetActiveSnapshot());
	table_close(log, NoLock);
	identity_leave(&before);
	return asked_state(aggregate, return_deleted, isnull);
}

static Jsonb *
state_to_jsonb(const Aggregate *aggregate, Datum state)
{
	Identity	before;
	Jsonb	   *result;

	aggregate_type_assume_owner(aggregate->type, &before);
	result = datum_to_jsonb(state, aggregate->fold->result.oid);
	identity_restore(&before);
	return result;
}

/* build_aggregate(aggregate_type, aggregate_id, to_sequence_number, as_of, return_deleted, skip_snapshot, tenant_id, origin) */
Datum
dugong_build_aggregate_jsonb(PG_FUNCTION_ARGS)
{
	Aggregate	aggregate;
	bool		isnull;
	Datum		state = build(fcinfo, 0, &aggregate, &isnull);

	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_JSONB_P(state_to_jsonb(&aggregate, state));
}

/* build_aggregate(NULL::state type, aggregate_type, ...): the state itself. */
Datum
dugong_build_aggregate(PG_FUNCTION_ARGS)
{
	Aggregate	aggregate;
	bool		isnull;
	Datum		state = build(fcinfo, 1, &aggregate, &isnull);

	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(state);
}

/* UG002, UG003, UG009 for an aggregate that no command can act on. */
static void
require_living(const Aggregate *aggregate)
{
	char	   *name = text_to_cstring(aggregate->type->name);
	char	   *id = uuid_to_cstring(&aggregate->key.id);

	if (aggregate->type->external)
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_OTHER_ORIGIN),
				 errmsg("aggregate type \"%s\" belongs to origin \"%s\"",
						name, text_to_cstring(aggregate->type->origin))));
	if (aggregate->sequence_number == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_AGGREGATE_NOT_FOUND),
				 errmsg("aggregate \"%s\" with id \"%s\" does not exist", name, id)));
	if (aggregate->isnull)
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_AGGREGATE_DELETED),
				 errmsg("aggregate \"%s\" with id \"%s\" is deleted", name, id)));
}

/* load_for_update(NULL::state type, aggregate_type, aggregate_id, missing_ok, tenant_id, origin) */
Datum
dugong_load_for_update(PG_FUNCTION_ARGS)
{
	bool		missing_ok = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	AggregateKey key;
	Aggregate	aggregate;
	Identity	before;

	PreventCommandIfReadOnly("dugong.load_for_update()");
	key_arguments(fcinfo, 1, 5, &key);
	identity_enter(&before);
	aggregate_lock(&key);
	aggregate_init(&aggregate, &key);
	check_state_type(fcinfo, &aggregate);
	aggregate_build_current(&aggregate);
	identity_leave(&before);
	if (aggregate.sequence_number == 0 && missing_ok && !aggregate.type->external)
		PG_RETURN_NULL();
	require_living(&aggregate);
	PG_RETURN_DATUM(aggregate.state);
}

static void
push_key(JsonbParseState **state, const char *key, int length)
{
	JsonbValue	name;

	name.type = jbvString;
	name.val.string.val = unconstify(char *, key);
	name.val.string.len = length;
	pushJsonbValue(state, WJB_KEY, &name);
}

/* Writes {"old": ..., "new": ...} under a key; what is NULL was not there and is left out. */
static void
push_change(JsonbParseState **state, const JsonbValue *key, JsonbValue *before, JsonbValue *after)
{
	push_key(state, key->val.string.val, key->val.string.len);
	pushJsonbValue(state, WJB_BEGIN_OBJECT, NULL);
	if (before)
	{
		push_key(state, "old", 3);
		pushJsonbValue(state, WJB_VALUE, before);
	}
	if (after)
	{
		push_key(state, "new", 3);
		pushJsonbValue(state, WJB_VALUE, after);
	}
	pushJsonbValue(state, WJB_END_OBJECT, NULL);
}

static JsonbValue *
find_key(Jsonb *object, const JsonbValue *key)
{
	if (object == NULL)
		return NULL;
	return getKeyJsonValueFromContainer(&object->root, key->val.string.val, key->val.string.len, NULL);
}

static bool
same_value(JsonbValue *one, JsonbValue *other)
{
	Jsonb	   *a = JsonbValueToJsonb(one);
	Jsonb	   *b = JsonbValueToJsonb(other);

	return compareJsonbContainers(&a->root, &b->root) == 0;
}

/* Writes the keys of object whose values are others in reference, or are missing there. */
static void
push_changes(JsonbParseState **state, Jsonb *object, Jsonb *reference, bool object_is_old)
{
	JsonbIterator *iterator;
	JsonbValue	key;
	JsonbIteratorToken token;

	if (object == NULL)
		return;
	iterator = JsonbIteratorInit(&object->root);
	while ((token = JsonbIteratorNext(&iterator, &key, true)) != WJB_DONE)
	{
		JsonbValue *own;
		JsonbValue *other;

		if (token != WJB_KEY)
			continue;
		own = find_key(object, &key);
		other = find_key(reference, &key);
		/* What both have is written once, with the old object. */
		if (other == NULL || (object_is_old && !same_value(own, other)))
			push_change(state, &key, object_is_old ? own : other, object_is_old ? other : own);
	}
}

/* {key: {"old": value, "new": value}} for what differs.  States that are no objects count as one key, "state". */
static Jsonb *
changes_between(Jsonb *before, Jsonb *after)
{
	JsonbParseState *state = NULL;

	if (before && !JB_ROOT_IS_OBJECT(before))
		before = jsonb_wrap("state", before, NULL, NULL);
	if (after && !JB_ROOT_IS_OBJECT(after))
		after = jsonb_wrap("state", after, NULL, NULL);
	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_changes(&state, before, after, true);
	push_changes(&state, after, before, false);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* The state as jsonb, copied to the current memory context; NULL if there is none. */
static Jsonb *
current_jsonb(const Aggregate *aggregate)
{
	if (aggregate->isnull)
		return NULL;
	return DatumGetJsonbPCopy(JsonbPGetDatum(state_to_jsonb(aggregate, aggregate->state)));
}

/* One row: sequence_number, event, state, changes. */
static void
put_history_row(ReturnSetInfo *result, EventReader *reader, const LogRow *row, Jsonb *before, Jsonb *after)
{
	Datum		values[4];
	bool		nulls[4] = {false, false, after == NULL, false};

	values[0] = log_row_value(row, LOG_SEQUENCE_NUMBER);
	values[1] = event_reader_form(reader, row);
	values[2] = PointerGetDatum(after);
	values[3] = PointerGetDatum(changes_between(before, after));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* aggregate_history(aggregate_type, aggregate_id, tenant_id, origin) */
Datum
dugong_aggregate_history(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	MemoryContext contexts[2];
	MemoryContext old;
	AggregateKey key;
	Aggregate	aggregate;
	EventReader reader;
	Relation	log;
	LogScan		scan;
	Jsonb	   *before = NULL;
	Identity	caller;

	InitMaterializedSRF(fcinfo, 0);
	key_arguments(fcinfo, 0, 3, &key);
	identity_enter(&caller);
	aggregate_init(&aggregate, &key);
	event_reader_open(&reader);
	/* The state before an event lives in one context, the state after it in the other. */
	for (int i = 0; i < 2; i++)
		contexts[i] = AllocSetContextCreate(CurrentMemoryContext, "dugong history", ALLOCSET_DEFAULT_SIZES);
	log = log_open(AccessShareLock);
	log_scan_stream(&scan, log, &key, 1, PG_INT64_MAX, ForwardScanDirection, GetActiveSnapshot());
	for (int turn = 0; log_scan_next(&scan); turn = 1 - turn)
	{
		LogRow		row;
		Jsonb	   *after;

		CHECK_FOR_INTERRUPTS();
		log_row_from_slot(&row, scan.slot);
		MemoryContextReset(contexts[turn]);
		aggregate_apply(&aggregate, &row);
		old = MemoryContextSwitchTo(contexts[turn]);
		after = current_jsonb(&aggregate);
		put_history_row(result, &reader, &row, before, after);
		MemoryContextSwitchTo(old);
		before = after;
	}
	log_scan_end(&scan);
	table_close(log, NoLock);
	event_reader_close(&reader);
	identity_leave(&caller);
	return (Datum) 0;
}
