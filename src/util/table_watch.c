/*
 * table_watch.c
 *		Small tables that each session keeps in memory.
 *
 * A statement trigger on the table sends a relcache invalidation, whose
 * callback clears a flag and nothing more.  An abort processes the
 * invalidation too, so what was read of a change that is rolled back goes.
 *
 * The table is read under a snapshot of this moment: what is kept outlives
 * the transaction, so a transaction's own old snapshot must not decide.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "util/identity.h"
#include "util/relation_watch.h"
#include "util/table_watch.h"

PG_FUNCTION_INFO_V1(dugong_registry_changed);

static void
invalidate(Datum arg, Oid relid)
{
	TableWatch *watch = (TableWatch *) DatumGetPointer(arg);

	if (relid == InvalidOid || relid == watch->relid)
	{
		watch->changes++;
		watch->valid = false;
	}
}

/* watch: static; a callback cannot be taken back. */
void
table_watch_init(TableWatch *watch)
{
	relation_watch(invalidate, PointerGetDatum(watch));
}

/*
 * Reads the table, as its owner.  If that fails, what is in memory stays as it
 * is, and not valid.
 *
 * clear, enter_row: forget what is in memory, and take a row of the result.
 */
void
table_watch_read(TableWatch *watch, Oid relid, Oid owner, SavedPlan *select,
				 void (*clear) (void), void (*enter_row) (int row))
{
	uint64		changes;
	uint64		nrows;
	Identity	before;

	watch->relid = relid;
	changes = watch->changes;
	identity_assume(&before, owner);
	/* A parallel operation gets a new snapshot only like this. */
	PushActiveSnapshot(IsInParallelMode() ? GetCatalogSnapshot(relid) : GetLatestSnapshot());
	SPI_connect();
	nrows = plan_execute(select, NULL, NULL, true);
	clear();
	for (uint64 row = 0; row < nrows; row++)
		enter_row(row);
	SPI_finish();
	PopActiveSnapshot();
	identity_restore(&before);

	/* What changed while it was read is read next time. */
	watch->valid = changes == watch->changes;
}

/* AFTER statement trigger on a table that sessions keep in memory. */
Datum
dugong_registry_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called by an AFTER trigger FOR EACH STATEMENT")));
	CacheInvalidateRelcache(trigger->tg_relation);
	return PointerGetDatum(NULL);
}
