/*
 * model_rows.c
 *		Rows of a query model: as they are, and as states make them.
 *
 * Both are read with SQL, under the active snapshot, into tuples of the
 * table's form.  What a state makes is what query_model.c would write: its
 * statement's casts, typmods included.
 *
 * Casts, comparisons and conversions to JSON may be users' code: they run as
 * who writes the table, in a security-restricted operation.  Row
 * security is off, so that a policy that would hide a row is an error.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "aggregate/fold.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "projection/model_rows.h"
#include "store/tenant.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/typcache.h"
#include "util/plan.h"
#include "util/to_jsonb.h"

struct ModelColumn
{
	bool		is_key;			/* id, tenant_id */
	bool		is_from_state;	/* query_model.c writes it */
	bool		has_equality;
	FmgrInfo	equality;		/* = of its type; or, without one, */
	FmgrInfo	output;			/* what it looks like as text */
};

/* A role must be allowed to read the whole table: 42501. */
static void
require_reader(Oid relid, Oid role)
{
	char	   *name = get_rel_name(relid);

	if (pg_class_aclcheck(relid, role, ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, name);
	if (check_enable_rls(relid, role, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("row-level security policies of table \"%s\" hide rows from role \"%s\"",
						name, GetUserNameFromId(role, false)),
				 errhint("Ask as a role that they do not bind.")));
}

/* What one projection writes the other would take for wrong. */
static void
require_alone(const Projection *projection)
{
	ListCell   *cell;

	foreach(cell, projection_list())
	{
		const Projection *other = lfirst(cell);

		if (other->query_model && strcmp(other->query_model, projection->query_model) == 0 &&
			strcmp(other->name, projection->name) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("query model %s is kept by several projections", projection->query_model),
					 errdetail("Projections \"%s\" and \"%s\" write it.", projection->name, other->name)));
	}
}

static void
read_column(const ModelRows *rows, Form_pg_attribute attribute, ModelColumn *column)
{
	const char *name = NameStr(attribute->attname);
	TypeCacheEntry *type;
	Oid			output;
	bool		varlena;

	memset(column, 0, sizeof(*column));
	if (attribute->attisdropped)
		return;
	column->is_key = strcmp(name, "id") == 0 || strcmp(name, "tenant_id") == 0;
	column->is_from_state = query_model_is_from_state(rows->table, attribute, rows->state_type);
	if (!column->is_from_state)
		return;
	type = lookup_type_cache(getBaseType(attribute->atttypid), TYPECACHE_EQ_OPR_FINFO);
	column->has_equality = OidIsValid(type->eq_opr_finfo.fn_oid);
	if (column->has_equality)
		fmgr_info(type->eq_opr_finfo.fn_oid, &column->equality);
	getTypeOutputInfo(attribute->atttypid, &output, &varlena);
	fmgr_info(output, &column->output);
}

static const char *
table_name(const ModelRows *rows)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rows->table)),
									  RelationGetRelationName(rows->table));
}

/* The list of the table's columns as they are. */
static void
append_actual_columns(StringInfo sql, const ModelRows *rows)
{
	TupleDesc	desc = RelationGetDescr(rows->table);

	for (int i = 0; i < desc->natts; i++)
		if (TupleDescAttr(desc, i)->attisdropped)
			appendStringInfoString(sql, ", NULL");
		else
			appendStringInfo(sql, ", t.%s", quote_identifier(NameStr(TupleDescAttr(desc, i)->attname)));
}

