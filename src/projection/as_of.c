/*
 * as_of.c
 *		A query model as it stood at a time, or at a position of the log.
 *
 * query_model_as_of() builds each aggregate from the log, with today's fold,
 * and makes the rows that the table's projection would have written; it reads
 * neither the table nor the checkpoint.  What the projection's owner or the
 * caller does not see is not there.  Generated columns are computed, as
 * who writes the table; other columns that the state does not make are NULL.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "aggregate/aggregate.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "projection/model_rows.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "util/identity.h"

PG_FUNCTION_INFO_V1(dugong_query_model_as_of);

#define CHUNK 500				/* aggregates whose rows are made together */
#define MAX_STATE_BYTES (8 * 1024 * 1024)

typedef struct Past
{
	const Projection *projection;
	int32		type_id;
	TimestampTz as_of;			/* DT_NOEND = no limit */
	int64		position;		/* PG_INT64_MAX = no limit */
	Relation	log;
	Snapshot	snapshot;
	ModelRows	rows;
	EState	   *executor;		/* of the generated columns */
	ExprState **generated;		/* one for each column; NULL = it is not */
	TupleTableSlot *slot;
	ReturnSetInfo *result;
} Past;

/* The projection that keeps a table; 42704 if there is none. */
static Projection *
find_projection(Oid relid)
{
	char	   *name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid));
	ListCell   *cell;

	foreach(cell, projection_list())
	{
		Projection *projection = lfirst(cell);

		if (projection->query_model && strcmp(projection->query_model, name) == 0)
			return projection;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("table %s is the query_model of no projection", name),
			 errdetail("What handlers have written at a time is not known.")));
}

/* The table whose row type the first argument has; 42809 if it is none's. */
static Oid
table_argument(FunctionCallInfo fcinfo)
{
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, 0);
	Oid			relid = get_typ_typrelid(type);

	if (!OidIsValid(relid) || get_rel_relkind(relid) == RELKIND_COMPOSITE_TYPE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("type %s is not that of a table's rows", format_type_be(type)),
				 errhint("Give NULL of the query model's type, as in NULL::bank_account_query_model.")));
	return relid;
}

static int64
position_argument(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(2))
		return PG_INT64_MAX;
	if (PG_GETARG_INT64(2) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("to_position must not be negative")));
	return PG_GETARG_INT64(2);
}

static void
open_generated(Past *past)
{
	Relation	table = past->rows.table;
	TupleDesc	desc = RelationGetDescr(table);

	past->executor = CreateExecutorState();
	past->generated = palloc0(desc->natts * sizeof(ExprState *));
	past->slot = MakeSingleTupleTableSlot(desc, &TTSOpsHeapTuple);
	for (int i = 0; i < desc->natts; i++)
		if (TupleDescAttr(desc, i)->attgenerated && !TupleDescAttr(desc, i)->attisdropped)
			past->generated[i] = ExecPrepareExpr((Expr *) build_column_default(table, i + 1), past->executor);
}

static void
close_generated(Past *past)
{
	ExecDropSingleTupleTableSlot(past->slot);
	FreeExecutorState(past->executor);
}

/* The row with its generated columns.  Nothing else runs between. */
static HeapTuple
compute_generated(const Past *past, HeapTuple row)
{
	TupleDesc	desc = RelationGetDescr(past->rows.table);
	ExprContext *context = GetPerTupleExprContext(past->executor);

	for (int i = 0; i < desc->natts; i++)
	{
		int			column = i + 1;
		Datum		value;
		bool		isnull;

		if (past->generated[i] == NULL)
			continue;
		ExecStoreHeapTuple(row, past->slot, false);
		context->ecxt_scantuple = past->slot;
		value = ExecEvalExprSwitchContext(past->generated[i], context, &isnull);
		row = heap_modify_tuple_by_cols(row, desc, 1, &column, &value, &isnull);
		ExecClearTuple(past->slot);
	}
	ResetPerTupleExprContext(past->executor);
	return row;
}

/* Puts the rows of states out. */
static void
put_rows(const Past *past, const AggregateState *states, int count)
{
	HeapTuple  *rows = model_rows_expected(&past->rows, states, count);
	Identity	before;

	model_rows_begin(&past->rows, &before);
	for (int i = 0; i < count; i++)
		if (rows[i])
			tuplestore_puttuple(past->result->setResult, compute_generated(past, rows[i]));
	handler_end(&before);
}

