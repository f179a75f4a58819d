/*
 * work.c
 *		Handling aggregates and events, as a projection does.
 *
 * Who wants something handled collects it first: the aggregates that have
 * changed, and, for a projection that gets events, the events in their order.
 * work_do() then does it.  Reading and handling are apart, so that what fails
 * in users' code leaves what was read as it is.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "aggregate/aggregate.h"
#include "aggregate/state_cache.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "projection/query_model.h"
#include "projection/work.h"
#include "store/domain_event.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

/* States are written when so many have gathered, or so many bytes of them. */
#define MAX_STATES 1000
#define MAX_STATE_BYTES (8 * 1024 * 1024)

/* In the current memory context, which is its own. */
void
work_begin(Work *work, const Projection *projection, bool own_transaction,
		   Relation log, Snapshot snapshot)
{
	memset(work, 0, sizeof(*work));
	work->projection = projection;
	work->log = log;
	work->snapshot = snapshot;
	work->context = CurrentMemoryContext;
	work->changes = aggregate_table_create("dugong changes", sizeof(Change), CurrentMemoryContext);
	handler_actor(&work->actor, projection, own_transaction);
}

/* The change of an aggregate; found: was it there before? */
Change *
work_find(Work *work, const AggregateKey *key, bool *found)
{
	Change	   *change = hash_search(work->changes, key, HASH_ENTER, found);
	MemoryContext old;

	if (!*found)
	{
		old = MemoryContextSwitchTo(work->context);
		memset(((char *) change) + sizeof(AggregateKey), 0, sizeof(Change) - sizeof(AggregateKey));
		change->key.tenant_id = DatumGetTextPCopy(PointerGetDatum(key->tenant_id));
		MemoryContextSwitchTo(old);
	}
	return change;
}

/* One more event of an aggregate; first: is it the first here? */
void
work_note(Change *change, const LogRow *row, bool first)
{
	int64		sequence_number = DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER));

	if (first)
		change->first = sequence_number;
	change->last = sequence_number;
	change->event_id = *DatumGetUUIDP(log_row_value(row, LOG_ID));
	change->correlated = !log_row_isnull(row, LOG_CORRELATION_ID);
	if (change->correlated)
		change->correlation_id = *DatumGetUUIDP(log_row_value(row, LOG_CORRELATION_ID));
}

/* An event for a projection that gets events. */
void
work_add_event(Work *work, TupleTableSlot *slot)
{
	MemoryContext old = MemoryContextSwitchTo(work->context);
	HeapTuple	tuple = ExecCopySlotHeapTuple(slot);

	work->events = lappend(work->events, tuple);
	work->bytes += tuple->t_len;
	MemoryContextSwitchTo(old);
}

static int
compare_texts(const text *one, const text *other)
{
	int			order = memcmp(VARDATA_ANY(one), VARDATA_ANY(other), Min(VARSIZE_ANY_EXHDR(one), VARSIZE_ANY_EXHDR(other)));

	return order != 0 ? order : (int) VARSIZE_ANY_EXHDR(one) - (int) VARSIZE_ANY_EXHDR(other);
}

static int
compare_changes(const void *one, const void *other)
{
	const Change *a = *(Change *const *) one;
	const Change *b = *(Change *const *) other;

	int			order = memcmp(&a->key.id, &b->key.id, UUID_LEN);

	return order != 0 ? order : compare_texts(a->key.tenant_id, b->key.tenant_id);
}

/*
 * Is it to be handled?  Who collects changes by name, and not from events that
 * the projection reads, may bring what its owner does not see.  A query model
 * must not have it, a handler hears nothing of it.
 */
static bool
is_handled(const Work *work, const Change *change)
{
	return !change->skipped &&
		(work->projection->kind == KIND_QUERY_MODEL || projection_sees(work->projection, change->key.tenant_id));
}

/* Those that are to be handled, in the order of their ids and tenants: everybody locks rows in that order. */
static Change **
sorted_changes(Work *work, int *count)
{
	Change	  **changes = palloc(Max(hash_get_num_entries(work->changes), 1) * sizeof(Change *));
	HASH_SEQ_STATUS seq;
	Change	   *change;

	*count = 0;
	hash_seq_init(&seq, work->changes);
	while ((change = hash_seq_search(&seq)) != NULL)
		if (is_handled(work, change))
			changes[(*count)++] = change;
	qsort(changes, *count, sizeof(Change *), compare_changes);
	return changes;
}

static void
context_of_change(HandledContext *context, const Change *change)
{
	context->tenant_id = change->key.tenant_id;
	context->event_id = change->last > 0 ? &change->event_id : NULL;
	context->correlation_id = change->correlated ? &change->correlation_id : NULL;
}

