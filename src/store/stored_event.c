/*
 * stored_event.c
 *		Finding out whether an event is in the log already.
 *
 * An event id given twice is a retry: it stands for the stored event if
 * aggregate, type, version and payload are the same, and is an error if not.
 */
#include "postgres.h"

#include "access/xact.h"
#include "errors.h"
#include "store/erasure.h"
#include "store/stored_event.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"
#include "util/ids.h"

/* 40001: the transaction cannot see what decides. */
void
report_stale_snapshot(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent append"),
			 errhint("The transaction might succeed if retried.")));
}

/* UG006: the id stands for another event. */
void
report_event_id_reused(const pg_uuid_t *id)
{
	ereport(ERROR,
			(errcode(ERRCODE_DUGONG_EVENT_ID_REUSED),
			 errmsg("event id \"%s\" is in use for another event", uuid_to_cstring(id)),
			 errhint("Give each command an id of its own, and repeat it only to retry the same command.")));
}

/*
 * Finds the stored event of an id, copied into the current memory context.
 * Under REPEATABLE READ an event that the transaction cannot see is a
 * serialization failure: what it would answer is not what it sees.
 */
bool
event_find(Relation log, const pg_uuid_t *id, LogRow *row)
{
	Snapshot	snapshot = snapshot_register_latest();
	LogScan		scan;
	bool		found;

	log_scan_id(&scan, log, id, snapshot);
	found = log_scan_next(&scan);
	if (found)
	{
		log_row_from_tuple(row, ExecCopySlotHeapTuple(scan.slot), RelationGetDescr(log));
	}
	log_scan_end(&scan);
	UnregisterSnapshot(snapshot);

	if (found && IsolationUsesXactSnapshot())
	{
		log_scan_id(&scan, log, id, GetTransactionSnapshot());
		if (!log_scan_next(&scan))
			report_stale_snapshot();
		log_scan_end(&scan);
	}
	return found;
}

static bool
same_text(const LogRow *one, const LogRow *other, LogColumn column)
{
	return datum_image_eq(PointerGetDatum(DatumGetTextPP(log_row_value(one, column))),
						  PointerGetDatum(DatumGetTextPP(log_row_value(other, column))),
						  false, -1);
}

/* No payload and JSON's null are the same: a message cannot tell them apart. */
static Jsonb *
payload_of(const LogRow *row)
{
	Jsonb	   *payload = log_row_isnull(row, LOG_PAYLOAD) ? NULL :
		DatumGetJsonbP(log_row_value(row, LOG_PAYLOAD));
	JsonbValue	value;

	if (payload && JB_ROOT_IS_SCALAR(payload) &&
		JsonbExtractScalar(&payload->root, &value) && value.type == jbvNull)
		return NULL;
	return payload;
}

static bool
same_payload(const LogRow *one, const LogRow *other)
{
	Jsonb	   *a = payload_of(one);
	Jsonb	   *b = payload_of(other);

	if (a == NULL || b == NULL)
		return a == b;
	return compareJsonbContainers(&a->root, &b->root) == 0;
}

/*
 * Do two rows say the same: aggregate, type, version and payload?  What was
 * erased of the payload is not known any more, and does not count.
 *
 * row: without a version it is the stored one's, whatever is declared now.
 */
bool
event_has_same_content(const LogRow *stored, const LogRow *row)
{
	AggregateKey one;
	AggregateKey other;

	log_row_key(stored, &one);
	log_row_key(row, &other);
	return one.type_id == other.type_id &&
		memcmp(&one.id, &other.id, UUID_LEN) == 0 &&
		same_text(stored, row, LOG_TENANT_ID) &&
		same_text(stored, row, LOG_TYPE) &&
		(log_row_isnull(row, LOG_VERSION) ||
		 log_row_value(stored, LOG_VERSION) == log_row_value(row, LOG_VERSION)) &&
		(erasure_of_row(stored) != ERASED_NOTHING || same_payload(stored, row));
}

/* Is the row's event in the log, under the id that it has?  UG006 if its id stands for another. */
bool
event_is_stored(Relation log, const LogRow *row, LogRow *stored)
{
	pg_uuid_t  *id = DatumGetUUIDP(log_row_value(row, LOG_ID));

	if (!event_find(log, id, stored))
		return false;
	if (!event_has_same_content(stored, row))
		report_event_id_reused(id);
	return true;
}
