/*
 * proof.c
 *		Does a query model show what the log says?
 *
 * verify_projection() folds each aggregate from its first event on, and
 * compares the row that it should have with the one that is there.  Log,
 * checkpoint and table are read under one snapshot, without a lock, while the
 * projection goes on.
 *
 * What a row may show: the state after the last event that the checkpoint
 * covers (position, holes and event types taken into account), or after any
 * later one, because a batch builds from all that its snapshot sees and may be
 * ahead of the checkpoint.  Of an aggregate that is set aside, it is the last
 * event before the one that failed.  Anything else is a difference; and so is a
 * row of an aggregate that the log does not know, or whose tenant the
 * projection's owner does not see.  Repair is repair.c's.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "aggregate/aggregate.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "projection/checkpoint.h"
#include "projection/failure.h"
#include "projection/model_rows.h"
#include "projection/proof.h"
#include "projection/repair.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "util/args.h"
#include "util/attempt.h"
#include "util/identity.h"
#include "util/plan.h"

PG_FUNCTION_INFO_V1(dugong_verify_projection);

#define CHUNK 500				/* aggregates, or rows, that are looked at together */
#define MAX_STATE_BYTES (8 * 1024 * 1024)

typedef struct Proof
{
	Projection *projection;
	int32		type_id;
	int			sample;			/* about so many aggregates, and rows; 0 = all */
	Relation	log;
	Snapshot	snapshot;
	Checkpoint	checkpoint;
	Oid			reader;			/* who asks */
	ModelRows	rows;
	Tuplestorestate *found;		/* differences */
	TupleDesc	desc;			/* of these */
} Proof;

/* An aggregate that is looked at. */
typedef struct Subject
{
	AggregateKey key;
	int64		handled;		/* the last event that the checkpoint covers; 0 = none */
	bool		suspect;		/* its row is not what that event makes */
	HeapTuple	expected;		/* of a suspect, the two rows: NULL = none */
	HeapTuple	actual;
} Subject;

typedef struct Chunk
{
	const Proof *proof;
	Subject    *subjects;
	int			count;
} Chunk;

/* The last event of an aggregate before one that its row shows at least; 0 = none. */
static int64
last_handled(const Proof *proof, const AggregateKey *key, int64 before)
{
	return checkpoint_last_handled(&proof->checkpoint, proof->projection, proof->log, key, before, proof->snapshot);
}

/* From its events alone, no snapshot, up to one of them; in the current memory context. */
static Size
build(const Proof *proof, const Subject *subject, Aggregate *aggregate, AggregateState *state)
{
	BuildLimit	limit = {subject->handled, DT_NOEND};
	const FoldType *type;

	aggregate_init(aggregate, &subject->key);
	aggregate->skip_snapshot = true;
	if (subject->handled > 0)
		aggregate_build(aggregate, proof->log, &limit, proof->snapshot);
	state->key = subject->key;
	state->deleted = aggregate->isnull;
	state->state = aggregate->state;
	type = &aggregate->fold->result;
	return aggregate->isnull ? 0 : datumGetSize(aggregate->state, type->typbyval, type->typlen);
}

static HeapTuple
keep_row(MemoryContext context, HeapTuple row)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	HeapTuple	copy = row ? heap_copytuple(row) : NULL;

	MemoryContextSwitchTo(old);
	return copy;
}

/* Compares rows with states, and says who is suspect; keep: for their rows. */
static void
compare(const Proof *proof, Subject *subjects, const AggregateState *states, int count, MemoryContext keep)
{
	AggregateKey *keys = palloc(count * sizeof(AggregateKey));
	HeapTuple  *expected = model_rows_expected(&proof->rows, states, count);
	HeapTuple  *actual;
	Identity	before;

	for (int i = 0; i < count; i++)
		keys[i] = subjects[i].key;
	actual = model_rows_actual(&proof->rows, keys, count);
	model_rows_begin(&proof->rows, &before);
	for (int i = 0; i < count; i++)
		subjects[i].suspect = model_rows_differ(&proof->rows, expected[i], actual[i]);
	handler_end(&before);
	for (int i = 0; i < count; i++)
	{
		if (!subjects[i].suspect)
			continue;
		subjects[i].expected = keep_row(keep, expected[i]);
		subjects[i].actual = keep_row(keep, actual[i]);
	}
}

