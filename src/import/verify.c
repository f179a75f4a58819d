/*
 * verify.c
 *		Is all that an import would bring fit for the log?
 *
 * The source is read once, under one snapshot and with the caller's rights, and
 * each row is looked at before anything is written.  What is not in the log yet
 * is kept, in memory as far as maintenance_work_mem goes and then in a
 * temporary file, for the transactions that follow: they must not see a source
 * that has changed meanwhile, nor need it.
 *
 * An event is in the log if one with its id, its content and its place is.
 * That alone says what an earlier import has brought: there is no mark that a
 * crash could leave behind the log or before it.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "errors.h"
#include "executor/spi.h"
#include "import/verify.h"
#include "miscadmin.h"
#include "store/append.h"
#include "store/stored_event.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/tuplesort.h"
#include "utils/typcache.h"
#include "util/attempt.h"
#include "util/ids.h"
#include "util/progress.h"

#define NAMED 3					/* offenders of a kind that the error names */

/* What may be wrong with a row; the first kind that there is gives the error's code. */
typedef enum ProblemKind
{
	PROBLEM_NULL,
	PROBLEM_TYPE,
	PROBLEM_SEQUENCE,
	PROBLEM_ORDER,
	PROBLEM_UNFIT,
	PROBLEM_ID_TWICE,
	PROBLEM_ID_IN_USE,
	PROBLEM_CONFLICT
} ProblemKind;

#define NPROBLEMS (PROBLEM_CONFLICT + 1)

static const struct
{
	int			sqlstate;
	const char *what;
}			kinds[NPROBLEMS] = {
	{ERRCODE_NULL_VALUE_NOT_ALLOWED, "Without a value that is needed"},
	{ERRCODE_UNDEFINED_OBJECT, "Of an aggregate type that does not exist"},
	{ERRCODE_DUGONG_CORRUPT_STREAM, "Not behind their predecessor"},
	{ERRCODE_DUGONG_CORRUPT_STREAM, "Without a place of their own by order_by, or at another one than by sequence number"},
	{ERRCODE_DUGONG_EVENT_TYPE_MISMATCH, "Refused by the log"},
	{ERRCODE_DUGONG_EVENT_ID_REUSED, "With an id that another one has, too"},
	{ERRCODE_DUGONG_EVENT_ID_REUSED, "With an id that is in the log for another event"},
	{ERRCODE_DUGONG_CONCURRENCY_CONFLICT, "Of an aggregate that has other events in the log"}
};

typedef struct Problem
{
	int64		count;
	int			sqlstate;		/* of the first, if it has one of its own */
	StringInfoData named;		/* the first ones */
} Problem;

typedef struct Verifier
{
	DestReceiver receiver;		/* first: it is cast */
	Source	   *source;
	Verified   *verified;
	Tuplesortstate *ids;		/* of all events */
	Relation	log;
	Snapshot	snapshot;
	bool		log_is_empty;	/* then nothing need be looked up in it */
	MemoryContext row_context;
	Problem		problems[NPROBLEMS];
} Verifier;

/* An event that is looked at. */
typedef struct Candidate
{
	Verifier   *verifier;
	const SourceRow *row;
	LogRow		event;
} Candidate;

static char *
shown(const Verifier *verifier, const SourceRow *row, SourceColumn column)
{
	Oid			output;
	bool		is_varlena;

	if (row->nulls[column])
		return pstrdup("NULL");
	getTypeOutputInfo(TupleDescAttr(verifier->source->desc, column)->atttypid, &output, &is_varlena);
	return psprintf("\"%s\"", OidOutputFunctionCall(output, row->values[column]));
}

static Problem *
count_problem(Verifier *verifier, ProblemKind kind)
{
	Problem    *problem = &verifier->problems[kind];

	if (problem->count++ == 0)
	{
		MemoryContext old = MemoryContextSwitchTo(verifier->source->context);

		initStringInfo(&problem->named);
		MemoryContextSwitchTo(old);
	}
	return problem;
}

