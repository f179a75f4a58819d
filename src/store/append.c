/*
 * append.c
 *		The one way an event gets into the log.
 *
 * A row gets its place (assign_place) either here, on its way from
 * event_append() into the table (insert.c), or in event_assign, the BEFORE
 * INSERT trigger of the table, if somebody inserts it with plain SQL.  Both hold these rules:
 *
 * - A position is drawn only after the transaction holds ROW EXCLUSIVE on the
 *   log (the INSERT took it) and has its transaction id.  Consumers rely on it
 *   to tell who can still fill a hole (projection/candidates.c).
 * - The sequence number is the predecessor's plus one, decided under the
 *   aggregate's lock and a snapshot of that moment.  A first event may do
 *   without the lock: then the unique key decides.
 * - The locks of the event's tags are held, too (event_tag.c).
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
#include "replication/logicalworker.h"
#include "store/aggregate_lock.h"
#include "store/aggregate_type.h"
#include "store/append.h"
#include "store/context.h"
#include "store/erasure.h"
#include "store/event_tag.h"
#include "store/event_type.h"
#include "store/home.h"
#include "store/horizon.h"
#include "store/insert.h"
#include "store/restore.h"
#include "store/stored_event.h"
#include "store/tenant.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "util/ids.h"

PG_FUNCTION_INFO_V1(dugong_event_assign);

static uint64 appends;

/* How many events this session has put into the log, or tried to: whether something was appended meanwhile. */
uint64
append_count(void)
{
	return appends;
}

static void
report_null(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s of a domain event must not be null", what)));
}

static void
report_conflict(const AggregateKey *key, int64 expected, int64 actual)
{
	const AggregateType *type = aggregate_type_get(key->type_id);
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

/* Who an event comes from. */
typedef enum Source
{
	SOURCE_USER,
	SOURCE_TABLE,				/* another table that is imported */
	SOURCE_MESSAGE,				/* another service */
	SOURCE_DUGONG
} Source;

/* What only dugong writes; another service's may be what its own dugong wrote, and a subscriber gets what it wrote here. */
static void
check_reserved(const LogRow *row, Source source)
{
	text	   *type = DatumGetTextPP(log_row_value(row, LOG_TYPE));

	if (IsLogicalWorker() || source == SOURCE_DUGONG || (source == SOURCE_MESSAGE && erasure_is_event(type)))
		return;
	if (erasure_name_is_reserved(type))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event type \"%s\" is reserved", text_to_cstring(type)),
				 errdetail("Names of event types that begin with \"$\" are dugong's own.")));
	if (source != SOURCE_MESSAGE && erasure_is_mark(log_row_value(row, LOG_METADATA), log_row_isnull(row, LOG_METADATA)))
		report_invalid("key \"" ERASED_EVENT "\" of metadata is reserved");
}

/* Can it fit what is declared?  Nothing is declared of what tells of an erasure, and what was erased elsewhere need not fit. */
static bool
has_declared_form(const LogRow *row, Source source)
{
	if (source == SOURCE_USER && !IsLogicalWorker())
		return true;
	return !erasure_is_event(DatumGetTextPP(log_row_value(row, LOG_TYPE))) && erasure_of_row(row) == ERASED_NOTHING;
}

/*
 * The table's CHECKs say some of it again, but only after a position is drawn.
 */
static void
check_row(const LogRow *row, Source source)
{
	const AggregateType *type;

	if (log_row_isnull(row, LOG_AGGREGATE_TYPE_ID))
		report_null("aggregate type");
	if (log_row_isnull(row, LOG_AGGREGATE_ID))
		report_null("aggregate id");
	if (log_row_isnull(row, LOG_TYPE))
		report_null("type");
	type = aggregate_type_get(DatumGetInt32(log_row_value(row, LOG_AGGREGATE_TYPE_ID)));
	if (type->external && source == SOURCE_USER && !IsLogicalWorker())
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_OTHER_ORIGIN),
				 errmsg("aggregate type \"%s\" belongs to origin \"%s\"",
						text_to_cstring(type->name), text_to_cstring(type->origin)),
				 errdetail("Events of another service come in with dugong.receive_message().")));
	if (VARSIZE_ANY_EXHDR(DatumGetTextPP(log_row_value(row, LOG_TYPE))) == 0)
		report_invalid("type of a domain event must not be empty");
	check_reserved(row, source);
	if (!log_row_isnull(row, LOG_VERSION) && DatumGetInt32(log_row_value(row, LOG_VERSION)) < 1)
		report_invalid("version of a domain event must be greater than zero");
	if (!log_row_isnull(row, LOG_SEQUENCE_NUMBER) &&
		DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER)) < 1)
		report_invalid("sequence number of a domain event must be greater than zero");
	if (!log_row_isnull(row, LOG_TIMESTAMP) &&
		TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(log_row_value(row, LOG_TIMESTAMP))))
		report_invalid("timestamp of a domain event must be finite");
}

