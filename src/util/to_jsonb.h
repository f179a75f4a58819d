/*
 * to_jsonb.h
 *		Any value as jsonb.
 */
#ifndef DUGONG_TO_JSONB_H
#define DUGONG_TO_JSONB_H

#include "postgres.h"

#include "utils/jsonb.h"

extern Jsonb *datum_to_jsonb(Datum value, Oid type);

#endif							/* DUGONG_TO_JSONB_H */
