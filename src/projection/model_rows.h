/*
 * model_rows.h
 *		Rows of a query model: as they are, and as states make them.
 */
#ifndef DUGONG_MODEL_ROWS_H
#define DUGONG_MODEL_ROWS_H

#include "postgres.h"

#include "access/htup.h"
#include "projection/query_model.h"

typedef struct ModelColumn ModelColumn;

typedef struct ModelRows
{
	const Projection *projection;
	Oid			reader;			/* who will see them */
	Actor		actor;			/* whose code casts and comparisons are */
	Relation	table;
	Oid			state_type;
	bool		tenants;		/* has it a column for them? */
	ModelColumn *columns;		/* one for each of the table's */
	char	   *expected_sql;	/* $1 uuid[], $2 text[], $3 int[], $4 states */
	char	   *actual_sql;		/* $1 uuid[], $2 text[], $3 int[] */
	char	   *all_sql;		/* $1 = how many, chosen at random */
} ModelRows;

extern void model_rows_open(ModelRows *rows, const Projection *projection, Oid reader);
extern bool model_rows_sees(const ModelRows *rows, const text *tenant_id);
extern void model_rows_close(ModelRows *rows);
extern void model_rows_begin(const ModelRows *rows, Identity *before);
extern HeapTuple *model_rows_expected(const ModelRows *rows, const AggregateState *states, int count);
extern HeapTuple *model_rows_actual(const ModelRows *rows, const AggregateKey *keys, int count);
extern HeapTuple model_rows_take(const ModelRows *rows, HeapTuple result, TupleDesc desc, int first);
extern bool model_rows_differ(const ModelRows *rows, HeapTuple expected, HeapTuple actual);
extern Datum model_rows_json(const ModelRows *rows, HeapTuple row);

#endif							/* DUGONG_MODEL_ROWS_H */