/* A row whose caller names no version has the declared one. */
static void
fill_version(LogRow *row)
{
	if (log_row_isnull(row, LOG_VERSION))
		log_row_set(row, LOG_VERSION, Int32GetDatum(
			event_type_current_version(DatumGetInt32(log_row_value(row, LOG_AGGREGATE_TYPE_ID)),
									   DatumGetTextPP(log_row_value(row, LOG_TYPE)))));
}

/* Nothing comes after the erasure of an aggregate. */
static void
require_not_erased(const AggregateKey *key, const AggregateHead *head)
{
	if (head->erased)
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_AGGREGATE_DELETED),
				 errmsg("aggregate \"%s\" with id \"%s\" is erased",
						text_to_cstring(aggregate_type_get(key->type_id)->name), uuid_to_cstring(&key->id))));
}

/* The aggregate's last event now; UG003 if it is erased, 40001 if the transaction cannot see that event. */
static void
current_head(Relation log, const AggregateKey *key, int64 guess, AggregateHead *head)
{
	Snapshot	snapshot = snapshot_register_latest();

	aggregate_head(log, key, guess, snapshot, head);
	UnregisterSnapshot(snapshot);

	if (IsolationUsesXactSnapshot())
	{
		AggregateHead seen;

		aggregate_head(log, key, head->sequence_number, GetTransactionSnapshot(), &seen);
		if (seen.sequence_number != head->sequence_number)
			report_stale_snapshot();
	}
	require_not_erased(key, head);
}

/*
 * Takes the locks that rows of one aggregate, and a condition, need; in an
 * order that keeps two calls from a deadlock.
 *
 * is_new: the aggregate is expected not to be there; condition: may be NULL.
 */
void
append_lock(const LogRow *rows, int count, const AggregateKey *key, bool is_new, const AppendCondition *condition)
{
	TagLocks	tags = {0};

	for (int i = 0; i < count; i++)
		event_tags_add_locks(&rows[i], &tags);
	if (condition)
		tag_query_add_locks(&condition->query, &tags);
	aggregate_lock_with_tags(key, is_new, &tags);
}

/* The same for one row. */
static void
lock_stream(const LogRow *row, const AppendCondition *condition)
{
	AggregateKey key;

	log_row_key(row, &key);
	append_lock(row, 1, &key, !log_row_isnull(row, LOG_SEQUENCE_NUMBER) &&
				DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER)) == 1, condition);
}

/*
 * Gives the row, whose aggregate is locked, its sequence number, timestamp, id
 * and position.
 *
 * known: the aggregate's last event, if the caller has read it under the lock.
 */
static void
assign_place(Relation log, LogRow *row, const AggregateHead *known)
{
	int64		wanted = log_row_isnull(row, LOG_SEQUENCE_NUMBER) ? 0 :
		DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER));
	AggregateKey key;
	AggregateHead head;

	log_row_key(row, &key);
	/* In an old snapshot it may not be the last. */
	if (known && !IsolationUsesXactSnapshot())
		head = *known;
	else
		current_head(log, &key, wanted - 1, &head);
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
	horizon_publish(log);
	log_row_set(row, LOG_POSITION,
				Int64GetDatum(nextval_internal(dugong_relid("event_log_position_seq"), false)));
	home_claim();
}

