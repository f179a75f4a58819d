/*
 * jsonb_fields.c
 *		Reading and building flat jsonb objects.
 */
#include "postgres.h"

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
