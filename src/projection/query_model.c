/*
 * query_model.c
 *		The table that a projection maintains.
 *
 * Its columns are attributes of the aggregate's state, by name, and tenant_id.
 * Its key is (id, tenant_id): columns id and tenant_id, with a unique index.
 * A living aggregate has one row, a deleted one none.
 *
 * The statements are built from the table's columns each time, but prepared
 * only when their text or the state's type has changed.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "projection/query_model.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/varlena.h"
#include "util/identity.h"

/* A prepared statement and what it was prepared for. */
typedef struct Statement
{
	char	   *sql;
	Oid			state_type;
	SPIPlanPtr	plan;
} Statement;

struct QueryModel
{
	Oid			relid;			/* hash key */
	Statement	upsert;			/* $1 state, $2 tenant */
	Statement	delete;			/* $1 id, $2 tenant */
};

static HTAB *models;			/* in CacheMemoryContext */

/*
 * The query model in a table.
 *
 * table: its qualified name, quoted as SQL needs it.
 */
QueryModel *
query_model_open(const char *table)
{
	RangeVar   *name = makeRangeVarFromNameList(textToQualifiedNameList(cstring_to_text(table)));
	Oid			relid = RangeVarGetRelid(name, RowExclusiveLock, false);
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

static void
append_table(StringInfo sql, Relation table)
{
	appendStringInfoString(sql, quote_qualified_identifier(get_namespace_name(RelationGetNamespace(table)),
														   RelationGetRelationName(table)));
}

/*
 * The attribute of the state that a column gets must be of the column's type:
 * a cast would be somebody's code.
 */
static void
check_column(Form_pg_attribute column, Oid state_type)
{
	AttrNumber	number = get_attnum(get_typ_typrelid(getBaseType(state_type)), NameStr(column->attname));
	Oid			type;

	if (number == InvalidAttrNumber)
		return;					/* the statement says so */
	type = get_atttype(get_typ_typrelid(getBaseType(state_type)), number);
	if (getBaseType(type) != getBaseType(column->atttypid))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of the query model is of type %s, but the state's attribute is of type %s",
						NameStr(column->attname), format_type_be(column->atttypid), format_type_be(type))));
}

/* INSERT ... ON CONFLICT (id, tenant_id) DO UPDATE, over all columns. */
static char *
upsert_sql(Relation table, Oid state_type)
{
	TupleDesc	desc = RelationGetDescr(table);
	StringInfoData sql;
	StringInfoData values;
	StringInfoData updates;

	initStringInfo(&sql);
	initStringInfo(&values);
	initStringInfo(&updates);
	appendStringInfoString(&sql, "INSERT INTO ");
	append_table(&sql, table);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		const char *column = quote_identifier(NameStr(attribute->attname));
		const char *comma = values.len > 0 ? ", " : "";
		bool		is_tenant = strcmp(NameStr(attribute->attname), "tenant_id") == 0;

		if (attribute->attisdropped || attribute->attgenerated)
			continue;
		if (!is_tenant)
			check_column(attribute, state_type);
		appendStringInfo(&sql, "%s%s", values.len > 0 ? ", " : " (", column);
		if (is_tenant)
			appendStringInfo(&values, "%s$2", comma);
		else
			appendStringInfo(&values, "%s($1).%s", comma, column);
		if (!is_tenant && strcmp(NameStr(attribute->attname), "id") != 0)
			appendStringInfo(&updates, "%s%s = EXCLUDED.%s",
							 updates.len > 0 ? ", " : "", column, column);
	}
	appendStringInfo(&sql, ") VALUES (%s) ON CONFLICT (id, tenant_id) DO ", values.data);
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
	appendStringInfoString(&sql, " WHERE id OPERATOR(pg_catalog.=) $1 "
						   "AND tenant_id OPERATOR(pg_catalog.=) $2");
	return sql.data;
}

/* The statement's plan; prepared again if it is not what it was. */
static SPIPlanPtr
statement_plan(Statement *statement, const char *sql, Oid first_type)
{
	Oid			types[] = {first_type, TEXTOID};
	SPIPlanPtr	plan;

	if (statement->plan && statement->state_type == first_type &&
		strcmp(statement->sql, sql) == 0)
		return statement->plan;

	plan = SPI_prepare(sql, lengthof(types), types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	if (statement->plan)
	{
		SPI_freeplan(statement->plan);
		pfree(statement->sql);
		statement->plan = NULL;
	}
	statement->sql = MemoryContextStrdup(CacheMemoryContext, sql);
	statement->state_type = first_type;
	statement->plan = plan;
	return plan;
}

/*
 * Makes the table's row of an aggregate what its state is.  Triggers, CHECKs
 * and indexes of the table are users' code: it is written as its owner.
 */
void
query_model_write(QueryModel *model, const Aggregate *aggregate)
{
	Relation	table = table_open(model->relid, RowExclusiveLock);
	Datum		values[2];
	SPIPlanPtr	plan;
	int			result;
	Identity	before;

	identity_assume_restricted(&before, table->rd_rel->relowner, FIXED_SEARCH_PATH);
	SPI_connect();
	values[1] = PointerGetDatum(aggregate->key.tenant_id);
	if (aggregate->isnull)
	{
		values[0] = UUIDPGetDatum(&aggregate->key.id);
		plan = statement_plan(&model->delete, delete_sql(table), UUIDOID);
	}
	else
	{
		values[0] = aggregate->state;
		plan = statement_plan(&model->upsert, upsert_sql(table, aggregate->fold.result.oid),
							  aggregate->fold.result.oid);
	}
	result = SPI_execute_plan(plan, values, NULL, false, 0);
	if (result < 0)
		elog(ERROR, "could not write query model \"%s\": %s",
			 RelationGetRelationName(table), SPI_result_code_string(result));
	SPI_finish();
	identity_restore(&before);
	table_close(table, NoLock);
}
