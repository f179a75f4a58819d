/*
 * query_model.h
 *		The table that a projection maintains.
 */
#ifndef DUGONG_QUERY_MODEL_H
#define DUGONG_QUERY_MODEL_H

#include "postgres.h"

#include "aggregate/aggregate.h"

typedef struct QueryModel QueryModel;

extern QueryModel *query_model_open(const char *table);
extern void query_model_write(QueryModel *model, const Aggregate *aggregate);

#endif							/* DUGONG_QUERY_MODEL_H */
