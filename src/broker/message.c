/*
 * message.c
 *		The events of a transaction, as messages that its commit sends.
 *
 * Under dugong.notify_payload = message each event is sent whole, in the form
 * of dugong.to_message(), in the order in which they were appended.  One that
 * does not fit into a notification is sent in the short form, at its place:
 * who wants it reads it.  A transaction sends so many at most; the others go
 * into the notification that says how many there are (publish.c).
 *
 * The message is made when the event is appended: an upcast is users' code,
 * which may fail.  It belongs to a subtransaction nesting level as a mark
 * does.  The levels in the list never decrease.
 */
#include "postgres.h"

#include "access/xact.h"
#include "broker/message.h"
#include "commands/async.h"
#include "lib/ilist.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "store/domain_event.h"
#include "store/log.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/json.h"
#include "utils/memutils.h"

/* That a transaction sends one by one. */
#define MAX_MESSAGES 1000

/* Bytes that a notification's payload stays below; async.c does not show it. */
#define PAYLOAD_LIMIT (BLCKSZ - NAMEDATALEN - 128)

/* Bytes of an event, as it is in memory, whose text is certainly longer: jsonb takes four times its text's room at most. */
#define MAX_EVENT (8 * PAYLOAD_LIMIT)

typedef struct Message
{
	dlist_node	node;
	const AggregateType *type;
	int			level;			/* subtransaction nesting level */
	char		payload[FLEXIBLE_ARRAY_MEMBER];
} Message;

/* Message, in TopTransactionContext */
static dlist_head messages = DLIST_STATIC_INIT(messages);
static int	nmessages;

/* {key: name, "position": last, "count": events}: the short form. */
void
message_summary(StringInfo payload, const char *key, const char *name, int64 position, int64 count)
{
	appendStringInfo(payload, "{\"%s\": ", key);
	escape_json(payload, name);
	appendStringInfo(payload, ", \"position\": " INT64_FORMAT ", \"count\": " INT64_FORMAT "}", position, count);
}

static Oid
to_message_oid(void)
{
	Oid			argument = domain_event_typeid();

	return LookupFuncName(list_make2(makeString("dugong"), makeString("to_message")), 1, &argument, false);
}

/*
 * Writes the message; false if it does not fit into a notification.  An event
 * that is far too large is not made a message: one of nearly 256 MB cannot be.
 */
static bool
write_message(StringInfo payload, HeapTuple tuple, Relation log)
{
	LogRow		row;
	Datum		event;
	Jsonb	   *message;

	log_row_from_tuple(&row, tuple, RelationGetDescr(log));
	event = domain_event_of_row(&row);
	if (HeapTupleHeaderGetDatumLength(DatumGetHeapTupleHeader(event)) > MAX_EVENT)
		return false;
	message = DatumGetJsonbP(OidFunctionCall1(to_message_oid(), event));
	(void) JsonbToCString(payload, &message->root, VARSIZE(message));
	return payload->len < PAYLOAD_LIMIT;
}

static void
add(const AggregateType *type, const StringInfo payload)
{
	Message    *message = MemoryContextAlloc(TopTransactionContext, offsetof(Message, payload) + payload->len + 1);

	message->type = type;
	message->level = GetCurrentTransactionNestLevel();
	memcpy(message->payload, payload->data, payload->len + 1);
	dlist_push_tail(&messages, &message->node);
	nmessages++;
}

/*
 * Notes an event that was appended to the log.  Returns whether it will be
 * sent.
 */
bool
message_note(const AggregateType *type, HeapTuple tuple, Relation log, int64 position)
{
	MemoryContext context;
	MemoryContext old;
	StringInfoData payload;

	if (nmessages >= MAX_MESSAGES)
		return false;
	context = AllocSetContextCreate(CurrentMemoryContext, "dugong message", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	initStringInfo(&payload);
	if (!write_message(&payload, tuple, log))
	{
		resetStringInfo(&payload);
		message_summary(&payload, "aggregateType", text_to_cstring(type->name), position, 1);
	}
	add(type, &payload);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return true;
}

/* Queues them, for when the transaction commits. */
void
messages_send(void)
{
	dlist_iter	iter;

	dlist_foreach(iter, &messages)
	{
		const Message *message = dlist_container(Message, node, iter.cur);

		Async_Notify(message->type->channel, message->payload);
	}
}

/* Gives those of a subtransaction that ends to its parent, or drops them.  Allocates nothing. */
void
messages_at_subtransaction_end(bool commit, int level)
{
	while (!commit && !dlist_is_empty(&messages))
	{
		Message    *last = dlist_tail_element(Message, node, &messages);

		if (last->level < level)
			return;
		dlist_delete(&last->node);
		pfree(last);
		nmessages--;
	}
	for (dlist_node *node = messages.head.prev; commit && node != NULL && node != &messages.head; node = node->prev)
	{
		Message    *message = dlist_container(Message, node, node);

		if (message->level < level)
			return;
		message->level = level - 1;
	}
}

/* The transaction is over: the memory goes with it. */
void
messages_forget(void)
{
	dlist_init(&messages);
	nmessages = 0;
}
