/*
 * run.c
 *		CALL dugong.run_projections(): the worker's work, in this session.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "projection/batch.h"
#include "projection/projection.h"

PG_FUNCTION_INFO_V1(dugong_run_projections);

/*
 * Handles everything that is committed now, in every projection.  Each batch
 * commits, unless the procedure is called within a transaction block: then all
 * is part of that transaction, its own events included.
 */
Datum
dugong_run_projections(PG_FUNCTION_ARGS)
{
	bool		atomic = !(fcinfo->context && IsA(fcinfo->context, CallContext) &&
						   !castNode(CallContext, fcinfo->context)->atomic);
	List	   *projections;
	ListCell   *cell;

	PreventCommandIfReadOnly("CALL dugong.run_projections()");
	SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC);
	projections = projection_list();
	foreach(cell, projections)
	{
		BatchResult result;

		do
		{
			CHECK_FOR_INTERRUPTS();
			result = batch_run(lfirst(cell), true);
			if (!atomic)
				SPI_commit();
		} while (result == BATCH_MORE);
	}
	SPI_finish();
	PG_RETURN_VOID();
}
