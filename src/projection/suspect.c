/*
 * suspect.c
 *		What a process was at when it died.
 *
 * A handler may crash the server process, be killed for the memory that it
 * takes, or have its errors end the process (exit_on_error).  Then no error is
 * caught, and nothing that the transaction wrote is left.  So whoever runs a
 * batch of a projection, a worker or a session, notes in a file that he is at
 * it, and takes the note back when his transaction ends, one way or another.
 * Who finds a note that nobody has taken back knows
 * that a process has died: the batch is then done one event at a time, with a
 * note of the aggregate.  One over which MAX_DEATHS processes in a row have
 * died is set aside like any that fails; and when that has happened to
 * MAX_SET_ASIDE aggregates without an event handled in between, the handler
 * as such is to blame, and the projection stops.
 *
 * Each projection has its file, and only who has the projection's lock reads
 * or writes it.  The note is taken back before the lock is given up.  It is
 * written without a sync: it has to outlive the process, not the machine.  A
 * file that is lost, unreadable, or another's (of a database that had the same
 * oid, or in a copy of the data directory) costs some events done one at a
 * time, or some deaths more.
 *
 * The innocent: a process that is made to quit because another one has crashed
 * takes its note back, unless the one that has crashed may be a parallel
 * worker of its own.  Deaths of an aggregate count only until it is handled,
 * so those that do not have to do with it do not add up.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/parallel.h"
#include "access/xact.h"
#include "compat.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "projection/projection.h"
#include "projection/suspect.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"

#define MAX_SET_ASIDE 3

/* After a death so many events, or more, are done one at a time. */
#define MIN_ALONE 100

#define RECORD_VERSION 0xD0600001

/* A projection's file. */
typedef struct Record
{
	uint32		version;
	int32		pid;			/* who is at it; 0 = nobody */
	int32		nevents;		/* in his batch */
	int32		alone;			/* events that are still to be done one at a time */
	int32		deaths;			/* in a row, over the suspect */
	int32		set_aside;		/* aggregates in a row, for deaths */
	bool		is_known;		/* which aggregate is he at? */
	pg_uuid_t	aggregate_id;
	pg_uuid_t	suspect;		/* if there are deaths */
	char		projection[NAMEDATALEN];
} Record;

static Record record;			/* of the projection that was looked at last */

/* While there is a note of this process: */
static int	file = -1;			/* -1 = there is none */
static int	level;				/* the subtransaction that it goes with */
static int	done;				/* events that are handled if that commits */
static bool sets_aside;			/* is one of them set aside for deaths? */
static bool acquits;			/* is the suspect among them? */

static char *
path_of(const char *projection)
{
	LOCKTAG		tag = projection_lock_tag(projection);

	return psprintf("pg_stat/dugong.%u.%08x%08x", MyDatabaseId, tag.locktag_field2, tag.locktag_field3);
}

static void
write_record(void)
{
	if (file >= 0)
		(void) !pwrite(file, &record, sizeof(record), 0);
}

static void
close_file(void)
{
	int			fd = file;

	write_record();
	file = -1;
	if (fd >= 0)
		close(fd);
}

/* Another process has crashed, or the server is stopped at once.  Only what is safe in a signal handler. */
static void
quit(SIGNAL_ARGS)
{
	if (!ParallelContextActive())
	{
		record.pid = 0;
		write_record();
	}
	if (MyBackendType == B_BG_WORKER)
		SignalHandlerForCrashExit(postgres_signal_arg);
	else
		quickdie(postgres_signal_arg);
}

/*
 * Is the process about to end because of users' code, and not because it was
 * told to?  Whoever sets exit_on_error, or a timeout that ends the session,
 * makes an error the death of the process, which no handler of errors sees.
 */
static bool
ends_of_users_code(void)
{
	return proc_exit_inprogress && (ExitOnAnyError || transaction_timeout_compat > 0);
}

/* For whoever comes next: nobody takes it back. */
static void
leave_note(void)
{
	close(file);
	file = -1;
}

/* Takes the note back. */
static void
end_note(bool committed)
{
	if (committed && done > 0)
	{
		record.alone = Max(record.alone - done, 0);
		if (acquits)
			record.deaths = 0;
		record.set_aside = sets_aside ? (record.set_aside + 1) % MAX_SET_ASIDE : 0;
	}
	record.pid = 0;
	close_file();
}

