/*
 * snapshot.c
 *		Cached states of aggregates.
 *
 * A snapshot is the transition state at a sequence number, in the binary form
 * of its type's send function.  It is taken by the append that passes a
 * multiple of the type's interval, in its transaction and under the
 * aggregate's lock; there is one row for each aggregate.  It is only taken if
 * the stored form gives the same state back, and only used if what makes
 * states is what it was then (fingerprint.c).  It may vanish at any time.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "aggregate/fingerprint.h"
#include "aggregate/snapshot.h"
#include "aggregate/stored_state.h"
#include "catalog/index.h"
#include "catalog/pg_publication.h"
#include "compat.h"
#include "errors.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "store/aggregate_lock.h"
#include "store/append.h"
#include "store/ownership.h"
#include "store/tenant.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "util/args.h"
#include "util/attempt.h"
#include "util/fault.h"
#include "util/plan.h"

PG_FUNCTION_INFO_V1(dugong_take_snapshot);
PG_FUNCTION_INFO_V1(dugong_drop_snapshots);
PG_FUNCTION_INFO_V1(dugong_snapshot_is_valid);

/* Events between two snapshots of an aggregate with a small state, bytes, which a command has built. */
#define INTERVAL_IN_HAND 5
#define MAX_SMALL_STATE 256

/* Columns of dugong.aggregate_snapshots, in their order. */
enum
{
	SNAPSHOT_AGGREGATE_ID = 1,
	SNAPSHOT_AGGREGATE_TYPE_ID,
	SNAPSHOT_TENANT_ID,
	SNAPSHOT_SEQUENCE_NUMBER,
	SNAPSHOT_FINGERPRINT,
	SNAPSHOT_STATE,
	SNAPSHOT_TAKEN_AT
};

#define SNAPSHOT_NCOLUMNS SNAPSHOT_TAKEN_AT

/* As attempt(), for what is done to a state; an error that is not the state's passes. */
ErrorData *
snapshot_attempt_state(AttemptAction action, void *arg)
{
	ErrorData  *error = attempt(action, arg);

	if (error && error_is_foreign(error))
		ReThrowError(error);
	return error;
}

/*
 * Takes the stored snapshot, if it is good and not beyond the limit; else the
 * aggregate stays as it is.  One that cannot be read is not good; but a
 * parallel operation cannot try, and reports why.
 */
static void
use_snapshot(Aggregate *aggregate, TupleTableSlot *slot, int64 to_sequence_number)
{
	bool		isnull;
	int64		sequence_number = DatumGetInt64(slot_getattr(slot, SNAPSHOT_SEQUENCE_NUMBER, &isnull));
	StoredState stored = {.type = aggregate->fold->state.oid};
	ErrorData  *error = NULL;
	MemoryContext old;

	if (sequence_number > to_sequence_number ||
		DatumGetInt64(slot_getattr(slot, SNAPSHOT_FINGERPRINT, &isnull)) != aggregate->fingerprint)
		return;
	old = MemoryContextSwitchTo(aggregate->context);
	stored.stored = DatumGetByteaPP(slot_getattr(slot, SNAPSHOT_STATE, &isnull));
	if (IsInParallelMode())
		stored_state_read(&stored);
	else
		error = snapshot_attempt_state(stored_state_read, &stored);
	MemoryContextSwitchTo(old);
	if (error)
		return;
	aggregate->transition = stored.state;
	aggregate->transition_isnull = false;
	aggregate->sequence_number = sequence_number;
}

/*
 * Starts a new aggregate from its snapshot, if there is a good one at or below
 * a sequence number.  The caller acts as the type's owner.
 */
void
snapshot_restore(Aggregate *aggregate, int64 to_sequence_number, Snapshot snapshot)
{
	Relation	table;
	ScanKeyData keys[3];
	LogScan		scan;

	if (aggregate->type->snapshot_interval == 0)
		return;
	table = table_open(dugong_relid("aggregate_snapshots"), AccessShareLock);
	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(&aggregate->key.id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(aggregate->key.type_id));
	ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_TEXTEQ, PointerGetDatum(aggregate->key.tenant_id));
	log_scan_begin(&scan, table, "aggregate_snapshots_idx", keys, 3, ForwardScanDirection, snapshot);
	if (log_scan_next(&scan))
	{
		aggregate->snapshot_tid = scan.slot->tts_tid;
		use_snapshot(aggregate, scan.slot, to_sequence_number);
	}
	log_scan_end(&scan);
	table_close(table, NoLock);
}

