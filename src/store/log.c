/*
 * log.c
 *		The event log: its columns, and index scans over it.
 *
 * The scans name their index themselves instead of going through the planner,
 * so that a plan made while the log was empty cannot slow down a log that has
 * grown, and no name is looked up along a search_path.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "common/hashfn.h"
#include "compat.h"
#include "store/erasure.h"
#include "store/log.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

/* Is the log there, under its name? */
bool
log_exists(void)
{
	Oid			namespace = get_namespace_oid("dugong", true);

	return OidIsValid(namespace) && OidIsValid(get_relname_relid("event_log", namespace));
}

Relation
log_open(LOCKMODE lockmode)
{
	return table_open(dugong_relid("event_log"), lockmode);
}

/*
 * A snapshot of this moment that also sees what this transaction has done so
 * far, in the running statement too.  The caller unregisters it.
 */
Snapshot
snapshot_register_latest(void)
{
	CommandCounterIncrement();
	return RegisterSnapshot(GetLatestSnapshot());
}

/*
 * A snapshot of this moment, to look at a relation.  A parallel operation may
 * not take one but through the catalogs' door, which for a relation that is no
 * catalog is always a new one.
 */
Snapshot
snapshot_register_now(Relation relation)
{
	return RegisterSnapshot(IsInParallelMode() ?
							GetCatalogSnapshot(RelationGetRelid(relation)) : GetLatestSnapshot());
}

/* A scan through an index of schema dugong, with keys in the order of its columns. */
void
log_scan_begin(LogScan *scan, Relation table, const char *index, ScanKey keys,
			   int nkeys, ScanDirection direction, Snapshot snapshot)
{
	scan->index = index_open(dugong_relid(index), AccessShareLock);
	for (int i = 0; i < nkeys; i++)
		keys[i].sk_collation = scan->index->rd_indcollation[keys[i].sk_attno - 1];
	scan->slot = table_slot_create(table, NULL);
	scan->direction = direction;
	scan->context = CurrentMemoryContext;
	scan->scan = index_beginscan_compat(table, scan->index, snapshot, nkeys);
	index_rescan(scan->scan, keys, nkeys, NULL, 0);
}

/* Events of an aggregate with sequence numbers from first to last, inclusive. */
void
log_scan_stream(LogScan *scan, Relation log, const AggregateKey *key,
				int64 first, int64 last, ScanDirection direction,
				Snapshot snapshot)
{
	ScanKeyData keys[5];
	int			nkeys = 3;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(&key->id));
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(key->type_id));
	ScanKeyInit(&keys[2], 3, BTEqualStrategyNumber, F_TEXTEQ, PointerGetDatum(key->tenant_id));
	/* Each key is compared with each entry of a page. */
	if (first > 1)
		ScanKeyInit(&keys[nkeys++], 4, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(first));
	if (last < PG_INT64_MAX)
		ScanKeyInit(&keys[nkeys++], 4, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(last));
	log_scan_begin(scan, log, "event_log_stream_idx", keys, nkeys, direction, snapshot);
}

/* Events at positions from first to last, inclusive, in order. */
void
log_scan_positions(LogScan *scan, Relation log, int64 first, int64 last,
				   ScanDirection direction, Snapshot snapshot)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(first));
	ScanKeyInit(&keys[1], 1, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(last));
	log_scan_begin(scan, log, "event_log_pkey", keys, 2, direction, snapshot);
}

/* The event of an id. */
void
log_scan_id(LogScan *scan, Relation log, const pg_uuid_t *id, Snapshot snapshot)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
	log_scan_begin(scan, log, "event_log_id_idx", &key, 1, ForwardScanDirection, snapshot);
}

/* The rows at these places that the snapshot sees, in the order given. */
void
log_scan_tids(LogScan *scan, Relation log, ItemPointer tids, int64 count, Snapshot snapshot)
{
	scan->index = NULL;
	scan->slot = table_slot_create(log, NULL);
	scan->log = log;
	scan->snapshot = snapshot;
	scan->tids = tids;
	scan->ntids = count;
}

/*
 * First events of a type's aggregates, in the order of their ids; after: NULL
 * = from the lowest.  tenant_id: NULL = of all tenants, each in turn.
 */
