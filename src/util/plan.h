/*
 * plan.h
 *		SQL statements that are prepared once in a session and kept.
 */
#ifndef DUGONG_PLAN_H
#define DUGONG_PLAN_H

#include "postgres.h"

#include "executor/spi.h"

#define PLAN_MAX_ARGS 16

/*
 * Declare one per statement, static.  Every name in the statement carries its
 * schema, operators included where they are not pg_catalog's only candidate:
 * the statement runs under search_path = pg_catalog, pg_temp.
 */
typedef struct SavedPlan
{
	const char *sql;
	int			nargs;
	Oid			argtypes[PLAN_MAX_ARGS];
	SPIPlanPtr	plan;			/* NULL until first use */
} SavedPlan;

extern SPIPlanPtr plan_get(SavedPlan *saved);
extern uint64 plan_execute(SavedPlan *saved, Datum *values, const bool *nulls,
						   bool read_only);
extern uint64 plan_run(SavedPlan *saved, Datum *values, const bool *nulls);
extern Datum plan_result(int row, int column, bool *isnull);

#endif							/* DUGONG_PLAN_H */
