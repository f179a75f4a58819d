/*
 * plan.c
 *		SQL statements that are prepared once in a session and kept.
 *
 * The caller is connected to SPI, but for plan_run().  A read-only execution uses the active
 * snapshot; any other takes a new one (READ COMMITTED).
 */
#include "postgres.h"

#include "util/plan.h"

/* The statement's plan, prepared now if this is its first use. */
SPIPlanPtr
plan_get(SavedPlan *saved)
{
	if (saved->plan == NULL)
	{
		SPIPlanPtr	plan = SPI_prepare(saved->sql, saved->nargs, saved->argtypes);

		if (plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", saved->sql,
				 SPI_result_code_string(SPI_result));
		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "could not keep the plan of \"%s\"", saved->sql);
		saved->plan = plan;
	}
	return saved->plan;
}

/*
 * Runs a statement and returns its number of rows; they are in SPI_tuptable
 * if it returns any.
 *
 * values, nulls: its nargs arguments; nulls may be NULL if no argument is.
 */
uint64
plan_execute(SavedPlan *saved, Datum *values, const bool *nulls, bool read_only)
{
	char		flags[PLAN_MAX_ARGS];
	int			result;

	for (int i = 0; i < saved->nargs; i++)
		flags[i] = (nulls && nulls[i]) ? 'n' : ' ';

	result = SPI_execute_plan(plan_get(saved), values, flags, read_only, 0);
	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", saved->sql,
			 SPI_result_code_string(result));
	return SPI_processed;
}

/*
 * The same for a caller that is not connected to SPI and does not look at the
 * rows.
 */
uint64
plan_run(SavedPlan *saved, Datum *values, const bool *nulls)
{
	uint64		nrows;

	SPI_connect();
	nrows = plan_execute(saved, values, nulls, false);
	SPI_finish();
	return nrows;
}

/* A field of the last result; row counts from 0, column from 1. */
Datum
plan_result(int row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
						 column, isnull);
}
