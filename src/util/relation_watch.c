/*
 * relation_watch.c
 *		Hearing of it when a relation changes.
 *
 * A process has room for ten relcache callbacks, whoever registers them, and
 * ends with FATAL at the next one: PostgreSQL itself takes two, a worker of
 * logical replication four, other extensions theirs.  So all of dugong takes
 * one, and nobody else registers any.
 */
#include "postgres.h"

#include "util/relation_watch.h"

#define MAX_WATCHERS 16

typedef struct Watcher
{
	RelcacheCallbackFunction callback;
	Datum		arg;
} Watcher;

static Watcher watchers[MAX_WATCHERS];
static int	nwatchers;

static void
tell(Datum arg, Oid relid)
{
	for (int i = 0; i < nwatchers; i++)
		watchers[i].callback(watchers[i].arg, relid);
}

/* callback: sets a flag and nothing more; relid InvalidOid = any may have changed.  It cannot be taken back. */
void
relation_watch(RelcacheCallbackFunction callback, Datum arg)
{
	if (nwatchers == MAX_WATCHERS)
		elog(ERROR, "too many modules watch relations");
	if (nwatchers == 0)
		CacheRegisterRelcacheCallback(tell, (Datum) 0);
	watchers[nwatchers++] = (Watcher) {callback, arg};
}
