/*
 * row_event.c
 *		Events out of the rows of ordinary tables.
 *
 * dugong.append_row_event() is a trigger function for tables that people
 * already have: each change of a row becomes an event of its aggregate, in the
 * same transaction.  The rows are turned into JSON with the rights of whoever
 * changes them (casts to JSON are users' code); only the append has those of
 * the log's owner.
 *
 * Payloads: {"new": row}, {"old": changed columns, "new": changed columns},
 * {"old": row}.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "compat.h"
#include "store/aggregate_type.h"
#include "store/append.h"
#include "store/context.h"
#include "store/log.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"
#include "util/args.h"
#include "util/identity.h"
#include "util/ids.h"
#include "util/jsonb_fields.h"
#include "util/to_jsonb.h"

PG_FUNCTION_INFO_V1(dugong_append_row_event);
PG_FUNCTION_INFO_V1(dugong_aggregate_id);

/* Names of the ids that row keys give: a random UUID, fixed for ever. */
static const pg_uuid_t key_namespace = {
	{0x6d, 0x75, 0xa0, 0xe8, 0x3f, 0x52, 0x4c, 0x1b, 0x9d, 0x0e, 0x5a, 0x7c, 0x21, 0x84, 0xf6, 0x33}
};

/* What a trigger says: append_row_event(aggregate type, key columns, columns ...) */
typedef struct RowTrigger
{
	const AggregateType *type;
	TupleDesc	desc;
	int			nkeys;
	int		   *keys;			/* attribute numbers */
	bool	   *recorded;		/* by attribute, from 0 */
} RowTrigger;

/* One version of a row. */
typedef struct RowImage
{
	HeapTuple	tuple;
	Jsonb	   *json;			/* all columns */
} RowImage;

static int
find_column(TupleDesc desc, const char *name)
{
	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped &&
			strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return i + 1;
	return 0;
}

static int
needed_column(Relation table, const char *name)
{
	int			number = find_column(RelationGetDescr(table), name);

	if (number == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of relation \"%s\" does not exist",
						name, RelationGetRelationName(table)),
				 errdetail("An argument of trigger function dugong.append_row_event() names it.")));
	return number;
}

/* The key argument: a column's name as it is, or a list of identifiers. */
static void
read_keys(RowTrigger *row_trigger, Relation table, char *argument)
{
	List	   *names;
	ListCell   *cell;

	if (find_column(row_trigger->desc, argument))
		names = list_make1(argument);
	else if (!SplitIdentifierString(pstrdup(argument), ',', &names) || names == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"%s\" is no list of key columns", argument)));
	row_trigger->keys = palloc(list_length(names) * sizeof(int));
	foreach(cell, names)
		row_trigger->keys[row_trigger->nkeys++] = needed_column(table, lfirst(cell));
}

static void
read_trigger(RowTrigger *row_trigger, TriggerData *trigger)
{
	char	  **args = trigger->tg_trigger->tgargs;
	int			nargs = trigger->tg_trigger->tgnargs;
	Relation	table = trigger->tg_relation;

	if (nargs < 2)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" must name an aggregate type and its key column",
						trigger->tg_trigger->tgname),
				 errhint("Write EXECUTE FUNCTION dugong.append_row_event('Order', 'id').")));
	memset(row_trigger, 0, sizeof(*row_trigger));
	row_trigger->type = aggregate_type_by_channel(args[0]);
	row_trigger->desc = RelationGetDescr(table);
	read_keys(row_trigger, table, args[1]);
	row_trigger->recorded = palloc(row_trigger->desc->natts * sizeof(bool));
	memset(row_trigger->recorded, nargs == 2, row_trigger->desc->natts * sizeof(bool));
	for (int i = 2; i < nargs; i++)
		row_trigger->recorded[needed_column(table, args[i]) - 1] = true;
}

static void
get_column(Jsonb *row, TupleDesc desc, int number, JsonbValue *value)
{
	const char *name = NameStr(TupleDescAttr(desc, number - 1)->attname);

	if (getKeyJsonValueFromContainer(&row->root, name, strlen(name), value) == NULL)
		elog(ERROR, "column \"%s\" is missing in JSON", name);
}

/* A part of the row: the columns that are wanted. */
static Jsonb *
pick_columns(Jsonb *row, TupleDesc desc, const bool *wanted)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < desc->natts; i++)
	{
		JsonbValue	key;
		JsonbValue	value;

		if (!wanted[i] || TupleDescAttr(desc, i)->attisdropped)
			continue;
		key.type = jbvString;
		key.val.string.val = NameStr(TupleDescAttr(desc, i)->attname);
		key.val.string.len = strlen(key.val.string.val);
		get_column(row, desc, i + 1, &value);
		pushJsonbValue(&state, WJB_KEY, &key);
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

pg_noreturn static void
report_null_key(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("key of an aggregate must not be null")));
}

