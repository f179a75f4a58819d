/*
 * read_events.c
 *		Functions that read the log: of an aggregate, of all, by id.
 *
 * They find out which tenants their caller sees, and then read with the rights
 * of the log's owner.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "guc.h"
#include "miscadmin.h"
#include "store/aggregate_type.h"
#include "store/context.h"
#include "store/domain_event.h"
#include "store/horizon.h"
#include "store/log.h"
#include "store/tenant.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "util/args.h"
#include "util/identity.h"
#include "util/plan.h"

PG_FUNCTION_INFO_V1(dugong_aggregate_events);
PG_FUNCTION_INFO_V1(dugong_read_events);
PG_FUNCTION_INFO_V1(dugong_event);
PG_FUNCTION_INFO_V1(dugong_effects_of);
PG_FUNCTION_INFO_V1(dugong_aggregate_ids);

/* Where the events of one call go. */
typedef struct Output
{
	ReturnSetInfo *result;
	EventReader reader;
	MemoryContext event_context;	/* reset for each event */
	Identity	caller;
	int64		left;			/* rows that may still come */
} Output;

/* From here to output_end() the current user is the log's owner. */
static void
output_begin(Output *output, FunctionCallInfo fcinfo)
{
	InitMaterializedSRF(fcinfo, 0);
	output->result = (ReturnSetInfo *) fcinfo->resultinfo;
	output->left = PG_INT64_MAX;
	output->event_context = AllocSetContextCreate(CurrentMemoryContext, "dugong event",
												  ALLOCSET_DEFAULT_SIZES);
	event_reader_open(&output->reader);
	identity_enter(&output->caller);
}

static void
output_row(Output *output, const LogRow *row)
{
	MemoryContext old = MemoryContextSwitchTo(output->event_context);
	EventFields fields;

	event_reader_fields(&output->reader, row, &fields);
	tuplestore_putvalues(output->result->setResult, output->result->setDesc,
						 fields.values, fields.nulls);
	MemoryContextSwitchTo(old);
	MemoryContextReset(output->event_context);
	output->left--;
}

/* Gives out what the caller sees of all that a scan finds, and ends it. */
static void
output_scan(Output *output, LogScan *scan)
{
	LogRow		row;

	while (log_scan_next(scan))
	{
		CHECK_FOR_INTERRUPTS();
		log_row_from_slot(&row, scan->slot);
		if (tenant_is_seen(output->caller.user, DatumGetTextPP(log_row_value(&row, LOG_TENANT_ID))))
			output_row(output, &row);
	}
	log_scan_end(scan);
}

static void
output_end(Output *output)
{
	identity_leave(&output->caller);
	event_reader_close(&output->reader);
	MemoryContextDelete(output->event_context);
}

