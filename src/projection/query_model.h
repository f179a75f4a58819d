/*
 * query_model.h
 *		The table that a projection maintains.
 */
#ifndef DUGONG_QUERY_MODEL_H
#define DUGONG_QUERY_MODEL_H

#include "postgres.h"

#include "projection/handler.h"
#include "storage/lock.h"
#include "store/log.h"
#include "utils/rel.h"

/* What an aggregate is now. */
typedef struct AggregateState
{
	AggregateKey key;
	Datum		state;
	bool		deleted;		/* then there is no state */
} AggregateState;

extern Relation query_model_open(const char *table, const Actor *actor, LOCKMODE lockmode);
extern bool query_model_has_tenants(Relation table);
extern bool query_model_is_from_state(Relation table, Form_pg_attribute column, Oid state_type);
extern void query_model_check(const char *table, Oid state_type);
extern char *query_model_page_sql(const char *table, const Actor *actor);
extern void query_model_write(const char *table, const Actor *actor, Oid state_type,
							  const AggregateState *states, int nstates);

#endif							/* DUGONG_QUERY_MODEL_H */
