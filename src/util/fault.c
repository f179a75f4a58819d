/*
 * fault.c
 *		Named points where a test can hold or fail a process.
 */
#include "postgres.h"

#include "util/fault.h"

#ifdef DUGONG_FAULT_POINTS

#include "catalog/pg_collation.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

/* Waits for the point's advisory lock and gives it back at once. */
void
fault_point(const char *name)
{
	Datum		key = DirectFunctionCall1Coll(hashtext, C_COLLATION_OID,
											  CStringGetTextDatum(name));
	Datum		wide = Int64GetDatum((int64) DatumGetInt32(key));

	DirectFunctionCall1(pg_advisory_lock_int8, wide);
	DirectFunctionCall1(pg_advisory_unlock_int8, wide);
}

#endif							/* DUGONG_FAULT_POINTS */
