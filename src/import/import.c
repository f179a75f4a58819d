/*
 * import.c
 *		Taking over the events of another table.
 *
 * First all of the source is verified and what is new in it is kept
 * (verify.c).  Then that is appended, in its order, in transactions of bounded
 * size.  Each locks its aggregates and tags, in the order of their lock keys and
 * so few that the log need not be locked, and looks where the aggregates end: one
 * that somebody has gone on with meanwhile is UG001.  So nothing is overwritten,
 * nothing comes twice, and appends to other aggregates go on.
 *
 * How far an import has come is in dugong.imports, for those who watch.  To go
 * on after a crash or a cancel nothing is needed but the log itself.
 *
 * The source is read with the caller's rights, the log is written as its owner.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "import/source.h"
#include "import/verify.h"
#include "miscadmin.h"
#include "store/aggregate_lock.h"
#include "store/append.h"
#include "store/event_tag.h"
#include "store/log.h"
#include "store/ownership.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "util/args.h"
#include "util/identity.h"
#include "util/plan.h"
#include "util/private_lock.h"

PG_FUNCTION_INFO_V1(dugong_import_events);

#define MAX_BATCH_BYTES (16 * 1024 * 1024)

typedef struct Import
{
	Source		source;
	Oid			relid;
	Jsonb	   *mapping;		/* or NULL */
	bool		atomic;			/* all in the caller's transaction */
	int			batch_size;		/* events in a transaction */
	int64		done;			/* events of the source that are in the log */
	Verified	verified;
	TupleTableSlot *slot;
} Import;

/* An aggregate that a batch appends to. */
typedef struct Target
{
	AggregateKey key;			/* hash key */
	int64		first;			/* sequence number of the first event to come */
	AggregateHead head;
} Target;

/* Some events, read from what is kept. */
typedef struct Batch
{
	LogRow	   *events;
	Target	  **targets;		/* of each event */
	int			count;
	HTAB	   *aggregates;		/* of Target */
	TagLocks	tags;			/* of all events */
} Batch;

/* Somebody may watch; another import of the same source would only fail later. */
static void
lock_source(const Import *import, LOCKTAG *tag)
{
	uint64		key = hash_bytes_extended((const unsigned char *) import->source.name, strlen(import->source.name), 0);

	*tag = private_lock_tag(MyDatabaseId, LOCK_IMPORT, key);
	if (LockAcquire(tag, ExclusiveLock, !import->atomic, true) == LOCKACQUIRE_NOT_AVAIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("%s is being imported by another session", import->source.name)));
}

static void
import_begin(const Import *import)
{
	static SavedPlan upsert_import = {
		.sql = "INSERT INTO dugong.imports (source, mapping, imported_by, phase, done, pid, started_at, updated_at) "
		"VALUES ($1, $2, $3, 'verify', 0, pg_catalog.pg_backend_pid(), pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp()) "
		"ON CONFLICT (source) DO UPDATE SET mapping = EXCLUDED.mapping, imported_by = EXCLUDED.imported_by, "
		"phase = EXCLUDED.phase, done = 0, total = NULL, pid = EXCLUDED.pid, started_at = EXCLUDED.started_at, "
		"updated_at = EXCLUDED.updated_at, finished_at = NULL",
		.nargs = 3,
		.argtypes = {TEXTOID, JSONBOID, TEXTOID}
	};
	Datum		values[] = {
		CStringGetTextDatum(import->source.name), PointerGetDatum(import->mapping),
		CStringGetTextDatum(GetUserNameFromId(GetUserId(), false))
	};
	bool		nulls[] = {false, import->mapping == NULL, false};

	(void) execute_as_owner(&upsert_import, values, nulls);
}

static void
import_save(const Import *import, bool finished)
{
	static SavedPlan update_import = {
		.sql = "UPDATE dugong.imports SET phase = CASE WHEN $4 THEN 'done' ELSE 'import' END, done = $2, total = $3, "
		"updated_at = pg_catalog.clock_timestamp(), finished_at = CASE WHEN $4 THEN pg_catalog.clock_timestamp() END "
		"WHERE source OPERATOR(pg_catalog.=) $1",
		.nargs = 4,
		.argtypes = {TEXTOID, INT8OID, INT8OID, BOOLOID}
	};
	Datum		values[] = {
		CStringGetTextDatum(import->source.name), Int64GetDatum(import->done), Int64GetDatum(import->verified.total),
		BoolGetDatum(finished)
	};

	(void) execute_as_owner(&update_import, values, NULL);
}

