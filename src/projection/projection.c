/*
 * projection.c
 *		The registry of projections.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "projection/projection.h"
#include "store/log.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "util/identity.h"
#include "util/plan.h"

PG_FUNCTION_INFO_V1(dugong_refuse_projected_type);

/*
 * All projections whose aggregate type is known, in the order of their names, in the
 * current memory context.
 */
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
	Identity	before;

	identity_assume(&before, dugong_owner());
	SPI_connect();
	nrows = plan_execute(&select_projections, NULL, NULL, false);
	for (uint64 row = 0; row < nrows; row++)
	{
		TupleDesc	desc = SPI_tuptable->tupdesc;
		HeapTuple	tuple = SPI_tuptable->vals[row];
		bool		isnull;
		int32		type_id = DatumGetInt32(plan_result(row, 2, &isnull));
		const AggregateType *type = aggregate_type_by_id(type_id);
		MemoryContext old;
		Projection *projection;

		/* A parallel restore may load the projection first. */
		if (type == NULL)
			continue;
		old = MemoryContextSwitchTo(context);
		projection = palloc(sizeof(Projection));
		projection->name = SPI_getvalue(tuple, desc, 1);
		projection->type = type;
		projection->query_model = SPI_getvalue(tuple, desc, 3);
		projections = lappend(projections, projection);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	identity_restore(&before);
	return projections;
}

/* BEFORE DELETE row trigger of dugong.aggregate_types. */
Datum
dugong_refuse_projected_type(PG_FUNCTION_ARGS)
{
	static SavedPlan select_projection = {
		.sql = "SELECT name FROM dugong.projections WHERE aggregate_type_id OPERATOR(pg_catalog.=) $1 LIMIT 1",
		.nargs = 1,
		.argtypes = {INT4OID}
	};
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	bool		isnull;
	Datum		id;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_DELETE(trigger->tg_event) ||
		RelationGetRelid(trigger->tg_relation) != dugong_relid("aggregate_types"))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as the trigger of dugong.aggregate_types")));
	id = heap_getattr(trigger->tg_trigtuple, 1, RelationGetDescr(trigger->tg_relation), &isnull);
	SPI_connect();
	if (plan_execute(&select_projection, &id, NULL, false) > 0)
		ereport(ERROR,
				(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
				 errmsg("cannot drop the aggregate type because projection \"%s\" depends on it",
						SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1))));
	SPI_finish();
	return PointerGetDatum(trigger->tg_trigtuple);
}