/* The limit argument: NULL = none; 22023 if negative. */
static int64
max_rows_argument(FunctionCallInfo fcinfo, int number)
{
	if (PG_ARGISNULL(number))
		return PG_INT64_MAX;
	if (PG_GETARG_INT32(number) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_rows must not be negative")));
	return PG_GETARG_INT32(number);
}

/* aggregate_events(aggregate_type, aggregate_id, from_sequence_number, to_sequence_number, tenant_id, origin) */
Datum
dugong_aggregate_events(PG_FUNCTION_ARGS)
{
	AggregateKey key;
	Output		output;
	Relation	log;
	LogScan		scan;

	key.type_id = aggregate_type_by_name(arg_name(fcinfo, 5), arg_needed_name(fcinfo, 0, "aggregate type"))->id;
	key.id = *arg_needed_uuid(fcinfo, 1, "aggregate id");
	key.tenant_id = tenant_argument(fcinfo, 4);
	output_begin(&output, fcinfo);
	log = log_open(AccessShareLock);
	log_scan_stream(&scan, log, &key, PG_ARGISNULL(2) ? 1 : PG_GETARG_INT64(2),
					PG_ARGISNULL(3) ? PG_INT64_MAX : PG_GETARG_INT64(3),
					ForwardScanDirection, GetActiveSnapshot());
	output_scan(&output, &scan);
	table_close(log, NoLock);
	output_end(&output);
	return (Datum) 0;
}

/* event(id): the event of an id, or no row. */
Datum
dugong_event(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id = arg_needed_uuid(fcinfo, 0, "event id");
	Output		output;
	Relation	log;
	LogScan		scan;

	output_begin(&output, fcinfo);
	log = log_open(AccessShareLock);
	log_scan_id(&scan, log, id, GetActiveSnapshot());
	output_scan(&output, &scan);
	table_close(log, NoLock);
	output_end(&output);
	return (Datum) 0;
}

/*
 * effects_of(event_id): what it has triggered, directly or through others.
 * What the caller does not see leads him to nothing.
 */
Datum
dugong_effects_of(PG_FUNCTION_ARGS)
{
	static SavedPlan select_effects = {
		.sql = "WITH RECURSIVE effects AS ("
		"SELECT e.id, e.position FROM dugong.event_log e WHERE e.triggered_by_event_id OPERATOR(pg_catalog.=) $1 "
		"AND ($2 IS NULL OR e.tenant_id OPERATOR(pg_catalog.=) ANY ($2)) "
		"UNION SELECT e.id, e.position FROM effects c JOIN dugong.event_log e ON e.triggered_by_event_id OPERATOR(pg_catalog.=) c.id "
		"AND ($2 IS NULL OR e.tenant_id OPERATOR(pg_catalog.=) ANY ($2))) "
		"SELECT id FROM effects WHERE id OPERATOR(pg_catalog.<>) $1 ORDER BY position",
		.nargs = 2,
		.argtypes = {UUIDOID, TEXTARRAYOID}
	};
	Datum		values[2] = {PG_GETARG_DATUM(0)};
	bool		nulls[2] = {PG_ARGISNULL(0)};
	Output		output;
	Identity	before;
	Relation	log;
	SPITupleTable *effects;
	uint64		neffects;

	values[1] = tenants_seen(GetUserId(), &nulls[1]);
	output_begin(&output, fcinfo);
	log = log_open(AccessShareLock);
	identity_assume(&before, dugong_owner());
	SPI_connect();
	neffects = plan_execute(&select_effects, values, nulls, true);
	effects = SPI_tuptable;
	for (uint64 i = 0; i < neffects; i++)
	{
		LogScan		scan;
		bool		isnull;

		log_scan_id(&scan, log, DatumGetUUIDP(SPI_getbinval(effects->vals[i], effects->tupdesc, 1, &isnull)),
					GetActiveSnapshot());
		output_scan(&output, &scan);
	}
	SPI_finish();
	identity_restore(&before);
	table_close(log, NoLock);
	output_end(&output);
	return (Datum) 0;
}

/* aggregate_ids(aggregate_type, after, max_rows, tenant_id, origin): a page of ids, ascending. */
Datum
dugong_aggregate_ids(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	int32		type_id = aggregate_type_by_name(arg_name(fcinfo, 4), arg_needed_name(fcinfo, 0, "aggregate type"))->id;
	int64		left = max_rows_argument(fcinfo, 2);
	text	   *tenant_id = tenant_argument(fcinfo, 3);
	Relation	log = log_open(AccessShareLock);
	LogScan		scan;
	Identity	before;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	identity_enter(&before);
	log_scan_first_events(&scan, log, type_id, tenant_id, arg_uuid(fcinfo, 1), GetActiveSnapshot());
	while (left > 0 && log_scan_next(&scan))
	{
		bool		isnull;
		Datum		id = slot_getattr(scan.slot, LOG_AGGREGATE_ID, &isnull);

		CHECK_FOR_INTERRUPTS();
		tuplestore_putvalues(result->setResult, result->setDesc, &id, &isnull);
		left--;
	}
	log_scan_end(&scan);
	table_close(log, NoLock);
	identity_leave(&before);
	return (Datum) 0;
}

/* Which events a call of read_events() wants; NULL = all. */
typedef struct Filter
{
	int			ntype_ids;		/* -1 = all */
	int32	   *type_ids;
	int			ntypes;			/* -1 = all */
	text	  **types;
	pg_uuid_t  *correlation_id;
	text	   *tenant_id;
	Oid			reader;			/* who sees his tenants, if none is named */
} Filter;

static int
text_array(FunctionCallInfo fcinfo, int number, Datum **elements)
{
	bool	   *nulls;
	int			count;

	if (PG_ARGISNULL(number))
		return -1;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(number), TEXTOID, -1, false, TYPALIGN_INT,
					  elements, &nulls, &count);
	for (int i = 0; i < count; i++)
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("names must not be null")));
	return count;
}

