/*
 * correlation.c
 *		Finding the events of a correlation id.
 *
 * Correlation ids come in no order, so a btree of them costs 50 bytes an event
 * and a page written at random.  The log has a BRIN index of Bloom filters
 * instead: 1 or 2 bytes an event.  It names ranges of pages, in which the events are
 * looked for; what is found is sorted by position.  Who has added a btree index
 * is served by that.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/tableam.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/tidbitmap.h"
#include "store/log.h"
#include "store/log_index.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

typedef struct FoundEvent
{
	int64		position;
	ItemPointerData tid;
} FoundEvent;

/* What is being looked for, and what has been found. */
typedef struct Search
{
	Relation	log;
	const pg_uuid_t *id;
	int64		first;
	int64		last;
	Snapshot	snapshot;
	TupleTableSlot *slot;
	FoundEvent *found;
	int64		nfound;
	int64		room;
} Search;

static void
add_if_wanted(Search *search)
{
	bool		isnull;
	Datum		id = slot_getattr(search->slot, LOG_CORRELATION_ID, &isnull);
	int64		position;

	CHECK_FOR_INTERRUPTS();
	if (isnull || memcmp(DatumGetUUIDP(id), search->id, UUID_LEN) != 0)
		return;
	position = DatumGetInt64(slot_getattr(search->slot, LOG_POSITION, &isnull));
	if (position < search->first || position > search->last)
		return;
	if (search->nfound == search->room)
	{
		search->room *= 2;
		search->found = repalloc_huge(search->found, search->room * sizeof(FoundEvent));
	}
	search->found[search->nfound++] = (FoundEvent) {position, search->slot->tts_tid};
}

static void
search_pages(Search *search, BlockNumber first, BlockNumber last)
{
	ItemPointerData low;
	ItemPointerData high;
	TableScanDesc scan;

	ItemPointerSet(&low, first, FirstOffsetNumber);
	ItemPointerSet(&high, last, MaxOffsetNumber);
	scan = table_beginscan_tidrange(search->log, search->snapshot, &low, &high);
	while (table_scan_getnextslot_tidrange(scan, ForwardScanDirection, search->slot))
		add_if_wanted(search);
	table_endscan(scan);
}

/* Searches the pages of a bitmap, neighbours in one go. */
static void
search_bitmap(Search *search, TIDBitmap *bitmap)
{
	BitmapIterator *iterator = bitmap_begin_iterate(bitmap);
	BlockNumber block;
	BlockNumber first = InvalidBlockNumber;
	BlockNumber last = InvalidBlockNumber;

	while (bitmap_next_block(iterator, &block))
	{
		if (first != InvalidBlockNumber && block == last + 1)
		{
			last = block;
			continue;
		}
		if (first != InvalidBlockNumber)
			search_pages(search, first, last);
		first = last = block;
	}
	bitmap_end_iterate(iterator);
	if (first != InvalidBlockNumber)
		search_pages(search, first, last);
}

/* The strategy by which an index on ids finds one; 0 = it finds none. */
static StrategyNumber
equality_strategy(Relation index)
{
	return get_op_opfamily_strategy(lookup_type_cache(UUIDOID, TYPECACHE_EQ_OPR)->eq_opr, index->rd_opfamily[0]);
}

static void
search_brin(Search *search, Relation index)
{
	TIDBitmap  *bitmap = tbm_create(work_mem * INT64CONST(1024), NULL);
	IndexScanDesc scan = index_beginscan_bitmap_compat(index, search->snapshot, 1);
	ScanKeyData key;

	/* Not ScanKeyInit(), which assumes a collation: a BRIN index wants its own, and ids have none */
	ScanKeyEntryInitialize(&key, 0, 1, equality_strategy(index), InvalidOid, InvalidOid, F_UUID_EQ, UUIDPGetDatum(search->id));
	index_rescan(scan, &key, 1, NULL, 0);
	index_getbitmap(scan, bitmap);
	index_endscan(scan);
	search_bitmap(search, bitmap);
	tbm_free(bitmap);
}

static void
search_btree(Search *search, Relation index)
{
	IndexScanDesc scan = index_beginscan_compat(search->log, index, search->snapshot, 1);
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(search->id));
	index_rescan(scan, &key, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, search->slot))
		add_if_wanted(search);
	index_endscan(scan);
}

/* Can it find every event that has a correlation id? */
static bool
is_usable(Relation index)
{
	AttrNumber	column = index->rd_index->indkey.values[0];

	return index->rd_index->indisvalid && column == LOG_CORRELATION_ID && equality_strategy(index) != 0 &&
		(!log_index_is_partial(index) || log_index_column(index) == column);
}

/* Opens the best index for it: a btree, else a BRIN index; NULL = there is none. */
static Relation
open_best_index(Relation log)
{
	Relation	best = NULL;
	List	   *list = RelationGetIndexList(log);
	ListCell   *cell;

	foreach(cell, list)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		Oid			am = index->rd_rel->relam;
		bool		better = (am == BTREE_AM_OID || (am == BRIN_AM_OID && best == NULL)) && is_usable(index);
		Relation	worse = better ? best : index;

		if (better)
			best = index;
		if (worse)
			index_close(worse, AccessShareLock);
	}
	list_free(list);
	return best;
}

static int
compare_positions(const void *one, const void *other)
{
	int64		a = ((const FoundEvent *) one)->position;
	int64		b = ((const FoundEvent *) other)->position;

	return a < b ? -1 : a > b;
}

/* Events of a correlation id at positions from first to last, inclusive, in order. */
void
log_scan_correlation(LogScan *scan, Relation log, const pg_uuid_t *id,
					 int64 first, int64 last, ScanDirection direction, Snapshot snapshot)
{
	Relation	index = open_best_index(log);
	Search		search = {
		.log = log,
		.id = id,
		.first = first,
		.last = last,
		.snapshot = snapshot,
		.slot = table_slot_create(log, NULL),
		.room = 64
	};
	ItemPointerData *tids;

	search.found = palloc(search.room * sizeof(FoundEvent));
	if (index == NULL)
		search_pages(&search, 0, MaxBlockNumber);
	else if (index->rd_rel->relam == BTREE_AM_OID)
		search_btree(&search, index);
	else
		search_brin(&search, index);
	if (index)
		index_close(index, NoLock);
	ExecDropSingleTupleTableSlot(search.slot);

	qsort(search.found, search.nfound, sizeof(FoundEvent), compare_positions);
	tids = MemoryContextAllocHuge(CurrentMemoryContext, Max(search.nfound, 1) * sizeof(ItemPointerData));
	for (int64 i = 0; i < search.nfound; i++)
		tids[i] = search.found[direction == ForwardScanDirection ? i : search.nfound - 1 - i].tid;
	pfree(search.found);
	log_scan_tids(scan, log, tids, search.nfound, snapshot);
}
