/*
 * payload.c
 *		Does a payload fit its declared type?
 *
 * The schema language is PostgreSQL's own: a composite type names the fields
 * of a JSON object, a domain adds CHECKs.  Each JSON value is turned into a
 * value of its type, field by field, so that an error can name the field.
 *
 * A field must be there, though it may be null; a field that the type does not
 * have is an error.  Numbers may be written as strings, as clients do whose
 * numbers are not exact; strings are not taken for booleans, nor numbers for
 * strings.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "errors.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/parse_type.h"
#include "store/payload.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"
#include "util/identity.h"

/* Where in the payload we are: field names and [indexes], outermost first. */
typedef struct Path
{
	const struct Path *outer;
	const char *field;			/* NULL = an element */
	int			index;			/* from 0 */
} Path;

/* Where a type's own input function or CHECK failed: set while the error is raised. */
static char *misfit_place;

static Datum convert(JsonbValue *value, Oid type, int32 typmod, const Path *path, bool *isnull);

static void
append_path(StringInfo buf, const Path *path)
{
	if (path->outer)
		append_path(buf, path->outer);
	if (path->field == NULL)
		appendStringInfo(buf, "[%d]", path->index);
	else
		appendStringInfo(buf, "%s%s", buf->len > 0 ? "." : "", path->field);
}

/* "Field "a.b[0]"", or "The payload". */
static char *
path_name(const Path *path)
{
	StringInfoData buf;

	if (path == NULL)
		return "The payload";
	initStringInfo(&buf);
	append_path(&buf, path);
	return psprintf("Field \"%s\"", buf.data);
}

pg_noreturn static void
report_misfit(const Path *path, const char *what)
{
	/* payload_check() adds what does not fit what */
	ereport(ERROR,
			(errcode(ERRCODE_DUGONG_EVENT_TYPE_MISMATCH),
			 errmsg_internal("%s %s.", path_name(path), what)));
}

static const char *
json_kind(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvNull:
			return "null";
		case jbvString:
			return "a string";
		case jbvNumeric:
			return "a number";
		case jbvBool:
			return "a boolean";
		default:
			return value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data) ?
				"an array" : "an object";
	}
}

pg_noreturn static void
report_kind(const Path *path, const char *wanted, const JsonbValue *value)
{
	report_misfit(path, psprintf("must be %s, but is %s", wanted, json_kind(value)));
}

/* The text that the type's input function gets. */
static char *
scalar_text(JsonbValue *value, Oid type, const Path *path)
{
	char		category;
	bool		preferred;

	get_type_category_preferred(type, &category, &preferred);
	switch (value->type)
	{
		case jbvString:
			if (category != TYPCATEGORY_BOOLEAN)
				return pnstrdup(value->val.string.val, value->val.string.len);
			report_kind(path, "a boolean", value);
		case jbvNumeric:
			if (category == TYPCATEGORY_NUMERIC)
				return DatumGetCString(DirectFunctionCall1(numeric_out,
														   NumericGetDatum(value->val.numeric)));
			break;
		case jbvBool:
			if (category == TYPCATEGORY_BOOLEAN)
				return value->val.boolean ? "true" : "false";
			break;
		default:
			break;
	}
	report_kind(path, category == TYPCATEGORY_NUMERIC ? "a number" :
				category == TYPCATEGORY_BOOLEAN ? "a boolean" : "a string", value);
	pg_unreachable();
}

static Datum
convert_scalar(JsonbValue *value, Oid type, int32 typmod, const Path *path)
{
	char	   *string = scalar_text(value, type, path);
	Oid			input;
	Oid			ioparam;

	getTypeInputInfo(type, &input, &ioparam);
	return OidInputFunctionCall(input, string, ioparam, typmod);
}

/* Elements of one dimension, and of those inside it. */
static void
convert_elements(JsonbContainer *array, Oid type, int32 typmod, const Path *path,
				 int depth, int *dims, int *ndims, List **elements)
{
	int			count = JsonContainerSize(array);
	Oid			base = getBaseType(type);

	/* Elements that are arrays themselves: of JSON, or of a domain over an array. */
	bool		takes_arrays = base == JSONBOID || base == JSONOID || OidIsValid(get_element_type(base));

	if (depth >= MAXDIM)
		report_misfit(path, "has too many dimensions");
	if (*ndims <= depth)
	{
		dims[depth] = count;
		*ndims = depth + 1;
	}
	else if (dims[depth] != count)
		report_misfit(path, "is not a rectangular array");

	for (int i = 0; i < count; i++)
	{
		JsonbValue *value = getIthJsonbValueFromContainer(array, i);
		Path		inner = {path, NULL, i};
		bool		is_array = !takes_arrays && value->type == jbvBinary &&
			JsonContainerIsArray(value->val.binary.data);

		CHECK_FOR_INTERRUPTS();
		if (*elements != NIL ? is_array != (depth + 1 < *ndims) : depth + 1 < *ndims && !is_array)
			report_misfit(&inner, "is not of the array's depth");
		if (is_array)
			convert_elements(value->val.binary.data, type, typmod, &inner, depth + 1,
							 dims, ndims, elements);
		else
		{
			NullableDatum *element = palloc(sizeof(NullableDatum));

			element->value = convert(value, type, typmod, &inner, &element->isnull);
			*elements = lappend(*elements, element);
		}
	}
}

