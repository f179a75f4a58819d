/*
 * batch.c
 *		One step of a projection: read, handle, move the checkpoint.
 *
 * Order: the projection's lock, then one snapshot, then the checkpoint.  All
 * of the log is read under that snapshot, first what has appeared in the
 * holes, then what lies above the position; so the events of an aggregate
 * arrive in their order.  Only after that are the candidates listed who may
 * fill the holes that were seen (candidates.c).  What the projection writes
 * and its checkpoint commit together, in the caller's transaction.
 *
 * If the holes alone fill the batch, nothing above is read, and holes beyond
 * the last event read stay as they are.
 *
 * When a batch has failed, its caller tries a smaller one, down to one event.
 * If that fails, its aggregate is set aside (parked.c), in the batch that
 * moves the checkpoint past it.
 */
#include "postgres.h"

#include <limits.h>

#include "access/table.h"
#include "access/xact.h"
#include "broker/publish.h"
#include "guc.h"
#include "miscadmin.h"
#include "projection/announce.h"
#include "projection/batch.h"
#include "projection/checkpoint.h"
#include "projection/failure.h"
#include "projection/parked.h"
#include "projection/reader.h"
#include "projection/suspect.h"
#include "projection/work.h"
#include "store/log.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "util/attempt.h"
#include "util/fault.h"
#include "util/identity.h"
#include "util/ids.h"

/* A batch ends when it has read so many bytes of events. */
#define MAX_BATCH_BYTES (16 * 1024 * 1024)

/* So many aggregates are remembered as written ahead of the checkpoint. */
#define MAX_AHEAD 10000

/* A row of checkpoint_ahead(). */
typedef struct Ahead
{
	AggregateKey key;
	int64		built;			/* sequence number that its state covers */
} Ahead;

typedef struct Batch
{
	const BatchRequest *request;
	int			limit;			/* events to handle at most */
	bool		isolates;		/* as in the request, or because a process has died */
	const Projection *projection;
	Relation	log;
	Snapshot	snapshot;
	Checkpoint	checkpoint;
	LogReader	reader;
	Work		work;
	bool		has_parked;		/* are aggregates of the projection set aside? */
	int			nread;			/* events so far, of all types */
	int			nhandled;		/* of those, that are to be handled */
} Batch;

static bool is_full(void *arg);
static void note_event(void *arg, TupleTableSlot *slot);

static void
batch_begin(Batch *batch, const BatchRequest *request, const Projection *projection)
{
	memset(batch, 0, sizeof(*batch));
	batch->request = request;
	batch->limit = request->limit;
	batch->isolates = request->isolates;
	if (suspect_look(projection->name))
	{
		batch->limit = 1;
		batch->isolates = !request->fails;
	}
	batch->projection = projection;
	batch->log = log_open(AccessShareLock);
	CommandCounterIncrement();
	batch->snapshot = RegisterSnapshot(GetTransactionSnapshot());
	PushActiveSnapshot(batch->snapshot);
	checkpoint_load(&batch->checkpoint, projection);
	batch->reader = (LogReader)
	{
		.log = batch->log,.snapshot = batch->snapshot,.checkpoint = &batch->checkpoint,
			.note = note_event,.is_full = is_full,.arg = batch
	};
	batch->has_parked = parked_any(projection->name);
	work_begin(&batch->work, projection, request->own_transaction, batch->log, batch->snapshot);
	/* What a handler has appended in an earlier batch of the transaction may be rolled back. */
	batch->work.remembers = request->own_transaction && !publish_pending();
}

static void
batch_end(Batch *batch)
{
	PopActiveSnapshot();
	UnregisterSnapshot(batch->snapshot);
	table_close(batch->log, NoLock);
}

static bool
is_full(void *arg)
{
	const Batch *batch = arg;

	return batch->nread >= dugong_batch_size || batch->nhandled >= batch->limit ||
		batch->work.bytes >= MAX_BATCH_BYTES;
}

/* Does the query model have the state at that event, or a later one? */
static bool
is_ahead(const Batch *batch, const AggregateKey *key, int64 sequence_number)
{
	HTAB	   *ahead = checkpoint_ahead(&batch->checkpoint);
	const Ahead *entry = ahead ? hash_search(ahead, key, HASH_FIND, NULL) : NULL;

	return entry && entry->built >= sequence_number;
}

