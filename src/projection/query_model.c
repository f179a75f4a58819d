/*
 * query_model.c
 *		The table that a projection maintains.
 *
 * Its key is id, the aggregate's, or (id, tenant_id) if it has that column.
 * The other columns are attributes of the state, by name; a column with a
 * default that the state does not have is left alone.  A living aggregate has
 * one row, a deleted one none.
 *
 * The statements are built from the table's columns each time, but prepared
 * only when their text or the state's type has changed.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "projection/query_model.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/varlena.h"
#include "util/ids.h"

/* A prepared statement and what it was prepared for. */
typedef struct Statement
{
	char	   *sql;
	Oid			state_type;
	SPIPlanPtr	plan;
} Statement;

typedef struct QueryModel
{
	Oid			relid;			/* hash key */
	Statement	upsert;			/* $1 uuid[], $2 text[] tenants, $3 states */
	Statement	delete;			/* $1 uuid[], $2 text[] tenants */
} QueryModel;

static HTAB *models;			/* in CacheMemoryContext */

/* table: its qualified name, quoted as SQL needs it; 42P01 if it is gone. */
static Relation
open_table(const char *table, LOCKMODE lockmode)
{
	return table_openrv(makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(table))), lockmode);
}

/* The same for an actor who was its owner a moment ago; it stays so while it is locked. */
Relation
query_model_open(const char *table, const Actor *actor, LOCKMODE lockmode)
{
	Relation	relation = open_table(table, lockmode);

	if (relation->rd_rel->relowner != actor->role)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("query model %s has become another table, or another role's", table)));
	return relation;
}

static QueryModel *
find_model(Oid relid)
{
	QueryModel *model;
	bool		found;

	if (models == NULL)
	{
		HASHCTL		ctl = {0};

		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(QueryModel);
		ctl.hcxt = CacheMemoryContext;
		models = hash_create("dugong query models", 16, &ctl,
							 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	model = hash_search(models, &relid, HASH_ENTER, &found);
	if (!found)
	{
		memset(&model->upsert, 0, sizeof(Statement));
		memset(&model->delete, 0, sizeof(Statement));
	}
	return model;
}

/* The number of a live column; 0 if there is none. */
static AttrNumber
column_number(Relation table, const char *name)
{
	AttrNumber	number = get_attnum(RelationGetRelid(table), name);

	return number > 0 ? number : InvalidAttrNumber;
}

bool
query_model_has_tenants(Relation table)
{
	return column_number(table, "tenant_id") != InvalidAttrNumber;
}

/* A key column, of the type that it must be of. */
static AttrNumber
key_column(Relation table, const char *name, Oid type)
{
	AttrNumber	number = column_number(table, name);

	if (number == InvalidAttrNumber)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("query model \"%s\" has no column \"%s\"", RelationGetRelationName(table), name),
				 errhint("Give it a column id uuid, and a unique index on it, or with tenant_id text on both.")));
	if (TupleDescAttr(RelationGetDescr(table), number - 1)->atttypid != type)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of query model \"%s\" must be of type %s",
						name, RelationGetRelationName(table), format_type_be(type))));
	return number;
}

/* A nondeterministic collation would take one tenant for another. */
static void
check_tenant_collation(Relation table, AttrNumber tenant)
{
	Oid			collation = TupleDescAttr(RelationGetDescr(table), tenant - 1)->attcollation;

	if (!get_collation_isdeterministic(collation))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("column \"tenant_id\" of query model \"%s\" has nondeterministic collation \"%s\"",
						RelationGetRelationName(table), get_collation_name(collation)),
				 errdetail("Tenants whose names differ would be equal.")));
}

