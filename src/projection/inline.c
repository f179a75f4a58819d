/*
 * inline.c
 *		Projections that run within the append.
 *
 * The AFTER INSERT row trigger of the log collects what a statement appends,
 * as far as an inline projection wants it; the statement trigger then handles
 * it, in the appender's transaction: what fails fails the append.
 *
 * Whether a type has inline projections is looked up after the log's lock was
 * taken, in a registry that is read under a latest snapshot; and who creates
 * an inline projection waits until nobody holds that lock.  So each event is
 * either handled by its append or by the catching up at creation.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "broker/publish.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "projection/checkpoint.h"
#include "projection/inline.h"
#include "projection/moment.h"
#include "projection/projection.h"
#include "projection/rebuild.h"
#include "projection/work.h"
#include "store/insert.h"
#include "store/restore.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "util/identity.h"

PG_FUNCTION_INFO_V1(dugong_inline_projections);

/* An event that was appended and not handled yet. */
typedef struct Appended
{
	int			level;			/* subtransaction nesting level */
	int32		type_id;
	HeapTuple	tuple;
} Appended;

static List *appended;			/* in TopTransactionContext */

/* Called for each row that was appended; see publish_set_hook(). */
static void
collect(const AggregateType *type, HeapTuple tuple)
{
	MemoryContext old;
	Appended   *event;

	if (!projections_are_inline(type->id) || restore_in_progress())
		return;
	old = MemoryContextSwitchTo(TopTransactionContext);
	event = palloc(sizeof(Appended));
	event->level = GetCurrentTransactionNestLevel();
	event->type_id = type->id;
	event->tuple = heap_copytuple(tuple);
	appended = lappend(appended, event);
	MemoryContextSwitchTo(old);
}

/* What a failed statement has left goes with its subtransaction. */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mine,
					  SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	ListCell   *cell;

	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	foreach(cell, appended)
		if (((Appended *) lfirst(cell))->level >= level)
			appended = foreach_delete_current(appended, cell);
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		appended = NIL;			/* the memory goes with the transaction */
}

static void
do_work(void *work)
{
	work_prepare(work, false);
	work_do(work);
}

/* Gives a projection what it wants of the events. */
static void
run_projection(const Projection *projection, List *events, Relation log, Snapshot snapshot)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(log), &TTSOpsHeapTuple);
	Work		work;
	ListCell   *cell;

	work_begin(&work, projection, false, log, snapshot);
	foreach(cell, events)
	{
		const Appended *event = lfirst(cell);
		LogRow		row;
		AggregateKey key;
		Change	   *change;
		bool		found;

		ExecStoreHeapTuple(event->tuple, slot, false);
		log_row_from_slot(&row, slot);
		log_row_key(&row, &key);
		if (!projection_reads(projection, &row))
			continue;
		change = work_find(&work, &key, &found);
		work_note(change, &row, !found);
		if (!projection_is_of_states(projection))
			work_add_event(&work, slot);
	}
	ExecDropSingleTupleTableSlot(slot);
	if (hash_get_num_entries(work.changes) == 0)
		return;
	handler_replay(false, do_work, &work);
}

/* All inline projections, in the order of their names. */
static void
run_projections(List *events)
{
	Relation	log = log_open(RowExclusiveLock);
	Identity	before;
	Snapshot	snapshot;
	ListCell   *cell;

	identity_assume(&before, dugong_owner());
	foreach(cell, projection_list())
	{
		const Projection *projection = lfirst(cell);

		if (!projection->is_inline)
			continue;
		CommandCounterIncrement();
		snapshot = RegisterSnapshot(GetTransactionSnapshot());
		PushActiveSnapshot(snapshot);
		run_projection(projection, events, log, snapshot);
		PopActiveSnapshot();
		UnregisterSnapshot(snapshot);
	}
	identity_restore(&before);
	table_close(log, NoLock);
}

/*
 * Handles what was appended.  What a handler appends comes here again, before
 * this call returns.
 */
static void
run_appended(void)
{
	MemoryContext context;
	MemoryContext old;
	List	   *events = appended;
	ListCell   *cell;

	if (events == NIL)
		return;
	check_stack_depth();
	appended = NIL;
	context = AllocSetContextCreate(CurrentMemoryContext, "dugong inline projections", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	run_projections(events);
	foreach(cell, events)
		heap_freetuple(((Appended *) lfirst(cell))->tuple);
	list_free_deep(events);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* AFTER INSERT statement trigger of dugong.event_log. */
Datum
dugong_inline_projections(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		RelationGetRelid(trigger->tg_relation) != dugong_relid("event_log"))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as the trigger of dugong.event_log")));
	run_appended();
	return PointerGetDatum(NULL);
}

void
inline_init(void)
{
	publish_set_hook(collect);
	insert_set_statement_hook(run_appended);
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}

/*
 * Handles what is in the log when an inline projection is created, in the
 * transaction that creates it.  No append runs meanwhile.
 */
void
inline_catch_up(const char *name)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dugong catch-up", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	const Projection *projection;
	Identity	before;

	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot create an inline projection in a REPEATABLE READ or SERIALIZABLE transaction"),
				 errdetail("Its snapshot may not see all that is to be handled.")));
	identity_assume(&before, dugong_owner());
	moment_take(name, NULL);
	projection = projection_get(name);
	replay_all(projection);
	checkpoint_reset(projection, 0);
	identity_restore(&before);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