/* BEFORE INSERT row trigger of dugong.event_log; see the head of this file. */
Datum
dugong_event_assign(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Relation	log;
	LogRow		row;
	LogRow		stored;
	TagKeys		tags;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		RelationGetRelid(trigger->tg_relation) != dugong_relid("event_log"))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as the trigger of dugong.event_log")));

	log = trigger->tg_relation;
	log_row_from_tuple(&row, trigger->tg_trigtuple, RelationGetDescr(log));
	if (!log_row_isnull(&row, LOG_POSITION))
	{
		if (!insert_is_running(DatumGetInt64(log_row_value(&row, LOG_POSITION))))
			restore_accept(log, &row);
		return PointerGetDatum(trigger->tg_trigtuple);
	}

	/* What a subscriber gets is as it was published. */
	if (!IsLogicalWorker())
		context_fill(&row);
	/* What follows is told to nobody but who may write to the tenant. */
	(void) tenant_require(DatumGetTextPP(log_row_value(&row, LOG_TENANT_ID)));
	check_row(&row, SOURCE_USER);
	if (!log_row_isnull(&row, LOG_ID) && event_is_stored(log, &row, &stored))
		return PointerGetDatum(NULL);
	fill_version(&row);
	if (has_declared_form(&row, SOURCE_USER))
		event_type_check(&row);
	lock_stream(&row, NULL);
	event_tags_lock(&row, &tags);
	assign_place(log, &row, NULL);
	event_tags_write(&tags, DatumGetInt64(log_row_value(&row, LOG_POSITION)));
	appends++;
	return PointerGetDatum(log_row_to_tuple(&row, trigger->tg_trigtuple, RelationGetDescr(log)));
}

/*
 * Checks the last sequence number of an aggregate whose lock is held.
 *
 * Errors: UG001, UG003, 40001.
 */
void
event_check_head(const AggregateKey *key, int64 expected)
{
	Relation	log = log_open(RowExclusiveLock);
	AggregateHead head;

	current_head(log, key, expected, &head);
	table_close(log, NoLock);
	if (head.sequence_number != expected)
		report_conflict(key, expected, head.sequence_number);
}