static void
prepare_states(Work *work, bool careful)
{
	const Projection *projection = work->projection;
	Oid			type = fold_result_type(aggregate_type_get(linitial_int(projection->type_ids)));
	Oid			each[] = {UUIDOID, type};
	Oid			set[] = {UUIDARRAYOID, get_array_type(type)};

	work->state_type = type;
	if (projection->kind == KIND_AGGREGATE)
	{
		handler_open(&work->handler, projection->update_handler, &work->actor, "update handler", 2, each);
		handler_open(&work->delete_handler, projection->delete_handler, &work->actor, "delete handler", 1, each);
	}
	else if (projection->kind == KIND_AGGREGATE_SET)
		handler_open(&work->handler, projection->set_handler, &work->actor, "set handler", 2, set);
	else if (careful)
		query_model_check(projection->query_model, type);
}

/*
 * Finds out what all that is to be handled depends on; so its errors are the
 * projection's, not an event's.
 *
 * careful: also what is cheaper to be told while it is handled.
 */
void
work_prepare(Work *work, bool careful)
{
	MemoryContext old = MemoryContextSwitchTo(work->context);
	Oid			event = domain_event_typeid();
	Oid			set = get_array_type(event);

	if (projection_is_of_states(work->projection))
		prepare_states(work, careful);
	else if (work->projection->kind == KIND_EVENT)
		handler_open(&work->handler, work->projection->event_handler, &work->actor, "event handler", 1, &event);
	else
		handler_open(&work->handler, work->projection->set_handler, &work->actor, "set handler", 1, &set);
	MemoryContextSwitchTo(old);
}

/* Builds an aggregate, and keeps its state in the current memory context. */
static Size
build_state(Work *work, Change *change, AggregateState *state)
{
	Aggregate	aggregate;
	const FoldType *type;
	Size		size = 0;

	*state = (AggregateState) {.key = change->key,.deleted = true};
	if (!projection_sees(work->projection, change->key.tenant_id))
		return 0;
	aggregate_init(&aggregate, &change->key);
	if (work->remembers)
		state_cache_load(&aggregate);
	aggregate_build(&aggregate, work->log, NULL, work->snapshot);
	if (work->remembers)
		state_cache_store(&aggregate);
	type = &aggregate.fold->result;
	state->deleted = aggregate.isnull;
	if (!aggregate.isnull)
	{
		state->state = datumCopy(aggregate.state, type->typbyval, type->typlen);
		size = datumGetSize(state->state, type->typbyval, type->typlen);
	}
	if (type->oid != work->state_type)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the fold of aggregate type \"%s\" has changed", text_to_cstring(aggregate.type->name))));
	change->built = aggregate.sequence_number;
	aggregate_free(&aggregate);
	return size;
}

static void
handle_each_state(Work *work, Change *const *changes, const AggregateState *states, int count)
{
	for (int i = 0; i < count; i++)
	{
		Datum		args[] = {UUIDPGetDatum(&states[i].key.id), states[i].state};
		HandledContext context;

		CHECK_FOR_INTERRUPTS();
		context_of_change(&context, changes[i]);
		handler_call(states[i].deleted ? &work->delete_handler : &work->handler, &work->actor, &context,
					 states[i].deleted ? 1 : 2, args);
	}
}

static bool
same_text(const text *one, const text *other)
{
	return VARSIZE_ANY_EXHDR(one) == VARSIZE_ANY_EXHDR(other) &&
		memcmp(VARDATA_ANY(one), VARDATA_ANY(other), VARSIZE_ANY_EXHDR(one)) == 0;
}

/* An array of one dimension; nulls may be NULL. */
static Datum
make_array(Datum *values, bool *nulls, int count, Oid type)
{
	int			lower = 1;
	int16		typlen;
	bool		typbyval;
	char		typalign;

	get_typlenbyvalalign(type, &typlen, &typbyval, &typalign);
	return PointerGetDatum(construct_md_array(values, nulls, 1, &count, &lower, type, typlen, typbyval, typalign));
}

/* One call for each tenant: the handler finds it in the setting. */
static void
handle_set_of_states(Work *work, const AggregateState *states, int count)
{
	bool	   *done = palloc0(Max(count, 1) * sizeof(bool));
	Datum	   *ids = palloc(Max(count, 1) * sizeof(Datum));
	Datum	   *values = palloc(Max(count, 1) * sizeof(Datum));
	bool	   *nulls = palloc(Max(count, 1) * sizeof(bool));

	for (int first = 0; first < count; first++)
	{
		HandledContext context = {.tenant_id = states[first].key.tenant_id};
		Datum		args[2];
		int			n = 0;

		for (int i = first; !done[first] && i < count; i++)
		{
			if (done[i] || (i > first && !same_text(states[i].key.tenant_id, states[first].key.tenant_id)))
				continue;
			ids[n] = UUIDPGetDatum(&states[i].key.id);
			values[n] = states[i].state;
			nulls[n++] = states[i].deleted;
			done[i] = i > first;
		}
		if (n == 0)
			continue;
		args[0] = make_array(ids, NULL, n, UUIDOID);
		args[1] = make_array(values, nulls, n, work->state_type);
		handler_call(&work->handler, &work->actor, &context, 2, args);
	}
}