static Datum
convert_array(JsonbValue *value, Oid element_type, int32 typmod, const Path *path)
{
	int			dims[MAXDIM];
	int			lower_bounds[MAXDIM];
	int			ndims = 0;
	List	   *elements = NIL;
	Datum	   *values;
	bool	   *nulls;
	int16		typlen;
	bool		typbyval;
	char		typalign;

	if (value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		report_kind(path, "an array", value);
	convert_elements(value->val.binary.data, element_type, typmod, path, 0,
					 dims, &ndims, &elements);
	if (elements == NIL)
		return PointerGetDatum(construct_empty_array(element_type));

	values = palloc(list_length(elements) * sizeof(Datum));
	nulls = palloc(list_length(elements) * sizeof(bool));
	for (int i = 0; i < list_length(elements); i++)
	{
		NullableDatum *element = list_nth(elements, i);

		values[i] = element->value;
		nulls[i] = element->isnull;
	}
	for (int i = 0; i < ndims; i++)
		lower_bounds[i] = 1;
	get_typlenbyvalalign(element_type, &typlen, &typbyval, &typalign);
	return PointerGetDatum(construct_md_array(values, nulls, ndims, dims, lower_bounds,
											  element_type, typlen, typbyval, typalign));
}

/* The number of the attribute of that name, or 0. */
static int
find_attribute(TupleDesc desc, const char *name, int length)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped && (int) strlen(NameStr(attribute->attname)) == length &&
			memcmp(NameStr(attribute->attname), name, length) == 0)
			return i + 1;
	}
	return 0;
}

static void
check_no_extra_field(JsonbContainer *object, TupleDesc desc, const Path *path)
{
	JsonbIterator *iterator = JsonbIteratorInit(object);
	JsonbValue	value;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		Path		inner = {path, NULL, 0};

		if (token != WJB_KEY || find_attribute(desc, value.val.string.val, value.val.string.len))
			continue;
		inner.field = pnstrdup(value.val.string.val, value.val.string.len);
		report_misfit(&inner, "is not one of the type");
	}
}

static Datum
convert_composite(JsonbValue *value, Oid type, int32 typmod, const Path *path)
{
	TupleDesc	desc;
	JsonbContainer *object;
	Datum	   *values;
	bool	   *nulls;
	Datum		result;

	if (value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		report_kind(path, "an object", value);
	object = value->val.binary.data;
	desc = lookup_rowtype_tupdesc_copy(type, typmod);
	values = palloc0(desc->natts * sizeof(Datum));
	nulls = palloc(desc->natts * sizeof(bool));
	memset(nulls, true, desc->natts * sizeof(bool));
	check_no_extra_field(object, desc, path);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);
		Path		inner = {path, NameStr(attribute->attname), 0};
		JsonbValue	field;

		if (attribute->attisdropped)
			continue;
		if (!getKeyJsonValueFromContainer(object, inner.field, strlen(inner.field), &field))
			report_misfit(&inner, "is missing");
		values[i] = convert(&field, attribute->atttypid, attribute->atttypmod, &inner, &nulls[i]);
	}
	result = HeapTupleGetDatum(heap_form_tuple(desc, values, nulls));
	return result;
}

static Datum
convert_json(JsonbValue *value, Oid type)
{
	Jsonb	   *jsonb = JsonbValueToJsonb(value);

	if (type == JSONBOID)
		return JsonbPGetDatum(jsonb);
	return CStringGetTextDatum(JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb)));
}

static Datum
convert_base(JsonbValue *value, Oid type, int32 typmod, const Path *path)
{
	Oid			element_type;

	if (type == JSONBOID || type == JSONOID)
		return convert_json(value, type);
	if (get_typtype(type) == TYPTYPE_COMPOSITE)
		return convert_composite(value, type, typmod, path);
	element_type = get_element_type(type);
	if (OidIsValid(element_type))
		return convert_array(value, element_type, typmod, path);
	return convert_scalar(value, type, typmod, path);
}