static void
commit(const Import *import)
{
	if (!import->atomic)
		SPI_commit();
}

static void
verify(Import *import)
{
	source_read_mapping(&import->source, import->relid, import->mapping);
	import->verified.events = tuplestore_begin_heap(false, true, maintenance_work_mem);
	source_verify(&import->source, &import->verified);
	import->slot = MakeSingleTupleTableSlot(import->source.desc, &TTSOpsMinimalTuple);
	/* What is kept goes to its file, if it has one, while the file's owner lives. */
	(void) tuplestore_gettupleslot(import->verified.events, true, false, import->slot);
	ExecClearTuple(import->slot);
	tuplestore_rescan(import->verified.events);
	import->done = import->verified.stored;
}

/* The aggregate of an event, entered now if it is the batch's first of it. */
static Target *
find_target(Batch *batch, const LogRow *event)
{
	AggregateKey key;
	Target	   *target;
	bool		found;

	log_row_key(event, &key);
	target = hash_search(batch->aggregates, &key, HASH_ENTER, &found);
	if (!found)
		target->first = DatumGetInt64(log_row_value(event, LOG_SEQUENCE_NUMBER));
	return target;
}

/* Takes the next row of what is kept; false at its end. */
static bool
read_event(Import *import, LogRow *event, TagLocks *tags, Size *bytes)
{
	HeapTuple	tuple;
	SourceRow	row;
	int32		type_id;

	if (!tuplestore_gettupleslot(import->verified.events, true, false, import->slot))
		return false;
	tuple = ExecCopySlotHeapTuple(import->slot);
	/* What comes from the file is in the batch's memory, which goes before the slot. */
	ExecClearTuple(import->slot);
	*bytes += tuple->t_len;
	heap_deform_tuple(tuple, import->source.desc, row.values, row.nulls);
	(void) source_find_type(&import->source, &row, &type_id);
	source_to_event(&import->source, &row, type_id, event);
	event_check_import(event, tags);
	return true;
}

/* Can it lock what one more event needs, and not the log? */
static bool
has_locks_left(Batch *batch)
{
	long		room = MAX_AGGREGATE_LOCKS - MAX_EVENT_TAGS - 1 - hash_get_num_entries(batch->aggregates);

	if (batch->tags.count >= room)
		tag_locks_compact(&batch->tags);
	return batch->tags.count < room;
}

/*
 * Reads the events of a transaction, in the current memory context: so many
 * that neither memory nor the number of locks need care.
 */
static bool
read_batch(Import *import, Batch *batch)
{
	Size		bytes = 0;

	memset(batch, 0, sizeof(*batch));
	batch->events = palloc(import->batch_size * sizeof(LogRow));
	batch->targets = palloc(import->batch_size * sizeof(Target *));
	batch->aggregates = aggregate_table_create("dugong import", sizeof(Target), CurrentMemoryContext);
	while (batch->count < import->batch_size && bytes < MAX_BATCH_BYTES &&
		   has_locks_left(batch) && read_event(import, &batch->events[batch->count], &batch->tags, &bytes))
	{
		CHECK_FOR_INTERRUPTS();
		batch->targets[batch->count] = find_target(batch, &batch->events[batch->count]);
		batch->count++;
	}
	return batch->count > 0;
}

/* Waits until nobody else decides on the batch's aggregates and tags. */
static void
lock_targets(Batch *batch)
{
	const AggregateKey **keys = palloc(hash_get_num_entries(batch->aggregates) * sizeof(AggregateKey *));
	HASH_SEQ_STATUS seq;
	Target	   *target;
	int			count = 0;

	hash_seq_init(&seq, batch->aggregates);
	while ((target = hash_seq_search(&seq)) != NULL)
		keys[count++] = &target->key;
	aggregate_lock_several(keys, count, &batch->tags);
}

