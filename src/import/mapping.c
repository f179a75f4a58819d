/*
 * mapping.c
 *		What an import reads of its source: from a mapping to a query.
 *
 * A mapping gives attributes of events as SQL expressions over the source's
 * columns.  They are the caller's code, and the query that is put together of
 * them runs with his rights and search_path and no others; nothing else in
 * dugong builds SQL.  Each is parsed alone and must be one expression, so that
 * a mistake is named by its key, and nothing gets out of its place.  What the
 * query adds itself names its schema.
 *
 * The query numbers each aggregate's events, and gives all in the order in
 * which they are to stand in the log.
 */
#include "postgres.h"

#include "access/tupdesc.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "import/source.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "util/ids.h"
#include "util/jsonb_fields.h"

/* Of ids that are no UUIDs, unless the mapping names another one. */
#define DEFAULT_NAMESPACE "5a0d9c5e-7d0c-5b5e-9c1a-d0906e5f0001"

#define CANONICAL_UUID "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"

/* An attribute of an event: its key, the column of DugongJS's table, the type it is cast to. */
static const struct
{
	const char *key;
	const char *column;
	const char *type;			/* NULL = uuid if it is one, else text */
}			fields[SOURCE_NFIELDS] = {
	{"id", "id", NULL},
	{"origin", "origin", "text"},
	{"aggregate_type", "aggregateType", "text"},
	{"aggregate_id", "aggregateId", NULL},
	{"tenant_id", "tenantId", "text"},
	{"sequence_number", "sequenceNumber", "int8"},
	{"type", "type", "text"},
	{"version", "version", "int4"},
	{"payload", "payload", "jsonb"},
	{"timestamp", "timestamp", "timestamptz"},
	{"correlation_id", "correlationId", NULL},
	{"triggered_by_event_id", "triggeredByEventId", NULL},
	{"triggered_by_user_id", "triggeredByUserId", "text"},
	{"metadata", "metadata", "jsonb"}
};

/* Keys of a mapping that are no attributes, behind them. */
enum
{
	KEY_ORDER_BY = SOURCE_NFIELDS,
	KEY_WHERE,
	KEY_NAMESPACE,
	NKEYS
};

/* The source's name as SQL has it. */
char *
source_name(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation with OID %u does not exist", relid)));
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name);
}

static bool
has_column(Oid relid, const char *name)
{
	return get_attnum(relid, name) > 0;
}

/* What an error is about. */
typedef struct Expression
{
	const char *key;
	const char *text;
} Expression;

#define EXPRESSION_PREFIX "SELECT "

/* The parser's place is one in the expression, not in the CALL. */
static void
name_expression(void *arg)
{
	Expression *expression = arg;
	int			place = geterrposition();

	if (place > (int) strlen(EXPRESSION_PREFIX))
	{
		errposition(0);
		internalerrposition(place - strlen(EXPRESSION_PREFIX));
		internalerrquery(expression->text);
	}
	errcontext("key \"%s\" of mapping", expression->key);
}

/* Is the statement SELECT with one expression and nothing else? */
static bool
is_bare(const SelectStmt *select)
{
	return select->op == SETOP_NONE && list_length(select->targetList) == 1 && select->distinctClause == NIL &&
		select->intoClause == NULL && select->fromClause == NIL && select->whereClause == NULL &&
		select->groupClause == NIL && select->havingClause == NULL && select->windowClause == NIL &&
		select->valuesLists == NIL && select->sortClause == NIL && select->limitOffset == NULL &&
		select->limitCount == NULL && select->lockingClause == NIL && select->withClause == NULL &&
		linitial_node(ResTarget, select->targetList)->name == NULL;
}

/* Errors: 42601 unless it is one SQL expression. */
static void
check_expression(const char *key, const char *text)
{
	Expression	expression = {key, text};
	ErrorContextCallback callback = {
		.callback = name_expression,
		.arg = &expression,
		.previous = error_context_stack
	};
	List	   *statements;
	Node	   *statement;

	error_context_stack = &callback;
	statements = raw_parser(psprintf(EXPRESSION_PREFIX "%s", text), RAW_PARSE_DEFAULT);
	statement = list_length(statements) == 1 ? linitial_node(RawStmt, statements)->stmt : NULL;
	if (statement == NULL || !IsA(statement, SelectStmt) || !is_bare((SelectStmt *) statement))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("\"%s\" is not one SQL expression", text)));
	error_context_stack = callback.previous;
}

