/*
 * aggregate.c
 *		An aggregate, rebuilt from its events.
 *
 * Whoever wants to decide on the state holds the aggregate's lock
 * (store/aggregate_lock.h) before he builds it.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "aggregate/aggregate.h"
#include "aggregate/fingerprint.h"
#include "aggregate/snapshot.h"
#include "errors.h"
#include "miscadmin.h"
#include "store/append.h"
#include "store/domain_event.h"
#include "store/erasure.h"
#include "store/stored_event.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "util/identity.h"
#include "util/ids.h"

/*
 * The fold is a user's code: it runs as the owner of the aggregate type.
 * Dugong's own C code has nobody to be kept from.
 */
static void
become_owner(const Aggregate *aggregate, Identity *before)
{
	if (aggregate->fold->is_dugongs)
		before->guc_level = 0;
	else
		aggregate_type_assume_owner(aggregate->type, before);
}

/* The state before the first event. */
static void
begin(Aggregate *aggregate)
{
	const Fold *fold = aggregate->fold;
	MemoryContext old;

	aggregate->sequence_number = 0;
	aggregate->transition_isnull = fold->initial_isnull;
	if (fold->initial_isnull)
		return;
	old = MemoryContextSwitchTo(aggregate->context);
	aggregate->transition = datumCopy(fold->initial, fold->state.typbyval, fold->state.typlen);
	MemoryContextSwitchTo(old);
}

/* An aggregate without events; it lives in the current memory context. */
void
aggregate_init(Aggregate *aggregate, const AggregateKey *key)
{
	AggregateKey own_key = *key;	/* it may be the aggregate's */
	MemoryContext old;

	memset(aggregate, 0, sizeof(*aggregate));
	aggregate->key = own_key;
	aggregate->type = aggregate_type_get(own_key.type_id);
	aggregate->context = AllocSetContextCreate(CurrentMemoryContext, "dugong aggregate",
											   ALLOCSET_SMALL_SIZES);
	aggregate->event_context = AllocSetContextCreate(aggregate->context, "dugong event",
													 ALLOCSET_DEFAULT_SIZES);
	aggregate->other_context = AllocSetContextCreate(aggregate->context, "dugong event",
													 ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(aggregate->context);
	if (aggregate->type->fold)
		aggregate->fingerprint = fingerprint_get(aggregate->type);
	aggregate->fold = fold_take(aggregate->type);
	MemoryContextSwitchTo(old);
	begin(aggregate);
	aggregate->isnull = true;
	aggregate->last_isnull = true;
}

/* Gives the fold back, for who needs one next.  The state stays. */
void
aggregate_release_fold(Aggregate *aggregate)
{
	fold_give_back(aggregate->fold);
	aggregate->fold = NULL;
}

void
aggregate_free(Aggregate *aggregate)
{
	aggregate_release_fold(aggregate);
	MemoryContextDelete(aggregate->context);
}

static void
name_event(void *arg)
{
	const LogRow *row = arg;
	const AggregateType *type = aggregate_type_by_id(DatumGetInt32(log_row_value(row, LOG_AGGREGATE_TYPE_ID)));

	errcontext("folding event \"%s\" of type \"%s\", sequence number " INT64_FORMAT " of aggregate \"%s\" with id \"%s\", position " INT64_FORMAT,
			   uuid_to_cstring(DatumGetUUIDP(log_row_value(row, LOG_ID))),
			   TextDatumGetCString(log_row_value(row, LOG_TYPE)),
			   DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER)),
			   type ? text_to_cstring(type->name) : "?",
			   uuid_to_cstring(DatumGetUUIDP(log_row_value(row, LOG_AGGREGATE_ID))),
			   DatumGetInt64(log_row_value(row, LOG_POSITION)));
}

static void
check_sequence(const Aggregate *aggregate, int64 sequence_number)
{
	if (sequence_number != aggregate->sequence_number + 1)
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_CORRUPT_STREAM),
				 errmsg("event stream of aggregate \"%s\" with id \"%s\" is corrupt",
						text_to_cstring(aggregate->type->name),
						uuid_to_cstring(&aggregate->key.id)),
				 errdetail("Sequence number " INT64_FORMAT " is followed by " INT64_FORMAT ".",
						   aggregate->sequence_number, sequence_number)));
}

/* What only counts: the fold does not get it. */
static bool
is_hidden(const LogRow *row)
{
	return erasure_is_event(DatumGetTextPP(log_row_value(row, LOG_TYPE))) || erasure_is_skeleton(row);
}

/* An aggregate that was erased counts as deleted, from its first event on, and has no last living state. */
static void
apply_hidden(Aggregate *aggregate, const LogRow *row)
{
	check_sequence(aggregate, DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER)));
	aggregate->erased |= erasure_is_skeleton(row);
	aggregate->sequence_number++;
	aggregate->timestamp = DatumGetTimestampTz(log_row_value(row, LOG_TIMESTAMP));
}

