/*
 * jsonb_fields.c
 *		Reading and building flat jsonb objects.
 */
#include "postgres.h"

#include "compat.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "util/jsonb_fields.h"

/* An object of the given fields, allocated in the current memory context. */
Jsonb *
jsonb_build_fields(const JsonbField *fields, int nfields)
{
	JsonbParseState *state = NULL;
	JsonbValue *object;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (int i = 0; i < nfields; i++)
	{
		JsonbValue	value;

		value.type = jbvString;
		value.val.string.val = unconstify(char *, fields[i].key);
		value.val.string.len = strlen(fields[i].key);
		pushJsonbValue(&state, WJB_KEY, &value);

		if (fields[i].number)
		{
			value.type = jbvNumeric;
			value.val.numeric = fields[i].number;
		}
		else
		{
			value.val.string.val = unconstify(char *, fields[i].text);
			value.val.string.len = strlen(fields[i].text);
		}
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	object = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	return JsonbValueToJsonb(object);
}

static void
push_pair(JsonbParseState **state, const char *key, Jsonb *value)
{
	JsonbValue	name;
	JsonbValue	any;

	name.type = jbvString;
	name.val.string.val = unconstify(char *, key);
	name.val.string.len = strlen(key);
	if (JB_ROOT_IS_SCALAR(value))
		(void) JsonbExtractScalar(&value->root, &any);
	else
		JsonbToJsonbValue(value, &any);
	pushJsonbValue(state, WJB_KEY, &name);
	pushJsonbValue(state, WJB_VALUE, &any);
}

/* An object of one or two keys; other_key may be NULL. */
Jsonb *
jsonb_wrap(const char *key, Jsonb *value, const char *other_key, Jsonb *other)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push_pair(&state, key, value);
	if (other_key)
		push_pair(&state, other_key, other);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}

/* Finds a field of the wanted type; NULL object, other types: not found. */
static bool
field_find(Jsonb *object, const char *key, enum jbvType type, JsonbValue *value)
{
	if (object == NULL || !JB_ROOT_IS_OBJECT(object))
		return false;
	return getKeyJsonValueFromContainer(&object->root, key, strlen(key), value) != NULL &&
		value->type == type;
}

/* The string under a key, copied; NULL if there is none. */
char *
jsonb_field_text(Jsonb *object, const char *key)
{
	JsonbValue	value;

	if (!field_find(object, key, jbvString, &value))
		return NULL;
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* The number under a key, pointing into the object; NULL if there is none. */
Numeric
jsonb_field_number(Jsonb *object, const char *key)
{
	JsonbValue	value;

	if (!field_find(object, key, jbvNumeric, &value))
		return NULL;
	return value.val.numeric;
}

pg_noreturn static void
report_kind(const char *key, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("value of key \"%s\" must be %s", key, wanted)));
}

/* Finds a field; null counts as not there. */
static bool
find_any(Jsonb *object, const char *key, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(&object->root, key, strlen(key), value) != NULL &&
		value->type != jbvNull;
}

/* Any value under a key; NULL if there is none. */
Jsonb *
jsonb_field_value(Jsonb *object, const char *key)
{
	JsonbValue	value;

	return find_any(object, key, &value) ? JsonbValueToJsonb(&value) : NULL;
}

/* The string under a key; 22004 if there is none, 22023 if it is no string. */
char *
jsonb_needed_text(Jsonb *object, const char *key)
{
	JsonbValue	value;

	if (!find_any(object, key, &value))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("key \"%s\" is missing or null", key)));
	if (value.type != jbvString)
		report_kind(key, "a string");
	return pnstrdup(value.val.string.val, value.val.string.len);
}

/* The UUID under a key, NULL if there is none; 22023 if it is no string, 22P02 if it is no UUID. */
pg_uuid_t *
jsonb_field_uuid(Jsonb *object, const char *key)
{
	JsonbValue	value;

	if (!find_any(object, key, &value))
		return NULL;
	if (value.type != jbvString)
		report_kind(key, "a UUID");
	return DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(
		pnstrdup(value.val.string.val, value.val.string.len))));
}

/* The whole number under a key, false if there is none; 22023 if it is none, 22003 if too big. */
bool
jsonb_field_bigint(Jsonb *object, const char *key, int64 *result)
{
	JsonbValue	value;
	Datum		number;

	if (!find_any(object, key, &value))
		return false;
	if (value.type != jbvNumeric)
		report_kind(key, "a number");
	number = NumericGetDatum(value.val.numeric);
	if (!DatumGetBool(DirectFunctionCall2(numeric_eq, number, DirectFunctionCall2(numeric_trunc, number, Int32GetDatum(0)))))
		report_kind(key, "a whole number");
	*result = DatumGetInt64(DirectFunctionCall1(numeric_int8, number));
	return true;
}

bool
jsonb_field_int(Jsonb *object, const char *key, int *result)
{
	int64		value;

	if (!jsonb_field_bigint(object, key, &value))
		return false;
	*result = DatumGetInt32(DirectFunctionCall1(int84, Int64GetDatum(value)));
	return true;
}

/* An element of an array, from 0, if it is an object; else NULL. */
Jsonb *
jsonb_element(Jsonb *array, int index)
{
	JsonbValue *value = getIthJsonbValueFromContainer(&array->root, index);

	if (value == NULL || value->type != jbvBinary || !JsonContainerIsObject(value->val.binary.data))
		return NULL;
	return JsonbValueToJsonb(value);
}

/* A key of the object that is not among the known; NULL if there is none. */
char *
jsonb_unknown_key(Jsonb *object, const char *const *known, int nknown)
{
	JsonbIterator *iterator = JsonbIteratorInit(&object->root);
	JsonbValue	value;
	JsonbIteratorToken token;

	while ((token = JsonbIteratorNext(&iterator, &value, true)) != WJB_DONE)
	{
		bool		found = token != WJB_KEY;

		for (int i = 0; !found && i < nknown; i++)
			found = (int) strlen(known[i]) == value.val.string.len &&
				memcmp(known[i], value.val.string.val, value.val.string.len) == 0;
		if (!found)
			return pnstrdup(value.val.string.val, value.val.string.len);
	}
	return NULL;
}