/* What stands for a key in its aggregate id.  Numbers that are equal give the same text. */
static char *
key_text(JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return pnstrdup(value->val.string.val, value->val.string.len);
		case jbvNumeric:
			return numeric_normalize(value->val.numeric);
		case jbvBool:
			return value->val.boolean ? "true" : "false";
		case jbvNull:
			report_null_key();
		default:
			return JsonbToCString(NULL, value->val.binary.data, value->val.binary.len);
	}
}

/* The aggregate id of a key that is no UUID: version 5, in the type's name space. */
static pg_uuid_t *
key_to_uuid(const char *type, char **keys, int nkeys)
{
	pg_uuid_t  *type_namespace = uuid_make_v5(&key_namespace, type);
	Datum	   *elements = palloc(nkeys * sizeof(Datum));
	ArrayType  *array;

	if (nkeys == 1)
		return uuid_make_v5(type_namespace, keys[0]);
	/* Several are written as an array, which keeps them apart. */
	for (int i = 0; i < nkeys; i++)
		elements[i] = CStringGetTextDatum(keys[i]);
	array = construct_array(elements, nkeys, TEXTOID, -1, false, TYPALIGN_INT);
	return uuid_make_v5(type_namespace, OidOutputFunctionCall(F_ARRAY_OUT, PointerGetDatum(array)));
}

static pg_uuid_t *
row_aggregate_id(const RowTrigger *row_trigger, const RowImage *row)
{
	char	  **texts = palloc(row_trigger->nkeys * sizeof(char *));
	int			number = row_trigger->keys[0];

	for (int i = 0; i < row_trigger->nkeys; i++)
	{
		JsonbValue	value;

		get_column(row->json, row_trigger->desc, row_trigger->keys[i], &value);
		texts[i] = key_text(&value);
	}
	if (row_trigger->nkeys == 1 && TupleDescAttr(row_trigger->desc, number - 1)->atttypid == UUIDOID)
		return DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(texts[0])));
	return key_to_uuid(text_to_cstring(row_trigger->type->name), texts, row_trigger->nkeys);
}

/* Metadata: {"key": {column: value, ...}} behind the session's own, unless the key is the id. */
static void
set_metadata(LogRow *event, const RowTrigger *row_trigger, const RowImage *row)
{
	bool	   *is_key = palloc0(row_trigger->desc->natts * sizeof(bool));
	Datum		metadata;
	Datum		own;
	bool		isnull;

	if (row_trigger->nkeys == 1 &&
		TupleDescAttr(row_trigger->desc, row_trigger->keys[0] - 1)->atttypid == UUIDOID)
		return;
	for (int i = 0; i < row_trigger->nkeys; i++)
		is_key[row_trigger->keys[i] - 1] = true;
	metadata = JsonbPGetDatum(jsonb_wrap("key", pick_columns(row->json, row_trigger->desc, is_key), NULL, NULL));
	own = context_metadata(&isnull);
	if (!isnull)
		metadata = DirectFunctionCall2(jsonb_concat, own, metadata);
	log_row_set(event, LOG_METADATA, metadata);
}

/* Appends one event about a row, with the rights of the log's owner. */
static void
append(const RowTrigger *row_trigger, const RowImage *row, const char *what, Jsonb *payload)
{
	LogRow		event;
	Identity	before;

	memset(event.nulls, true, sizeof(event.nulls));
	log_row_set(&event, LOG_AGGREGATE_TYPE_ID, Int32GetDatum(row_trigger->type->id));
	log_row_set(&event, LOG_AGGREGATE_ID, UUIDPGetDatum(row_aggregate_id(row_trigger, row)));
	log_row_set(&event, LOG_TYPE, CStringGetTextDatum(
		psprintf("%s%s", text_to_cstring(row_trigger->type->name), what)));
	log_row_set(&event, LOG_PAYLOAD, JsonbPGetDatum(payload));
	set_metadata(&event, row_trigger, row);
	log_row_set(&event, LOG_TENANT_ID, PointerGetDatum(context_tenant_id()));

	identity_assume(&before, dugong_owner());
	event_append(&event);
	identity_restore(&before);
}

static Jsonb *
recorded_columns(const RowTrigger *row_trigger, const RowImage *row)
{
	return pick_columns(row->json, row_trigger->desc, row_trigger->recorded);
}

static void
append_inserted(const RowTrigger *row_trigger, const RowImage *row)
{
	append(row_trigger, row, "Inserted", jsonb_wrap("new", recorded_columns(row_trigger, row), NULL, NULL));
}