static void
write_states(Work *work, Change *const *changes, const AggregateState *states, int count)
{
	if (work->projection->kind == KIND_QUERY_MODEL)
		query_model_write(work->projection->query_model, &work->actor, work->state_type, states, count);
	else if (work->projection->kind == KIND_AGGREGATE)
		handle_each_state(work, changes, states, count);
	else
		handle_set_of_states(work, states, count);
}

/*
 * Builds each changed aggregate as the snapshot sees it, and hands it over.
 * That may be ahead of the events that were collected: to stop at the last of
 * those would fold an old aggregate from its first event on, in every batch of
 * a catch-up.
 */
static void
do_states(Work *work)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dugong states", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	AggregateState *states;
	Change	  **changes;
	int			count;
	int			done = 0;

	MemoryContextSwitchTo(old);
	changes = sorted_changes(work, &count);
	while (done < count)
	{
		Size		bytes = 0;
		int			n = 0;

		MemoryContextSwitchTo(context);
		states = palloc(Min(count - done, MAX_STATES) * sizeof(AggregateState));
		while (n < MAX_STATES && done + n < count && bytes < MAX_STATE_BYTES)
		{
			bytes += build_state(work, changes[done + n], &states[n]);
			n++;
		}
		write_states(work, changes + done, states, n);
		done += n;
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
}

/* The event of a row, as its type is now: upcasts are the type owner's code. */
static Datum
form_event(EventReader *reader, const LogRow *row)
{
	const AggregateType *type = aggregate_type_get(DatumGetInt32(log_row_value(row, LOG_AGGREGATE_TYPE_ID)));
	Identity	before;
	Datum		event;

	aggregate_type_assume_owner(type, &before);
	event = event_reader_form(reader, row);
	identity_restore(&before);
	return event;
}

static void
context_of_row(HandledContext *context, const LogRow *row)
{
	context->tenant_id = DatumGetTextPP(log_row_value(row, LOG_TENANT_ID));
	context->event_id = DatumGetUUIDP(log_row_value(row, LOG_ID));
	context->correlation_id = log_row_isnull(row, LOG_CORRELATION_ID) ? NULL :
		DatumGetUUIDP(log_row_value(row, LOG_CORRELATION_ID));
}

static void
do_each_event(Work *work, EventReader *reader)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "dugong event", ALLOCSET_DEFAULT_SIZES);
	ListCell   *cell;

	foreach(cell, work->events)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		HandledContext handled;
		LogRow		row;
		Datum		event;

		CHECK_FOR_INTERRUPTS();
		log_row_from_tuple(&row, lfirst(cell), RelationGetDescr(work->log));
		context_of_row(&handled, &row);
		event = form_event(reader, &row);
		handler_call(&work->handler, &work->actor, &handled, 1, &event);
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
}

/* One call for each tenant, with its events in their order. */
static void
do_set_of_events(Work *work, EventReader *reader)
{
	Oid			type = domain_event_typeid();
	int			count = list_length(work->events);
	LogRow	   *rows = palloc(Max(count, 1) * sizeof(LogRow));
	Datum	   *events = palloc(Max(count, 1) * sizeof(Datum));
	bool	   *done = palloc0(Max(count, 1) * sizeof(bool));

	for (int i = 0; i < count; i++)
		log_row_from_tuple(&rows[i], list_nth(work->events, i), RelationGetDescr(work->log));
	for (int first = 0; first < count; first++)
	{
		HandledContext context = {.tenant_id = DatumGetTextPP(log_row_value(&rows[first], LOG_TENANT_ID))};
		Datum		array;
		int			n = 0;

		for (int i = first; !done[first] && i < count; i++)
		{
			if (done[i] || (i > first && !same_text(DatumGetTextPP(log_row_value(&rows[i], LOG_TENANT_ID)), context.tenant_id)))
				continue;
			events[n++] = form_event(reader, &rows[i]);
			done[i] = i > first;
		}
		if (n == 0)
			continue;
		array = make_array(events, NULL, n, type);
		handler_call(&work->handler, &work->actor, &context, 1, &array);
	}
}

static void
do_events(Work *work)
{
	EventReader reader;

	if (work->events == NIL)
		return;
	event_reader_open(&reader);
	if (work->projection->kind == KIND_EVENT)
		do_each_event(work, &reader);
	else
		do_set_of_events(work, &reader);
	event_reader_close(&reader);
}

/* Handles all that was collected; what that defers is for the caller to fire. */
void
work_do(Work *work)
{
	if (projection_is_of_states(work->projection))
		do_states(work);
	else
		do_events(work);
}