/* Errors: 22023 for a key that there is not. */
static void
check_keys(Jsonb *mapping)
{
	const char *keys[NKEYS];
	char	   *unknown;

	for (int i = 0; i < SOURCE_NFIELDS; i++)
		keys[i] = fields[i].key;
	keys[KEY_ORDER_BY] = "order_by";
	keys[KEY_WHERE] = "where";
	keys[KEY_NAMESPACE] = "namespace";
	if (!JB_ROOT_IS_OBJECT(mapping))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("mapping must be a JSON object")));
	unknown = jsonb_unknown_key(mapping, keys, NKEYS);
	if (unknown)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("key \"%s\" of mapping is not known", unknown),
				 errhint("Keys are the attributes of a domain event, order_by, where and namespace.")));
}

/* The expression under a key, NULL if it is null; given: is the key there? */
static char *
expression_of(Jsonb *mapping, const char *key, bool *given)
{
	JsonbValue	value;
	char	   *text;

	*given = mapping && getKeyJsonValueFromContainer(&mapping->root, key, strlen(key), &value);
	if (!*given || value.type == jbvNull)
		return NULL;
	text = jsonb_needed_text(mapping, key);
	check_expression(key, text);
	return text;
}

/* An attribute that the mapping does not give is the column of its name, if there is one. */
static const char *
field_expression(Oid relid, Jsonb *mapping, int field)
{
	bool		given;
	char	   *text = expression_of(mapping, fields[field].key, &given);

	if (given)
		return text;
	if (has_column(relid, fields[field].key))
		return quote_identifier(fields[field].key);
	if (has_column(relid, fields[field].column))
		return quote_identifier(fields[field].column);
	return NULL;
}

static void
read_namespaces(Source *source, Jsonb *mapping)
{
	pg_uuid_t  *given = mapping ? jsonb_field_uuid(mapping, "namespace") : NULL;

	source->namespace = given ? *given : *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(DEFAULT_NAMESPACE)));
	source->event_namespace = *uuid_make_v5(&source->namespace, source->name);
}

static void
check_needed(const Source *source)
{
	static const SourceColumn needed[] = {SOURCE_AGGREGATE_TYPE, SOURCE_AGGREGATE_ID, SOURCE_TYPE};

	for (size_t i = 0; i < lengthof(needed); i++)
		if (source->expressions[needed[i]] == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("nothing says what is the %s of an event", fields[needed[i]].key),
					 errdetail("%s has no column of that name.", source->name),
					 errhint("Give it in the mapping.")));
	if (source->order_by == NULL &&
		(source->expressions[SOURCE_SEQUENCE_NUMBER] == NULL || source->expressions[SOURCE_TIMESTAMP] == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("nothing says in what order the events are"),
				 errhint("Give order_by in the mapping, or both sequence_number and timestamp.")));
}

/*
 * Reads a mapping, which may be NULL.
 *
 * Errors: 22023, 42601, 22P02.
 */
void
source_read_mapping(Source *source, Oid relid, Jsonb *mapping)
{
	bool		given;

	source->name = source_name(relid);
	if (mapping)
		check_keys(mapping);
	for (int i = 0; i < SOURCE_NFIELDS; i++)
		source->expressions[i] = field_expression(relid, mapping, i);
	source->order_by = expression_of(mapping, "order_by", &given);
	source->condition = expression_of(mapping, "where", &given);
	read_namespaces(source, mapping);
	check_needed(source);
}

static void
append_from(StringInfo sql, const Source *source)
{
	appendStringInfo(sql, " FROM %s", source->name);
	if (source->condition)
		appendStringInfo(sql, " WHERE (%s\n)", source->condition);
}

/* Which attributes are of type uuid already? */
static void
find_uuids(const Source *source, bool *is_uuid)
{
	StringInfoData sql;
	SPIPlanPtr	plan;
	TupleDesc	desc;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < SOURCE_NFIELDS; i++)
		appendStringInfo(&sql, "%s(%s\n)", i > 0 ? ", " : "", source->expressions[i] ? source->expressions[i] : "NULL");
	append_from(&sql, source);
	plan = SPI_prepare(sql.data, 0, NULL);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", sql.data, SPI_result_code_string(SPI_result));
	desc = ((CachedPlanSource *) linitial(SPI_plan_get_plan_sources(plan)))->resultDesc;
	for (int i = 0; i < SOURCE_NFIELDS; i++)
		is_uuid[i] = getBaseType(TupleDescAttr(desc, i)->atttypid) == UUIDOID;
	SPI_freeplan(plan);
}