/* Arguments 2 to 4: aggregate_types, types, correlation_id; 7 and 8: tenant_id, origin. */
static void
filter_init(Filter *filter, FunctionCallInfo fcinfo)
{
	Datum	   *names = NULL;
	char	   *origin = arg_name(fcinfo, 8);

	filter->ntype_ids = text_array(fcinfo, 2, &names);
	filter->type_ids = palloc(Max(filter->ntype_ids, 1) * sizeof(int32));
	for (int i = 0; i < filter->ntype_ids; i++)
		filter->type_ids[i] = aggregate_type_by_name(origin, TextDatumGetCString(names[i]))->id;
	filter->ntypes = text_array(fcinfo, 3, &names);
	filter->types = palloc(Max(filter->ntypes, 1) * sizeof(text *));
	for (int i = 0; i < filter->ntypes; i++)
		filter->types[i] = DatumGetTextPP(names[i]);
	filter->correlation_id = arg_uuid(fcinfo, 4);
	filter->tenant_id = !PG_ARGISNULL(7) || dugong_tenant_id[0] != '\0' ? tenant_argument(fcinfo, 7) : NULL;
	filter->reader = GetUserId();
}

static bool
same_text(const text *one, const text *other)
{
	return VARSIZE_ANY_EXHDR(one) == VARSIZE_ANY_EXHDR(other) &&
		memcmp(VARDATA_ANY(one), VARDATA_ANY(other), VARSIZE_ANY_EXHDR(one)) == 0;
}

static bool
filter_wants(const Filter *filter, const LogRow *row)
{
	bool		wanted = filter->ntype_ids < 0;

	for (int i = 0; !wanted && i < filter->ntype_ids; i++)
		wanted = filter->type_ids[i] == DatumGetInt32(log_row_value(row, LOG_AGGREGATE_TYPE_ID));
	if (!wanted)
		return false;

	wanted = filter->ntypes < 0;
	for (int i = 0; !wanted && i < filter->ntypes; i++)
		wanted = same_text(filter->types[i], DatumGetTextPP(log_row_value(row, LOG_TYPE)));
	if (!wanted)
		return false;

	if (filter->correlation_id &&
		(log_row_isnull(row, LOG_CORRELATION_ID) ||
		 memcmp(filter->correlation_id, DatumGetUUIDP(log_row_value(row, LOG_CORRELATION_ID)), UUID_LEN) != 0))
		return false;
	return filter->tenant_id == NULL ?
		tenant_is_seen(filter->reader, DatumGetTextPP(log_row_value(row, LOG_TENANT_ID))) :
		same_text(filter->tenant_id, DatumGetTextPP(log_row_value(row, LOG_TENANT_ID)));
}

/* Scans positions from first to last, through the best index there is. */
static void
scan_begin(LogScan *scan, Relation log, const Filter *filter, int64 first, int64 last,
		   ScanDirection direction, Snapshot snapshot)
{
	if (filter->correlation_id)
		log_scan_correlation(scan, log, filter->correlation_id, first, last, direction, snapshot);
	else
		log_scan_positions(scan, log, first, last, direction, snapshot);
}