/* Inserts a row that is checked, and whose aggregate is locked; see assign_place(). */
static bool
append_checked(Relation log, LogRow *row, const AggregateHead *known)
{
	bool		has_id = !log_row_isnull(row, LOG_ID);
	TagKeys		tags;

	event_tags_lock(row, &tags);
	for (;;)
	{
		LogRow		attempt = *row;
		bool		contested;

		assign_place(log, &attempt, known);
		appends++;
		contested = has_id || DatumGetInt64(log_row_value(&attempt, LOG_SEQUENCE_NUMBER)) == 1;
		if (insert_row(log, &attempt, contested))
		{
			event_tags_write(&tags, DatumGetInt64(log_row_value(&attempt, LOG_POSITION)));
			event_tags_free(&tags);
			*row = attempt;
			return true;
		}
		if (has_id && event_is_stored(log, row, &attempt))
		{
			*row = attempt;
			return false;
		}
		/* Somebody opened the aggregate meanwhile: go behind him, or be refused. */
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * known: the last event of an aggregate whose lock is held, or NULL.
 * condition: NULL = none.
 */
static bool
append(LogRow *row, Source source, const AggregateHead *known, AppendCondition *condition)
{
	Relation	log;
	LogRow		stored;
	bool		appended;

	PreventCommandIfReadOnly("append");
	Assert(log_row_isnull(row, LOG_POSITION));
	if (source == SOURCE_USER)
		context_fill(row);
	check_row(row, source);
	if (known == NULL)
		lock_stream(row, condition);
	log = log_open(RowExclusiveLock);
	/* It may have been dropped while this waited for the locks. */
	(void) aggregate_type_get(DatumGetInt32(log_row_value(row, LOG_AGGREGATE_TYPE_ID)));
	if (!log_row_isnull(row, LOG_ID) && event_is_stored(log, row, &stored))
	{
		*row = stored;
		appended = false;
	}
	else
	{
		fill_version(row);
		if (has_declared_form(row, source))
			event_type_check(row);
		if (condition)
			append_condition_check(condition, log);
		appended = append_checked(log, row, known);
	}
	table_close(log, NoLock);
	return appended;
}

/*
 * Refuses a row that event_append() would refuse whatever the log holds, and
 * fills it as that would.  For callers who append several or none.
 */
void
event_check(LogRow *row)
{
	PreventCommandIfReadOnly("append");
	context_fill(row);
	check_row(row, SOURCE_USER);
	fill_version(row);
	event_type_check(row);
}

static AppendHook after_append;

/* Registers what is called after each call that has appended; there is one. */
void
append_set_hook(AppendHook hook)
{
	after_append = hook;
}

/* Tells that the last count events of an aggregate were appended, row being the last. */
void
append_done(const LogRow *row, int64 count)
{
	if (after_append)
		after_append(row, count);
}

/*
 * Appends an event.
 *
 * row: aggregate_type_id, aggregate_id and type are needed; what else is null
 * is given by the settings or here.  A sequence_number is an expectation: the
 * event has to become the one of that number.  An id that is in the log with
 * the same content appends nothing.
 *
 * Makes row the stored event, in the current memory context, and returns
 * whether it was appended now.
 *
 * Errors: UG001, UG003, UG006, UG008, UG009, 22004, 22023, 42704, 40001.
 */
bool
event_append(LogRow *row)
{
	bool		appended = append(row, SOURCE_USER, NULL, NULL);

	if (appended)
		append_done(row, 1);
	return appended;
}

/* The same on a condition, unless the event is in the log already.  Errors: UG001 if it does not hold. */
bool
event_append_if(LogRow *row, AppendCondition *condition)
{
	bool		appended = append(row, SOURCE_USER, NULL, condition);

	if (appended)
		append_done(row, 1);
	return appended;
}

/*
 * The same as event_append() for a caller who sees to what append_done() would do.
 *
 * known: the aggregate's last event, if he holds its lock and has read the
 * event since, under a snapshot that was taken under the lock; else NULL.
 */
bool
event_append_behind(LogRow *row, const AggregateHead *known)
{
	return append(row, SOURCE_USER, known, NULL);
}

/*
 * The same for one of several that have passed event_check(), of an aggregate
 * whose lock is held, with ids that are not in the log.  After the last, call
 * append_done().
 */
bool
event_append_checked(LogRow *row)
{
	Relation	log = log_open(RowExclusiveLock);
	bool		appended = append_checked(log, row, NULL);

	table_close(log, NoLock);
	return appended;
}

/*
 * Appends an event that another service has made, as it is: the session's
 * settings add nothing to it.  Version and tenant are needed, too.
 *
 * Returns as event_append().
 */
bool
event_receive(LogRow *row)
{
	bool		appended = append(row, SOURCE_MESSAGE, NULL, NULL);

	if (appended)
		append_done(row, 1);
	return appended;
}

/*
 * Appends an event of dugong's own, of a reserved type, as it is: it needs no
 * declaration, also in a strict type, and may be of an external one.  Version
 * and tenant are needed.
 */
void
event_append_own(LogRow *row)
{
	(void) append(row, SOURCE_DUGONG, NULL, NULL);
	append_done(row, 1);
}

/*
 * Refuses a row that event_import() must not get, whatever the log holds, and
 * gives it its version.  The session's settings add nothing to it.
 *
 * tags: gets the locks that the row needs beside its aggregate's.
 *
 * Errors: UG008, 22004, 22023, 42704, 54000.
 */
void
event_check_import(LogRow *row, TagLocks *tags)
{
	check_row(row, SOURCE_TABLE);
	fill_version(row);
	event_type_check(row);
	event_tags_add_locks(row, tags);
}

/*
 * Appends an event that was made elsewhere, as it is, with its id and
 * timestamp.  It has passed event_check_import(), and its id is not in the log.
 *
 * head: the aggregate's last event, read under its lock, which the caller
 * holds with those of the tags; becomes this one.
 *
 * No snapshot is taken: append_done() is not called.
 *
 * Errors: UG001, and 23505 if somebody uses its id at this moment.
 */
void
event_import(Relation log, LogRow *row, AggregateHead *head)
{
	TagKeys		tags;

	event_tags_lock(row, &tags);
	assign_place(log, row, head);
	appends++;
	(void) insert_row(log, row, false);
	event_tags_write(&tags, DatumGetInt64(log_row_value(row, LOG_POSITION)));
	event_tags_free(&tags);
	head->sequence_number++;
	head->timestamp = DatumGetTimestampTz(log_row_value(row, LOG_TIMESTAMP));
}