/* Reads where the aggregates end, under their locks.  UG001 if it is not where the batch goes on. */
static void
read_heads(const Batch *batch, Relation log)
{
	Snapshot	snapshot = snapshot_register_latest();
	HASH_SEQ_STATUS seq;
	Target	   *target;

	hash_seq_init(&seq, batch->aggregates);
	while ((target = hash_seq_search(&seq)) != NULL)
	{
		aggregate_head(log, &target->key, target->first - 1, snapshot, &target->head);
		if (target->head.sequence_number != target->first - 1)
			event_check_head(&target->key, target->first - 1);
	}
	UnregisterSnapshot(snapshot);
}

/* Appends the events of a transaction; false if there are no more. */
static bool
append_batch(Import *import)
{
	Identity	before;
	Relation	log;
	Batch		batch;
	uint64		appends;

	if (!read_batch(import, &batch))
		return false;
	lock_targets(&batch);
	identity_assume(&before, dugong_owner());
	log = log_open(RowExclusiveLock);
	read_heads(&batch, log);
	appends = append_count();
	for (int i = 0; i < batch.count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		/* What an inline projection's handler has appended may be behind one of the heads. */
		if (append_count() != appends + i)
			event_check_head(&batch.targets[i]->key, batch.targets[i]->head.sequence_number);
		event_import(log, &batch.events[i], &batch.targets[i]->head);
	}
	table_close(log, NoLock);
	identity_restore(&before);
	import->done += batch.count;
	return true;
}

static void
append_all(Import *import)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dugong import", ALLOCSET_DEFAULT_SIZES);
	bool		more;

	do
	{
		MemoryContext old = MemoryContextSwitchTo(context);

		/* A commit has taken the call's snapshot: what is stored out of line may be touched under one only. */
		PushActiveSnapshot(GetTransactionSnapshot());
		more = append_batch(import);
		PopActiveSnapshot();
		import_save(import, !more);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		commit(import);
	} while (more);
	MemoryContextDelete(context);
}

static void
run(Import *import)
{
	import_begin(import);
	commit(import);
	verify(import);
	import_save(import, false);
	commit(import);
	append_all(import);
	ereport(NOTICE,
			(errmsg("imported " INT64_FORMAT " events of %s", import->done - import->verified.stored, import->source.name),
			 import->verified.stored == 0 ? 0 :
			 errdetail(INT64_FORMAT " were in the log already.", import->verified.stored)));
}

/* What outlives transactions must be given back by hand. */
static void
release(const Import *import, const LOCKTAG *tag)
{
	if (import->verified.events)
		tuplestore_end(import->verified.events);
	if (!import->atomic)
		LockRelease(tag, ExclusiveLock, true);
}

static void
import_source(Import *import)
{
	LOCKTAG		tag;

	lock_source(import, &tag);
	PG_TRY();
	{
		run(import);
	}
	PG_FINALLY();
	{
		release(import, &tag);
	}
	PG_END_TRY();
}

static int
batch_size_argument(FunctionCallInfo fcinfo, int number)
{
	int			batch_size = DatumGetInt32(arg_needed(fcinfo, number, "batch_size"));

	if (batch_size < 1 || batch_size > 100000)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("batch_size must be between 1 and 100000")));
	return batch_size;
}

/* import_events(source, mapping, create_aggregate_types, batch_size) */
Datum
dugong_import_events(PG_FUNCTION_ARGS)
{
	Import		import = {.atomic = call_is_atomic(fcinfo)};

	import.relid = DatumGetObjectId(arg_needed(fcinfo, 0, "source"));
	import.source.create_types = DatumGetBool(arg_needed(fcinfo, 2, "create_aggregate_types"));
	import.batch_size = batch_size_argument(fcinfo, 3);
	PreventCommandIfReadOnly("CALL dugong.import_events()");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("cannot import events in a REPEATABLE READ or SERIALIZABLE transaction"),
				 errdetail("Its snapshot may not see where aggregates end.")));
	SPI_connect_ext(import.atomic ? 0 : SPI_OPT_NONATOMIC);
	import.source.context = CurrentMemoryContext;
	import.source.name = source_name(import.relid);
	if (!PG_ARGISNULL(1))
		import.mapping = DatumGetJsonbPCopy(PG_GETARG_DATUM(1));
	commit(&import);
	import_source(&import);
	SPI_finish();
	PG_RETURN_VOID();
}