void
log_scan_first_events(LogScan *scan, Relation log, int32 type_id, text *tenant_id,
					  const pg_uuid_t *after, Snapshot snapshot)
{
	ScanKeyData keys[3];
	int			nkeys = 0;

	ScanKeyInit(&keys[nkeys++], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(type_id));
	if (tenant_id)
		ScanKeyInit(&keys[nkeys++], 2, BTEqualStrategyNumber, F_TEXTEQ, PointerGetDatum(tenant_id));
	if (after)
		ScanKeyInit(&keys[nkeys++], 3, BTGreaterStrategyNumber, F_UUID_GT, UUIDPGetDatum(after));
	log_scan_begin(scan, log, "event_log_first_idx", keys, nkeys, ForwardScanDirection, snapshot);
}

/* First events of a type's aggregates of the tenants that come after one. */
void
log_scan_first_events_beyond(LogScan *scan, Relation log, int32 type_id, text *tenant_id, Snapshot snapshot)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(type_id));
	ScanKeyInit(&keys[1], 2, BTGreaterStrategyNumber, F_TEXT_GT, PointerGetDatum(tenant_id));
	log_scan_begin(scan, log, "event_log_first_idx", keys, 2, ForwardScanDirection, snapshot);
}

bool
log_scan_next(LogScan *scan)
{
	MemoryContext old;
	bool		found;

	if (scan->index == NULL)
	{
		while (scan->ntids-- > 0)
			if (table_tuple_fetch_row_version(scan->log, scan->tids++, scan->snapshot, scan->slot))
				return true;
		return false;
	}
	/* A btree makes room for dead entries when it meets the first one, and frees it at the end. */
	old = MemoryContextSwitchTo(scan->context);
	found = index_getnext_slot(scan->scan, scan->direction, scan->slot);
	MemoryContextSwitchTo(old);
	return found;
}

void
log_scan_end(LogScan *scan)
{
	ExecDropSingleTupleTableSlot(scan->slot);
	if (scan->index == NULL)
		return;
	index_endscan(scan->scan);
	index_close(scan->index, AccessShareLock);
}

void
log_row_set(LogRow *row, LogColumn column, Datum value)
{
	row->values[column - 1] = value;
	row->nulls[column - 1] = false;
}

/* Copies a row out of a slot; fields point into the slot's tuple. */
void
log_row_from_slot(LogRow *row, TupleTableSlot *slot)
{
	slot_getallattrs(slot);
	memcpy(row->values, slot->tts_values, sizeof(row->values));
	memcpy(row->nulls, slot->tts_isnull, sizeof(row->nulls));
}

/* Takes a tuple of the log apart; fields point into it.  Columns that its owner has added are not in a row. */
void
log_row_from_tuple(LogRow *row, HeapTuple tuple, TupleDesc desc)
{
	for (int i = 0; i < LOG_NCOLUMNS; i++)
		row->values[i] = heap_getattr(tuple, i + 1, desc, &row->nulls[i]);
}

/* The tuple with the fields of a row in the place of its own. */
HeapTuple
log_row_to_tuple(LogRow *row, HeapTuple tuple, TupleDesc desc)
{
	int			columns[LOG_NCOLUMNS];

	for (int i = 0; i < LOG_NCOLUMNS; i++)
		columns[i] = i + 1;
	return heap_modify_tuple_by_cols(tuple, desc, LOG_NCOLUMNS, columns, row->values, row->nulls);
}

/* The aggregate that a row belongs to; tenant_id points into the row. */
void
log_row_key(const LogRow *row, AggregateKey *key)
{
	key->type_id = DatumGetInt32(log_row_value(row, LOG_AGGREGATE_TYPE_ID));
	key->id = *DatumGetUUIDP(log_row_value(row, LOG_AGGREGATE_ID));
	key->tenant_id = DatumGetTextPP(log_row_value(row, LOG_TENANT_ID));
}

static uint32
key_hash(const void *key, Size size)
{
	const AggregateKey *aggregate = key;

	return hash_bytes(aggregate->id.data, UUID_LEN);
}

bool
aggregate_key_equal(const AggregateKey *a, const AggregateKey *b)
{
	return a->type_id == b->type_id && memcmp(&a->id, &b->id, UUID_LEN) == 0 &&
		VARSIZE_ANY_EXHDR(a->tenant_id) == VARSIZE_ANY_EXHDR(b->tenant_id) &&
		memcmp(VARDATA_ANY(a->tenant_id), VARDATA_ANY(b->tenant_id),
			   VARSIZE_ANY_EXHDR(a->tenant_id)) == 0;
}

