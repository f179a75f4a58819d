/*
 * listen.c
 *		A background worker as a listener.
 *
 * SQL LISTEN is refused in a background worker; the functions under it work,
 * provided that the worker itself takes what arrives off the queue.  If it did
 * not, the notification queue of the whole cluster would grow.
 */
#include "postgres.h"

#include "broker/listen.h"
#include "commands/async.h"
#include "nodes/pg_list.h"
#include "utils/memutils.h"

static List *channels;			/* char *, in TopMemoryContext: listened to, or about to be */

/* Takes effect when the current transaction commits. */
void
listen_to(const char *channel)
{
	MemoryContext old;
	ListCell   *cell;

	foreach(cell, channels)
		if (strcmp(lfirst(cell), channel) == 0)
			return;
	Async_Listen(channel);
	old = MemoryContextSwitchTo(TopMemoryContext);
	channels = lappend(channels, pstrdup(channel));
	MemoryContextSwitchTo(old);
}

/* After an abort, nobody knows which of them it took along. */
void
listen_forget(void)
{
	list_free_deep(channels);
	channels = NIL;
}

/*
 * Takes what has arrived off the queue; returns whether anything may have.
 * Called outside a transaction.
 *
 * The flag is set by a signal, and stays set until it is looked at here: a
 * notification cannot be missed between this call and a wait on the latch.
 */
bool
listen_receive(void)
{
	if (!notifyInterruptPending)
		return false;
	/* There is no client to flush to. */
	ProcessNotifyInterrupt(false);
	return true;
}
