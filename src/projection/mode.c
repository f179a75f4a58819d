/*
 * mode.c
 *		Changing a projection from async to inline, and back.
 *
 * Both ways there must be a moment without appends (moment.c): an append looks
 * for inline projections after it has taken the log's lock, so all events are
 * either committed, and those before that moment by the old mode, or will follow
 * the new one.
 *
 * To inline: the projection catches up first without the lock, then with it,
 * when little is left.  To async: the checkpoint is set to the last event; all
 * up to there is handled, and no hole below can fill any more.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "projection/checkpoint.h"
#include "projection/mode.h"
#include "projection/moment.h"
#include "projection/parked.h"
#include "projection/run.h"
#include "store/log.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "util/identity.h"
#include "util/plan.h"

static void
check(const Projection *projection)
{
	if (projection->kind == KIND_SUBSCRIPTION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a subscription", projection->name)));
	if (projection->state != PROJECTION_RUNNING)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("projection \"%s\" is not running", projection->name),
				 errhint("Use dugong.resume_projection().")));
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot change the mode of a projection in a REPEATABLE READ or SERIALIZABLE transaction"),
				 errdetail("Its snapshot may not see all that is to be handled.")));
}

static void
check_nothing_parked(const Projection *projection)
{
	if (parked_any(projection->name))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("projection \"%s\" has set aggregates aside", projection->name),
				 errdetail("An inline projection cannot handle them later."),
				 errhint("See dugong.dead_letters.")));
}

static void
set_mode(const char *name, const char *mode)
{
	static SavedPlan update_mode = {
		.sql = "UPDATE dugong.projections SET mode = $2 WHERE name OPERATOR(pg_catalog.=) $1",
		.nargs = 2,
		.argtypes = {TEXTOID, TEXTOID}
	};
	Datum		values[] = {CStringGetTextDatum(name), CStringGetTextDatum(mode)};

	plan_run(&update_mode, values, NULL);
	CommandCounterIncrement();
}

static void
settle(const Projection *projection)
{
	Relation	log = log_open(AccessShareLock);
	Snapshot	snapshot;

	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	PushActiveSnapshot(snapshot);
	checkpoint_settle(projection, log_last_position(log, snapshot));
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
	table_close(log, NoLock);
}

static void
change_to_async(const Projection *projection)
{
	moment_take(projection->name, NULL);
	settle(projection);
	set_mode(projection->name, "async");
}

static void
change_to_inline(const Projection *projection)
{
	check_nothing_parked(projection);
	moment_take(projection->name, run_in_transaction);
	check_nothing_parked(projection);
	settle(projection);
	set_mode(projection->name, "inline");
}

/*
 * Changes the mode, in the current transaction.  The caller holds the
 * projection's lock, and commits soon: appends wait until then.
 *
 * Errors: 55P03 if appenders do not end; 55000, 25001, 42809 as said; and
 * whatever a handler raises while it catches up.
 */
void
mode_change(const Projection *projection, bool to_inline)
{
	Identity	before;

	if (projection->is_inline == to_inline)
		return;
	check(projection);
	identity_assume(&before, dugong_owner());
	if (to_inline)
		change_to_inline(projection);
	else
		change_to_async(projection);
	identity_restore(&before);
}
