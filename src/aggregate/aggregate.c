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
#include "errors.h"
#include "miscadmin.h"
#include "store/domain_event.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "util/identity.h"
#include "util/ids.h"

/* An aggregate without events; it lives in the current memory context. */
void
aggregate_init(Aggregate *aggregate, const AggregateKey *key)
{
	memset(aggregate, 0, sizeof(*aggregate));
	aggregate->key = *key;
	aggregate->type = aggregate_type_get(key->type_id);
	aggregate->context = AllocSetContextCreate(CurrentMemoryContext, "dugong aggregate",
											   ALLOCSET_SMALL_SIZES);
	aggregate->event_context = AllocSetContextCreate(aggregate->context, "dugong event",
													 ALLOCSET_DEFAULT_SIZES);
	fold_open(&aggregate->fold, aggregate->type);
	aggregate->isnull = aggregate->fold.initial_isnull;
	if (!aggregate->isnull)
	{
		MemoryContext old = MemoryContextSwitchTo(aggregate->context);

		aggregate->state = datumCopy(aggregate->fold.initial, aggregate->fold.typbyval,
									 aggregate->fold.typlen);
		MemoryContextSwitchTo(old);
	}
	aggregate->last_isnull = true;
}

void
aggregate_free(Aggregate *aggregate)
{
	MemoryContextDelete(aggregate->context);
}

static void
name_event(void *arg)
{
	const LogRow *row = arg;

	errcontext("folding event \"%s\" of type \"%s\", sequence number " INT64_FORMAT ", position " INT64_FORMAT,
			   uuid_to_cstring(DatumGetUUIDP(log_row_value(row, LOG_ID))),
			   TextDatumGetCString(log_row_value(row, LOG_TYPE)),
			   DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER)),
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

/* Makes a new state the aggregate's own; the old one is freed or remembered. */
static void
keep_state(Aggregate *aggregate, Datum state, bool isnull)
{
	const Fold *fold = &aggregate->fold;
	MemoryContext old;

	if (isnull)
	{
		if (!aggregate->isnull)
		{
			aggregate->last_state = aggregate->state;
			aggregate->last_isnull = false;
		}
		aggregate->isnull = true;
		return;
	}
	if (!aggregate->isnull && !fold->typbyval && state == aggregate->state)
		return;
	old = MemoryContextSwitchTo(aggregate->context);
	state = datumCopy(state, fold->typbyval, fold->typlen);
	MemoryContextSwitchTo(old);
	if (!aggregate->isnull && !fold->typbyval)
		pfree(DatumGetPointer(aggregate->state));
	aggregate->state = state;
	aggregate->isnull = false;
}

static void
apply_event(Aggregate *aggregate, const LogRow *row, EventReader *reader)
{
	ErrorContextCallback callback = {
		.callback = name_event,
		.arg = unconstify(LogRow *, row),
		.previous = error_context_stack
	};
	MemoryContext old = MemoryContextSwitchTo(aggregate->event_context);
	bool		isnull = aggregate->isnull;
	Datum		state;

	error_context_stack = &callback;
	check_sequence(aggregate, DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER)));
	state = fold_step(&aggregate->fold, aggregate->state, &isnull,
					  event_reader_form(reader, row));
	MemoryContextSwitchTo(old);
	keep_state(aggregate, state, isnull);
	aggregate->sequence_number++;
	MemoryContextReset(aggregate->event_context);
	error_context_stack = callback.previous;
}

/* The fold is a user's code: it runs as the owner of the aggregate type. */
static void
become_owner(const Aggregate *aggregate, Identity *before)
{
	identity_assume(before, aggregate_type_owner(aggregate->type), SECURITY_RESTRICTED_OPERATION);
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
	event_reader_close(&reader);
	identity_restore(&before);
}

/*
 * Applies the events that follow, up to a sequence number.
 *
 * Errors: UG007 for a gap, and whatever the fold raises.
 */
void
aggregate_build(Aggregate *aggregate, Relation log, int64 to_sequence_number,
				Snapshot snapshot)
{
	EventReader reader;
	Identity	before;
	LogScan		scan;
	LogRow		row;

	become_owner(aggregate, &before);
	event_reader_open(&reader);
	log_scan_stream(&scan, log, &aggregate->key, aggregate->sequence_number + 1,
					to_sequence_number, ForwardScanDirection, snapshot);
	while (log_scan_next(&scan))
	{
		CHECK_FOR_INTERRUPTS();
		log_row_from_slot(&row, scan.slot);
		apply_event(aggregate, &row, &reader);
	}
	log_scan_end(&scan);
	event_reader_close(&reader);
	identity_restore(&before);
}

/*
 * Builds the aggregate as a command sees it: what is committed now (READ
 * COMMITTED), or what the transaction sees, and its own events.
 */
void
aggregate_build_current(Aggregate *aggregate)
{
	Relation	log = log_open(RowExclusiveLock);
	Snapshot	snapshot;

	CommandCounterIncrement();
	snapshot = RegisterSnapshot(GetTransactionSnapshot());
	aggregate_build(aggregate, log, PG_INT64_MAX, snapshot);
	UnregisterSnapshot(snapshot);
	table_close(log, NoLock);
}