/* Gives out what a snapshot sees of a range, holes or not. */
static void
read_all(Output *output, Relation log, const Filter *filter, int64 first, int64 last,
		 ScanDirection direction)
{
	LogScan		scan;
	LogRow		row;

	scan_begin(&scan, log, filter, first, last, direction, GetActiveSnapshot());
	while (output->left > 0 && log_scan_next(&scan))
	{
		CHECK_FOR_INTERRUPTS();
		log_row_from_slot(&row, scan.slot);
		if (filter_wants(filter, &row))
			output_row(output, &row);
	}
	log_scan_end(&scan);
}

/*
 * Gives out what the caller's snapshot sees of a range, up to the first event
 * that it does not.  latest: a snapshot taken after the horizon.
 *
 * gapless_from: a hole at or above this position may still fill, and ends the
 * reading; every event of the range is then looked at, wanted or not.
 *
 * Returns false if it stopped before the range's end.
 */
static bool
read_settled(Output *output, Relation log, const Filter *filter, int64 first, int64 last,
			 int64 gapless_from, Snapshot latest)
{
	static const Filter everything = {.ntype_ids = -1,.ntypes = -1};
	LogScan		scan;
	LogRow		row;
	bool		settled = true;

	scan_begin(&scan, log, gapless_from <= last ? &everything : filter, first, last,
			   ForwardScanDirection, latest);
	while (output->left > 0 && settled && log_scan_next(&scan))
	{
		int64		position;

		CHECK_FOR_INTERRUPTS();
		log_row_from_slot(&row, scan.slot);
		position = DatumGetInt64(log_row_value(&row, LOG_POSITION));
		settled = (position == gapless_from || gapless_from > last) &&
			table_tuple_satisfies_snapshot(log, scan.slot, GetActiveSnapshot());
		if (gapless_from <= last)
			gapless_from++;
		if (settled && filter_wants(filter, &row))
			output_row(output, &row);
	}
	log_scan_end(&scan);
	return settled;
}

/*
 * Gives out what lies above a position, up to the first hole that may still
 * fill.  At and below the horizon there is none; above it every hole is one.
 *
 * The horizon is newer than the caller's snapshot.  So the log is scanned
 * under one that is newer than the horizon, and an event that only this one
 * sees was a hole that has filled.
 */
static void
read_up_to_gap(Output *output, Relation log, const Filter *filter, int64 after)
{
	int64		horizon = Max(horizon_get(), after);
	Snapshot	latest = snapshot_register_now(log);

	if (read_settled(output, log, filter, after + 1, horizon, PG_INT64_MAX, latest))
		read_settled(output, log, filter, horizon + 1, PG_INT64_MAX - 1, horizon + 1, latest);
	UnregisterSnapshot(latest);
}

/*
 * read_events(after_position, max_rows, aggregate_types, types,
 * correlation_id, backward, stop_at_gap, tenant_id, origin)
 */
Datum
dugong_read_events(PG_FUNCTION_ARGS)
{
	bool		backward = !PG_ARGISNULL(5) && PG_GETARG_BOOL(5);
	bool		stop_at_gap = PG_ARGISNULL(6) || PG_GETARG_BOOL(6);
	int64		after = PG_ARGISNULL(0) ? (backward ? PG_INT64_MAX : 0) : Max(PG_GETARG_INT64(0), 0);
	Filter		filter;
	Output		output;
	Relation	log;

	filter_init(&filter, fcinfo);
	output_begin(&output, fcinfo);
	output.left = max_rows_argument(fcinfo, 1);
	log = log_open(AccessShareLock);
	if (backward)
		read_all(&output, log, &filter, 1, after - 1, BackwardScanDirection);
	else if (after == PG_INT64_MAX)
		;						/* nothing lies above */
	else if (stop_at_gap)
		read_up_to_gap(&output, log, &filter, after);
	else
		read_all(&output, log, &filter, after + 1, PG_INT64_MAX, ForwardScanDirection);
	table_close(log, NoLock);
	output_end(&output);
	return (Datum) 0;
}
