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
 *
 * A trigger of the owner's may append between two rows of a statement, in a
 * subtransaction.  What waits is handled there, in the order of the log; so if
 * that is rolled back, the outer statement's events wait again.
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
#include "projection/replay.h"
#include "projection/work.h"
#include "store/insert.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "util/identity.h"

PG_FUNCTION_INFO_V1(dugong_inline_projections);

/* An event that was appended. */
typedef struct Appended
{
	dlist_node	node;
	int			level;			/* subtransaction nesting level */
	int			handled;		/* the level in which it was handled, if that is deeper */
	HeapTuple	tuple;
} Appended;

/* In TopTransactionContext. */
static dlist_head waiting = DLIST_STATIC_INIT(waiting);
static dlist_head handled = DLIST_STATIC_INIT(handled);	/* may have to wait again */

/* Called for each row that was appended; see publish_set_hook(). */
static void
collect(const AggregateType *type, HeapTuple tuple)
{
	MemoryContext old;
	Appended   *event;

	if (!projections_are_inline(type->id))
		return;
	old = MemoryContextSwitchTo(TopTransactionContext);
	event = palloc0(sizeof(Appended));
	event->level = GetCurrentTransactionNestLevel();
	event->tuple = heap_copytuple(tuple);
	dlist_push_tail(&waiting, &event->node);
	MemoryContextSwitchTo(old);
}

static void
forget_event(Appended *event)
{
	dlist_delete(&event->node);
	heap_freetuple(event->tuple);
	pfree(event);
}

/* What the end of a subtransaction means for an event of either list. */
static void
end_event(Appended *event, bool commit, int level)
{
	if (event->level >= level && !commit)
		forget_event(event);
	else if (event->handled >= level && !commit)
	{
		event->handled = 0;
		dlist_delete(&event->node);
		dlist_push_head(&waiting, &event->node);
	}
	else if (commit)
	{
		event->level = Min(event->level, level - 1);
		event->handled = Min(event->handled, level - 1);
		if (event->handled >= event->level)
			forget_event(event);
	}
}

/* Allocates nothing: it runs in an abort, too. */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mine,
					  SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	dlist_mutable_iter iter;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	dlist_foreach_modify(iter, &waiting)
		end_event(dlist_container(Appended, node, iter.cur), event == SUBXACT_EVENT_COMMIT_SUB, level);
	for (dlist_node *node = dlist_is_empty(&handled) ? NULL : dlist_tail_node(&handled); node != NULL;)
	{
		dlist_node *before = dlist_has_prev(&handled, node) ? dlist_prev_node(&handled, node) : NULL;

		end_event(dlist_container(Appended, node, node), event == SUBXACT_EVENT_COMMIT_SUB, level);
		node = before;
	}
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	/* The memory goes with the transaction. */
	dlist_init(&waiting);
	dlist_init(&handled);
}

static void
do_work(void *work)
{
	work_prepare(work, false);
	work_do(work);
}

/* Gives a projection what it wants of the events. */
static void
run_projection(const Projection *projection, dlist_head *events, Relation log, Snapshot snapshot)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(log), &TTSOpsHeapTuple);
	Work		work;
	dlist_iter	iter;

	work_begin(&work, projection, false, log, snapshot);
	dlist_foreach(iter, events)
	{
		const Appended *event = dlist_container(Appended, node, iter.cur);
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
run_projections(dlist_head *events)
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

/* Moves all of a list to the front of another. */
static void
move_events(dlist_head *from, dlist_head *to)
{
	while (!dlist_is_empty(from))
	{
		dlist_node *last = dlist_tail_node(from);

		dlist_delete(last);
		dlist_push_head(to, last);
	}
}

/* They are handled, in a subtransaction of the one that appended them or in that. */
static void
note_handled(dlist_head *events)
{
	int			level = GetCurrentTransactionNestLevel();
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, events)
	{
		Appended   *event = dlist_container(Appended, node, iter.cur);

		if (event->level >= level)
			forget_event(event);
		else
		{
			event->handled = level;
			dlist_delete(&event->node);
			dlist_push_tail(&handled, &event->node);
		}
	}
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
	dlist_head	events = DLIST_STATIC_INIT(events);

	if (dlist_is_empty(&waiting))
		return;
	check_stack_depth();
	context = AllocSetContextCreate(CurrentMemoryContext, "dugong inline projections", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	move_events(&waiting, &events);
	PG_TRY();
	{
		run_projections(&events);
	}
	PG_CATCH();
	{
		/* What is not rolled back with the subtransaction waits on. */
		move_events(&events, &waiting);
		PG_RE_THROW();
	}
	PG_END_TRY();
	note_handled(&events);
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