static void
look_at_chunk(void *arg)
{
	Chunk	   *chunk = arg;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dugong proof states", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	int			done = 0;

	while (done < chunk->count)
	{
		AggregateState *states = palloc((chunk->count - done) * sizeof(AggregateState));
		Size		bytes = 0;
		int			n = 0;

		while (done + n < chunk->count && bytes < MAX_STATE_BYTES)
		{
			Aggregate	aggregate;

			bytes += build(chunk->proof, &chunk->subjects[done + n], &aggregate, &states[n]);
			aggregate_release_fold(&aggregate);
			n++;
		}
		compare(chunk->proof, chunk->subjects + done, states, n, old);
		done += n;
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* Is the aggregate set aside?  first: its first event that is not handled. */
static bool
is_parked(const Proof *proof, const AggregateKey *key, int64 *first)
{
	static SavedPlan select_first = {
		.sql = "SELECT first_sequence_number FROM dugong.parked_aggregates WHERE projection OPERATOR(pg_catalog.=) $1 "
		"AND aggregate_type_id OPERATOR(pg_catalog.=) $2 AND aggregate_id OPERATOR(pg_catalog.=) $3 "
		"AND tenant_id OPERATOR(pg_catalog.=) $4",
		.nargs = 4,
		.argtypes = {TEXTOID, INT4OID, UUIDOID, TEXTOID}
	};
	Datum		values[] = {
		CStringGetTextDatum(proof->projection->name), Int32GetDatum(key->type_id),
		UUIDPGetDatum(&key->id), PointerGetDatum(key->tenant_id)
	};
	bool		isnull;
	bool		found;

	SPI_connect();
	found = plan_execute(&select_first, values, NULL, true) > 0;
	if (found)
		*first = DatumGetInt64(plan_result(0, 1, &isnull));
	SPI_finish();
	return found;
}

static void
put_difference(const Proof *proof, const pg_uuid_t *id, text *tenant_id, HeapTuple expected, HeapTuple actual)
{
	Datum		values[FOUND_NCOLUMNS] = {0};
	bool		nulls[FOUND_NCOLUMNS] = {id == NULL, tenant_id == NULL, false, expected == NULL, actual == NULL, false};
	Identity	before;

	values[FOUND_ID] = UUIDPGetDatum(id);
	values[FOUND_TENANT] = PointerGetDatum(tenant_id);
	values[FOUND_DIFFERENCE] = CStringGetTextDatum(expected == NULL ? "extra" : actual == NULL ? "missing" : "different");
	model_rows_begin(&proof->rows, &before);
	if (expected)
		values[FOUND_EXPECTED] = model_rows_json(&proof->rows, expected);
	if (actual)
		values[FOUND_ACTUAL] = model_rows_json(&proof->rows, actual);
	handler_end(&before);
	values[FOUND_REPAIRED] = BoolGetDatum(false);
	tuplestore_putvalues(proof->found, proof->desc, values, nulls);
}

/* A walk through the events of a suspect, for one that makes its row what it is. */
typedef struct Walk
{
	const Proof *proof;
	Subject		subject;		/* handled: where the walk begins */
	HeapTuple	expected;		/* the row that it begins with */
	HeapTuple	actual;
	bool		begun;			/* could the first state be looked at? */
	bool		found;
} Walk;

/* Looks at the row that the aggregate has made by now; in the current memory context. */
static void
look_at_state(Walk *walk, const Aggregate *aggregate)
{
	AggregateState state = {.key = walk->subject.key,.state = aggregate->state,.deleted = aggregate->isnull};
	HeapTuple	expected = model_rows_expected(&walk->proof->rows, &state, 1)[0];
	Identity	before;

	model_rows_begin(&walk->proof->rows, &before);
	walk->found = !model_rows_differ(&walk->proof->rows, expected, walk->actual);
	handler_end(&before);
	if (!walk->begun)
		walk->expected = expected;
	walk->begun = true;
}

static void
take_walk(void *arg)
{
	Walk	   *walk = arg;
	const Proof *proof = walk->proof;
	MemoryContext context = CurrentMemoryContext;
	MemoryContext step = AllocSetContextCreate(context, "dugong proof step", ALLOCSET_DEFAULT_SIZES);
	Aggregate	aggregate;
	AggregateState state;
	LogScan		scan;

	walk->actual = model_rows_actual(&proof->rows, &walk->subject.key, 1)[0];
	(void) build(proof, &walk->subject, &aggregate, &state);
	log_scan_stream(&scan, proof->log, &walk->subject.key, walk->subject.handled + 1, PG_INT64_MAX,
					ForwardScanDirection, proof->snapshot);
	look_at_state(walk, &aggregate);
	MemoryContextSwitchTo(step);
	while (!walk->found && log_scan_next(&scan))
	{
		LogRow		row;

		CHECK_FOR_INTERRUPTS();
		log_row_from_slot(&row, scan.slot);
		aggregate_apply(&aggregate, &row);
		look_at_state(walk, &aggregate);
		MemoryContextReset(step);
	}
	MemoryContextSwitchTo(context);
	log_scan_end(&scan);
	aggregate_free(&aggregate);
	MemoryContextDelete(step);
}

/* Is there an event that its row may show already? */
static bool
may_be_ahead(const Proof *proof, const Subject *subject)
{
	AggregateHead head;

	aggregate_head(proof->log, &subject->key, subject->handled, proof->snapshot, &head);
	return head.sequence_number > subject->handled;
}

/*
 * Notes the difference of a suspect, unless its row is what one of its events
 * makes that it may stand at.  Events that are not handled, or that it was set
 * aside for, need not fold.
 */
static void
examine(const Proof *proof, const Subject *subject)
{
	Walk		walk = {.proof = proof,.subject = *subject};
	int64		first;
	bool		compared = subject->expected || subject->actual;
	ErrorData  *error;

	if (is_parked(proof, &subject->key, &first))
		walk.subject.handled = last_handled(proof, &subject->key, first);
	else if (compared && !may_be_ahead(proof, subject))
	{
		put_difference(proof, &subject->key.id, subject->key.tenant_id, subject->expected, subject->actual);
		return;
	}
	error = attempt(take_walk, &walk);
	if (error && (failure_class(error) != FAILURE_OF_HANDLER || !walk.begun))
		ReThrowError(error);
	if (!walk.found && (walk.expected || walk.actual))
		put_difference(proof, &subject->key.id, subject->key.tenant_id, walk.expected, walk.actual);
}

/* Looks at some aggregates; at each alone if that fails for one. */
static void
check(const Proof *proof, Subject *subjects, int count)
{
	Chunk		chunk = {proof, subjects, count};
	ErrorData  *error;

	for (int i = 0; i < count; i++)
		subjects[i].handled = last_handled(proof, &subjects[i].key, PG_INT64_MAX);
	error = attempt(look_at_chunk, &chunk);
	if (error && failure_class(error) != FAILURE_OF_HANDLER)
		ReThrowError(error);
	for (int i = 0; i < count; i++)
	{
		Chunk		one = {proof, &subjects[i], 1};
		ErrorData  *alone = error ? attempt(look_at_chunk, &one) : NULL;

		if (alone && failure_class(alone) != FAILURE_OF_HANDLER)
			ReThrowError(alone);
		if (alone)
			subjects[i].suspect = true;
		if (subjects[i].suspect)
			examine(proof, &subjects[i]);
	}
}

/* The next aggregate that the projection gets, and the caller may know of. */
static bool
next_aggregate(const Proof *proof, LogScan *scan, AggregateKey *key)
{
	while (log_scan_next(scan))
	{
		LogRow		row;

		CHECK_FOR_INTERRUPTS();
		log_row_from_slot(&row, scan->slot);
		log_row_key(&row, key);
		if (model_rows_sees(&proof->rows, key->tenant_id))
			return true;
	}
	return false;
}

static int64
count_aggregates(const Proof *proof)
{
	LogScan		scan;
	AggregateKey key;
	int64		count = 0;

	log_scan_first_events(&scan, proof->log, proof->type_id, NULL, NULL, proof->snapshot);
	while (next_aggregate(proof, &scan, &key))
		count++;
	log_scan_end(&scan);
	return count;
}

/* Takes the next of the aggregates that are left into the sample: each with the same chance. */
static bool
is_chosen(const Proof *proof, int64 left, int64 wanted)
{
	return proof->sample == 0 || pg_prng_double(&pg_global_prng_state) * left < wanted;
}

/* Looks at the aggregates that the log knows. */
static void
check_aggregates(const Proof *proof)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dugong proof", ALLOCSET_DEFAULT_SIZES);
	int64		left = proof->sample > 0 ? count_aggregates(proof) : 0;
	int64		wanted = proof->sample;
	LogScan		scan;
	bool		more = true;

	log_scan_first_events(&scan, proof->log, proof->type_id, NULL, NULL, proof->snapshot);
	while (more)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Subject    *subjects = palloc0(CHUNK * sizeof(Subject));
		int			count = 0;

		while (count < CHUNK && (more = next_aggregate(proof, &scan, &subjects[count].key)))
		{
			if (!is_chosen(proof, left--, wanted))
				continue;
			wanted--;
			subjects[count].key.tenant_id = DatumGetTextPCopy(PointerGetDatum(subjects[count].key.tenant_id));
			count++;
		}
		if (count > 0)
			check(proof, subjects, count);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	log_scan_end(&scan);
	MemoryContextDelete(context);
}

/* Notes a row of the table if the log, or the projection, does not know its aggregate.  result: id, tenant, row. */
static void
check_row(const Proof *proof, HeapTuple result, TupleDesc desc)
{
	AggregateKey key = {.type_id = proof->type_id};
	AggregateHead head = {0};
	bool		no_id;
	bool		no_tenant;
	Datum		id = heap_getattr(result, 1, desc, &no_id);
	Datum		tenant = heap_getattr(result, 2, desc, &no_tenant);

	if (!no_id)
		key.id = *DatumGetUUIDP(id);
	if (!no_tenant)
		key.tenant_id = DatumGetTextPP(tenant);
	if (!no_id && !no_tenant && projection_sees(proof->projection, key.tenant_id))
		aggregate_head(proof->log, &key, 0, proof->snapshot, &head);
	if (head.sequence_number == 0)
		put_difference(proof, no_id ? NULL : &key.id, key.tenant_id, NULL,
					   model_rows_take(&proof->rows, result, desc, 3));
}

/* Looks for rows of aggregates that the projection does not know. */
static void
check_rows(const Proof *proof)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dugong proof", ALLOCSET_DEFAULT_SIZES);
	Oid			type = INT8OID;
	Datum		sample = Int64GetDatum(proof->sample);
	uint64		nrows;
	Identity	before;
	Portal		portal;

	SPI_connect();
	model_rows_begin(&proof->rows, &before);
	portal = SPI_cursor_open_with_args(NULL, proof->rows.all_sql, 1, &type, &sample,
									   proof->sample > 0 ? " " : "n", true, 0);
	handler_end(&before);
	do
	{
		MemoryContext old;

		model_rows_begin(&proof->rows, &before);
		SPI_cursor_fetch(portal, true, CHUNK);
		handler_end(&before);
		nrows = SPI_processed;
		old = MemoryContextSwitchTo(context);
		for (uint64 i = 0; i < nrows; i++)
		{
			CHECK_FOR_INTERRUPTS();
			check_row(proof, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
		SPI_freetuptable(SPI_tuptable);
	} while (nrows > 0);
	SPI_cursor_close(portal);
	SPI_finish();
	MemoryContextDelete(context);
}

/*
 * What the snapshot sees of how the projection runs: the registry in memory
 * may be newer.
 *
 * Errors: 42704 if it does not see the projection.
 */
static void
read_mode(const Proof *proof)
{
	static SavedPlan select_mode = {
		.sql = "SELECT mode OPERATOR(pg_catalog.=) 'inline', start_position FROM dugong.projections "
		"WHERE name OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.argtypes = {TEXTOID}
	};
	Datum		name = CStringGetTextDatum(proof->projection->name);
	bool		isnull;

	SPI_connect();
	if (plan_execute(&select_mode, &name, NULL, true) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("projection \"%s\" does not exist", proof->projection->name),
				 errdetail("It is newer than the transaction's snapshot.")));
	proof->projection->is_inline = DatumGetBool(plan_result(0, 1, &isnull));
	proof->projection->start_position = DatumGetInt64(plan_result(0, 2, &isnull));
	SPI_finish();
}

static void
note_stale(const Proof *proof)
{
	if (proof->checkpoint.has_fingerprint &&
		proof->checkpoint.fingerprint != projection_fingerprint(proof->projection))
		ereport(NOTICE,
				(errmsg("projection \"%s\" is stale", proof->projection->name),
				 errdetail("What is expected is what today's fold makes: differences are what a rebuild would change."),
				 errhint("Use dugong.rebuild_projection().")));
}

static void
find_differences(Proof *proof)
{
	Identity	before;

	identity_assume(&before, dugong_owner());
	proof->log = log_open(AccessShareLock);
	proof->snapshot = RegisterSnapshot(GetActiveSnapshot());
	model_rows_open(&proof->rows, proof->projection, proof->reader);
	read_mode(proof);
	checkpoint_look(&proof->checkpoint, proof->projection);
	note_stale(proof);
	check_aggregates(proof);
	check_rows(proof);
	model_rows_close(&proof->rows);
	UnregisterSnapshot(proof->snapshot);
	table_close(proof->log, NoLock);
	identity_restore(&before);
}

/*
 * A projection whose query model dugong knows.
 *
 * Errors: 42704, 0A000.
 */
Projection *
proof_get_projection(const char *name)
{
	Projection *projection = projection_get(name);

	if (projection->kind != KIND_QUERY_MODEL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot verify projection \"%s\"", name),
				 errdetail("It has no query_model: what its handlers write only they know.")));
	return projection;
}

static int
sample_argument(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(1))
		return 0;
	if (PG_GETARG_INT32(1) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("sample must be positive"),
				 errhint("NULL means all aggregates.")));
	return PG_GETARG_INT32(1);
}

/* verify_projection(projection, sample, repair) */
Datum
dugong_verify_projection(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		repair = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	Proof		proof = {
		.projection = proof_get_projection(arg_needed_name(fcinfo, 0, "projection")),
		.sample = sample_argument(fcinfo),
		.reader = GetUserId()
	};

	if (repair)
		repair_require(proof.projection);
	proof.type_id = linitial_int(proof.projection->type_ids);
	InitMaterializedSRF(fcinfo, 0);
	proof.desc = result->setDesc;
	proof.found = repair ? tuplestore_begin_heap(false, false, work_mem) : result->setResult;
	find_differences(&proof);
	if (repair && tuplestore_tuple_count(proof.found) > 0)
		repair_differences(proof.projection->name, proof.found, proof.desc, result->setResult);
	return (Datum) 0;
}