/* Collects an event that was read. */
static void
note_event(void *arg, TupleTableSlot *slot)
{
	Batch	   *batch = arg;
	LogRow		row;
	AggregateKey key;
	Change	   *change;
	bool		found;

	batch->nread++;
	log_row_from_slot(&row, slot);
	log_row_key(&row, &key);
	if (!projection_handles(batch->projection, &row) ||
		is_ahead(batch, &key, DatumGetInt64(log_row_value(&row, LOG_SEQUENCE_NUMBER))))
		return;
	change = work_find(&batch->work, &key, &found);
	if (!found)
		change->skipped = batch->has_parked && parked_is(batch->projection->name, &key);
	work_note(change, &row, !found);
	if (change->skipped)
		return;
	batch->nhandled++;
	if (!projection_is_of_states(batch->projection))
		work_add_event(&batch->work, slot);
}

static void
do_work(void *arg)
{
	Batch	   *batch = arg;

	work_do(&batch->work);
	if (!batch->request->defers)
		handler_fire_deferred(&batch->work.actor);
}

/* The change of a batch of one event that is to be handled; NULL if it has none. */
static Change *
only_change(Batch *batch)
{
	HASH_SEQ_STATUS seq;
	Change	   *change;

	hash_seq_init(&seq, batch->work.changes);
	while ((change = hash_seq_search(&seq)) != NULL)
		if (!change->skipped)
		{
			hash_seq_term(&seq);
			return change;
		}
	return NULL;
}

/* Is an error that of the event, so that the projection may go on without it? */
static bool
is_events_fault(const Batch *batch, const ErrorData *error)
{
	switch (failure_class(error))
	{
		case FAILURE_OF_SERVER:
			return false;
		case FAILURE_OF_MOMENT:
			return !batch->request->patient;
		case FAILURE_OF_HANDLER:
			break;
	}
	return true;
}

/* What stands for the error that nobody lived to raise. */
static ErrorData *
death_error(int deaths)
{
	ErrorData  *error = palloc0(sizeof(ErrorData));

	error->elevel = ERROR;
	error->output_to_server = error->output_to_client = true;
	error->sqlerrcode = ERRCODE_CRASH_SHUTDOWN;
	error->message = psprintf("the server process died %d times while this aggregate was handled", deaths);
	error->assoc_context = CurrentMemoryContext;
	return error;
}

/* Sets the aggregate of the only change aside. */
static void
set_aside(Batch *batch, Change *change, int attempts, const ErrorData *error)
{
	Parked		parked = {.key = change->key,.first = change->first,.last = change->last,.attempts = attempts};

	parked_add(batch->projection->name, &parked, &change->event_id, error);
	failure_record(batch->projection->name, error, 0);
	change->built = 0;
	ereport(WARNING,
			(errmsg("projection \"%s\" has set aggregate \"%s\" aside: %s", batch->projection->name,
					uuid_to_cstring(&change->key.id), error->message),
			 errhint("See dugong.dead_letters.")));
}

/* Handles the one event of the batch, or sets its aggregate aside. */
static void
handle_isolated(Batch *batch)
{
	Change	   *change = only_change(batch);
	ErrorData  *error = attempt(do_work, batch);

	if (error == NULL)
		return;
	if (change == NULL || batch->projection->stops_on_error || !is_events_fault(batch, error))
		ReThrowError(error);
	set_aside(batch, change, 1, error);
}

/* Its aggregate has killed too many processes to be tried again; if one aggregate after the other does, the projection stops. */
static void
note_deadly(const Batch *batch, const ErrorData *error)
{
	if (!suspect_set_aside())
		return;
	projection_stop(batch->projection->name);
	failure_record(batch->projection->name, error, MAX_DEATHS);
	ereport(WARNING,
			(errmsg("projection \"%s\" has stopped because it crashes the server over one aggregate after the other", batch->projection->name),
			 errhint("Use dugong.resume_projection() when the cause is mended.")));
}

/* Notes what is about to be handled.  How many processes in a row have died over it? */
static int
note_attempt(Batch *batch)
{
	const Change *change = batch->limit == 1 ? only_change(batch) : NULL;

	suspect_batch(batch->projection->name, batch->nhandled);
	return change ? suspect_aggregate(&change->key.id) : 0;
}

