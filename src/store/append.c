/*
 * append.c
 *		The one way an event gets into the log.
 *
 * Every row, whoever inserts it, passes event_assign, the BEFORE INSERT
 * trigger of the log.  It holds these rules:
 *
 * - A position is drawn only after the transaction holds ROW EXCLUSIVE on the
 *   log (the INSERT took it) and has its transaction id.  Consumers rely on it
 *   to tell who can still fill a hole (projection/candidates.c).
 * - The sequence number is the predecessor's plus one, decided under the
 *   aggregate's lock and a snapshot of that moment.  A first event needs no
 *   lock: the unique key decides.
 * - Nothing is drawn for an event that is refused.
 *
 * A row that brings its own position is a restore (restore.c).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "errors.h"
#include "miscadmin.h"
#include "store/aggregate_lock.h"
#include "store/aggregate_type.h"
#include "store/append.h"
#include "store/context.h"
#include "store/home.h"
#include "store/restore.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "util/ids.h"
#include "util/plan.h"

PG_FUNCTION_INFO_V1(dugong_event_assign);

static void
report_null(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s of a domain event must not be null", what)));
}

static void
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

static void
report_conflict(const AggregateKey *key, int64 expected, int64 actual)
{
	const AggregateType *type = aggregate_type_by_id(key->type_id);
	char	   *name = text_to_cstring(type->name);
	char	   *id = uuid_to_cstring(&key->id);

	ereport(ERROR,
			(errcode(ERRCODE_DUGONG_CONCURRENCY_CONFLICT),
			 expected == 0 ?
			 errmsg("aggregate \"%s\" with id \"%s\" exists already", name, id) :
			 errmsg("aggregate \"%s\" with id \"%s\" is not at the expected sequence number",
					name, id),
			 errdetail("Expected sequence number " INT64_FORMAT ", actual sequence number " INT64_FORMAT ".",
					   expected, actual)));
}

static void
report_invalid(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", what)));
}

/* The table's CHECKs say some of it again, but only after a position is drawn. */
static void
check_row(const LogRow *row)
{
	int32		type_id;

	if (log_row_isnull(row, LOG_AGGREGATE_TYPE_ID))
		report_null("aggregate type");
	if (log_row_isnull(row, LOG_AGGREGATE_ID))
		report_null("aggregate id");
	if (log_row_isnull(row, LOG_TYPE))
		report_null("type");
	type_id = DatumGetInt32(log_row_value(row, LOG_AGGREGATE_TYPE_ID));
	if (aggregate_type_by_id(type_id) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("aggregate type with id %d does not exist", type_id)));
	if (VARSIZE_ANY_EXHDR(DatumGetTextPP(log_row_value(row, LOG_TYPE))) == 0)
		report_invalid("type of a domain event must not be empty");
	if (DatumGetInt32(log_row_value(row, LOG_VERSION)) < 1)
		report_invalid("version of a domain event must be greater than zero");
	if (!log_row_isnull(row, LOG_SEQUENCE_NUMBER) &&
		DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER)) < 1)
		report_invalid("sequence number of a domain event must be greater than zero");
	if (!log_row_isnull(row, LOG_TIMESTAMP) &&
		TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(log_row_value(row, LOG_TIMESTAMP))))
		report_invalid("timestamp of a domain event must be finite");
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
		HeapTuple	tuple = ExecCopySlotHeapTuple(scan.slot);

		heap_deform_tuple(tuple, RelationGetDescr(log), row->values, row->nulls);
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

static bool
same_payload(const LogRow *one, const LogRow *other)
{
	bool		isnull = log_row_isnull(one, LOG_PAYLOAD);

	if (isnull || log_row_isnull(other, LOG_PAYLOAD))
		return isnull == log_row_isnull(other, LOG_PAYLOAD);
	return compareJsonbContainers(&DatumGetJsonbP(log_row_value(one, LOG_PAYLOAD))->root,
								  &DatumGetJsonbP(log_row_value(other, LOG_PAYLOAD))->root) == 0;
}

/* Do two rows say the same: aggregate, type, version and payload? */
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
		log_row_value(stored, LOG_VERSION) == log_row_value(row, LOG_VERSION) &&
		same_payload(stored, row);
}

/* Is the row's event in the log?  UG006 if its id stands for another. */
static bool
is_stored(Relation log, const LogRow *row, LogRow *stored)
{
	pg_uuid_t  *id = DatumGetUUIDP(log_row_value(row, LOG_ID));

	if (!event_find(log, id, stored))
		return false;
	if (!event_has_same_content(stored, row))
		report_event_id_reused(id);
	return true;
}

/* The aggregate's last event now; 40001 if the transaction cannot see it. */
static void
current_head(Relation log, const AggregateKey *key, AggregateHead *head)
{
	Snapshot	snapshot = snapshot_register_latest();

	aggregate_head(log, key, snapshot, head);
	UnregisterSnapshot(snapshot);

	if (IsolationUsesXactSnapshot())
	{
		AggregateHead seen;

		aggregate_head(log, key, GetTransactionSnapshot(), &seen);
		if (seen.sequence_number != head->sequence_number)
			report_stale_snapshot();
	}
}

/* Takes the lock of the row's aggregate, unless the row is to be its first. */
static void
lock_stream(const LogRow *row)
{
	AggregateKey key;

	if (!log_row_isnull(row, LOG_SEQUENCE_NUMBER) &&
		DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER)) == 1)
		return;
	log_row_key(row, &key);
	aggregate_lock(&key);
}