/* Is that a unique index on the key columns and nothing else? */
static bool
index_is_key(Relation index, AttrNumber id, AttrNumber tenant)
{
	Form_pg_index form = index->rd_index;
	int			nkeys = tenant == InvalidAttrNumber ? 1 : 2;

	if (!form->indisunique || !form->indimmediate || !form->indisvalid || form->indnkeyatts != nkeys ||
		RelationGetIndexPredicate(index) != NIL)
		return false;
	if (nkeys == 1)
		return form->indkey.values[0] == id;
	for (int i = 0; i < nkeys; i++)
		if (form->indkey.values[i] == tenant && !get_collation_isdeterministic(index->rd_indcollation[i]))
			return false;
	return (form->indkey.values[0] == id && form->indkey.values[1] == tenant) ||
		(form->indkey.values[0] == tenant && form->indkey.values[1] == id);
}

static void
check_key(Relation table)
{
	AttrNumber	id = key_column(table, "id", UUIDOID);
	AttrNumber	tenant = query_model_has_tenants(table) ? key_column(table, "tenant_id", TEXTOID) : InvalidAttrNumber;
	bool		found = false;
	ListCell   *cell;

	if (tenant != InvalidAttrNumber)
		check_tenant_collation(table, tenant);
	foreach(cell, RelationGetIndexList(table))
	{
		Relation	index = RelationIdGetRelation(lfirst_oid(cell));

		if (!RelationIsValid(index))
			continue;
		found = found || index_is_key(index, id, tenant);
		RelationClose(index);
	}
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_COLUMN_REFERENCE),
				 errmsg("query model \"%s\" has no unique index on %s", RelationGetRelationName(table),
						tenant == InvalidAttrNumber ? "(id)" : "(id, tenant_id)")));
}

/* Does the statement set the column from the state?  Checks that it can. */
bool
query_model_is_from_state(Relation table, Form_pg_attribute column, Oid state_type)
{
	Oid			relid;
	AttrNumber	number;
	Oid			type;

	if (column->attisdropped || column->attgenerated || column->attidentity == ATTRIBUTE_IDENTITY_ALWAYS ||
		strcmp(NameStr(column->attname), "id") == 0 || strcmp(NameStr(column->attname), "tenant_id") == 0)
		return false;
	if (state_type == JSONBOID)
		return true;
	relid = get_typ_typrelid(getBaseType(state_type));
	number = get_attnum(relid, NameStr(column->attname));
	if (number == InvalidAttrNumber)
	{
		if (column->atthasdef || column->attidentity)
			return false;
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of query model \"%s\" is no attribute of the state's type %s",
						NameStr(column->attname), RelationGetRelationName(table), format_type_be(state_type)),
				 errhint("A column with a default is left alone.")));
	}
	/* A cast would be somebody's code. */
	type = get_atttype(relid, number);
	if (getBaseType(type) != getBaseType(column->atttypid))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of query model \"%s\" is of type %s, but the state's attribute is of type %s",
						NameStr(column->attname), RelationGetRelationName(table),
						format_type_be(column->atttypid), format_type_be(type))));
	return true;
}

/*
 * Checks that dugong can maintain a table.
 *
 * Errors: 42P01, 42809 not an ordinary table, 42703, 42804, 42P10 as said.
 */
void
query_model_check(const char *table, Oid state_type)
{
	Relation	relation = open_table(table, RowExclusiveLock);
	TupleDesc	desc = RelationGetDescr(relation);

	if (relation->rd_rel->relkind != RELKIND_RELATION && relation->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", RelationGetRelationName(relation))));
	if (relation->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("a temporary table cannot be a query model")));
	check_key(relation);
	for (int i = 0; i < desc->natts; i++)
		(void) query_model_is_from_state(relation, TupleDescAttr(desc, i), state_type);
	table_close(relation, NoLock);
}

static void
append_table(StringInfo sql, Relation table)
{
	appendStringInfoString(sql, quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)),
														   RelationGetRelationName(table)));
}

