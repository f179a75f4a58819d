/*
 * suspect.c
 *		What a worker was at when its process died.
 *
 * A handler may crash the server process, or be killed for the memory that it
 * takes.  Then no error is caught, and nothing that the transaction wrote is
 * left.  So a worker notes in a file what it is about to do, and takes the
 * note back when it has done it, or has failed.  A note of a process that is
 * no more tells what it died of: that batch is then done one event at a time,
 * and an event over which workers have died MAX_DEATHS times is set aside like
 * any that fails.
 *
 * The file is written without a sync: it has to outlive the process, not the
 * machine.  There is one for a database, with a place for each worker.  A
 * worker that starts reads all places, because after a crash any of them may
 * go on with the projection; what it finds it keeps in its own place, until
 * that is done with.  A worker that is made to quit because another process
 * has crashed takes its note back, too.
 */
#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "guc.h"
#include "miscadmin.h"
#include "projection/suspect.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/procarray.h"

/* What a worker is at, or was. */
typedef struct Note
{
	int32		pid;			/* whose it is; 0 = nobody's */
	int32		limit;			/* events in the batch, at most */
	int32		deaths;			/* over the event, before this time */
	int32		has_event;		/* one alone is being handled */
	pg_uuid_t	event_id;
	char		projection[NAMEDATALEN];
} Note;

/* A worker's place in the file. */
typedef struct Place
{
	Note		now;
	Note		died;			/* what one has died of; not done with yet */
} Place;

static int	file = -1;			/* -1 = no worker: nothing is noted */
static int	number;				/* of the place */
static Place mine;

static void
write_place(void)
{
	if (file >= 0)
		(void) !pwrite(file, &mine, sizeof(mine), (off_t) number * sizeof(mine));
}

/* Another process has crashed, or the server is stopped at once.  Only what is safe in a signal handler. */
static void
quit(SIGNAL_ARGS)
{
	mine.now.pid = 0;
	write_place();
	_exit(2);
}

/* An orderly end leaves nothing to tell. */
static void
at_exit(int code, Datum arg)
{
	memset(&mine, 0, sizeof(mine));
	write_place();
}

static bool
same_event(const Note *one, const Note *other)
{
	return one->has_event && other->has_event && memcmp(&one->event_id, &other->event_id, UUID_LEN) == 0;
}

/* Takes what another has died of over, if it says more than what is known. */
static void
learn(const Note *note, int deaths)
{
	Note	   *died = &mine.died;

	if (note->projection[0] == '\0' || (died->has_event && !same_event(died, note)) ||
		(died->projection[0] != '\0' && !note->has_event))
		return;
	deaths = Max(deaths, same_event(died, note) ? died->deaths : 0);
	*died = *note;
	died->projection[NAMEDATALEN - 1] = '\0';
	died->deaths = deaths;
	died->limit = Max(died->limit, 1);
}

/* Learns of what workers have died of. */
static void
read_places(void)
{
	for (int i = 0; i < MAX_WORKERS; i++)
	{
		Place		place;

		if (pread(file, &place, sizeof(place), (off_t) i * sizeof(place)) != sizeof(place))
			break;
		learn(&place.died, place.died.deaths);
		if (place.now.pid != 0 && BackendPidGetProc(place.now.pid) == NULL)
			learn(&place.now, place.now.deaths + (place.now.has_event ? 1 : 0));
	}
}

/*
 * Called by a worker that is connected to its database.
 *
 * worker: its number.
 */
void
suspect_init(int worker)
{
	char	   *path = psprintf("pg_stat/dugong.%u", MyDatabaseId);

	number = worker;
	file = BasicOpenFile(path, O_RDWR | O_CREAT | PG_BINARY);
	if (file < 0)
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
		return;
	}
	read_places();
	write_place();
	pqsignal(SIGQUIT, quit);
	on_proc_exit(at_exit, (Datum) 0);
	if (mine.died.projection[0] != '\0')
		ereport(LOG,
				(errmsg("a worker has died while it ran projection \"%s\"", mine.died.projection)));
}

/* Is a projection to be run one event at a time, because a worker has died of it? */
bool
suspect_is(const char *projection)
{
	return strcmp(mine.died.projection, projection) == 0;
}

/* A batch begins. */
void
suspect_batch(const char *projection, int limit)
{
	mine.now.pid = MyProcPid;
	mine.now.limit = limit;
	mine.now.has_event = 0;
	mine.now.deaths = 0;
	strlcpy(mine.now.projection, projection, NAMEDATALEN);
	write_place();
}

/* Within it one event alone is about to be handled.  Returns how often a worker has died over it. */
int
suspect_event(const pg_uuid_t *event_id)
{
	if (file < 0)
		return 0;
	mine.now.has_event = 1;
	mine.now.event_id = *event_id;
	mine.now.deaths = same_event(&mine.died, &mine.now) ? mine.died.deaths : 0;
	write_place();
	return mine.now.deaths;
}

/*
 * The batch has ended, one way or another.
 *
 * handled: events that it has dealt with; when they are as many as in the
 * batch that a worker died of, that is done with.
 */
void
suspect_clear(int handled)
{
	if (suspect_is(mine.now.projection) && mine.now.pid != 0)
	{
		mine.died.limit -= handled;
		if (mine.died.limit <= 0 || (handled > 0 && same_event(&mine.died, &mine.now)))
			memset(&mine.died, 0, sizeof(mine.died));
	}
	mine.now.pid = 0;
	write_place();
}
