/*
 * erasing.h
 *		What an erasure does to all that was made of events.
 */
#ifndef DUGONG_ERASING_H
#define DUGONG_ERASING_H

#include "postgres.h"

#include "nodes/execnodes.h"
#include "store/aggregate_type.h"
#include "store/log.h"
#include "utils/array.h"

/* An erasure, and its report. */
typedef struct Erasing
{
	ReturnSetInfo *result;		/* NULL = nobody wants the report */
	AggregateKey key;
	const AggregateType *type;
	text	   *reason;
	pg_uuid_t  *event_id;		/* NULL = all events */
	ArrayType  *keys;			/* NULL = all of them */
	int64		events;			/* of which something was erased */
	int64		first;			/* their sequence numbers */
	int64		last;
	LogRow	   *message;		/* what tells of it, if it comes from elsewhere */
	pg_uuid_t	id;				/* of the event that tells of it */
} Erasing;

extern void erasing_report(Erasing *erasing, const char *what, const char *name, int64 count, const char *note);
extern void erasing_check_transaction(void);
extern void erasing_check_keys(Erasing *erasing, Datum **names, int *count);
extern bool erasing_keeps_fields(const Erasing *erasing, const LogRow *row);
extern void erasing_lock(const Erasing *erasing);
extern int64 erasing_require_not_erased(const Erasing *erasing);
extern void erasing_erase_aggregate(Erasing *erasing);
extern void erasing_finish(Erasing *erasing);

#endif							/* DUGONG_ERASING_H */
