/*
 * erasure.h
 *		Events whose content was taken out of the log.
 */
#ifndef DUGONG_ERASURE_H
#define DUGONG_ERASURE_H

#include "postgres.h"

#include "store/log.h"
#include "utils/array.h"

/* Tells of an erasure, in the stream of its aggregate. */
#define ERASED_EVENT "$erased"

/* What of an event was erased. */
typedef enum Erasure
{
	ERASED_NOTHING,
	ERASED_KEYS,				/* some of its payload and metadata */
	ERASED_PAYLOAD,				/* all of them */
	ERASED_AGGREGATE			/* and that of all others of its aggregate */
} Erasure;

extern bool erasure_name_is_reserved(const text *type);
extern bool erasure_is_event(const text *type);
extern bool erasure_is_of_aggregate(Datum payload, bool isnull);
extern bool erasure_is_mark(Datum metadata, bool isnull);
extern Erasure erasure_of(Datum metadata, bool isnull);
extern Erasure erasure_of_row(const LogRow *row);
extern bool erasure_is_skeleton(const LogRow *row);
extern int64 erase_stream(const AggregateKey *key);
extern void erase_event(const pg_uuid_t *id);
extern void erase_keys(const pg_uuid_t *id, ArrayType *keys, bool keep_fields);

#endif							/* DUGONG_ERASURE_H */
