/*
 * check_event_types.c
 *		Would every stored event still be readable?
 *
 * dugong.check_event_types() takes each event of the log through its chain of
 * upcasts and the payload type that is declared now, and tells for each
 * distinct (type, version) how many fail.  Run in the transaction that changes
 * upcasts or types, before it commits, it says what the change would break.
 */
#include "postgres.h"

#include "access/table.h"
#include "common/hashfn.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "store/aggregate_type.h"
#include "store/erasure.h"
#include "store/event_type.h"
#include "store/log.h"
#include "store/payload.h"
#include "store/tenant.h"
#include "store/upcast.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "util/attempt.h"
#include "util/identity.h"

PG_FUNCTION_INFO_V1(dugong_check_event_types);

/* What is found of one (type, version), and the first event that fails. */
typedef struct Finding
{
	int32		type_id;
	int			version;
	text	   *type;
	int64		events;
	int64		failed;
	pg_uuid_t	event_id;
	char	   *sqlstate;
	char	   *message;
	char	   *detail;
} Finding;

typedef struct Check
{
	MemoryContext context;		/* holds the findings */
	MemoryContext event_context;	/* reset for each event */
	List	   *findings;
	Upcaster	upcaster;
	Oid			caller;			/* whose tenants' events are looked at */
} Check;

static Finding *
find_or_add(Check *check, int32 type_id, int version, const text *type)
{
	ListCell   *cell;
	Finding    *finding;
	MemoryContext old;

	foreach(cell, check->findings)
	{
		finding = lfirst(cell);
		if (finding->type_id == type_id && finding->version == version &&
			VARSIZE_ANY_EXHDR(finding->type) == VARSIZE_ANY_EXHDR(type) &&
			memcmp(VARDATA_ANY(finding->type), VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type)) == 0)
			return finding;
	}
	old = MemoryContextSwitchTo(check->context);
	finding = palloc0(sizeof(Finding));
	finding->type_id = type_id;
	finding->version = version;
	finding->type = cstring_to_text_with_len(VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type));
	check->findings = lappend(check->findings, finding);
	MemoryContextSwitchTo(old);
	return finding;
}

/* Raises what is wrong with an event, if anything is. */
static void
check_event(Check *check, const LogRow *row, const Finding *finding)
{
	const EventType *declared = event_type_find(finding->type_id, finding->type);
	const EventVersion *version;
	LogRow		current = *row;

	if (log_row_isnull(row, LOG_PAYLOAD) && erasure_of_row(row) >= ERASED_PAYLOAD)
		return;
	if (finding->version < declared->current &&
		!event_type_has_path(declared, finding->version))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("no upcast leads from version %d to version %d",
						finding->version, declared->current)));
	log_row_value(&current, LOG_PAYLOAD) =
		upcast_payload(&check->upcaster, finding->type_id, finding->type, finding->version,
					   log_row_value(row, LOG_PAYLOAD), &log_row_isnull(&current, LOG_PAYLOAD));
	log_row_set(&current, LOG_VERSION,
				Int32GetDatum(upcast_version(finding->type_id, finding->type, finding->version)));
	declared = event_type_find(finding->type_id, finding->type);
	version = event_type_version(declared, DatumGetInt32(log_row_value(&current, LOG_VERSION)));
	if (version != NULL && version->payload_type != NULL)
		payload_check(&current, aggregate_type_get(finding->type_id), version->payload_type);
}

/* Raises what is wrong with one stored event, if it is shown in the version that is declared. */
void
event_check_stored(const LogRow *row)
{
	Check		check = {.context = CurrentMemoryContext};
	text	   *type = DatumGetTextPP(log_row_value(row, LOG_TYPE));
	int32		type_id = DatumGetInt32(log_row_value(row, LOG_AGGREGATE_TYPE_ID));
	int			version = DatumGetInt32(log_row_value(row, LOG_VERSION));
	const EventType *declared = event_type_find(type_id, type);

	upcaster_init(&check.upcaster, CurrentMemoryContext);
	if (declared != NULL && (version == declared->current || event_type_has_path(declared, version)))
		check_event(&check, row, find_or_add(&check, type_id, version, type));
}

static void
note_failure(Check *check, Finding *finding, const LogRow *row, ErrorData *error)
{
	if (finding->failed++ > 0)
		return;
	MemoryContextSwitchTo(check->context);
	finding->event_id = *DatumGetUUIDP(log_row_value(row, LOG_ID));
	finding->sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode));
	finding->message = pstrdup(error->message);
	finding->detail = error->detail ? pstrdup(error->detail) : NULL;
	MemoryContextSwitchTo(check->event_context);
}

