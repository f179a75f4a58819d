/*
 * next_aggregates.c
 *		The aggregates of a projection of states, in the order of their keys.
 *
 * A rebuild, a replay go through all of them by the log's index, some at a
 * time; the cursor says where, and outlives a snapshot.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "projection/next_aggregates.h"
#include "utils/builtins.h"

/* Looks an aggregate's last event up, for handlers and for what may be set aside. */
void
work_note_last(Work *work, Change *change)
{
	LogScan		scan;
	LogRow		row;

	log_scan_stream(&scan, work->log, &change->key, 1, PG_INT64_MAX, BackwardScanDirection, work->snapshot);
	if (log_scan_next(&scan))
	{
		log_row_from_slot(&row, scan.slot);
		work_note(change, &row, true);
	}
	log_scan_end(&scan);
}

static void
collect_aggregates(Work *work, LogScan *scan, int limit, AggregateCursor *cursor)
{
	while (hash_get_num_entries(work->changes) < limit && log_scan_next(scan))
	{
		LogRow		row;
		AggregateKey key;
		Change	   *change;
		bool		found;

		CHECK_FOR_INTERRUPTS();
		log_row_from_slot(&row, scan->slot);
		log_row_key(&row, &key);
		if (!projection_sees(work->projection, key.tenant_id))
			continue;
		change = work_find(work, &key, &found);
		work_note_last(work, change);
		cursor->id = change->key.id;
		cursor->tenant_id = change->key.tenant_id;
	}
	log_scan_end(scan);
}

/* Collects the aggregates that follow the cursor, at most so many, and moves it; returns how many. */
int
work_collect_next(Work *work, int limit, AggregateCursor *cursor)
{
	int32		type_id = linitial_int(work->projection->type_ids);
	text	   *tenant_id = cursor->tenant_id;
	LogScan		scan;

	if (tenant_id == NULL)
		log_scan_first_events(&scan, work->log, type_id, NULL, NULL, work->snapshot);
	else
		log_scan_first_events(&scan, work->log, type_id, tenant_id, &cursor->id, work->snapshot);
	collect_aggregates(work, &scan, limit, cursor);
	if (tenant_id != NULL && hash_get_num_entries(work->changes) < limit)
	{
		log_scan_first_events_beyond(&scan, work->log, type_id, tenant_id, work->snapshot);
		collect_aggregates(work, &scan, limit, cursor);
	}
	return hash_get_num_entries(work->changes);
}