/* The same as a state makes them; what it does not make is NULL. */
static void
append_expected_columns(StringInfo sql, const ModelRows *rows)
{
	TupleDesc	desc = RelationGetDescr(rows->table);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (rows->columns[i].is_from_state)
			appendStringInfo(sql, ", CAST(%s.%s AS %s)", rows->state_type == JSONBOID ? "s" : "k",
							 quote_identifier(NameStr(attribute->attname)),
							 format_type_extended(attribute->atttypid, attribute->atttypmod,
												  FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
		else if (rows->columns[i].is_key)
			appendStringInfoString(sql, strcmp(NameStr(attribute->attname), "id") == 0 ? ", k.dugong_id" : ", k.dugong_tenant");
		else
			appendStringInfoString(sql, ", NULL");
	}
}

#define KEY_ARRAYS "pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3)"
#define KEY_NAMES "dugong_id, dugong_tenant, dugong_number"

static void
make_statements(ModelRows *rows)
{
	const char *table = table_name(rows);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT k.dugong_number");
	append_actual_columns(&sql, rows);
	appendStringInfo(&sql, " FROM ROWS FROM (" KEY_ARRAYS ") AS k (" KEY_NAMES ") JOIN %s AS t "
					 "ON t.id OPERATOR(pg_catalog.=) k.dugong_id AND k.dugong_tenant OPERATOR(pg_catalog.=) %s",
					 table, rows->tenants ? "t.tenant_id" : "''");
	rows->actual_sql = sql.data;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT k.dugong_number");
	append_expected_columns(&sql, rows);
	appendStringInfo(&sql, " FROM ROWS FROM (" KEY_ARRAYS ", pg_catalog.unnest($4)) AS k (" KEY_NAMES "%s)",
					 rows->state_type == JSONBOID ? ", dugong_state" : "");
	if (rows->state_type == JSONBOID)
		appendStringInfo(&sql, ", LATERAL pg_catalog.jsonb_populate_record(NULL::%s, k.dugong_state "
						 "OPERATOR(pg_catalog.-) '{id,tenant_id}'::pg_catalog.text[]) AS s", table);
	rows->expected_sql = sql.data;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT t.id, %s", rows->tenants ? "t.tenant_id" : "''::pg_catalog.text");
	append_actual_columns(&sql, rows);
	appendStringInfo(&sql, " FROM %s AS t ORDER BY CASE WHEN $1 IS NOT NULL THEN pg_catalog.random() END LIMIT $1", table);
	rows->all_sql = sql.data;
}

/*
 * In the current memory context.
 *
 * reader: who will see the rows.
 * Errors: 42501, 0A000, and as query_model_check().
 */
void
model_rows_open(ModelRows *rows, const Projection *projection, Oid reader)
{
	TupleDesc	desc;

	require_alone(projection);
	memset(rows, 0, sizeof(*rows));
	rows->projection = projection;
	rows->reader = reader;
	handler_actor(&rows->actor, projection, false);
	rows->state_type = fold_result_type(aggregate_type_get(linitial_int(projection->type_ids)));
	rows->table = query_model_open(projection->query_model, &rows->actor, AccessShareLock);
	require_reader(RelationGetRelid(rows->table), reader);
	rows->tenants = query_model_has_tenants(rows->table);
	desc = RelationGetDescr(rows->table);
	rows->columns = palloc(desc->natts * sizeof(ModelColumn));
	for (int i = 0; i < desc->natts; i++)
		read_column(rows, TupleDescAttr(desc, i), &rows->columns[i]);
	make_statements(rows);
}

/* Has it rows of a tenant, and may they be shown? */
bool
model_rows_sees(const ModelRows *rows, const text *tenant_id)
{
	return projection_sees(rows->projection, tenant_id) && tenant_is_seen(rows->reader, tenant_id);
}

void
model_rows_close(ModelRows *rows)
{
	table_close(rows->table, NoLock);
}

/* Becomes the actor, until handler_end(). */
void
model_rows_begin(const ModelRows *rows, Identity *before)
{
	handler_begin(&rows->actor, NULL, before);
	identity_set("row_security", "off");
}

/* The part of a statement's result that is a row of the table, in the current memory context; first: counts from 1. */
HeapTuple
model_rows_take(const ModelRows *rows, HeapTuple result, TupleDesc desc, int first)
{
	int			natts = RelationGetDescr(rows->table)->natts;
	Datum	   *values = palloc(natts * sizeof(Datum));
	bool	   *nulls = palloc(natts * sizeof(bool));
	HeapTuple	row;

	for (int i = 0; i < natts; i++)
		values[i] = heap_getattr(result, first + i, desc, &nulls[i]);
	row = heap_form_tuple(RelationGetDescr(rows->table), values, nulls);
	pfree(values);
	pfree(nulls);
	return row;
}

/* Keys and their numbers, as the arguments of a statement. */
static void
key_arrays(Datum *arrays, const AggregateKey *keys, const int *numbers, int count)
{
	Datum	   *values = palloc(Max(count, 1) * sizeof(Datum));

	for (int i = 0; i < count; i++)
		values[i] = UUIDPGetDatum(&keys[numbers[i]].id);
	arrays[0] = PointerGetDatum(construct_array(values, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	for (int i = 0; i < count; i++)
		values[i] = PointerGetDatum(keys[numbers[i]].tenant_id);
	arrays[1] = PointerGetDatum(construct_array(values, count, TEXTOID, -1, false, TYPALIGN_INT));
	for (int i = 0; i < count; i++)
		values[i] = Int32GetDatum(numbers[i]);
	arrays[2] = PointerGetDatum(construct_array(values, count, INT4OID, sizeof(int32), true, TYPALIGN_INT));
	pfree(values);
}

/* Runs a statement, and puts its rows where their numbers say. */
static void
read_rows(const ModelRows *rows, const char *sql, int nargs, Datum *arrays, HeapTuple *found)
{
	Oid			types[] = {UUIDARRAYOID, TEXTARRAYOID, INT4ARRAYOID, InvalidOid};
	MemoryContext context = CurrentMemoryContext;
	Identity	before;

	if (nargs > 3)
		types[3] = get_array_type(rows->state_type);
	model_rows_begin(rows, &before);
	SPI_connect();
	if (SPI_execute_with_args(sql, nargs, types, arrays, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read query model %s", rows->projection->query_model);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		bool		isnull;

		found[DatumGetInt32(plan_result(i, 1, &isnull))] =
			model_rows_take(rows, SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	handler_end(&before);
}

/* The rows that the table should have; NULL for what is deleted, and for tenants that it has no column for. */
HeapTuple *
model_rows_expected(const ModelRows *rows, const AggregateState *states, int count)
{
	HeapTuple  *found = palloc0(Max(count, 1) * sizeof(HeapTuple));
	AggregateKey *keys = palloc(Max(count, 1) * sizeof(AggregateKey));
	int		   *living = palloc(Max(count, 1) * sizeof(int));
	Datum	   *values = palloc(Max(count, 1) * sizeof(Datum));
	Datum		arrays[4];
	int			nliving = 0;
	int16		typlen;
	bool		typbyval;
	char		typalign;

	for (int i = 0; i < count; i++)
	{
		keys[i] = states[i].key;
		if (states[i].deleted || (!rows->tenants && VARSIZE_ANY_EXHDR(keys[i].tenant_id) > 0))
			continue;
		values[nliving] = states[i].state;
		living[nliving++] = i;
	}
	if (nliving == 0)
		return found;
	key_arrays(arrays, keys, living, nliving);
	get_typlenbyvalalign(rows->state_type, &typlen, &typbyval, &typalign);
	arrays[3] = PointerGetDatum(construct_array(values, nliving, rows->state_type, typlen, typbyval, typalign));
	read_rows(rows, rows->expected_sql, 4, arrays, found);
	return found;
}

/* The rows that the table has; NULL = none. */
HeapTuple *
model_rows_actual(const ModelRows *rows, const AggregateKey *keys, int count)
{
	HeapTuple  *found = palloc0(Max(count, 1) * sizeof(HeapTuple));
	int		   *numbers = palloc(Max(count, 1) * sizeof(int));
	Datum		arrays[3];

	for (int i = 0; i < count; i++)
		numbers[i] = i;
	key_arrays(arrays, keys, numbers, count);
	read_rows(rows, rows->actual_sql, 3, arrays, found);
	return found;
}

/* Are they one value to a user: equal, or, where the type knows no equality, alike? */
static bool
same_value(ModelColumn *column, Oid collation, Datum one, Datum other)
{
	if (column->has_equality)
		return DatumGetBool(FunctionCall2Coll(&column->equality, collation, one, other));
	return strcmp(OutputFunctionCall(&column->output, one), OutputFunctionCall(&column->output, other)) == 0;
}

/* Do they differ in a column that the state makes?  NULL = no row.  The caller has begun. */
bool
model_rows_differ(const ModelRows *rows, HeapTuple expected, HeapTuple actual)
{
	TupleDesc	desc = RelationGetDescr(rows->table);

	if (expected == NULL || actual == NULL)
		return expected != actual;
	for (int i = 0; i < desc->natts; i++)
	{
		bool		isnull[2];
		Datum		one;
		Datum		other;

		if (!rows->columns[i].is_from_state)
			continue;
		one = heap_getattr(expected, i + 1, desc, &isnull[0]);
		other = heap_getattr(actual, i + 1, desc, &isnull[1]);
		if (isnull[0] != isnull[1])
			return true;
		if (!isnull[0] && !same_value(&rows->columns[i], TupleDescAttr(desc, i)->attcollation, one, other))
			return true;
	}
	return false;
}

/* The key of a row and what the state makes of it, as JSON.  The caller has begun. */
Datum
model_rows_json(const ModelRows *rows, HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(rows->table);
	Datum	   *others = palloc(desc->natts * sizeof(Datum));
	int			nothers = 0;
	Jsonb	   *json = datum_to_jsonb(heap_copy_tuple_as_datum(row, desc), desc->tdtypeid);

	for (int i = 0; i < desc->natts; i++)
		if (!TupleDescAttr(desc, i)->attisdropped && !rows->columns[i].is_from_state && !rows->columns[i].is_key)
			others[nothers++] = CStringGetTextDatum(NameStr(TupleDescAttr(desc, i)->attname));
	return DirectFunctionCall2(jsonb_delete_array, JsonbPGetDatum(json),
							   PointerGetDatum(construct_array(others, nothers, TEXTOID, -1, false, TYPALIGN_INT)));
}