/* Counts a row among those with a problem; said: what of it. */
static void
note_problem(Verifier *verifier, const SourceRow *row, ProblemKind kind, const char *said)
{
	Problem    *problem = count_problem(verifier, kind);

	if (problem->count > NAMED)
		return;
	appendStringInfo(&problem->named, "\n    %s, sequence number %s of aggregate %s of type %s",
					 said, shown(verifier, row, SOURCE_SEQUENCE_NUMBER), shown(verifier, row, SOURCE_AGGREGATE_ID),
					 shown(verifier, row, SOURCE_AGGREGATE_TYPE));
}

/* What is null and must not be; NULL = nothing. */
static const char *
missing_value(const Verifier *verifier, const SourceRow *row)
{
	static const struct
	{
		SourceColumn column;
		const char *said;
	}			needed[] = {
		{SOURCE_AGGREGATE_TYPE, "without an aggregate type"},
		{SOURCE_AGGREGATE_ID, "without an aggregate id"},
		{SOURCE_TYPE, "without a type"},
		{SOURCE_SEQUENCE_NUMBER, "without a sequence number"}
	};

	for (size_t i = 0; i < lengthof(needed); i++)
		if (row->nulls[needed[i].column])
			return needed[i].said;
	if (row->nulls[SOURCE_TIMESTAMP] && verifier->source->expressions[SOURCE_TIMESTAMP])
		return "without a timestamp";
	return NULL;
}

static void
check_event(void *arg)
{
	Candidate  *candidate = arg;
	TagLocks	tags = {0};

	event_check_import(&candidate->event, &tags);
}

/* Would the log take it?  Payload types may run users' code. */
static bool
is_fit(Candidate *candidate)
{
	ErrorData  *error = attempt(check_event, candidate);
	Verifier   *verifier = candidate->verifier;

	if (error == NULL)
		return true;
	if (error_is_foreign(error))
		ReThrowError(error);
	note_problem(verifier, candidate->row, PROBLEM_UNFIT, error->message);
	if (verifier->problems[PROBLEM_UNFIT].sqlstate == 0)
		verifier->problems[PROBLEM_UNFIT].sqlstate = error->sqlerrcode;
	return false;
}

static bool
has_sequence_number(const Verifier *verifier, const LogRow *event)
{
	int64		number = DatumGetInt64(log_row_value(event, LOG_SEQUENCE_NUMBER));
	AggregateKey key;
	LogScan		scan;
	bool		found;

	log_row_key(event, &key);
	log_scan_stream(&scan, verifier->log, &key, number, number, ForwardScanDirection, verifier->snapshot);
	found = log_scan_next(&scan);
	log_scan_end(&scan);
	return found;
}

/* Is the event in the log?  Or another one in its place, or with its id? */
static bool
is_stored(Candidate *candidate)
{
	Verifier   *verifier = candidate->verifier;
	LogScan		scan;
	LogRow		stored;
	bool		found;
	bool		same = false;

	log_scan_id(&scan, verifier->log, DatumGetUUIDP(log_row_value(&candidate->event, LOG_ID)), verifier->snapshot);
	found = log_scan_next(&scan);
	if (found)
	{
		log_row_from_slot(&stored, scan.slot);
		same = event_has_same_content(&stored, &candidate->event) &&
			log_row_value(&stored, LOG_SEQUENCE_NUMBER) == log_row_value(&candidate->event, LOG_SEQUENCE_NUMBER);
	}
	log_scan_end(&scan);
	if (found && !same)
		note_problem(verifier, candidate->row, PROBLEM_ID_IN_USE,
					 psprintf("id \"%s\"", uuid_to_cstring(DatumGetUUIDP(log_row_value(&candidate->event, LOG_ID)))));
	else if (!found && has_sequence_number(verifier, &candidate->event))
		note_problem(verifier, candidate->row, PROBLEM_CONFLICT, "another event is there");
	return same;
}