/* An event that is being checked. */
typedef struct CheckedEvent
{
	Check	   *check;
	Finding    *finding;
	const LogRow *row;
} CheckedEvent;

static void
check_one(void *arg)
{
	CheckedEvent *event = arg;

	check_event(event->check, event->row, event->finding);
}

/* Checks an event; that it does not pass is only noted. */
static void
try_event(Check *check, Finding *finding, const LogRow *row)
{
	CheckedEvent event = {check, finding, row};
	ErrorData  *error;

	MemoryContextSwitchTo(check->event_context);
	error = attempt(check_one, &event);
	if (error && error_is_foreign(error))
		ReThrowError(error);
	if (error)
		note_failure(check, finding, row, error);
	MemoryContextSwitchTo(check->context);
	MemoryContextReset(check->event_context);
}

static void
scan_log(Check *check)
{
	Relation	log = log_open(AccessShareLock);
	LogScan		scan;
	LogRow		row;

	log_scan_positions(&scan, log, 1, PG_INT64_MAX, ForwardScanDirection, GetActiveSnapshot());
	while (log_scan_next(&scan))
	{
		text	   *type;
		Finding    *finding;
		int32		type_id;

		CHECK_FOR_INTERRUPTS();
		log_row_from_slot(&row, scan.slot);
		if (!tenant_is_seen(check->caller, DatumGetTextPP(log_row_value(&row, LOG_TENANT_ID))))
			continue;
		type_id = DatumGetInt32(log_row_value(&row, LOG_AGGREGATE_TYPE_ID));
		type = DatumGetTextPP(log_row_value(&row, LOG_TYPE));
		finding = find_or_add(check, type_id, DatumGetInt32(log_row_value(&row, LOG_VERSION)), type);
		finding->events++;
		if (event_type_find(type_id, type) != NULL)
			try_event(check, finding, &row);
	}
	log_scan_end(&scan);
	table_close(log, NoLock);
}

static void
put_text(Datum *value, bool *isnull, const char *string)
{
	*isnull = string == NULL;
	*value = string ? CStringGetTextDatum(string) : (Datum) 0;
}

/* origin, aggregate_type, type, version, current_version, events, failed, event_id, sqlstate, message, detail */
static void
put_finding(ReturnSetInfo *result, Finding *finding)
{
	const AggregateType *type = aggregate_type_get(finding->type_id);
	const EventType *declared = event_type_find(finding->type_id, finding->type);
	Datum		values[11];
	bool		nulls[11] = {false};

	values[0] = PointerGetDatum(type->origin);
	values[1] = PointerGetDatum(type->name);
	values[2] = PointerGetDatum(finding->type);
	values[3] = Int32GetDatum(finding->version);
	nulls[4] = declared == NULL;
	values[4] = declared ? Int32GetDatum(declared->current) : (Datum) 0;
	values[5] = Int64GetDatum(finding->events);
	values[6] = Int64GetDatum(finding->failed);
	nulls[7] = finding->failed == 0;
	values[7] = UUIDPGetDatum(&finding->event_id);
	put_text(&values[8], &nulls[8], finding->sqlstate);
	put_text(&values[9], &nulls[9], finding->message);
	put_text(&values[10], &nulls[10], finding->detail);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* check_event_types() */
Datum
dugong_check_event_types(PG_FUNCTION_ARGS)
{
	MemoryContext old = CurrentMemoryContext;
	Check		check = {.caller = GetUserId()};
	ListCell   *cell;
	Identity	before;

	InitMaterializedSRF(fcinfo, 0);
	check.context = AllocSetContextCreate(old, "dugong check", ALLOCSET_DEFAULT_SIZES);
	check.event_context = AllocSetContextCreate(old, "dugong event", ALLOCSET_DEFAULT_SIZES);
	upcaster_init(&check.upcaster, check.context);
	MemoryContextSwitchTo(check.context);
	identity_enter(&before);
	scan_log(&check);
	identity_leave(&before);
	foreach(cell, check.findings)
		put_finding((ReturnSetInfo *) fcinfo->resultinfo, lfirst(cell));
	MemoryContextSwitchTo(old);
	return (Datum) 0;
}
