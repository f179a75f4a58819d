/*
 * fault.c
 *		Named points where a test can hold or fail a process.
 */
#include "postgres.h"

#include "util/fault.h"

#ifdef DUGONG_FAULT_POINTS

#include "catalog/pg_collation.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/backend_status.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

static Datum
key_of(const char *name)
{
	Datum		key = DirectFunctionCall1Coll(hashtext, C_COLLATION_OID,
											  CStringGetTextDatum(name));

	return Int64GetDatum((int64) DatumGetInt32(key));
}

/* Waits for the point's advisory lock and gives it back at once. */
void
fault_point(const char *name)
{
	Datum		key = key_of(name);

	DirectFunctionCall1(pg_advisory_lock_int8, key);
	DirectFunctionCall1(pg_advisory_unlock_int8, key);
}

/*
 * The same without waiting for the lock: outside of a transaction, after a
 * commit, and where a wait would reset the latch that is tested.
 */
void
fault_point_without_wait(const char *name)
{
	Datum		key = key_of(name);
	char		activity[NAMEDATALEN];

	snprintf(activity, sizeof(activity), "fault point %s", name);
	while (!DatumGetBool(DirectFunctionCall1(pg_try_advisory_lock_int8, key)))
	{
		pgstat_report_activity(STATE_RUNNING, activity);
		pg_usleep(1000L);
		CHECK_FOR_INTERRUPTS();
	}
	DirectFunctionCall1(pg_advisory_unlock_int8, key);
	pgstat_report_activity(STATE_IDLE, NULL);
}

#endif							/* DUGONG_FAULT_POINTS */