static void
handle(void *arg)
{
	Batch	   *batch = arg;
	int			deaths = note_attempt(batch);

	/* Workers do not wait for the disk; but what the next event may crash the server over must not be done again. */
	if (batch->isolates)
		ForceSyncCommit();
	if (deaths >= MAX_DEATHS)
	{
		ErrorData  *error = death_error(deaths);

		if (!batch->isolates || batch->projection->stops_on_error)
			ReThrowError(error);
		set_aside(batch, only_change(batch), dugong_max_attempts, error);
		note_deadly(batch, error);
	}
	else
	{
		work_prepare(&batch->work, batch->isolates);
		if (batch->isolates)
			handle_isolated(batch);
		else
			do_work(batch);
	}
	suspect_done(batch->projection->name, batch->nhandled);
}

/* Events of aggregates that are set aside wait behind the one that failed. */
static void
extend_parked(Batch *batch)
{
	HASH_SEQ_STATUS seq;
	Change	   *change;

	if (!batch->has_parked)
		return;
	hash_seq_init(&seq, batch->work.changes);
	while ((change = hash_seq_search(&seq)) != NULL)
		if (change->skipped)
			parked_extend(batch->projection->name, &change->key, change->last);
}

/* Remembers what was written ahead, for the batches that follow. */
static void
note_ahead(Batch *batch)
{
	CheckpointMemory *memory = batch->checkpoint.memory;
	HTAB	   *ahead;
	HASH_SEQ_STATUS seq;
	Change	   *change;

	hash_seq_init(&seq, batch->work.changes);
	while ((change = hash_seq_search(&seq)) != NULL)
	{
		AggregateKey key = change->key;
		Ahead	   *entry;

		if (change->skipped || change->built <= change->last)
			continue;
		ahead = checkpoint_make_ahead(memory, sizeof(Ahead), MAX_AHEAD);
		entry = hash_search(ahead, &key, HASH_FIND, NULL);
		if (entry == NULL)
		{
			/* First: an entry outlives a batch that memory runs out in. */
			key.tenant_id = checkpoint_keep_text(memory, key.tenant_id);
			entry = hash_search(ahead, &key, HASH_ENTER, NULL);
		}
		entry->built = change->built;
	}
}

/* Reads what was handled before, and is again, by itself; false if there is nothing left of it. */
static bool
read_replayed(Batch *batch)
{
	int			before = batch->nread;

	if (batch->checkpoint.position >= batch->checkpoint.replay_until)
		return false;
	reader_read_above(&batch->reader, batch->checkpoint.replay_until);
	return batch->nread > before;
}

/* Not again what was told once. */
static void
notify(const Batch *batch)
{
	if (batch->nhandled > 0 && batch->checkpoint.position > batch->checkpoint.replay_until)
		announce_projection(batch->projection->name, batch->checkpoint.position, batch->nhandled);
}

static BatchResult
run_locked(Batch *batch, BatchOutcome *outcome)
{
	bool		more;

	reader_read_holes(&batch->reader);
	fault_point("projection-between-reads");
	more = !is_full(batch) && read_replayed(batch);
	if (!is_full(batch) && !more)
		reader_read_above(&batch->reader, PG_INT64_MAX);
	if (batch->nhandled > 0)
		handler_replay(batch->checkpoint.position <= batch->checkpoint.replay_until, handle, batch);
	/* A handler may have dropped the very projection. */
	if (projection_find(batch->projection->name) == NULL)
		return BATCH_DONE;
	extend_parked(batch);
	fault_point("projection-before-checkpoint");
	if (batch->nread > 0 || batch->checkpoint.removed != NIL)
	{
		checkpoint_save(&batch->checkpoint, batch->projection, batch->nhandled);
		note_ahead(batch);
		notify(batch);
	}
	outcome->handled = batch->nhandled;
	outcome->position = batch->checkpoint.position;
	return is_full(batch) || more ? BATCH_MORE : BATCH_DONE;
}

/* What a batch does, once the projection's lock is held. */
typedef BatchResult (*BatchAction) (Batch *batch, BatchOutcome *outcome);