static int
key_compare(const void *one, const void *other, Size size)
{
	return !aggregate_key_equal(one, other);
}

/*
 * A hash table whose entries begin with an AggregateKey.  Who enters one
 * copies the key's tenant_id.
 */
HTAB *
aggregate_table_create(const char *name, Size entry_size, MemoryContext context)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(AggregateKey);
	ctl.entrysize = entry_size;
	ctl.hash = key_hash;
	ctl.match = key_compare;
	ctl.hcxt = context;
	return hash_create(name, 64, &ctl, HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

/*
 * The highest position that the snapshot sees; 0 = none.  With SnapshotAny,
 * whoever wrote it and whether it lives.
 */
int64
log_last_position(Relation log, Snapshot snapshot)
{
	LogScan		scan;
	int64		position = 0;
	bool		isnull;

	log_scan_positions(&scan, log, 1, PG_INT64_MAX, BackwardScanDirection, snapshot);
	if (log_scan_next(&scan))
		position = DatumGetInt64(slot_getattr(scan.slot, LOG_POSITION, &isnull));
	log_scan_end(&scan);
	return position;
}

/*
 * Are there rows beyond a position, whoever wrote them?  Asked before each
 * append: the last entry of the index's last page says it, at a fifth of what
 * a scan costs.
 */
bool
log_has_beyond(Relation log, int64 position)
{
	Relation	index = index_open(dugong_relid("event_log_pkey"), AccessShareLock);
	Buffer		buffer = bt_get_last_leaf(index);
	int64		highest = 0;

	if (BufferIsValid(buffer))
	{
		Page		page = BufferGetPage(buffer);
		OffsetNumber last = PageGetMaxOffsetNumber(page);
		bool		isnull;

		if (last < P_FIRSTDATAKEY(BTPageGetOpaque(page)))
			highest = PG_INT64_MAX; /* emptied by vacuum: not to be told from here */
		else
			highest = DatumGetInt64(index_getattr((IndexTuple) PageGetItem(page, PageGetItemId(page, last)),
												  1, RelationGetDescr(index), &isnull));
		_bt_relbuf(index, buffer);
	}
	index_close(index, NoLock);
	return highest > position;
}

static void
read_head(LogScan *scan, AggregateHead *head)
{
	bool		isnull;

	head->sequence_number = DatumGetInt64(slot_getattr(scan->slot, LOG_SEQUENCE_NUMBER, &isnull));
	head->timestamp = DatumGetTimestampTz(slot_getattr(scan->slot, LOG_TIMESTAMP, &isnull));
	head->erased = erasure_is_event(DatumGetTextPP(slot_getattr(scan->slot, LOG_TYPE, &isnull)));
	if (head->erased)
	{
		Datum		payload = slot_getattr(scan->slot, LOG_PAYLOAD, &isnull);

		head->erased = erasure_is_of_aggregate(payload, isnull);
	}
}

/* Is the last event the one of this sequence number?  Reads two entries of the index at most. */
static bool
head_is(Relation log, const AggregateKey *key, int64 guess, Snapshot snapshot, AggregateHead *head)
{
	LogScan		scan;
	bool		is_last = false;

	log_scan_stream(&scan, log, key, guess, PG_INT64_MAX, ForwardScanDirection, snapshot);
	if (log_scan_next(&scan))
	{
		read_head(&scan, head);
		is_last = head->sequence_number == guess && !log_scan_next(&scan);
	}
	log_scan_end(&scan);
	return is_last;
}

/*
 * Finds the last event of an aggregate that the snapshot sees.
 *
 * guess: its sequence number, if the caller thinks that he knows it; else 0.
 */
void
aggregate_head(Relation log, const AggregateKey *key, int64 guess, Snapshot snapshot, AggregateHead *head)
{
	LogScan		scan;

	if (guess > 0 && head_is(log, key, guess, snapshot, head))
		return;
	memset(head, 0, sizeof(*head));
	/* Going backwards, the index gives all of the page at once. */
	log_scan_stream(&scan, log, key, 1, PG_INT64_MAX, BackwardScanDirection, snapshot);
	if (log_scan_next(&scan))
		read_head(&scan, head);
	log_scan_end(&scan);
}