/* Replaces a value of the aggregate's own by a copy of another; frees the old one. */
static void
keep_value(Aggregate *aggregate, const FoldType *type, Datum *kept, bool *kept_isnull,
		   Datum value, bool isnull)
{
	Datum		before = *kept;
	bool		had_before = !*kept_isnull && !type->typbyval;
	MemoryContext old;

	if (!isnull)
	{
		if (had_before && value == before)
			return;
		old = MemoryContextSwitchTo(aggregate->context);
		*kept = datumCopy(value, type->typbyval, type->typlen);
		MemoryContextSwitchTo(old);
	}
	*kept_isnull = isnull;
	if (had_before)
		pfree(DatumGetPointer(before));
}

/*
 * Takes the state that the transition function has given in the event's
 * context.  Dugong's own functions give a new value, or the one they were
 * given: a new one may stay where it is, and the next event has the context
 * in which the old one was.  Of any other it is copied.
 */
static void
keep_transition(Aggregate *aggregate, Datum state, bool isnull)
{
	MemoryContext free;

	if (!aggregate->fold->is_dugongs)
		keep_value(aggregate, &aggregate->fold->state, &aggregate->transition, &aggregate->transition_isnull,
				   state, isnull);
	else if (isnull || aggregate->transition_isnull || state != aggregate->transition)
	{
		aggregate->transition = state;
		aggregate->transition_isnull = isnull;
		free = aggregate->other_context;
		aggregate->other_context = aggregate->event_context;
		aggregate->event_context = free;
	}
}

/*
 * Applies an event.  The last living state is kept while the fold gives one;
 * with a final function that has to be asked after each event.
 */
static void
apply_event(Aggregate *aggregate, const LogRow *row, EventReader *reader)
{
	Fold	   *fold = aggregate->fold;
	ErrorContextCallback callback = {
		.callback = name_event,
		.arg = unconstify(LogRow *, row),
		.previous = error_context_stack
	};
	MemoryContext old;
	bool		isnull = aggregate->transition_isnull;
	Datum		state;

	if (is_hidden(row))
	{
		apply_hidden(aggregate, row);
		return;
	}
	old = MemoryContextSwitchTo(aggregate->event_context);
	error_context_stack = &callback;
	check_sequence(aggregate, DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER)));
	state = fold_step(fold, aggregate->transition, &isnull, event_reader_record(reader, row),
					  aggregate->sequence_number == 0);
	if (isnull && !aggregate->transition_isnull && aggregate->sequence_number > 0 && !fold->has_final)
		keep_value(aggregate, &fold->result, &aggregate->last, &aggregate->last_isnull,
				   aggregate->transition, false);
	keep_transition(aggregate, state, isnull);
	if (fold->has_final && aggregate->wants_last)
	{
		isnull = aggregate->transition_isnull;
		state = fold_finish(fold, aggregate->transition, &isnull);
		if (!isnull)
			keep_value(aggregate, &fold->result, &aggregate->last, &aggregate->last_isnull, state, false);
	}
	aggregate->sequence_number++;
	aggregate->timestamp = DatumGetTimestampTz(log_row_value(row, LOG_TIMESTAMP));
	MemoryContextSwitchTo(old);
	MemoryContextReset(aggregate->event_context);
	error_context_stack = callback.previous;
}

static void
name_aggregate(void *arg)
{
	const Aggregate *aggregate = arg;

	errcontext("building aggregate \"%s\" with id \"%s\" from its events up to sequence number " INT64_FORMAT,
			   text_to_cstring(aggregate->type->name), uuid_to_cstring(&aggregate->key.id),
			   aggregate->sequence_number);
}

/* Takes the fold's result of the transition state; an aggregate without events has none. */
static void
finish(Aggregate *aggregate)
{
	ErrorContextCallback callback = {
		.callback = name_aggregate,
		.arg = aggregate,
		.previous = error_context_stack
	};
	MemoryContext old;
	bool		isnull = aggregate->transition_isnull;
	Datum		result;

	if (aggregate->sequence_number == 0)
		return;
	if (aggregate->erased)
	{
		aggregate->isnull = aggregate->last_isnull = aggregate->transition_isnull = true;
		return;
	}
	error_context_stack = &callback;
	old = MemoryContextSwitchTo(aggregate->event_context);
	result = fold_finish(aggregate->fold, aggregate->transition, &isnull);
	keep_value(aggregate, &aggregate->fold->result, &aggregate->state, &aggregate->isnull, result, isnull);
	MemoryContextSwitchTo(old);
	MemoryContextReset(aggregate->event_context);
	error_context_stack = callback.previous;
}

/* Applies one more event. */
void
aggregate_apply(Aggregate *aggregate, const LogRow *row)
{
	EventReader reader;
	Identity	before;

	become_owner(aggregate, &before);
	event_reader_open(&reader);
	apply_event(aggregate, row, &reader);
	finish(aggregate);
	event_reader_close(&reader);
	identity_restore(&before);
}