/* Keeps a row: whole, for the table may be gone when it is needed. */
static void
keep(Verifier *verifier, const SourceRow *row)
{
	SourceRow	whole = *row;

	for (int i = 0; i < SOURCE_NCOLUMNS; i++)
		if (!whole.nulls[i] && TupleDescAttr(verifier->source->desc, i)->attlen == -1 &&
			VARATT_IS_EXTERNAL(DatumGetPointer(whole.values[i])))
			whole.values[i] = PointerGetDatum(detoast_external_attr((struct varlena *) DatumGetPointer(whole.values[i])));
	tuplestore_putvalues(verifier->verified->events, verifier->source->desc, whole.values, whole.nulls);
}

static void
check_place(Verifier *verifier, const SourceRow *row)
{
	int64		number = DatumGetInt64(row->values[SOURCE_NUMBER]);

	if (DatumGetInt64(row->values[SOURCE_SEQUENCE_NUMBER]) != number)
		note_problem(verifier, row, PROBLEM_SEQUENCE, psprintf("where " INT64_FORMAT " belongs", number));
	else if (DatumGetInt64(row->values[SOURCE_PLACE]) != number)
		note_problem(verifier, row, PROBLEM_ORDER, psprintf("at place " INT64_FORMAT, DatumGetInt64(row->values[SOURCE_PLACE])));
}

static void
look_at(Verifier *verifier, const SourceRow *row)
{
	Candidate	candidate = {.verifier = verifier,.row = row};
	const char *missing = missing_value(verifier, row);
	int32		type_id;

	if (missing)
	{
		note_problem(verifier, row, PROBLEM_NULL, missing);
		return;
	}
	check_place(verifier, row);
	if (!source_find_type(verifier->source, row, &type_id))
	{
		note_problem(verifier, row, PROBLEM_TYPE, psprintf("origin %s", shown(verifier, row, SOURCE_ORIGIN)));
		return;
	}
	source_to_event(verifier->source, row, type_id, &candidate.event);
	tuplesort_putdatum(verifier->ids, log_row_value(&candidate.event, LOG_ID), false);
	if (!verifier->log_is_empty && is_stored(&candidate))
		verifier->verified->stored++;
	else if (is_fit(&candidate))
		keep(verifier, row);
}

static void
start(DestReceiver *self, int operation, TupleDesc desc)
{
	Verifier   *verifier = (Verifier *) self;
	MemoryContext old = MemoryContextSwitchTo(verifier->source->context);

	verifier->source->desc = CreateTupleDescCopy(desc);
	MemoryContextSwitchTo(old);
}

static bool
receive(TupleTableSlot *slot, DestReceiver *self)
{
	Verifier   *verifier = (Verifier *) self;
	MemoryContext old = MemoryContextSwitchTo(verifier->row_context);
	SourceRow	row;

	CHECK_FOR_INTERRUPTS();
	slot_getallattrs(slot);
	memcpy(row.values, slot->tts_values, sizeof(row.values));
	memcpy(row.nulls, slot->tts_isnull, sizeof(row.nulls));
	look_at(verifier, &row);
	if (++verifier->verified->total % 1000 == 0)
		show_progress(verifier->verified->total);
	MemoryContextSwitchTo(old);
	MemoryContextReset(verifier->row_context);
	return true;
}

static void
ignore(DestReceiver *self)
{
}

/* Reads the source. */
static void
run_query(Verifier *verifier)
{
	SPIExecuteOptions options = {.read_only = true,.dest = &verifier->receiver};
	char	   *query = source_query(verifier->source);
	SPIPlanPtr	plan = SPI_prepare(query, 0, NULL);
	int			result;

	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\": %s", query, SPI_result_code_string(SPI_result));
	result = SPI_execute_plan_extended(plan, &options);
	if (result < 0)
		elog(ERROR, "could not execute \"%s\": %s", query, SPI_result_code_string(result));
	SPI_freeplan(plan);
}

