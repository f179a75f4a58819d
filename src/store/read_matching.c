/*
 * read_matching.c
 *		dugong.read_events_matching(): the events that a decision depends on.
 *
 * The position of the last event read is what an append condition starts
 * after, so no event of the query may appear at or below it later.  Whoever
 * could still let one appear holds a lock of the query's keys, or the log's in
 * their place: what is given out ends before the positions that he may have.
 * Other transactions, however long, hold nothing up.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "store/context.h"
#include "store/domain_event.h"
#include "store/horizon.h"
#include "store/stored_event.h"
#include "store/tag_query.h"
#include "store/tenant.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "util/args.h"
#include "util/identity.h"
#include "util/private_lock.h"

PG_FUNCTION_INFO_V1(dugong_read_events_matching);

/* Where the events of a call go. */
typedef struct Output
{
	ReturnSetInfo *result;
	EventReader reader;
	MemoryContext event_context;	/* reset for each event */
	int64		left;			/* rows that may still come */
	bool		backward;
	bool		empty;			/* none has come yet */
} Output;

/* Is it a key's that the query has, or the log's by who has too many of those? */
static bool
lock_matters(const LockInstanceData *lock, const void *arg)
{
	const TagQuery *query = arg;
	const LOCKTAG *tag = &lock->locktag;
	LOCKTAG		log;
	ListCell   *cell;

	SET_LOCKTAG_RELATION(log, MyDatabaseId, dugong_relid("event_log"));
	if (memcmp(tag, &log, sizeof(LOCKTAG)) == 0)
		return (lock->holdMask & LOCKBIT_ON(ShareRowExclusiveLock)) != 0;
	foreach(cell, query->terms)
	{
		const TagTerm *term = lfirst(cell);
		LOCKTAG		key = private_lock_tag(MyDatabaseId, LOCK_TAG, tag_lock_key(&term->keys[0]));

		if (memcmp(tag, &key, sizeof(LOCKTAG)) == 0)
			return true;
	}
	return false;
}

static void
output_row(Output *output, TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(output->event_context);
	EventFields fields;
	LogRow		row;

	log_row_from_slot(&row, slot);
	event_reader_fields(&output->reader, &row, &fields);
	tuplestore_putvalues(output->result->setResult, output->result->setDesc, fields.values, fields.nulls);
	MemoryContextSwitchTo(old);
	MemoryContextReset(output->event_context);
	output->left--;
	output->empty = false;
}

/*
 * Gives out the event at a position, if it is in the log.  Returns false at
 * one that the transaction's own, older snapshot does not see: forward, the
 * reading ends; backward, it is beyond what will be read, or makes it a lie.
 */
static bool
output_event(Output *output, Relation log, int64 position, Snapshot snapshot)
{
	LogScan		event;
	bool		seen = true;

	log_scan_positions(&event, log, position, position, ForwardScanDirection, snapshot);
	if (log_scan_next(&event))
	{
		seen = !IsolationUsesXactSnapshot() ||
			table_tuple_satisfies_snapshot(log, event.slot, GetTransactionSnapshot());
		if (seen)
			output_row(output, event.slot);
	}
	log_scan_end(&event);
	if (!seen && output->backward && !output->empty)
		report_stale_snapshot();
	return seen || output->backward;
}

static void
read_matching(Output *output, const TagQuery *query, int64 after)
{
	int64		last = horizon_get_of(lock_matters, query);
	Relation	log = log_open(AccessShareLock);
	Snapshot	snapshot = snapshot_register_latest();
	TagScan		scan;
	int64		position;

	tag_scan_begin(&scan, query, output->backward ? last : after + 1,
				   output->backward ? BackwardScanDirection : ForwardScanDirection, snapshot);
	while (output->left > 0 && tag_scan_next(&scan, &position) != NULL)
		if (position <= after || position > last || !output_event(output, log, position, snapshot))
			break;
	tag_scan_end(&scan);
	UnregisterSnapshot(snapshot);
	table_close(log, NoLock);
}

/* read_events_matching(query, after_position, max_rows, backward, tenant_id) */
Datum
dugong_read_events_matching(PG_FUNCTION_ARGS)
{
	Output		output = {.left = PG_INT64_MAX,.empty = true};
	TagQuery	query;
	text	   *tenant_id;
	Identity	before;
	int64		after = PG_ARGISNULL(1) ? 0 : Max(PG_GETARG_INT64(1), 0);

	if (!PG_ARGISNULL(2) && (output.left = PG_GETARG_INT32(2)) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_rows must not be negative")));
	output.backward = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3);
	tenant_id = tenant_argument(fcinfo, 4);
	identity_enter(&before);
	tag_query_make(&query, DatumGetJsonbP(arg_needed(fcinfo, 0, "query")), tenant_id);
	InitMaterializedSRF(fcinfo, 0);
	output.result = (ReturnSetInfo *) fcinfo->resultinfo;
	output.event_context = AllocSetContextCreate(CurrentMemoryContext, "dugong event", ALLOCSET_DEFAULT_SIZES);
	event_reader_open(&output.reader);
	if (after < PG_INT64_MAX)
		read_matching(&output, &query, after);
	event_reader_close(&output.reader);
	identity_leave(&before);
	MemoryContextDelete(output.event_context);
	return (Datum) 0;
}
