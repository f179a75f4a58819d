/*
 * append_condition.c
 *		Appending only if nothing that matters was appended since.
 *
 * The caller has read the events of a query, decided, and appends on the
 * condition that none has come beyond the last that he has read.  The check
 * holds until the transaction ends: it is made under EXCLUSIVE locks of the
 * query's keys, or the log's lock in their place (aggregate_lock.c), with a
 * snapshot taken under them.  Who appends what the query means holds SHARE on
 * those keys before he draws a position: so he has committed, and is seen, or
 * waits, and will be beyond what is appended here.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "compat.h"
#include "errors.h"
#include "store/append_condition.h"
#include "store/horizon.h"
#include "store/stored_event.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

/*
 * after_position: 0 = there must be none at all.
 *
 * Errors: 22003 for a position that no event has, and those of tag_query_make().
 */
void
append_condition_make(AppendCondition *condition, Jsonb *items, text *tenant_id, int64 after_position)
{
	if (after_position < 0 || after_position > horizon_last_drawn())
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("after_position " INT64_FORMAT " is out of range", after_position),
				 errdetail("The log goes up to position " INT64_FORMAT ".", horizon_last_drawn())));
	tag_query_make(&condition->query, items, tenant_id);
	condition->after_position = after_position;
}

pg_noreturn static void
report_violation(const AppendCondition *condition, const TagTerm *term, LogScan *event, int64 position)
{
	bool		isnull;
	char	   *type = TextDatumGetCString(slot_getattr(event->slot, LOG_TYPE, &isnull));
	Jsonb	   *item = tag_query_item(&condition->query, term->item);
	char	   *matched = JsonbToCString(NULL, &item->root, VARSIZE(item));

	ereport(ERROR,
			(errcode(ERRCODE_DUGONG_CONCURRENCY_CONFLICT),
			 errmsg("append condition does not hold"),
			 condition->after_position == 0 ?
			 errdetail("Event \"%s\" at position " INT64_FORMAT " matches %s.", type, position, matched) :
			 errdetail("Event \"%s\" at position " INT64_FORMAT ", " INT64_FORMAT " beyond " INT64_FORMAT ", matches %s.",
					   type, position, position - condition->after_position, condition->after_position, matched),
			 errhint("Read the events again with dugong.read_events_matching(), and decide anew.")));
}

/* Refuses, if the event at a position is in the log: UG001, 40001 if the transaction cannot see it. */
static void
check_event(const AppendCondition *condition, const TagTerm *term, Relation log, int64 position, Snapshot snapshot)
{
	LogScan		event;

	log_scan_positions(&event, log, position, position, ForwardScanDirection, snapshot);
	if (log_scan_next(&event))
	{
		if (IsolationUsesXactSnapshot() &&
			!table_tuple_satisfies_snapshot(log, event.slot, GetTransactionSnapshot()))
			report_stale_snapshot();
		report_violation(condition, term, &event, position);
	}
	log_scan_end(&event);
}

/* Makes the terms anew, and takes their locks, if declarations have changed while the log's lock was waited for. */
static void
renew(AppendCondition *condition)
{
	TagLocks	locks = {0};

	if (tag_query_is_current(&condition->query))
		return;
	tag_query_make(&condition->query, condition->query.items, condition->query.tenant_id);
	tag_query_add_locks(&condition->query, &locks);
	tag_locks_take(&locks);
}

/*
 * The locks of the query are held, and the log's.
 *
 * Errors: UG001, 40001.
 */
void
append_condition_check(AppendCondition *condition, Relation log)
{
	Snapshot	snapshot;
	TagScan		scan;
	const TagTerm *term;
	int64		position;

	renew(condition);
	snapshot = snapshot_register_latest();
	tag_scan_begin(&scan, &condition->query, condition->after_position + 1, ForwardScanDirection, snapshot);
	while ((term = tag_scan_next(&scan, &position)) != NULL)
		check_event(condition, term, log, position, snapshot);
	tag_scan_end(&scan);
	UnregisterSnapshot(snapshot);
}
