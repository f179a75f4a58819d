/*
 * control.c
 *		Pausing and resuming projections, and what becomes of dead letters.
 *
 * Who has the rights of the projection's owner may.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "projection/announce.h"
#include "projection/launch.h"
#include "projection/projection.h"
#include "projection/suspect.h"
#include "store/ownership.h"
#include "store/tenant.h"
#include "utils/builtins.h"
#include "util/args.h"
#include "util/plan.h"

PG_FUNCTION_INFO_V1(dugong_pause_projection);
PG_FUNCTION_INFO_V1(dugong_resume_projection);
PG_FUNCTION_INFO_V1(dugong_retry_dead_letters);
PG_FUNCTION_INFO_V1(dugong_discard_dead_letter);

static void
set_state(const char *name, const char *state)
{
	static SavedPlan update_state = {
		.sql = "UPDATE dugong.projections SET state = $2 WHERE name OPERATOR(pg_catalog.=) $1",
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID}
	};
	Datum		values[] = {CStringGetTextDatum(name), CStringGetTextDatum(state)};

	(void) execute_as_owner(&update_state, values, NULL);
}

/* Called when a projection whose policy is to stop has failed for good, under its lock. */
void
projection_stop(const char *name)
{
	set_state(name, "stopped");
}

/* pause_projection(name) */
Datum
dugong_pause_projection(PG_FUNCTION_ARGS)
{
	Projection *projection = projection_own(fcinfo);

	if (projection->is_inline)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("inline projection \"%s\" cannot be paused", projection->name),
				 errdetail("It would miss what is appended meanwhile.")));
	set_state(projection->name, "paused");
	PG_RETURN_VOID();
}

/* Wakes the workers, or those who listen to a subscription. */
static void
has_more_to_do(const Projection *projection, int64 count)
{
	if (projection->kind == KIND_SUBSCRIPTION)
		announce_projection(projection->name, 0, count);
	else
		launch_want_worker();
}

/* resume_projection(name) */
Datum
dugong_resume_projection(PG_FUNCTION_ARGS)
{
	const Projection *projection = projection_own(fcinfo);

	set_state(projection->name, "running");
	suspect_forget(projection->name);
	has_more_to_do(projection, 0);
	PG_RETURN_VOID();
}

/* retry_dead_letters(projection, aggregate_id): how many; of the session's tenant, or of all that the caller sees */
Datum
dugong_retry_dead_letters(PG_FUNCTION_ARGS)
{
	static SavedPlan set_due = {
		.sql = "UPDATE dugong.parked_aggregates SET retry_at = pg_catalog.clock_timestamp(), attempts = 0 "
		"WHERE projection OPERATOR(pg_catalog.=) $1 AND ($2 IS NULL OR aggregate_id OPERATOR(pg_catalog.=) $2) "
		"AND ($3 IS NULL OR tenant_id OPERATOR(pg_catalog.=) ANY ($3))",
		.nargs = 3,
		.argtypes = {TEXTOID, UUIDOID, TEXTARRAYOID}
	};
	static SavedPlan revive = {
		.sql = "UPDATE dugong.deliveries SET dead = false, attempts = 0, consumer = NULL "
		"WHERE subscription OPERATOR(pg_catalog.=) $1 AND dead AND ($2 IS NULL OR aggregate_id OPERATOR(pg_catalog.=) $2) "
		"AND ($3 IS NULL OR tenant_id OPERATOR(pg_catalog.=) ANY ($3))",
		.nargs = 3,
		.argtypes = {TEXTOID, UUIDOID, TEXTARRAYOID}
	};
	Projection *projection = projection_own(fcinfo);
	Datum		values[3] = {CStringGetTextDatum(projection->name), PG_GETARG_DATUM(1)};
	bool		nulls[3] = {false, PG_ARGISNULL(1)};
	int64		count;

	values[2] = tenants_meant(&nulls[2]);
	count = execute_as_owner(projection->kind == KIND_SUBSCRIPTION ? &revive : &set_due, values, nulls);
	has_more_to_do(projection, count);
	PG_RETURN_INT64(count);
}

/* discard_dead_letter(projection, aggregate_id, tenant_id): how many; of a subscription, events */
Datum
dugong_discard_dead_letter(PG_FUNCTION_ARGS)
{
	static SavedPlan delete_parked = {
		.sql = "DELETE FROM dugong.parked_aggregates WHERE projection OPERATOR(pg_catalog.=) $1 "
		"AND aggregate_id OPERATOR(pg_catalog.=) $2 AND tenant_id OPERATOR(pg_catalog.=) $3",
		.nargs = 3,
		.argtypes = {TEXTOID, UUIDOID, TEXTOID}
	};
	static SavedPlan delete_dead = {
		.sql = "DELETE FROM dugong.deliveries d USING dugong.deliveries b WHERE d.subscription OPERATOR(pg_catalog.=) $1 "
		"AND d.aggregate_id OPERATOR(pg_catalog.=) $2 AND d.tenant_id OPERATOR(pg_catalog.=) $3 "
		"AND b.subscription OPERATOR(pg_catalog.=) d.subscription AND b.aggregate_id OPERATOR(pg_catalog.=) d.aggregate_id "
		"AND b.aggregate_type_id OPERATOR(pg_catalog.=) d.aggregate_type_id "
		"AND b.tenant_id OPERATOR(pg_catalog.=) d.tenant_id AND b.dead AND d.position OPERATOR(pg_catalog.>=) b.position",
		.nargs = 3,
		.argtypes = {TEXTOID, UUIDOID, TEXTOID}
	};
	Projection *projection = projection_own(fcinfo);
	Datum		values[3];

	values[0] = CStringGetTextDatum(projection->name);
	values[1] = UUIDPGetDatum(arg_needed_uuid(fcinfo, 1, "aggregate id"));
	values[2] = PointerGetDatum(tenant_argument(fcinfo, 2));
	PG_RETURN_INT64(execute_as_owner(projection->kind == KIND_SUBSCRIPTION ? &delete_dead : &delete_parked, values, NULL));
}