/* INSERT ... ON CONFLICT (id, tenant_id) DO UPDATE, over all columns that are set. */
static char *
upsert_sql(Relation table, Oid state_type)
{
	TupleDesc	desc = RelationGetDescr(table);
	bool		tenants = query_model_has_tenants(table);
	bool		json = state_type == JSONBOID;
	StringInfoData sql;
	StringInfoData columns;
	StringInfoData values;
	StringInfoData updates;

	initStringInfo(&sql);
	initStringInfo(&columns);
	initStringInfo(&values);
	initStringInfo(&updates);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		const char *column = quote_identifier(NameStr(attribute->attname));

		if (!query_model_is_from_state(table, attribute, state_type))
			continue;
		appendStringInfo(&columns, ", %s", column);
		appendStringInfo(&values, ", %s.%s", json ? "s" : "k", column);
		appendStringInfo(&updates, "%s%s = EXCLUDED.%s", updates.len > 0 ? ", " : "", column, column);
	}
	appendStringInfoString(&sql, "INSERT INTO ");
	append_table(&sql, table);
	appendStringInfo(&sql, " (id%s%s) SELECT k.dugong_id%s%s FROM ROWS FROM (pg_catalog.unnest($1), "
					 "pg_catalog.unnest($2), pg_catalog.unnest($3)) AS k (dugong_id, dugong_tenant%s)",
					 tenants ? ", tenant_id" : "", columns.data,
					 tenants ? ", k.dugong_tenant" : "", values.data, json ? ", dugong_state" : "");
	if (json)
	{
		appendStringInfoString(&sql, ", LATERAL pg_catalog.jsonb_populate_record(NULL::");
		append_table(&sql, table);
		appendStringInfoString(&sql, ", k.dugong_state OPERATOR(pg_catalog.-) '{id,tenant_id}'::pg_catalog.text[]) AS s");
	}
	appendStringInfo(&sql, " ON CONFLICT (id%s) DO ", tenants ? ", tenant_id" : "");
	if (updates.len > 0)
		appendStringInfo(&sql, "UPDATE SET %s", updates.data);
	else
		appendStringInfoString(&sql, "NOTHING");
	return sql.data;
}

static char *
delete_sql(Relation table)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "DELETE FROM ");
	append_table(&sql, table);
	appendStringInfoString(&sql, " AS t USING ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2)) "
						   "AS k (dugong_id, dugong_tenant) WHERE t.id OPERATOR(pg_catalog.=) k.dugong_id");
	if (query_model_has_tenants(table))
		appendStringInfoString(&sql, " AND t.tenant_id OPERATOR(pg_catalog.=) k.dugong_tenant");
	return sql.data;
}

/*
 * SELECT id, tenant: the rows that follow $1 and $2 (NULL = from the first), $3
 * of them.
 */
char *
query_model_page_sql(const char *table, const Actor *actor)
{
	Relation	relation = query_model_open(table, actor, RowExclusiveLock);
	StringInfoData sql;

	initStringInfo(&sql);
	if (query_model_has_tenants(relation))
		appendStringInfoString(&sql, "SELECT id, tenant_id FROM ");
	else
		appendStringInfoString(&sql, "SELECT id, ''::pg_catalog.text FROM ");
	append_table(&sql, relation);
	/* >=: an OR alone would read the index from its start for each page. */
	appendStringInfo(&sql, " AS t WHERE $1 IS NULL OR (t.id OPERATOR(pg_catalog.>=) $1 AND (t.id OPERATOR(pg_catalog.>) $1%s)) "
					 "ORDER BY 1, 2 LIMIT $3",
					 query_model_has_tenants(relation) ? " OR t.tenant_id OPERATOR(pg_catalog.>) $2" : "");
	table_close(relation, NoLock);
	return sql.data;
}