/* Error context callback; in ErrorContext, and with the path still on the stack. */
static void
note_place(void *arg)
{
	if (misfit_place == NULL)
		misfit_place = path_name(arg);
}

/* The value of that type that a JSON value stands for. */
static Datum
convert(JsonbValue *value, Oid type, int32 typmod, const Path *path, bool *isnull)
{
	ErrorContextCallback callback = {
		.callback = note_place,
		.arg = unconstify(Path *, path),
		.previous = error_context_stack
	};
	Oid			base = getBaseTypeAndTypmod(type, &typmod);
	Datum		result = (Datum) 0;

	check_stack_depth();
	*isnull = value->type == jbvNull && base != JSONBOID && base != JSONOID;
	if (!*isnull)
	{
		/* Inner fields report for themselves. */
		bool		is_scalar = get_typtype(base) != TYPTYPE_COMPOSITE &&
			!OidIsValid(get_element_type(base));

		if (is_scalar)
			error_context_stack = &callback;
		result = convert_base(value, base, typmod, path);
	}
	if (base != type)
	{
		error_context_stack = &callback;
		domain_check(result, *isnull, type, NULL, NULL);
	}
	error_context_stack = callback.previous;
	/* What was noted on the way was an error that somebody caught, or a notice. */
	misfit_place = NULL;
	return result;
}

/* The payload as a JSON value; SQL NULL is null. */
static void
payload_value(const LogRow *row, JsonbValue *value)
{
	Jsonb	   *payload;

	value->type = jbvNull;
	if (log_row_isnull(row, LOG_PAYLOAD))
		return;
	payload = DatumGetJsonbP(log_row_value(row, LOG_PAYLOAD));
	if (JB_ROOT_IS_SCALAR(payload))
		(void) JsonbExtractScalar(&payload->root, value);
	else
		JsonbToJsonbValue(payload, value);
}

/* Does the error say that a value is not one of its type? */
static bool
is_misfit(const ErrorData *error)
{
	int			category = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return error->sqlerrcode == ERRCODE_DUGONG_EVENT_TYPE_MISMATCH ||
		category == ERRCODE_DATA_EXCEPTION ||
		category == ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION;
}

/* One sentence of what the error says and where. */
static char *
misfit_detail(const ErrorData *error)
{
	if (error->sqlerrcode == ERRCODE_DUGONG_EVENT_TYPE_MISMATCH)
		return error->message;
	return psprintf("%s: %s.", misfit_place ? misfit_place : "The payload", error->message);
}

static void
convert_payload(const LogRow *row, const char *payload_type)
{
	JsonbValue	value;
	Oid			type;
	int32		typmod;
	bool		isnull;

	parse_type_string(payload_type, &type, &typmod);
	payload_value(row, &value);
	if (value.type == jbvNull && get_typtype(type) == TYPTYPE_COMPOSITE)
		report_misfit(NULL, "must be an object, but is null");
	(void) convert(&value, type, typmod, NULL, &isnull);
}

/*
 * Checks the payload of a row, as the owner of the aggregate type.
 *
 * payload_type: name of a composite type or a domain.
 * Errors: UG008 whose DETAIL names the field; 42704 if the type is gone; what a
 * CHECK raises itself.
 */
void
payload_check(const LogRow *row, const AggregateType *aggregate_type, const char *payload_type)
{
	MemoryContext old = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(old, "dugong payload", ALLOCSET_DEFAULT_SIZES);
	Identity	before;
	/* The type's own code may change what is declared, and with it the cache. */
	const char *type_name = pstrdup(payload_type);

	misfit_place = NULL;
	aggregate_type_assume_owner(aggregate_type, &before);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		convert_payload(row, type_name);
	}
	PG_CATCH();
	{
		ErrorData  *error;
		char	   *detail;

		MemoryContextSwitchTo(old);
		error = CopyErrorData();
		if (!is_misfit(error))
			PG_RE_THROW();
		detail = misfit_detail(error);
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_EVENT_TYPE_MISMATCH),
				 errmsg("payload of event type \"%s\" version %d does not fit type %s",
						TextDatumGetCString(log_row_value(row, LOG_TYPE)),
						DatumGetInt32(log_row_value(row, LOG_VERSION)), type_name),
				 errdetail("%s", detail)));
	}
	PG_END_TRY();
	identity_restore(&before);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