/* Is the snapshots' table as dugong made it? */
static bool
table_is_own(Relation table)
{
	List	   *indexes = RelationGetIndexList(table);
	bool		is_own = table->trigdesc == NULL && table->rd_rules == NULL && !table->rd_rel->relrowsecurity &&
		list_length(indexes) == 1 && linitial_oid(indexes) == dugong_relid("aggregate_snapshots_idx");

	list_free(indexes);
	return is_own;
}

/* A new version of a row that found no room in its page needs a new entry. */
static void
insert_index_entry(Relation table, TupleTableSlot *slot)
{
	Relation	index = index_open(dugong_relid("aggregate_snapshots_idx"), RowExclusiveLock);
	IndexInfo  *info = BuildIndexInfo(index);
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];

	FormIndexDatum(info, slot, NULL, values, nulls);
	(void) index_insert(index, values, nulls, &slot->tts_tid, table, UNIQUE_CHECK_YES, false, info);
	index_close(index, NoLock);
}

/*
 * The short way: writes the row over that which the build has read; it costs a
 * tenth of a statement.  False if it is not there any more, or the table is
 * not what it was.
 */
static bool
overwrite(const Aggregate *aggregate, bytea *state)
{
	Relation	table;
	TupleTableSlot *slot;
	ItemPointerData tid = aggregate->snapshot_tid;
	TM_FailureData failure;
	LockTupleMode mode;
	UpdatedIndexes updated;
	bool		done;

	if (!ItemPointerIsValid(&tid))
		return false;
	table = table_open(dugong_relid("aggregate_snapshots"), RowExclusiveLock);
	slot = table_slot_create(table, NULL);
	/* This transaction may have replaced it since: an inline projection's handler can do anything. */
	if (!table_is_own(table) || !table_tuple_fetch_row_version(table, &tid, SnapshotSelf, slot))
	{
		ExecDropSingleTupleTableSlot(slot);
		table_close(table, NoLock);
		return false;
	}
	ExecClearTuple(slot);
	slot->tts_values[SNAPSHOT_AGGREGATE_ID - 1] = UUIDPGetDatum(&aggregate->key.id);
	slot->tts_values[SNAPSHOT_AGGREGATE_TYPE_ID - 1] = Int32GetDatum(aggregate->key.type_id);
	slot->tts_values[SNAPSHOT_TENANT_ID - 1] = PointerGetDatum(aggregate->key.tenant_id);
	slot->tts_values[SNAPSHOT_SEQUENCE_NUMBER - 1] = Int64GetDatum(aggregate->sequence_number);
	slot->tts_values[SNAPSHOT_FINGERPRINT - 1] = Int64GetDatum(aggregate->fingerprint);
	slot->tts_values[SNAPSHOT_STATE - 1] = PointerGetDatum(state);
	slot->tts_values[SNAPSHOT_TAKEN_AT - 1] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	memset(slot->tts_isnull, false, SNAPSHOT_NCOLUMNS * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	done = table_tuple_update(table, &tid, slot, GetCurrentCommandId(true), SnapshotAny, InvalidSnapshot,
							  true, &failure, &mode, &updated) == TM_Ok;
	fault_point("snapshot-row-is-written");
	if (done && updated_indexes_any(updated))
		insert_index_entry(table, slot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(table, NoLock);
	return done;
}

/* Keeps it, in the place of what is there. */
void
snapshot_store(const Aggregate *aggregate, bytea *state)
{
	static SavedPlan upsert = {
		.sql = "INSERT INTO dugong.aggregate_snapshots "
		"(aggregate_id, aggregate_type_id, tenant_id, sequence_number, fingerprint, state) "
		"VALUES ($1, $2, $3, $4, $5, $6) "
		"ON CONFLICT (aggregate_id, aggregate_type_id, tenant_id COLLATE \"C\") DO UPDATE "
		"SET sequence_number = EXCLUDED.sequence_number, fingerprint = EXCLUDED.fingerprint, "
		"state = EXCLUDED.state, taken_at = EXCLUDED.taken_at",
		.nargs = 6,
		.argtypes = {UUIDOID, INT4OID, TEXTOID, INT8OID, INT8OID, BYTEAOID}
	};
	Datum		values[6];

	if (overwrite(aggregate, state))
		return;
	values[0] = UUIDPGetDatum(&aggregate->key.id);
	values[1] = Int32GetDatum(aggregate->key.type_id);
	values[2] = PointerGetDatum(aggregate->key.tenant_id);
	values[3] = Int64GetDatum(aggregate->sequence_number);
	values[4] = Int64GetDatum(aggregate->fingerprint);
	values[5] = PointerGetDatum(state);
	(void) execute_as_owner(&upsert, values, NULL);
}

/* Says once in a session and type why there are no snapshots. */
static void
warn_unstorable(const AggregateType *type, const char *what, const char *why)
{
	static List *warned = NIL;	/* of type ids, in TopMemoryContext */
	MemoryContext old;

	if (list_member_int(warned, type->id))
		return;
	old = MemoryContextSwitchTo(TopMemoryContext);
	warned = lappend_int(warned, type->id);
	MemoryContextSwitchTo(old);
	ereport(WARNING,
			(errmsg("could not take a snapshot of aggregate type \"%s\": %s", text_to_cstring(type->name), what),
			 errdetail("%s", why),
			 errhint("Set its snapshot_interval to 0 with dugong.alter_aggregate_type() if it shall have none.")));
}

/* Types whose states could not be stored, as their folds were then. */
typedef struct Unstorable
{
	int32		type_id;
	int64		fingerprint;
} Unstorable;

static List *unstorable;		/* in TopMemoryContext */

static bool
is_unstorable(const AggregateType *type)
{
	ListCell   *cell;

	foreach(cell, unstorable)
	{
		const Unstorable *entry = lfirst(cell);

		if (entry->type_id == type->id && entry->fingerprint == fingerprint_get(type))
			return true;
	}
	return false;
}

/* Remembers it, so that not every append of the session builds an aggregate in vain. */
static void
note_unstorable(const Aggregate *aggregate)
{
	MemoryContext old;
	Unstorable *entry;

	if (is_unstorable(aggregate->type))
		return;
	old = MemoryContextSwitchTo(TopMemoryContext);
	entry = palloc(sizeof(Unstorable));
	entry->type_id = aggregate->key.type_id;
	entry->fingerprint = aggregate->fingerprint;
	unstorable = lappend(unstorable, entry);
	MemoryContextSwitchTo(old);
}

/* The stored form of a state that comes back from it the same; else NULL, after a warning. */
static bytea *
stored_form(const Aggregate *aggregate)
{
	StoredState stored = {.type = aggregate->fold->state.oid,.state = aggregate->transition};
	ErrorData  *error;
	Identity	before;

	aggregate_type_assume_owner(aggregate->type, &before);
	error = snapshot_attempt_state(stored_state_write, &stored);
	identity_restore(&before);
	if (error == NULL && stored.same)
		return stored.stored;
	note_unstorable(aggregate);
	warn_unstorable(aggregate->type, "its state cannot be stored",
					error ? error->message : "It does not come back the same from its stored form.");
	return NULL;
}

/* Is the fold still what the aggregate was built with? */
static bool
fold_is_unchanged(const Aggregate *aggregate)
{
	AcceptInvalidationMessages();
	return fingerprint_get(aggregate_type_get(aggregate->key.type_id)) == aggregate->fingerprint;
}

/*
 * May snapshots be replaced?  Not while a publication has their table, as one
 * FOR ALL TABLES has, and that has no replica identity; then says so.
 */
static bool
table_is_updatable(const AggregateType *type)
{
	Relation	table = table_open(dugong_relid("aggregate_snapshots"), RowExclusiveLock);
	bool		updatable = true;

	if (table->rd_rel->relreplident != REPLICA_IDENTITY_FULL && !OidIsValid(RelationGetReplicaIndex(table)))
	{
		PublicationDesc published;

		RelationBuildPublicationDesc(table, &published);
		updatable = !published.pubactions.pubupdate;
	}
	table_close(table, NoLock);
	if (!updatable)
		warn_unstorable(type, "their table is published and has no replica identity",
						"ALTER TABLE dugong.aggregate_snapshots REPLICA IDENTITY FULL gives it one; subscribers do not need it.");
	return updatable;
}

/* The stored form of an aggregate whose lock is held; NULL if it cannot or need not be stored. */
bytea *
snapshot_make(const Aggregate *aggregate)
{
	bytea	   *state;

	if (aggregate->sequence_number == 0 || aggregate->transition_isnull || !table_is_updatable(aggregate->type))
		return NULL;
	state = stored_form(aggregate);
	return state && fold_is_unchanged(aggregate) ? state : NULL;
}

/* An append that has passed a multiple of the interval. */
typedef struct DueSnapshot
{
	Aggregate	aggregate;
	bytea	   *state;
} DueSnapshot;

static void
build_due(void *arg)
{
	DueSnapshot *due = arg;

	aggregate_init(&due->aggregate, &due->aggregate.key);
	aggregate_build_current(&due->aggregate);
}

static void
store_due(void *arg)
{
	DueSnapshot *due = arg;

	snapshot_store(&due->aggregate, due->state);
}

/* A snapshot that another transaction has taken since a REPEATABLE READ one began must not fail the append. */
static void
store_if_possible(DueSnapshot *due)
{
	ErrorData  *error;

	if (due->state == NULL)
		return;
	if (!IsolationUsesXactSnapshot())
	{
		store_due(due);
		return;
	}
	error = attempt(store_due, due);
	if (error && error->sqlerrcode != ERRCODE_T_R_SERIALIZATION_FAILURE)
		ReThrowError(error);
}

/*
 * Takes a snapshot after an append.  A fold that fails must not fail the
 * append: whoever builds the aggregate hears of it.
 *
 * It is stored outside of the subtransaction, which so needs no id: many of
 * them would be a burden for every snapshot taken in the server.
 */
static void
take_due(const AggregateKey *key)
{
	DueSnapshot due = {.aggregate = {.key = *key}};
	ErrorData  *error = attempt(build_due, &due);

	if (error && error_is_foreign(error))
		ReThrowError(error);
	if (error)
	{
		warn_unstorable(aggregate_type_get(key->type_id), "its fold fails", error->message);
		return;
	}
	due.state = snapshot_make(&due.aggregate);
	store_if_possible(&due);
}

/*
 * How often this transaction has stored an aggregate's snapshot.  It cannot
 * clean up after itself, so whoever looks for one steps over all that were
 * before; and whoever finds it folds the events that came after.  Intervals
 * that grow by one each time, after the first few, keep both small: n events make sqrt(2n) snapshots.
 */
typedef struct Taken
{
	AggregateKey key;
	int			count;
	int64		last;			/* sequence number of the last */
} Taken;

#define FREE_SNAPSHOTS 8		/* at the interval itself */
#define MAX_TAKEN 10000			/* aggregates that are remembered */

static HTAB *taken;				/* in TopTransactionContext */

static Taken *
note_taken(const AggregateKey *key)
{
	AggregateKey kept = *key;
	Taken	   *entry;

	/* First: a savepoint may outlive the lack of memory. */
	kept.tenant_id = memcpy(MemoryContextAlloc(TopTransactionContext, VARSIZE_ANY(key->tenant_id)), key->tenant_id, VARSIZE_ANY(key->tenant_id));
	entry = hash_search(taken, &kept, HASH_ENTER, NULL);
	entry->count = 0;
	return entry;
}

/*
 * Is it too early for another one?  If not, it is counted.  An aggregate that
 * is not beyond its last snapshot has been rolled back to a savepoint, with it.
 */
static bool
too_early(const AggregateKey *key, int64 sequence_number, int interval)
{
	Taken	   *entry;

	if (taken && hash_get_num_entries(taken) >= MAX_TAKEN)
	{
		hash_destroy(taken);
		taken = NULL;
	}
	if (taken == NULL)
		taken = aggregate_table_create("dugong snapshots taken", sizeof(Taken), TopTransactionContext);
	entry = hash_search(taken, key, HASH_FIND, NULL);
	if (entry == NULL)
		entry = note_taken(key);
	else if (sequence_number > entry->last &&
			 sequence_number - entry->last < (int64) interval + Max(entry->count - FREE_SNAPSHOTS, 0))
		return true;
	entry->count++;
	entry->last = sequence_number;
	return false;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		taken = NULL;
}

/* Have the last count events of an aggregate made a snapshot due?  It is counted as taken then. */
static bool
is_due(const AggregateKey *key, int64 last, int64 count, int interval)
{
	const AggregateType *type = aggregate_type_get(key->type_id);

	return type->fold != NULL && interval > 0 &&
		last / interval != (last - count) / interval &&
		!is_unstorable(type) && !too_early(key, last, interval);
}

/* Called after each append; see append_done(). */
static void
after_append(const LogRow *row, int64 count)
{
	AggregateKey key;
	MemoryContext context;
	MemoryContext old;

	log_row_key(row, &key);
	if (!is_due(&key, DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER)), count,
				aggregate_type_get(key.type_id)->snapshot_interval))
		return;
	context = AllocSetContextCreate(CurrentMemoryContext, "dugong snapshot", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	take_due(&key);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/*
 * The same for who has built the aggregate under its lock, has appended one
 * event to it with event_append_behind() and has applied that.  He has the
 * state in hand; so, unless the type says how often, a small one is stored
 * more often: that costs less than to read more events the next time.
 */
void
snapshot_after_append(const Aggregate *aggregate)
{
	DueSnapshot due = {.aggregate = *aggregate};
	const AggregateType *type = aggregate->type;
	int64		last = aggregate->sequence_number;

	if (!is_due(&aggregate->key, last, 1, type->has_default_interval ? INTERVAL_IN_HAND : type->snapshot_interval))
		return;
	due.state = snapshot_make(&due.aggregate);
	if (due.state && VARSIZE(due.state) > MAX_SMALL_STATE && last % type->snapshot_interval != 0)
		return;
	store_if_possible(&due);
}

/* take_snapshot(aggregate_type, aggregate_id, tenant_id, origin): was one taken? */
Datum
dugong_take_snapshot(PG_FUNCTION_ARGS)
{
	AggregateKey key;
	Aggregate	aggregate;
	bytea	   *state = NULL;
	Identity	before;

	PreventCommandIfReadOnly("dugong.take_snapshot()");
	key.type_id = aggregate_type_by_name(arg_name(fcinfo, 3), arg_needed_name(fcinfo, 0, "aggregate type"))->id;
	key.id = *arg_needed_uuid(fcinfo, 1, "aggregate id");
	key.tenant_id = tenant_argument(fcinfo, 2);
	identity_enter(&before);
	aggregate_lock(&key);
	aggregate_init(&aggregate, &key);
	if (aggregate.type->snapshot_interval > 0)
	{
		aggregate_build_current(&aggregate);
		state = snapshot_make(&aggregate);
		if (state)
			snapshot_store(&aggregate, state);
	}
	identity_leave(&before);
	PG_RETURN_BOOL(state != NULL);
}

/* drop_snapshots(aggregate_type, origin): how many there were.  What an append is replacing is left to it. */
Datum
dugong_drop_snapshots(PG_FUNCTION_ARGS)
{
	static SavedPlan delete_of_type = {
		.sql = "DELETE FROM dugong.aggregate_snapshots WHERE ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
		"SELECT ctid FROM dugong.aggregate_snapshots WHERE aggregate_type_id OPERATOR(pg_catalog.=) $1 "
		"AND ($2 IS NULL OR tenant_id OPERATOR(pg_catalog.=) ANY ($2)) FOR UPDATE SKIP LOCKED))",
		.nargs = 2,
		.argtypes = {INT4OID, TEXTARRAYOID}
	};
	Datum		values[2];
	bool		nulls[2] = {false};

	PreventCommandIfReadOnly("dugong.drop_snapshots()");
	values[0] = Int32GetDatum(aggregate_type_by_name(arg_name(fcinfo, 1), arg_needed_name(fcinfo, 0, "aggregate type"))->id);
	values[1] = tenants_seen(GetUserId(), &nulls[1]);
	PG_RETURN_INT64(execute_as_owner(&delete_of_type, values, nulls));
}

/* Forgets the snapshot of an aggregate whose lock is held; how many there were. */
int64
snapshot_forget(const AggregateKey *key)
{
	static SavedPlan delete_one = {
		.sql = "DELETE FROM dugong.aggregate_snapshots WHERE aggregate_id OPERATOR(pg_catalog.=) $1 "
		"AND aggregate_type_id OPERATOR(pg_catalog.=) $2 AND tenant_id COLLATE \"C\" OPERATOR(pg_catalog.=) $3",
		.nargs = 3,
		.argtypes = {UUIDOID, INT4OID, TEXTOID}
	};
	Datum		values[] = {UUIDPGetDatum(&key->id), Int32GetDatum(key->type_id), PointerGetDatum(key->tenant_id)};

	return execute_as_owner(&delete_one, values, NULL);
}

/* snapshot_is_valid(aggregate_type_id, fingerprint): would a build use it? */
Datum
dugong_snapshot_is_valid(PG_FUNCTION_ARGS)
{
	const AggregateType *type = aggregate_type_by_id(PG_GETARG_INT32(0));

	PG_RETURN_BOOL(type != NULL && type->fold != NULL && type->snapshot_interval > 0 &&
				   fingerprint_get(type) == PG_GETARG_INT64(1));
}

void
snapshot_init(void)
{
	append_set_hook(after_append);
	RegisterXactCallback(at_transaction_end, NULL);
}
