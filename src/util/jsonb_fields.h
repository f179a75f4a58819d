/*
 * jsonb_fields.h
 *		Reading and building flat jsonb objects.
 */
#ifndef DUGONG_JSONB_FIELDS_H
#define DUGONG_JSONB_FIELDS_H

#include "postgres.h"

#include "utils/jsonb.h"
#include "utils/numeric.h"

/* A value to put under a key: exactly one of text and number is set. */
typedef struct JsonbField
{
	const char *key;
	const char *text;			/* in the server's encoding */
	Numeric		number;			/* kept digit by digit */
} JsonbField;

extern Jsonb *jsonb_build_fields(const JsonbField *fields, int nfields);
extern char *jsonb_field_text(Jsonb *object, const char *key);
extern Numeric jsonb_field_number(Jsonb *object, const char *key);

#endif							/* DUGONG_JSONB_FIELDS_H */
