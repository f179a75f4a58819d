/*
 * inline.c
 *		Projections that run within the append.
 *
 * The AFTER INSERT row trigger of the log collects what a statement appends,
 * as far as an inline projection wants it; the statement trigger then handles
 * it, in the appender's transaction: what fails fails the append.
 *
 * A trigger of the owner's may append in between, in a subtransaction.  That
 * handles what was collected by then, too; if it is rolled back, the statement
 * trigger does it again.
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
#include "lib/ilist.h"
#include "miscadmin.h"
#include "projection/checkpoint.h"
#include "projection/inline.h"
#include "projection/moment.h"
#include "projection/projection.h"
#include "projection/rebuild.h"
#include "projection/work.h"
#include "store/insert.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "util/identity.h"

PG_FUNCTION_INFO_V1(dugong_inline_projections);

/* An event that was appended; in TopTransactionContext. */
typedef struct Appended
{
	dlist_node	node;			/* in handled_within */
	int			level;			/* subtransaction nesting level */
	int			handled;		/* level of the one that has handled it; 0 = none has */
	int32		type_id;
	HeapTuple	tuple;
} Appended;

static List *appended;			/* not handled yet; in TopTransactionContext */

/* Handled by a subtransaction that they do not belong to, which may be rolled back. */
static dlist_head handled_within = DLIST_STATIC_INIT(handled_within);

/* Called for each row that was appended; see publish_set_hook(). */
static void
collect(const AggregateType *type, HeapTuple tuple)
{
	MemoryContext old;
	Appended   *event;

	if (!projections_are_inline(type->id))
		return;
	old = MemoryContextSwitchTo(TopTransactionContext);
	event = palloc(sizeof(Appended));
	event->level = GetCurrentTransactionNestLevel();
	event->handled = 0;
	event->type_id = type->id;
	event->tuple = heap_copytuple(tuple);
	appended = lappend(appended, event);
	MemoryContextSwitchTo(old);
}

static void
forget_event(Appended *event)
{
	heap_freetuple(event->tuple);
	pfree(event);
}

/* What a subtransaction has handled of others' events is its parent's, or not handled.  Allocates nothing. */
static void
settle_handled(bool commit, int level)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &handled_within)
	{
		Appended   *event = dlist_container(Appended, node, iter.cur);

		if (event->handled >= level)
			event->handled = commit ? level - 1 : 0;
		if (event->level < level && (event->handled == 0 || event->handled > event->level))
			continue;
		dlist_delete(iter.cur);
		forget_event(event);
	}
}

/* What a failed statement has left goes with its subtransaction. */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mine,
					  SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	ListCell   *cell;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	settle_handled(event == SUBXACT_EVENT_COMMIT_SUB, level);
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		return;
	foreach(cell, appended)
		if (((Appended *) lfirst(cell))->level >= level)
			appended = foreach_delete_current(appended, cell);
}

/* The memory goes with the transaction. */
static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	appended = NIL;
	dlist_init(&handled_within);
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
		if (!projection_handles(projection, &row))
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

/* What is to be handled, in its order; it is remembered where this subtransaction is not the one that it belongs to. */
static List *
take_events(int level)
{
	List	   *events = NIL;
	dlist_mutable_iter iter;
	ListCell   *cell;

	dlist_foreach_modify(iter, &handled_within)
	{
		Appended   *event = dlist_container(Appended, node, iter.cur);

		if (event->handled != 0)
			continue;
		dlist_delete(iter.cur);
		events = lappend(events, event);
	}
	events = list_concat(events, appended);
	appended = NIL;
	foreach(cell, events)
	{
		Appended   *event = lfirst(cell);

		event->handled = level;
		if (event->level < level)
			dlist_push_tail(&handled_within, &event->node);
	}
	return events;
}

/*
 * Handles what was appended.  What a handler appends comes here again, before
 * this call returns.
 */
static void
run_appended(void)
{
	int			level = GetCurrentTransactionNestLevel();
	MemoryContext context;
	MemoryContext old;
	List	   *events;
	ListCell   *cell;

	if (appended == NIL && dlist_is_empty(&handled_within))
		return;
	check_stack_depth();
	context = AllocSetContextCreate(CurrentMemoryContext, "dugong inline projections", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	events = take_events(level);
	if (events != NIL)
		run_projections(events);
	foreach(cell, events)
		if (((Appended *) lfirst(cell))->level >= level)
			forget_event(lfirst(cell));
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