/* Runs an action with the rights of the log's owner, if the projection is to run. */
static BatchResult
with_projection(const BatchRequest *request, BatchAction action, BatchOutcome *outcome)
{
	MemoryContext context;
	MemoryContext old;
	Identity	before;
	const Projection *projection;
	BatchResult result = BATCH_DONE;

	memset(outcome, 0, sizeof(*outcome));
	if (!projection_lock(request->projection, request->wait))
		return BATCH_BUSY;
	context = AllocSetContextCreate(CurrentMemoryContext, "dugong batch",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	identity_assume(&before, dugong_owner());
	projection = projection_find(request->projection);
	if (projection && projection_is_run(projection))
	{
		Batch		batch;

		batch_begin(&batch, request, projection);
		result = action(&batch, outcome);
		batch_end(&batch);
	}
	identity_restore(&before);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return result;
}

/*
 * Runs one batch of a projection in the current transaction.
 */
BatchResult
batch_run(const BatchRequest *request, BatchOutcome *outcome)
{
	return with_projection(request, run_locked, outcome);
}

/* Collects one event of what waits: the last, whose state covers all, or the first for a handler of events. */
static void
collect_parked(Batch *batch, const Parked *parked)
{
	bool		states = projection_is_of_states(batch->projection);
	LogScan		scan;
	bool		found = false;

	log_scan_stream(&scan, batch->log, &parked->key, parked->first, parked->last,
					states ? BackwardScanDirection : ForwardScanDirection, batch->snapshot);
	while (!found && log_scan_next(&scan))
	{
		LogRow		row;
		Change	   *change;

		CHECK_FOR_INTERRUPTS();
		log_row_from_slot(&row, scan.slot);
		if (!projection_handles(batch->projection, &row))
			continue;
		change = work_find(&batch->work, &parked->key, &found);
		work_note(change, &row, true);
		found = true;
		batch->nhandled++;
		if (!states)
			work_add_event(&batch->work, scan.slot);
	}
	log_scan_end(&scan);
}

/* What was collected of a parked aggregate is handled: the rest waits on. */
static void
advance_parked(Batch *batch, Parked *parked)
{
	const Change *change = only_change(batch);

	if (change == NULL || change->last >= parked->last || projection_is_of_states(batch->projection))
	{
		parked_remove(batch->projection->name, &parked->key);
		return;
	}
	parked->first = change->last + 1;
	parked_advance(batch->projection->name, parked);
}

/* Handles what was collected of a parked aggregate; the error that it failed with, or NULL. */
static ErrorData *
try_parked(Batch *batch)
{
	int			deaths = note_attempt(batch);
	ErrorData  *error = NULL;

	if (deaths >= MAX_DEATHS)
	{
		error = death_error(deaths);
		note_deadly(batch, error);
	}
	else
	{
		work_prepare(&batch->work, true);
		error = attempt(do_work, batch);
	}
	if (error && failure_class(error) == FAILURE_OF_SERVER)
		ReThrowError(error);
	suspect_done(batch->projection->name, batch->nhandled);
	return error;
}

static BatchResult
retry_locked(Batch *batch, BatchOutcome *outcome)
{
	Parked		parked;
	ErrorData  *error = NULL;
	const Change *change;

	if (!batch->has_parked || !parked_take_due(batch->projection->name, &parked))
		return BATCH_DONE;
	batch->limit = 1;
	collect_parked(batch, &parked);
	change = only_change(batch);
	if (change != NULL)
		error = try_parked(batch);
	outcome->handled = batch->nhandled;
	if (error == NULL)
	{
		advance_parked(batch, &parked);
		return BATCH_MORE;
	}
	if (!projection_is_of_states(batch->projection))
		parked.first = change->first;
	parked.attempts = failure_is_death(error) ? dugong_max_attempts : parked.attempts + 1;
	parked_add(batch->projection->name, &parked, &change->event_id, error);
	return BATCH_MORE;
}

/*
 * Tries again what a projection has set aside and is due: one aggregate, or
 * one event.  BATCH_MORE if there was one.
 */
BatchResult
batch_retry(const BatchRequest *request)
{
	BatchOutcome outcome;

	return with_projection(request, retry_locked, &outcome);
}

#define LIMIT_FACTOR 8

/* After a failure: the next batch is smaller, and one of a single event isolates it. */
void
batch_smaller(BatchRequest *request)
{
	request->limit = Max(Min(request->limit, dugong_batch_size) / LIMIT_FACTOR, 1);
	request->isolates = request->limit == 1;
}

/* After a success: the next one is larger. */
void
batch_larger(BatchRequest *request)
{
	request->limit = request->limit > INT_MAX / LIMIT_FACTOR ? INT_MAX : request->limit * LIMIT_FACTOR;
	request->isolates = false;
	request->patient = true;
}