/* The statement's plan; prepared again if it is not what it was. */
static SPIPlanPtr
statement_plan(Statement *statement, const char *sql, Oid state_type)
{
	Oid			types[] = {UUIDARRAYOID, TEXTARRAYOID, InvalidOid};
	SPIPlanPtr	plan;

	if (statement->plan && statement->state_type == state_type &&
		strcmp(statement->sql, sql) == 0)
		return statement->plan;

	if (OidIsValid(state_type))
		types[2] = get_array_type(state_type);
	plan = SPI_prepare(sql, OidIsValid(state_type) ? 3 : 2, types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	if (statement->plan)
	{
		SPI_freeplan(statement->plan);
		pfree(statement->sql);
		statement->plan = NULL;
	}
	statement->sql = MemoryContextStrdup(CacheMemoryContext, sql);
	statement->state_type = state_type;
	statement->plan = plan;
	return plan;
}

/* Ids, tenants and states of those that are deleted, or of those that live. */
typedef struct Arrays
{
	int			count;
	Datum		values[3];
} Arrays;

static void
collect(Arrays *arrays, const AggregateState *states, int nstates, bool deleted, Oid state_type)
{
	Datum	   *ids = palloc(Max(nstates, 1) * sizeof(Datum));
	Datum	   *tenants = palloc(Max(nstates, 1) * sizeof(Datum));
	Datum	   *values = palloc(Max(nstates, 1) * sizeof(Datum));
	int			count = 0;
	int16		typlen;
	bool		typbyval;
	char		typalign;

	for (int i = 0; i < nstates; i++)
	{
		if (states[i].deleted != deleted)
			continue;
		ids[count] = UUIDPGetDatum(&states[i].key.id);
		tenants[count] = PointerGetDatum(states[i].key.tenant_id);
		values[count++] = states[i].state;
	}
	arrays->count = count;
	if (count == 0)
		return;
	arrays->values[0] = PointerGetDatum(construct_array(ids, count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	arrays->values[1] = PointerGetDatum(construct_array(tenants, count, TEXTOID, -1, false, TYPALIGN_INT));
	if (deleted)
		return;
	get_typlenbyvalalign(state_type, &typlen, &typbyval, &typalign);
	arrays->values[2] = PointerGetDatum(construct_array(values, count, state_type, typlen, typbyval, typalign));
}

static void
execute(SPIPlanPtr plan, Arrays *arrays, Relation table)
{
	int			result = SPI_execute_plan(plan, arrays->values, NULL, false, 0);

	if (result < 0)
		elog(ERROR, "could not write query model \"%s\": %s",
			 RelationGetRelationName(table), SPI_result_code_string(result));
}

/* The table must be able to hold tenants apart if there are any. */
static void
check_tenants(Relation table, const AggregateState *states, int nstates)
{
	if (query_model_has_tenants(table))
		return;
	for (int i = 0; i < nstates; i++)
		if (VARSIZE_ANY_EXHDR(states[i].key.tenant_id) > 0)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_COLUMN),
					 errmsg("query model \"%s\" has no column \"tenant_id\"", RelationGetRelationName(table)),
					 errdetail("Aggregate \"%s\" belongs to tenant \"%s\".",
							   uuid_to_cstring(&states[i].key.id), text_to_cstring(states[i].key.tenant_id))));
}

/*
 * Makes the table's rows of aggregates what their states are.  Triggers,
 * CHECKs and indexes of the table are users' code: the actor's.
 */
void
query_model_write(const char *table, const Actor *actor, Oid state_type,
				  const AggregateState *states, int nstates)
{
	Relation	relation = query_model_open(table, actor, RowExclusiveLock);
	QueryModel *model = find_model(RelationGetRelid(relation));
	Arrays		living;
	Arrays		deleted;
	Identity	before;

	check_tenants(relation, states, nstates);
	collect(&living, states, nstates, false, state_type);
	collect(&deleted, states, nstates, true, state_type);
	handler_begin(actor, NULL, &before);
	SPI_connect();
	if (deleted.count > 0)
		execute(statement_plan(&model->delete, delete_sql(relation), InvalidOid), &deleted, relation);
	if (living.count > 0)
		execute(statement_plan(&model->upsert, upsert_sql(relation, state_type), state_type), &living, relation);
	SPI_finish();
	handler_end(&before);
	table_close(relation, NoLock);
}
