/*
 * horizon.c
 *		Up to where the log cannot change any more.
 *
 * A reader that remembers nothing but a position must not pass a hole that may
 * still fill.  So a transaction, before it draws its first position, takes a
 * private lock whose key is the last position drawn by then: all of its own
 * are above.  The lock goes when the transaction ends, prepared or not.
 *
 * horizon_get() first reads the last position drawn, L, then lists these locks
 * and takes the least of L and their keys, H.  Claim: a snapshot taken after
 * that sees every event at or below H that will ever be.  A transaction X that
 * draws p <= L has published b < p before; if X still runs when the locks are
 * listed, then H <= b < p; if not, it ended before the snapshot.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "compat.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "store/home.h"
#include "store/horizon.h"
#include "store/log.h"
#include "store/ownership.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"
#include "util/plan.h"
#include "util/private_lock.h"

/* The last position that the sequence has given out; 0 = none. */
int64
horizon_last_drawn(void)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum		last;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(dugong_relid("event_log_position_seq"));
	fcinfo->args[0].isnull = false;
	last = pg_sequence_last_value(fcinfo);
	return fcinfo->isnull ? 0 : DatumGetInt64(last);
}

/*
 * Moves the sequence to a position, if it is below.
 *
 * A sequence that somebody set back would give out positions that consumers
 * have passed.
 */
void
horizon_move_sequence(int64 position)
{
	static SavedPlan move_sequence = {
		.sql = "SELECT pg_catalog.setval($1::pg_catalog.regclass, $2) "
		"FROM dugong.event_log_position_seq s WHERE s.last_value OPERATOR(pg_catalog.<) $2 "
		"OR (s.last_value OPERATOR(pg_catalog.=) $2 AND NOT s.is_called)",
		.nargs = 2,
		.argtypes = {OIDOID, INT8OID}
	};
	Oid			sequence = dugong_relid("event_log_position_seq");
	Datum		values[] = {ObjectIdGetDatum(sequence), Int64GetDatum(position)};

	/* Nobody else draws between the look at the last value and its change. */
	LockRelationOid(sequence, ShareRowExclusiveLock);
	(void) execute_as_owner(&move_sequence, values, NULL);
}

/*
 * The last position drawn, after the log was seen to go beyond it: others may
 * just have drawn, or somebody has set the sequence back.
 */
static int64
check_sequence(Relation log)
{
	int64		highest = log_last_position(log, SnapshotAny);
	int64		last = horizon_last_drawn();

	if (last >= highest)
		return last;
	ereport(LOG,
			(errmsg("moved the sequence of positions from " INT64_FORMAT " to " INT64_FORMAT,
					last, highest),
			 errdetail("The log goes up to there.")));
	horizon_move_sequence(highest);
	return highest;
}

/*
 * Publishes a position that all those of this transaction will be above.
 * Called before each is drawn; only the first call does anything.
 */
void
horizon_publish(Relation log)
{
	static LOCKTAG published;
	int64		last;

	/* A savepoint that is rolled back gives the lock up. */
	if (published.locktag_field4 != 0 && lock_held_by_me(&published, ShareLock))
		return;
	last = horizon_last_drawn();
	if (log_has_beyond(log, last))
		last = check_sequence(log);
	published = private_lock_tag(MyDatabaseId, LOCK_HORIZON, (uint64) last);
	(void) LockAcquire(&published, ShareLock, false, false);
}

static bool
is_horizon_lock(const LockInstanceData *lock)
{
	const LOCKTAG *tag = &lock->locktag;
	LOCKTAG		ours = private_lock_tag(MyDatabaseId, LOCK_HORIZON, 0);

	return tag->locktag_type == ours.locktag_type &&
		tag->locktag_lockmethodid == ours.locktag_lockmethodid &&
		tag->locktag_field1 == ours.locktag_field1 &&
		tag->locktag_field4 == ours.locktag_field4 &&
		lock->holdMask != 0 && lock->pid != MyProcPid;
}

/*
 * On a standby the transactions of the primary hold no locks.  What its
 * projections have passed without holes is settled there, too.
 */
static int64
standby_horizon(void)
{
	static SavedPlan select_horizon = {
		.sql = "SELECT pg_catalog.max(COALESCE("
		"(SELECT pg_catalog.min(h.first_position) - 1 FROM dugong.checkpoint_holes h "
		"WHERE h.projection OPERATOR(pg_catalog.=) c.projection), c.position)) "
		"FROM dugong.checkpoints c WHERE c.system_identifier OPERATOR(pg_catalog.=) $1 "
		"AND c.database_oid OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.argtypes = {INT8OID, OIDOID}
	};
	Datum		values[] = {Int64GetDatum(home_system_identifier()), ObjectIdGetDatum(MyDatabaseId)};
	bool		isnull;
	int64		horizon;

	SPI_connect();
	plan_execute(&select_horizon, values, NULL, true);
	horizon = DatumGetInt64(plan_result(0, 1, &isnull));
	SPI_finish();
	return isnull ? 0 : horizon;
}

static int64
locked_position(const LockInstanceData *lock)
{
	return (int64) ((uint64) lock->locktag.locktag_field2 << 32 | lock->locktag.locktag_field3);
}

/*
 * A position such that a snapshot taken from now on sees every event at or
 * below it that will ever be, but for the caller's own later ones.
 */
int64
horizon_get(void)
{
	int64		horizon;
	LockData   *locks;

	if (RecoveryInProgress())
		return standby_horizon();
	horizon = horizon_last_drawn();
	locks = GetLockStatusData();
	for (int i = 0; i < locks->nelements; i++)
		if (is_horizon_lock(&locks->locks[i]))
			horizon = Min(horizon, locked_position(&locks->locks[i]));
	return horizon;
}

/* Has the holder of a lock one that matters?  Prepared transactions are taken for one. */
static bool
holder_matters(const LockData *locks, int pid, LockChoice matters, const void *arg)
{
	for (int i = 0; i < locks->nelements; i++)
		if (locks->locks[i].pid == pid && locks->locks[i].holdMask != 0 && matters(&locks->locks[i], arg))
			return true;
	return false;
}

/*
 * The same, of events whose transactions held a lock that matters before they
 * drew their positions, and hold it until they end.
 */
int64
horizon_get_of(LockChoice matters, const void *arg)
{
	int64		horizon;
	LockData   *locks;

	if (RecoveryInProgress())
		return standby_horizon();
	horizon = horizon_last_drawn();
	locks = GetLockStatusData();
	for (int i = 0; i < locks->nelements; i++)
		if (is_horizon_lock(&locks->locks[i]) && locked_position(&locks->locks[i]) < horizon &&
			holder_matters(locks, locks->locks[i].pid, matters, arg))
			horizon = locked_position(&locks->locks[i]);
	return horizon;
}
