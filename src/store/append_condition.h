/*
 * append_condition.h
 *		Appending only if nothing that matters was appended since.
 */
#ifndef DUGONG_APPEND_CONDITION_H
#define DUGONG_APPEND_CONDITION_H

#include "postgres.h"

#include "store/tag_query.h"

typedef struct AppendCondition
{
	TagQuery	query;			/* no event of these ... */
	int64		after_position; /* ... is beyond this position */
} AppendCondition;

extern void append_condition_make(AppendCondition *condition, Jsonb *items, text *tenant_id, int64 after_position);
extern void append_condition_check(AppendCondition *condition, Relation log);

#endif							/* DUGONG_APPEND_CONDITION_H */
