/*
 * query_model.h
 *		The table that a projection maintains.
 */
#ifndef DUGONG_QUERY_MODEL_H
#define DUGONG_QUERY_MODEL_H

#include "postgres.h"

#include "projection/handler.h"
#include "store/log.h"

/* What an aggregate is now. */
typedef struct AggregateState
{
	AggregateKey key;
	Datum		state;
	bool		deleted;		/* then there is no state */
} AggregateState;

extern void query_model_check(const char *table, Oid state_type);
extern char *query_model_page_sql(const char *table, const Actor *actor);
extern void query_model_write(const char *table, const Actor *actor, Oid state_type,
							  const AggregateState *states, int nstates);

#endif							/* DUGONG_QUERY_MODEL_H */