/* Gives the row its sequence number, timestamp, id and position. */
static void
assign_place(Relation log, LogRow *row)
{
	int64		wanted = log_row_isnull(row, LOG_SEQUENCE_NUMBER) ? 0 :
		DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER));
	AggregateKey key;
	AggregateHead head;

	log_row_key(row, &key);
	lock_stream(row);
	current_head(log, &key, &head);
	if (!log_row_isnull(row, LOG_SEQUENCE_NUMBER) && wanted != head.sequence_number + 1)
		report_conflict(&key, wanted - 1, head.sequence_number);

	log_row_set(row, LOG_SEQUENCE_NUMBER, Int64GetDatum(head.sequence_number + 1));
	if (log_row_isnull(row, LOG_TIMESTAMP))
	{
		TimestampTz now = GetCurrentTimestamp();

		if (head.sequence_number > 0 && now < head.timestamp)
			now = head.timestamp;
		log_row_set(row, LOG_TIMESTAMP, TimestampTzGetDatum(now));
	}
	if (log_row_isnull(row, LOG_ID))
		log_row_set(row, LOG_ID, UUIDPGetDatum(uuid_make_v7()));

	(void) GetTopTransactionId();
	restore_finish();
	log_row_set(row, LOG_POSITION,
				Int64GetDatum(nextval_internal(dugong_relid("event_log_position_seq"), false)));
}

/* BEFORE INSERT row trigger of dugong.event_log; see the head of this file. */
Datum
dugong_event_assign(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation	log;
	LogRow		row;
	LogRow		stored;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		RelationGetDescr(trigger->tg_relation)->natts != LOG_NCOLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as the trigger of dugong.event_log")));

	log = trigger->tg_relation;
	heap_deform_tuple(trigger->tg_trigtuple, RelationGetDescr(log), row.values, row.nulls);
	if (!log_row_isnull(&row, LOG_POSITION))
	{
		restore_accept(log, DatumGetInt64(log_row_value(&row, LOG_POSITION)));
		return PointerGetDatum(trigger->tg_trigtuple);
	}

	context_fill(&row);
	check_row(&row);
	if (!log_row_isnull(&row, LOG_ID) && is_stored(log, &row, &stored))
		return PointerGetDatum(NULL);
	assign_place(log, &row);
	home_claim();
	return PointerGetDatum(heap_form_tuple(RelationGetDescr(log), row.values, row.nulls));
}

#define INSERT_EVENT \
	"INSERT INTO dugong.event_log (position, sequence_number, \"timestamp\", id, aggregate_id, " \
	"aggregate_type_id, version, tenant_id, type, payload, correlation_id, triggered_by_event_id, " \
	"triggered_by_user_id, metadata) " \
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) "
#define INSERT_EVENT_TYPES \
	{INT8OID, INT8OID, TIMESTAMPTZOID, UUIDOID, UUIDOID, INT4OID, INT4OID, TEXTOID, TEXTOID, \
	JSONBOID, UUIDOID, UUIDOID, TEXTOID, JSONBOID}

/*
 * Inserts a row and makes it what was stored; false if it met a duplicate.
 *
 * A first event and one with a given id may meet a duplicate that is not yet
 * visible; ON CONFLICT waits for it without a subtransaction.  The others are
 * alone, under the aggregate's lock, and save the second look at the indexes.
 */
static bool
insert_row(Relation log, LogRow *row, bool contested)
{
	static SavedPlan insert_alone = {
		.sql = INSERT_EVENT "RETURNING *",
		.nargs = LOG_NCOLUMNS,
		.argtypes = INSERT_EVENT_TYPES
	};
	static SavedPlan insert_contested = {
		.sql = INSERT_EVENT "ON CONFLICT DO NOTHING RETURNING *",
		.nargs = LOG_NCOLUMNS,
		.argtypes = INSERT_EVENT_TYPES
	};
	bool		inserted;

	SPI_connect();
	inserted = plan_execute(contested ? &insert_contested : &insert_alone,
							row->values, row->nulls, false) > 0;
	if (inserted)
	{
		HeapTuple	tuple = SPI_copytuple(SPI_tuptable->vals[0]);

		heap_deform_tuple(tuple, RelationGetDescr(log), row->values, row->nulls);
	}
	SPI_finish();
	return inserted;
}

/* UG001 for a row that expected a sequence number and met a duplicate. */
static void
report_duplicate(Relation log, const LogRow *row)
{
	AggregateKey key;
	AggregateHead head;

	log_row_key(row, &key);
	current_head(log, &key, &head);
	report_conflict(&key, DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER)) - 1,
					head.sequence_number);
}

/*
 * Appends an event.
 *
 * row: aggregate_type_id, aggregate_id and type are needed; the trigger gives
 * the rest what is null.  A sequence_number is an expectation: the event has
 * to become the one of that number.  An id that is in the log with the same
 * content appends nothing.
 *
 * Makes row the stored event, in the current memory context, and returns
 * whether it was appended now.
 *
 * Errors: UG001, UG006, 22004, 22023, 42704, 40001.
 */
bool
event_append(LogRow *row)
{
	bool		restore = !log_row_isnull(row, LOG_POSITION);
	bool		any_number = log_row_isnull(row, LOG_SEQUENCE_NUMBER);
	bool		contested = !restore &&
		(!log_row_isnull(row, LOG_ID) || any_number ||
		 DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER)) == 1);
	Relation	log;
	bool		inserted;

	if (!restore)
	{
		context_fill(row);
		check_row(row);
		lock_stream(row);
	}
	log = log_open(RowExclusiveLock);
	while (!(inserted = insert_row(log, row, contested)))
	{
		LogRow		stored;

		if (!log_row_isnull(row, LOG_ID) && is_stored(log, row, &stored))
		{
			*row = stored;
			break;
		}
		if (!any_number)
			report_duplicate(log, row);
		/* Somebody opened the aggregate meanwhile; go behind him. */
		CHECK_FOR_INTERRUPTS();
	}
	table_close(log, NoLock);
	return inserted;
}
