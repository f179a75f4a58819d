/*
 * publish.c
 *		What a transaction has appended, and its NOTIFY.
 *
 * Each insert only marks the transaction: per aggregate type how
 * many events, and the last position.  Whether to notify is decided when the
 * transaction commits (mostly not: a commit that notifies holds a lock of the
 * whole server, so the worker does it, projection/announce.c).  So there is at
 * most one NOTIFY per transaction and channel unless messages are asked for,
 * none for what a savepoint took back, and PREPARE TRANSACTION stays legal: a
 * prepared transaction publishes nothing, the workers' poll finds it.
 *
 * A mark belongs to the subtransaction nesting level that made it.  It moves
 * to the parent's level when the subtransaction commits and goes when it
 * aborts.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "broker/message.h"
#include "broker/publish.h"
#include "commands/async.h"
#include "commands/trigger.h"
#include "guc.h"
#include "lib/stringinfo.h"
#include "store/aggregate_type.h"
#include "store/insert.h"
#include "store/log.h"
#include "store/restore.h"
#include "store/tenant.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

PG_FUNCTION_INFO_V1(dugong_event_mark);

typedef struct Mark
{
	const AggregateType *type;
	int			level;			/* subtransaction nesting level */
	int64		position;		/* the last */
	int64		count;			/* but for those sent one by one, message.c */
	bool		hides;			/* tenants are isolated: everybody may listen, so nobody is told how much there is */
} Mark;

/* List of Mark, one per type and level, in TopTransactionContext */
static List *marks;

static PublishHook hook;

void
publish_set_hook(PublishHook new_hook)
{
	hook = new_hook;
}

static Mark *
mark_find(const AggregateType *type, int level)
{
	ListCell   *cell;

	foreach(cell, marks)
	{
		Mark	   *mark = lfirst(cell);

		if (mark->type == type && mark->level == level)
			return mark;
	}
	return NULL;
}

/* The level's mark for a type, made now if there is none. */
static Mark *
mark_get(const AggregateType *type, int level)
{
	Mark	   *mark = mark_find(type, level);
	MemoryContext old;

	if (mark)
		return mark;
	old = MemoryContextSwitchTo(TopTransactionContext);
	mark = palloc0(sizeof(Mark));
	mark->type = type;
	mark->level = level;
	marks = lappend(marks, mark);
	MemoryContextSwitchTo(old);
	return mark;
}

static void
mark_add(Mark *mark, int64 position, int64 count)
{
	mark->position = Max(mark->position, position);
	mark->count += count;
}

/* Do commits notify? */
static bool
sends(void)
{
	return dugong_notify == NOTIFY_ALWAYS;
}

static bool
sends_messages(void)
{
	return sends() && dugong_notify_payload == PAYLOAD_MESSAGE && !tenants_are_isolated();
}

/* Called for each row that was inserted. */
static void
mark_inserted(Relation log, HeapTuple tuple)
{
	TupleDesc	desc = RelationGetDescr(log);
	const AggregateType *type;
	Mark	   *mark;
	int64		position;
	bool		isnull;

	type = aggregate_type_by_id(DatumGetInt32(heap_getattr(tuple, LOG_AGGREGATE_TYPE_ID, desc, &isnull)));
	if (type == NULL)
		return;					/* a restore that loads the log first */
	position = DatumGetInt64(heap_getattr(tuple, LOG_POSITION, desc, &isnull));
	mark = mark_get(type, GetCurrentTransactionNestLevel());
	mark->hides = tenants_are_isolated();
	if (restore_brought(position))
		return;					/* nothing is told of what comes back, but workers look */
	if (!sends_messages() || !message_note(type, tuple, log, position))
		mark_add(mark, position, 1);
	if (hook)
		hook(type, tuple);
}

/* AFTER INSERT row trigger of dugong.event_log. */
Datum
dugong_event_mark(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		RelationGetRelid(trigger->tg_relation) != dugong_relid("event_log"))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as the trigger of dugong.event_log")));
	mark_inserted(trigger->tg_relation, trigger->tg_trigtuple);
	return PointerGetDatum(NULL);
}

/*
 * Gives the marks of a subtransaction that ends to its parent, or drops them.
 * Allocates nothing: it runs in an abort, too.
 */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mine,
					  SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	ListCell   *cell;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	messages_at_subtransaction_end(event == SUBXACT_EVENT_COMMIT_SUB, level);
	foreach(cell, marks)
	{
		Mark	   *mark = lfirst(cell);
		Mark	   *outer;

		if (mark->level < level)
			continue;
		outer = mark_find(mark->type, level - 1);
		if (event == SUBXACT_EVENT_COMMIT_SUB && outer == NULL)
		{
			mark->level = level - 1;
			continue;
		}
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			mark_add(outer, mark->position, mark->count);
		marks = foreach_delete_current(marks, cell);
		pfree(mark);
	}
}

/* Queues a notification in the short form, for when the transaction commits. */
void
publish_notify(const char *channel, const char *key, const char *name, int64 position, int64 count)
{
	StringInfoData payload;

	initStringInfo(&payload);
	message_summary(&payload, key, name, position, count);
	Async_Notify(channel, payload.data);
	pfree(payload.data);
}

/*
 * Queues the notification of one aggregate type.  The type was found when it
 * was marked: a commit must not have to read tables.
 */
static void
publish_mark(const Mark *mark)
{
	if (mark->count > 0)
		publish_notify(mark->type->channel, "aggregateType", text_to_cstring(mark->type->name),
					   mark->hides ? 0 : mark->position, mark->hides ? 0 : mark->count);
}

static void
publish_marks(void)
{
	ListCell   *cell;

	if (!sends())
		return;
	messages_send();
	foreach(cell, marks)
		publish_mark(lfirst(cell));
}

static void
at_transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			publish_marks();
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			marks = NIL;		/* the memory goes with the transaction */
			messages_forget();
			break;
		default:
			break;
	}
}

/* Has this transaction appended events that are still there? */
bool
publish_pending(void)
{
	return marks != NIL;
}

void
publish_init(void)
{
	insert_set_inserted_hook(mark_inserted);
	RegisterXactCallback(at_transaction_event, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}