/* The same id twice would be one event. */
static void
check_ids(Verifier *verifier)
{
	pg_uuid_t	last;
	bool		any = false;
	Datum		id;
	Datum		abbreviated;
	bool		isnull;

	tuplesort_performsort(verifier->ids);
	while (tuplesort_getdatum_compat(verifier->ids, &id, &isnull, &abbreviated))
	{
		CHECK_FOR_INTERRUPTS();
		if (any && memcmp(&last, DatumGetUUIDP(id), UUID_LEN) == 0)
		{
			Problem    *problem = count_problem(verifier, PROBLEM_ID_TWICE);

			if (problem->count <= NAMED)
				appendStringInfo(&problem->named, "\n    id \"%s\"", uuid_to_cstring(&last));
		}
		last = *DatumGetUUIDP(id);
		any = true;
	}
	tuplesort_end(verifier->ids);
}

/* Refuses the source if anything was found. */
static void
report_problems(const Verifier *verifier)
{
	StringInfoData detail;
	int			sqlstate = 0;

	initStringInfo(&detail);
	for (int i = 0; i < NPROBLEMS; i++)
	{
		const Problem *problem = &verifier->problems[i];

		if (problem->count == 0)
			continue;
		if (sqlstate == 0)
			sqlstate = problem->sqlstate ? problem->sqlstate : kinds[i].sqlstate;
		appendStringInfo(&detail, "%s%s: " INT64_FORMAT " of " INT64_FORMAT " events%s%s", detail.len > 0 ? "\n" : "",
						 kinds[i].what, problem->count, verifier->verified->total, problem->named.data,
						 problem->count > NAMED ? "\n    ..." : "");
	}
	if (sqlstate != 0)
		ereport(ERROR,
				(errcode(sqlstate),
				 errmsg("cannot import %s", verifier->source->name),
				 errdetail_internal("%s", detail.data),
				 verifier->problems[PROBLEM_TYPE].count > 0 ?
				 errhint("Nothing was imported now. Create the aggregate types first, or give create_aggregate_types => true.") :
				 errhint("Nothing was imported now.")));
}

/*
 * Reads the source with the rights of the current user, whose mapping was read,
 * and keeps what is to be imported.  The caller ends verified->events, which
 * outlives the transaction.
 *
 * Errors: 22004, 42704, UG001, UG006, UG007, UG008 and what the log refuses;
 * those of the source's query.
 */
void
source_verify(Source *source, Verified *verified)
{
	Verifier	verifier = {
		.receiver = {.receiveSlot = receive,.rStartup = start,.rShutdown = ignore,.rDestroy = ignore,.mydest = DestNone},
		.source = source,
		.verified = verified,
		.log = log_open(AccessShareLock),
		.row_context = AllocSetContextCreate(CurrentMemoryContext, "dugong import row", ALLOCSET_DEFAULT_SIZES)
	};
	TypeCacheEntry *uuid = lookup_type_cache(UUIDOID, TYPECACHE_LT_OPR);

	show_progress(0);
	PushActiveSnapshot(GetTransactionSnapshot());
	verifier.snapshot = RegisterSnapshot(GetLatestSnapshot());
	verifier.log_is_empty = log_last_position(verifier.log, verifier.snapshot) == 0;
	verifier.ids = tuplesort_begin_datum(UUIDOID, uuid->lt_opr, InvalidOid, false, maintenance_work_mem, NULL, TUPLESORT_NONE);
	run_query(&verifier);
	check_ids(&verifier);
	report_problems(&verifier);
	UnregisterSnapshot(verifier.snapshot);
	PopActiveSnapshot();
	MemoryContextDelete(verifier.row_context);
	table_close(verifier.log, NoLock);
}