/* The last event of an aggregate up to the position; 0 = none. */
static int64
last_event(const Past *past, const AggregateKey *key)
{
	LogScan		scan;
	int64		last = 0;

	if (past->position == PG_INT64_MAX)
		return PG_INT64_MAX;
	log_scan_stream(&scan, past->log, key, 1, PG_INT64_MAX, BackwardScanDirection, past->snapshot);
	while (last == 0 && log_scan_next(&scan))
	{
		LogRow		row;

		CHECK_FOR_INTERRUPTS();
		log_row_from_slot(&row, scan.slot);
		if (DatumGetInt64(log_row_value(&row, LOG_POSITION)) <= past->position)
			last = DatumGetInt64(log_row_value(&row, LOG_SEQUENCE_NUMBER));
	}
	log_scan_end(&scan);
	return last;
}

/* Builds the aggregate of a first event, in the current memory context; returns the size of its state. */
static Size
build(const Past *past, const LogRow *first, AggregateState *state)
{
	BuildLimit	limit = {.as_of = past->as_of};
	Aggregate	aggregate;
	Size		size;

	log_row_key(first, &state->key);
	state->key.tenant_id = DatumGetTextPCopy(PointerGetDatum(state->key.tenant_id));
	limit.sequence_number = last_event(past, &state->key);
	aggregate_init(&aggregate, &state->key);
	aggregate_build(&aggregate, past->log, &limit, past->snapshot);
	state->deleted = aggregate.isnull;
	state->state = aggregate.state;
	size = aggregate.isnull ? 0 : datumGetSize(aggregate.state, aggregate.fold->result.typbyval, aggregate.fold->result.typlen);
	aggregate_release_fold(&aggregate);
	return size;
}

/* Had it begun, and is it shown? */
static bool
is_past(const Past *past, const LogRow *first)
{
	return DatumGetInt64(log_row_value(first, LOG_POSITION)) <= past->position &&
		DatumGetTimestampTz(log_row_value(first, LOG_TIMESTAMP)) <= past->as_of &&
		model_rows_sees(&past->rows, DatumGetTextPP(log_row_value(first, LOG_TENANT_ID)));
}

static void
put_all(const Past *past)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dugong past", ALLOCSET_DEFAULT_SIZES);
	LogScan		scan;
	bool		more = true;

	log_scan_first_events(&scan, past->log, past->type_id, NULL, NULL, past->snapshot);
	while (more)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		AggregateState *states = palloc(CHUNK * sizeof(AggregateState));
		Size		bytes = 0;
		int			count = 0;

		while (count < CHUNK && bytes < MAX_STATE_BYTES && (more = log_scan_next(&scan)))
		{
			LogRow		first;

			CHECK_FOR_INTERRUPTS();
			log_row_from_slot(&first, scan.slot);
			if (is_past(past, &first))
				bytes += build(past, &first, &states[count++]);
		}
		put_rows(past, states, count);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	log_scan_end(&scan);
	MemoryContextDelete(context);
}

/* query_model_as_of(query_model, as_of, to_position) */
Datum
dugong_query_model_as_of(PG_FUNCTION_ARGS)
{
	Past		past = {
		.projection = find_projection(table_argument(fcinfo)),
		.as_of = PG_ARGISNULL(1) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(1),
		.position = position_argument(fcinfo)
	};
	Identity	before;
	Identity	actor;

	InitMaterializedSRF(fcinfo, 0);
	past.result = (ReturnSetInfo *) fcinfo->resultinfo;
	past.type_id = linitial_int(past.projection->type_ids);
	identity_assume(&before, dugong_owner());
	past.log = log_open(AccessShareLock);
	past.snapshot = GetActiveSnapshot();
	model_rows_open(&past.rows, past.projection, before.user);
	/* Constant parts of an expression are evaluated when it is prepared. */
	model_rows_begin(&past.rows, &actor);
	open_generated(&past);
	handler_end(&actor);
	put_all(&past);
	close_generated(&past);
	model_rows_close(&past.rows);
	table_close(past.log, NoLock);
	identity_restore(&before);
	return (Datum) 0;
}
