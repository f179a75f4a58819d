/*
 * relation_change.c
 *		Hearing that a relation's catalog entries have changed.
 *
 * A process has ten slots for relcache callbacks, for PostgreSQL itself and all
 * extensions: who comes last ends with FATAL.  So dugong takes one for all of
 * its own.
 */
#include "postgres.h"

#include "utils/inval.h"
#include "util/relation_change.h"

#define MAX_LISTENERS 16

static struct
{
	RelationChangeCallback callback;
	void	   *arg;
}			listeners[MAX_LISTENERS];
static int	nlisteners;

static void
tell(Datum arg, Oid relid)
{
	for (int i = 0; i < nlisteners; i++)
		listeners[i].callback(listeners[i].arg, relid);
}

/* Cannot be taken back. */
void
relation_change_hear(RelationChangeCallback callback, void *arg)
{
	if (nlisteners == MAX_LISTENERS)
		elog(FATAL, "out of listeners to changes of relations");
	if (nlisteners == 0)
		CacheRegisterRelcacheCallback(tell, (Datum) 0);
	listeners[nlisteners].callback = callback;
	listeners[nlisteners++].arg = arg;
}