/*
 * Begins to read the events that follow.  The last one that is in a snapshot
 * is read again: if the log does not have it, neither is the snapshot good.
 *
 * from_snapshot: was the state taken from one just now?
 */
static void
scan_begin(LogScan *scan, Aggregate *aggregate, Relation log, int64 last, Snapshot snapshot, bool from_snapshot)
{
	LogRow		row;

	if (from_snapshot)
	{
		log_scan_stream(scan, log, &aggregate->key, aggregate->sequence_number, last, ForwardScanDirection, snapshot);
		if (log_scan_next(scan))
		{
			log_row_from_slot(&row, scan->slot);
			if (DatumGetInt64(log_row_value(&row, LOG_SEQUENCE_NUMBER)) == aggregate->sequence_number)
			{
				aggregate->timestamp = DatumGetTimestampTz(log_row_value(&row, LOG_TIMESTAMP));
				return;
			}
		}
		log_scan_end(scan);
		begin(aggregate);
	}
	log_scan_stream(scan, log, &aggregate->key, aggregate->sequence_number + 1, last, ForwardScanDirection, snapshot);
}

/*
 * Applies what a scan finds, up to a limit.  False if a state that was kept is
 * not good any more: it is of events of which something was erased since.
 */
static bool
apply_scan(Aggregate *aggregate, LogScan *scan, const BuildLimit *limit, EventReader *reader, bool was_kept)
{
	LogRow		row;

	while (log_scan_next(scan))
	{
		CHECK_FOR_INTERRUPTS();
		log_row_from_slot(&row, scan->slot);
		if (limit && DatumGetTimestampTz(log_row_value(&row, LOG_TIMESTAMP)) > limit->as_of)
			break;
		if (was_kept && erasure_is_event(DatumGetTextPP(log_row_value(&row, LOG_TYPE))))
			return false;
		apply_event(aggregate, &row, reader);
	}
	return true;
}

/*
 * Applies the events that follow, up to a limit.
 *
 * limit: NULL = none.
 * Errors: UG007 for a gap, and whatever the fold raises.
 */
void
aggregate_build(Aggregate *aggregate, Relation log, const BuildLimit *limit, Snapshot snapshot)
{
	int64		last = limit ? limit->sequence_number : PG_INT64_MAX;
	bool		was_begun = aggregate->sequence_number > 0;
	EventReader reader;
	Identity	before;
	LogScan		scan;

	become_owner(aggregate, &before);
	/* Times need not ascend, and a final function may be asked for each event. */
	if (!was_begun && !aggregate->skip_snapshot &&
		(limit == NULL || limit->as_of == DT_NOEND) &&
		!(aggregate->wants_last && aggregate->fold->has_final))
		snapshot_restore(aggregate, last, snapshot);
	event_reader_open(&reader);
	scan_begin(&scan, aggregate, log, last, snapshot, !was_begun && aggregate->sequence_number > 0);
	if (!apply_scan(aggregate, &scan, limit, &reader, aggregate->sequence_number > 0))
	{
		log_scan_end(&scan);
		begin(aggregate);
		log_scan_stream(&scan, log, &aggregate->key, 1, last, ForwardScanDirection, snapshot);
		(void) apply_scan(aggregate, &scan, limit, &reader, false);
	}
	log_scan_end(&scan);
	finish(aggregate);
	event_reader_close(&reader);
	identity_restore(&before);
}

/* 40001 if there is an event that the transaction cannot see: it must not decide without it, lock or not. */
static void
require_last_seen(const Aggregate *aggregate, Relation log)
{
	Snapshot	snapshot;
	AggregateHead head;

	if (!IsolationUsesXactSnapshot())
		return;
	snapshot = snapshot_register_latest();
	aggregate_head(log, &aggregate->key, aggregate->sequence_number, snapshot, &head);
	UnregisterSnapshot(snapshot);
	if (head.sequence_number != aggregate->sequence_number)
		report_stale_snapshot();
}

/*
 * Builds the aggregate as a command sees it: what is committed now, and its
 * own events.  A transaction with an older snapshot is a serialization failure.
 */
void
aggregate_build_current(Aggregate *aggregate)
{
	Relation	log = log_open(RowExclusiveLock);
	Snapshot	snapshot;

	CommandCounterIncrement();
	aggregate->appends = append_count();
	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	aggregate_build(aggregate, log, NULL, snapshot);
	UnregisterSnapshot(snapshot);
	require_last_seen(aggregate, log);
	table_close(log, NoLock);
	aggregate->is_current = true;
}

/*
 * The last event of an aggregate that aggregate_build_current() has built
 * while its lock was held; NULL if it may be another now: this session may
 * have appended since.
 */
const AggregateHead *
aggregate_known_head(const Aggregate *aggregate, AggregateHead *head)
{
	if (!aggregate->is_current || aggregate->timestamp == 0 || aggregate->appends != append_count())
		return NULL;
	head->sequence_number = aggregate->sequence_number;
	head->timestamp = aggregate->timestamp;
	head->erased = aggregate->erased;
	return head;
}