static bool
is_erased(const RowTrigger *row_trigger, const RowImage *row)
{
	AggregateKey key = {row_trigger->type->id, *row_aggregate_id(row_trigger, row), context_tenant_id()};
	Relation	log = log_open(AccessShareLock);
	Snapshot	snapshot = snapshot_register_latest();
	AggregateHead head;

	aggregate_head(log, &key, 0, snapshot, &head);
	UnregisterSnapshot(snapshot);
	table_close(log, NoLock);
	return head.erased;
}

/* A row whose events were erased may still go; nothing is told of it. */
static void
append_deleted(const RowTrigger *row_trigger, const RowImage *row)
{
	if (!is_erased(row_trigger, row))
		append(row_trigger, row, "Deleted", jsonb_wrap("old", recorded_columns(row_trigger, row), NULL, NULL));
}

/* The recorded columns whose values differ; false if there is none. */
static bool
find_changed(const RowTrigger *row_trigger, const RowImage *before, const RowImage *after, bool *changed)
{
	bool		any = false;

	for (int i = 0; i < row_trigger->desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(row_trigger->desc, i);
		bool		old_isnull;
		bool		new_isnull;
		Datum		old_value;
		Datum		new_value;

		changed[i] = false;
		if (attribute->attisdropped || !row_trigger->recorded[i])
			continue;
		old_value = heap_getattr(before->tuple, i + 1, row_trigger->desc, &old_isnull);
		new_value = heap_getattr(after->tuple, i + 1, row_trigger->desc, &new_isnull);
		changed[i] = old_isnull != new_isnull ||
			(!old_isnull && !datum_image_eq(old_value, new_value, attribute->attbyval, attribute->attlen));
		any = any || changed[i];
	}
	return any;
}

static void
append_updated(const RowTrigger *row_trigger, const RowImage *before, const RowImage *after)
{
	bool	   *changed = palloc(row_trigger->desc->natts * sizeof(bool));

	/* Under another key it is another aggregate. */
	if (memcmp(row_aggregate_id(row_trigger, before), row_aggregate_id(row_trigger, after), UUID_LEN) != 0)
	{
		append_deleted(row_trigger, before);
		append_inserted(row_trigger, after);
	}
	else if (find_changed(row_trigger, before, after, changed))
		append(row_trigger, after, "Updated",
			   jsonb_wrap("old", pick_columns(before->json, row_trigger->desc, changed),
						  "new", pick_columns(after->json, row_trigger->desc, changed)));
}

static RowImage
row_image(const RowTrigger *row_trigger, HeapTuple tuple)
{
	RowImage	row = {tuple, datum_to_jsonb(heap_copy_tuple_as_datum(tuple, row_trigger->desc),
											row_trigger->desc->tdtypeid)};

	return row;
}

/*
 * AFTER row trigger: append_row_event('Type', 'key column' [, 'column' ...]).
 *
 * Errors: 39P01 for a wrong kind of trigger; 42704, 42703 for names that do
 * not exist; 22004 for a NULL key; what event_append() raises.
 */
Datum
dugong_append_row_event(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	RowTrigger	row_trigger;
	RowImage	row;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("dugong.append_row_event() must be called by an AFTER trigger FOR EACH ROW")));
	read_trigger(&row_trigger, trigger);
	row = row_image(&row_trigger, trigger->tg_trigtuple);
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
		append_inserted(&row_trigger, &row);
	else if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event))
		append_deleted(&row_trigger, &row);
	else
	{
		RowImage	after = row_image(&row_trigger, trigger->tg_newtuple);

		append_updated(&row_trigger, &row, &after);
	}
	return PointerGetDatum(NULL);
}

/* aggregate_id(aggregate_type, VARIADIC key): the id of the aggregate of a row with that key. */
Datum
dugong_aggregate_id(PG_FUNCTION_ARGS)
{
	char	   *type = arg_needed_name(fcinfo, 0, "aggregate type");
	Datum	   *elements;
	bool	   *nulls;
	int			nkeys;
	char	  **keys;

	deconstruct_array(DatumGetArrayTypeP(arg_needed(fcinfo, 1, "key")), TEXTOID, -1, false,
					  TYPALIGN_INT, &elements, &nulls, &nkeys);
	keys = palloc(Max(nkeys, 1) * sizeof(char *));
	for (int i = 0; i < nkeys; i++)
	{
		if (nulls[i])
			PG_RETURN_NULL();
		keys[i] = TextDatumGetCString(elements[i]);
	}
	if (nkeys == 0)
		PG_RETURN_NULL();
	PG_RETURN_UUID_P(key_to_uuid(type, keys, nkeys));
}
