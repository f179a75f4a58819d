/*
 * batch.c
 *		One step of a projection: read, build, write, move the checkpoint.
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
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "common/hashfn.h"
#include "guc.h"
#include "miscadmin.h"
#include "projection/batch.h"
#include "projection/checkpoint.h"
#include "projection/query_model.h"
#include "store/log.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "util/fault.h"
#include "util/identity.h"
#include "util/private_lock.h"

/* An aggregate that has events in the batch. */
typedef struct Change
{
	AggregateKey key;
} Change;

typedef struct Batch
{
	const Projection *projection;
	Relation	log;
	Snapshot	snapshot;
	Checkpoint	checkpoint;
	int			nevents;		/* read so far, of all types */
	HTAB	   *changes;		/* Change, by key */
} Batch;

static uint32
change_hash(const void *key, Size size)
{
	const AggregateKey *aggregate = key;

	return hash_bytes(aggregate->id.data, UUID_LEN);
}

static int
change_compare(const void *one, const void *other, Size size)
{
	const AggregateKey *a = one;
	const AggregateKey *b = other;

	return !(memcmp(&a->id, &b->id, UUID_LEN) == 0 &&
			 VARSIZE_ANY_EXHDR(a->tenant_id) == VARSIZE_ANY_EXHDR(b->tenant_id) &&
			 memcmp(VARDATA_ANY(a->tenant_id), VARDATA_ANY(b->tenant_id),
					VARSIZE_ANY_EXHDR(a->tenant_id)) == 0);
}