/* Runs while the locks are still held. */
static void
at_transaction_end(XactEvent event, void *arg)
{
	if (file >= 0 && event == XACT_EVENT_ABORT && ends_of_users_code())
		leave_note();
	if (file >= 0 && (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE))
		end_note(event != XACT_EVENT_ABORT);
}

/*
 * An abort gives the projection's lock up, if that was taken within.  It takes
 * back what users' code has set, so it is the time to look at that.
 */
static void
at_subtransaction_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (file >= 0 && event == SUBXACT_EVENT_ABORT_SUB && ends_of_users_code())
		leave_note();
	if (file < 0 || GetCurrentTransactionNestLevel() > level)
		return;
	if (event == SUBXACT_EVENT_ABORT_SUB)
		end_note(false);
	else if (event == SUBXACT_EVENT_COMMIT_SUB)
		level--;
}

void
suspect_init(void)
{
	RegisterXactCallback(at_transaction_end, NULL);
	RegisterSubXactCallback(at_subtransaction_end, NULL);
}

static bool
read_record(const char *projection)
{
	int			fd = BasicOpenFile(path_of(projection), O_RDONLY | PG_BINARY);
	bool		valid;

	if (fd < 0)
		return false;
	valid = read(fd, &record, sizeof(record)) == sizeof(record) && record.version == RECORD_VERSION &&
		strncmp(record.projection, projection, NAMEDATALEN) == 0 &&
		record.nevents >= 0 && record.alone >= 0 && record.deaths >= 0 && record.set_aside >= 0;
	close(fd);
	return valid;
}

static bool
is_at_suspect(void)
{
	return record.is_known && memcmp(&record.aggregate_id, &record.suspect, UUID_LEN) == 0;
}

/* What a process has died of. */
static void
note_death(void)
{
	ereport(LOG,
			(errmsg("a process has died while it ran projection \"%s\"", record.projection)));
	record.pid = 0;
	record.alone = Max(record.alone, Max(record.nevents, MIN_ALONE));
	if (!record.is_known)
		return;
	if (!is_at_suspect())
		record.deaths = 0;
	record.suspect = record.aggregate_id;
	record.deaths++;
}

/*
 * Called with the projection's lock.  Are its events to be done one at a time,
 * because a process has died?
 */
bool
suspect_look(const char *projection)
{
	if (file >= 0 && strcmp(record.projection, projection) == 0)
		return record.alone > done;
	/* Another one in the same transaction: what that has done is not committed. */
	if (file >= 0)
		end_note(false);
	if (!read_record(projection))
	{
		memset(&record, 0, sizeof(record));
		record.version = RECORD_VERSION;
		strlcpy(record.projection, projection, NAMEDATALEN);
	}
	if (record.pid != 0)
		note_death();
	return record.alone > 0;
}

static void
open_file(void)
{
	static bool warned;
	char	   *path = path_of(record.projection);

	file = BasicOpenFile(path, O_RDWR | O_CREAT | PG_BINARY);
	if (file < 0 && !warned)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path),
				 errdetail("A handler that crashes the server will not be recognized.")));
	warned = file < 0;
	level = GetCurrentTransactionNestLevel();
	done = 0;
	sets_aside = acquits = false;
}

/* After suspect_look(): so many events are about to be handled. */
void
suspect_batch(const char *projection, int nevents)
{
	static bool prepared;

	Assert(strcmp(record.projection, projection) == 0);
	if (!prepared)
		pqsignal(SIGQUIT, quit);
	prepared = true;
	record.nevents = nevents;
	record.is_known = false;
	record.pid = MyProcPid;
	if (file < 0)
		open_file();
	write_record();
}

/* They are all of one aggregate.  Returns how many processes in a row have died over it. */
int
suspect_aggregate(const pg_uuid_t *id)
{
	record.is_known = true;
	record.aggregate_id = *id;
	write_record();
	return is_at_suspect() ? record.deaths : 0;
}

/* It is set aside for that.  Returns whether the projection is to stop. */
bool
suspect_set_aside(void)
{
	sets_aside = true;
	return record.set_aside + 1 >= MAX_SET_ASIDE;
}

/* So many events are handled, or set aside, if the transaction commits. */
void
suspect_done(const char *projection, int nevents)
{
	/* A handler may have run another projection. */
	if (strcmp(record.projection, projection) != 0)
		return;
	done += nevents;
	acquits = acquits || is_at_suspect();
}

/* The projection is gone, or to be judged anew.  Called with its lock. */
void
suspect_forget(const char *projection)
{
	(void) unlink(path_of(projection));
}
