/*
 * jsonb_fields.h
 *		Reading and building flat jsonb objects.
 */
#ifndef DUGONG_JSONB_FIELDS_H
#define DUGONG_JSONB_FIELDS_H

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/uuid.h"

/* A value to put under a key: exactly one of text and number is set. */
typedef struct JsonbField
{
	const char *key;
	const char *text;			/* in the server's encoding */
	Numeric		number;			/* kept digit by digit */
} JsonbField;

extern Jsonb *jsonb_build_fields(const JsonbField *fields, int nfields);
extern Jsonb *jsonb_wrap(const char *key, Jsonb *value, const char *other_key, Jsonb *other);
extern Jsonb *jsonb_field_value(Jsonb *object, const char *key);
extern char *jsonb_field_text(Jsonb *object, const char *key);
extern char *jsonb_needed_text(Jsonb *object, const char *key);
extern pg_uuid_t *jsonb_field_uuid(Jsonb *object, const char *key);
extern bool jsonb_field_int(Jsonb *object, const char *key, int *value);
extern bool jsonb_field_bigint(Jsonb *object, const char *key, int64 *value);
extern Jsonb *jsonb_element(Jsonb *array, int index);
extern char *jsonb_unknown_key(Jsonb *object, const char *const *known, int nknown);
extern Numeric jsonb_field_number(Jsonb *object, const char *key);

#endif							/* DUGONG_JSONB_FIELDS_H */