/* SELECT of the attributes, as they are stored. */
static void
append_attributes(StringInfo sql, const Source *source, const bool *is_uuid)
{
	appendStringInfoString(sql, "SELECT ");
	for (int i = 0; i < SOURCE_NFIELDS; i++)
	{
		const char *type = fields[i].type ? fields[i].type : is_uuid[i] ? "uuid" : "text";

		if (source->expressions[i])
			appendStringInfo(sql, "(%s\n)::pg_catalog.%s AS %s, ", source->expressions[i], type, quote_identifier(fields[i].key));
		else
			appendStringInfo(sql, "NULL::pg_catalog.%s AS %s, ", type, quote_identifier(fields[i].key));
	}
	appendStringInfo(sql, "(%s\n) AS order_key", source->order_by ? source->order_by : "NULL");
	append_from(sql, source);
}

/* A UUID in capitals is the same. */
static const char *
partition(bool id_is_uuid)
{
	return psprintf("PARTITION BY %s, i.aggregate_type COLLATE pg_catalog.\"C\", i.origin COLLATE pg_catalog.\"C\", "
					"COALESCE(i.tenant_id, '') COLLATE pg_catalog.\"C\"",
					id_is_uuid ? "i.aggregate_id" :
					"CASE WHEN i.aggregate_id OPERATOR(pg_catalog.~*) '" CANONICAL_UUID "' "
					"THEN pg_catalog.lower(i.aggregate_id) ELSE i.aggregate_id END COLLATE pg_catalog.\"C\"");
}

/*
 * SELECT of the same with each event's number.
 *
 * Without order_by events are ordered by time, but never before their
 * predecessor.  Without sequence numbers they are counted in that order; two at
 * the same place have a rank that is not their number.
 */
static void
append_numbers(StringInfo sql, const Source *source, const bool *is_uuid)
{
	bool		numbered = source->expressions[SOURCE_SEQUENCE_NUMBER] != NULL;
	const char *by_order = numbered ? "pg_catalog.row_number() OVER p" : "pg_catalog.rank() OVER p";

	appendStringInfoString(sql, "SELECT ");
	for (int i = 0; i < SOURCE_NFIELDS; i++)
		if (i == SOURCE_SEQUENCE_NUMBER && !numbered)
			appendStringInfoString(sql, "pg_catalog.row_number() OVER p AS sequence_number, ");
		else
			appendStringInfo(sql, "i.%s, ", quote_identifier(fields[i].key));
	appendStringInfo(sql, "pg_catalog.row_number() OVER %s AS number, %s AS place, %s AS order_key FROM (",
					 numbered ? "n" : "p",
					 source->order_by ? by_order : "pg_catalog.row_number() OVER n",
					 source->order_by ? "i.order_key" : "pg_catalog.max(i.\"timestamp\") OVER n");
	append_attributes(sql, source, is_uuid);
	appendStringInfo(sql, ") i WINDOW n AS (%s ORDER BY i.sequence_number), p AS (%s ORDER BY i.order_key%s)",
					 partition(is_uuid[SOURCE_AGGREGATE_ID]), partition(is_uuid[SOURCE_AGGREGATE_ID]),
					 numbered ? ", i.sequence_number" : "");
}

/* The query; its columns are SourceColumn.  The caller is connected to SPI. */
char *
source_query(const Source *source)
{
	bool		is_uuid[SOURCE_NFIELDS];
	StringInfoData sql;

	find_uuids(source, is_uuid);
	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < SOURCE_NFIELDS; i++)
		appendStringInfo(&sql, "o.%s, ", quote_identifier(fields[i].key));
	appendStringInfoString(&sql, "o.number, o.place FROM (");
	append_numbers(&sql, source, is_uuid);
	appendStringInfoString(&sql, ") o ORDER BY o.order_key, o.sequence_number, o.aggregate_id");
	return sql.data;
}