static void
batch_begin(Batch *batch, const Projection *projection)
{
	HASHCTL		ctl = {0};

	memset(batch, 0, sizeof(*batch));
	batch->projection = projection;
	batch->log = log_open(AccessShareLock);
	CommandCounterIncrement();
	batch->snapshot = RegisterSnapshot(GetTransactionSnapshot());
	PushActiveSnapshot(batch->snapshot);
	checkpoint_load(&batch->checkpoint, projection->name);

	ctl.keysize = sizeof(AggregateKey);
	ctl.entrysize = sizeof(Change);
	ctl.hash = change_hash;
	ctl.match = change_compare;
	ctl.hcxt = CurrentMemoryContext;
	batch->changes = hash_create("dugong changes", 256, &ctl,
								 HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

static void
batch_end(Batch *batch)
{
	PopActiveSnapshot();
	UnregisterSnapshot(batch->snapshot);
	table_close(batch->log, NoLock);
}

/* Notes that the aggregate of an event has changed. */
static void
note_change(Batch *batch, TupleTableSlot *slot)
{
	LogRow		row;
	AggregateKey key;
	Change	   *change;
	bool		found;

	batch->nevents++;
	log_row_from_slot(&row, slot);
	log_row_key(&row, &key);
	if (key.type_id != batch->projection->type->id)
		return;
	change = hash_search(batch->changes, &key, HASH_ENTER, &found);
	if (!found)
		change->key.tenant_id =
			DatumGetTextPCopy(log_row_value(&row, LOG_TENANT_ID));
}

static int64
slot_position(TupleTableSlot *slot)
{
	bool		isnull;

	return DatumGetInt64(slot_getattr(slot, LOG_POSITION, &isnull));
}

/* The candidates of a hole that have not ended, as the snapshot sees them. */
static Candidates
still_running(const Batch *batch, const Hole *hole)
{
	Candidates	running = {0, palloc(Max(hole->candidates.count, 1) * sizeof(uint64))};

	for (int i = 0; i < hole->candidates.count; i++)
		if (!candidate_has_ended(hole->candidates.xids[i], batch->snapshot))
			running.xids[running.count++] = hole->candidates.xids[i];
	return running;
}

/*
 * Reads what has appeared in a hole.  What is still empty stays a hole as long
 * as somebody may fill it; the part beyond the batch's limit stays as it was.
 */
static void
probe_hole(Batch *batch, const Hole *hole, const Candidates *running)
{
	int64		next = hole->first; /* first position not accounted for */
	bool		limit = false;
	LogScan		scan;

	log_scan_positions(&scan, batch->log, hole->first, hole->last, ForwardScanDirection, batch->snapshot);
	while (!limit && log_scan_next(&scan))
	{
		int64		position = slot_position(scan.slot);

		if (position > next && running)
			checkpoint_add_hole(&batch->checkpoint, next, position - 1, running);
		next = position + 1;
		note_change(batch, scan.slot);
		limit = batch->nevents >= dugong_batch_size;
	}
	log_scan_end(&scan);

	if (next <= hole->last && (limit || running))
		checkpoint_add_hole(&batch->checkpoint, next, hole->last,
							limit ? &hole->candidates : running);
}

/*
 * Probes the holes of which a candidate has ended.  The candidates of another
 * cluster mean nothing here: its holes are probed, and kept once more with
 * those that run here.
 */
static void
read_holes(Batch *batch)
{
	Checkpoint *checkpoint = &batch->checkpoint;
	Candidates	here;
	ListCell   *cell;

	if (checkpoint->foreign)
		candidates_list(&here);
	foreach(cell, checkpoint->holes)
	{
		Hole	   *hole = lfirst(cell);
		Candidates	running;

		if (batch->nevents >= dugong_batch_size)
			break;
		if (checkpoint->foreign)
			running = here;
		else
		{
			running = still_running(batch, hole);
			if (running.count == hole->candidates.count && running.count > 0)
				continue;
		}
		checkpoint->removed = lappend(checkpoint->removed, hole);
		probe_hole(batch, hole,
				   checkpoint->foreign || running.count > 0 ? &running : NULL);
	}
}

/* Reads on from the position, and notes the holes that it passes. */
static void
read_above(Batch *batch)
{
	Checkpoint *checkpoint = &batch->checkpoint;
	List	   *starts = NIL;
	LogScan		scan;
	Candidates	candidates;
	ListCell   *cell;

	log_scan_positions(&scan, batch->log, checkpoint->position + 1, PG_INT64_MAX,
					   ForwardScanDirection, batch->snapshot);
	while (batch->nevents < dugong_batch_size && log_scan_next(&scan))
	{
		int64		position = slot_position(scan.slot);

		CHECK_FOR_INTERRUPTS();
		if (position > checkpoint->position + 1)
		{
			Hole	   *hole = palloc(sizeof(Hole));

			hole->first = checkpoint->position + 1;
			hole->last = position - 1;
			starts = lappend(starts, hole);
		}
		checkpoint->position = position;
		note_change(batch, scan.slot);
	}
	log_scan_end(&scan);

	if (starts == NIL)
		return;
	candidates_list(&candidates);
	foreach(cell, starts)
	{
		Hole	   *hole = lfirst(cell);

		checkpoint_add_hole(checkpoint, hole->first, hole->last, &candidates);
	}
}

/*
 * Builds each changed aggregate as the snapshot sees it, and writes it.  That
 * may be ahead of the batch: then a later batch writes it again.  To stop at
 * the batch's last event would fold an old aggregate from its first event on,
 * in every batch of a catch-up.
 */
static void
write_changes(Batch *batch)
{
	QueryModel *model;
	HASH_SEQ_STATUS seq;
	Change	   *change;

	if (hash_get_num_entries(batch->changes) == 0)
		return;
	model = query_model_open(batch->projection->query_model);
	hash_seq_init(&seq, batch->changes);
	while ((change = hash_seq_search(&seq)) != NULL)
	{
		Aggregate	aggregate;

		aggregate_init(&aggregate, &change->key);
		aggregate_build(&aggregate, batch->log, NULL, batch->snapshot);
		query_model_write(model, &aggregate);
		aggregate_free(&aggregate);
	}
}

static bool
lock_projection(const char *name, bool wait)
{
	uint64		key = hash_bytes_extended((const unsigned char *) name, strlen(name), 0);
	LOCKTAG		tag = private_lock_tag(MyDatabaseId, LOCK_PROJECTION, key);

	return LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;
}

static BatchResult
run_locked(const Projection *projection)
{
	Batch		batch;
	bool		full;

	batch_begin(&batch, projection);
	read_holes(&batch);
	fault_point("projection-between-reads");
	if (batch.nevents < dugong_batch_size)
		read_above(&batch);
	write_changes(&batch);
	fault_point("projection-before-checkpoint");
	if (batch.nevents > 0 || batch.checkpoint.removed != NIL)
		checkpoint_save(&batch.checkpoint, projection->name);
	full = batch.nevents >= dugong_batch_size;
	batch_end(&batch);
	return full ? BATCH_MORE : BATCH_DONE;
}

/*
 * Runs one batch of a projection in the current transaction, with the rights
 * of the log's owner.
 *
 * wait: wait for a session that has the projection, or return BATCH_BUSY?
 */
BatchResult
batch_run(const Projection *projection, bool wait)
{
	MemoryContext context;
	MemoryContext old;
	Identity	before;
	BatchResult result;

	if (!lock_projection(projection->name, wait))
		return BATCH_BUSY;

	context = AllocSetContextCreate(CurrentMemoryContext, "dugong batch",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	identity_assume(&before, dugong_owner());
	result = run_locked(projection);
	identity_restore(&before);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return result;
}
