/*
 * rebuild.c
 *		Making a query model anew from the log.
 *
 * A projection of states is rebuilt in place, one of events is reset and
 * replayed; see rebuild_states.c and replay.c.  Both hold the projection's lock
 * in each of their transactions.
 */
#include "postgres.h"

#include "access/xact.h"
#include "compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "projection/rebuild.h"
#include "projection/rebuild_states.h"
#include "projection/replay.h"
#include "store/aggregate_lock.h"
#include "store/ownership.h"
#include "store/tenant.h"
#include "utils/builtins.h"
#include "util/args.h"
#include "util/identity.h"
#include "util/names.h"

PG_FUNCTION_INFO_V1(dugong_rebuild_projection);

/* The projection, locked and as it is now: still the caller's? */
Projection *
rebuild_lock(const char *name)
{
	Projection *projection;

	(void) projection_lock(name, true);
	projection = projection_get(name);
	require_owner(projection->owner, "projection", name);
	return projection;
}

/* Writes the row of one aggregate again. */
static void
rebuild_one(const char *name, const pg_uuid_t *id, const text *tenant_id, bool atomic)
{
	Identity	before;
	const Projection *projection;
	AggregateKey key;

	projection = rebuild_lock(name);
	identity_assume(&before, dugong_owner());
	if (!projection_is_of_states(projection))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("projection \"%s\" gets events, so one aggregate cannot be rebuilt alone", name)));
	key.type_id = linitial_int(projection->type_ids);
	key.id = *id;
	key.tenant_id = unconstify(text *, tenant_id);
	if (!projection_sees(projection, tenant_id))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("owner of projection \"%s\" does not see tenant \"%s\"", name, text_to_cstring(tenant_id))));
	if (projection->is_inline)
		aggregate_lock(&key);
	rebuild_aggregate(projection, &key, !atomic);
	identity_restore(&before);
}

/* rebuild_projection(projection, aggregate_id, tenant_id, offline) */
Datum
dugong_rebuild_projection(PG_FUNCTION_ARGS)
{
	bool		atomic = call_is_atomic(fcinfo);
	char	   *name = arg_needed_name(fcinfo, 0, "projection");
	bool		offline = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	text	   *tenant_id = PG_ARGISNULL(1) ? NULL : tenant_argument(fcinfo, 2);
	const Projection *projection = projection_get(name);

	PreventCommandIfReadOnly("CALL dugong.rebuild_projection()");
	require_owner(projection->owner, "projection", name);
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot rebuild a projection in a REPEATABLE READ or SERIALIZABLE transaction"),
				 errdetail("Its snapshot may not see all that is to be handled.")));
	if (PG_ARGISNULL(1) && !projection_is_of_states(projection) && projection->reset_handler == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("projection \"%s\" has no reset_handler", name),
				 errdetail("It must be emptied before its events are handled again."),
				 errhint("Give it one with dugong.alter_projection().")));
	if (offline && (atomic || projection_is_of_states(projection) || projection->is_inline))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot replay projection \"%s\" offline", name),
				 errdetail("Only an async projection of events can be, outside of a transaction block.")));
	SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC);
	if (!atomic)
		SPI_commit();
	if (!PG_ARGISNULL(1))
		rebuild_one(pstrdup(name), PG_GETARG_UUID_P(1), tenant_id, atomic);
	else if (offline)
		replay_offline(pstrdup(name));
	else if (projection->reset_handler)
		replay_at_once(pstrdup(name), atomic);
	else
		rebuild_in_place(pstrdup(name), atomic);
	SPI_finish();
	PG_RETURN_VOID();
}
