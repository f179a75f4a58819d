/*
 * projection.c
 *		The registry of projections.
 */
#include "postgres.h"

#include "projection/projection.h"
#include "util/plan.h"

/* All projections in the order of their names, in the current memory context. */
List *
projection_list(void)
{
	static SavedPlan select_projections = {
		.sql = "SELECT name, aggregate_type_id, query_model FROM dugong.projections "
		"ORDER BY name COLLATE pg_catalog.\"C\""
	};
	MemoryContext context = CurrentMemoryContext;
	List	   *projections = NIL;
	uint64		nrows;

	SPI_connect();
	nrows = plan_execute(&select_projections, NULL, NULL, false);
	for (uint64 row = 0; row < nrows; row++)
	{
		TupleDesc	desc = SPI_tuptable->tupdesc;
		HeapTuple	tuple = SPI_tuptable->vals[row];
		bool		isnull;
		int32		type_id = DatumGetInt32(plan_result(row, 2, &isnull));
		MemoryContext old = MemoryContextSwitchTo(context);
		Projection *projection = palloc(sizeof(Projection));

		projection->name = SPI_getvalue(tuple, desc, 1);
		projection->type = aggregate_type_by_id(type_id);
		projection->query_model = SPI_getvalue(tuple, desc, 3);
		projections = lappend(projections, projection);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return projections;
}
