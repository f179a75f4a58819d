/*
 * insert.c
 *		Putting a row that has its place into the log.
 *
 * Two ways lead there.  An INSERT statement is the general one.  The short one
 * writes the table and its indexes, and does what the triggers would do: it
 * costs a quarter.  It is taken only while the log is as dugong made it, but
 * for plain indexes: with a trigger, rule, policy or CHECK of somebody else's,
 * or an index of another kind, the statement does the work.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "store/insert.h"
#include "util/identity.h"
#include "util/plan.h"

/* Of dugong's own: see sql/store/log.sql */
#define OWN_CHECKS 3
#define OWN_TRIGGERS 4
#define MAX_INDEXES 16

static const char *const own_triggers[OWN_TRIGGERS] = {
	"event_assign", "event_mark", "inline_projections", "refuse_change"
};

static InsertedHook after_row;
static StatementHook after_statement;

/* Position of the row on its way into the table by a statement; 0 = none. */
static int64 running;

/* There is one of each. */
void
insert_set_inserted_hook(InsertedHook hook)
{
	after_row = hook;
}

void
insert_set_statement_hook(StatementHook hook)
{
	after_statement = hook;
}

/* Asked by the BEFORE trigger: does the row with this position come from here, with its place? */
bool
insert_is_running(int64 position)
{
	bool		mine = running != 0 && running == position;

	running = 0;
	return mine;
}

static bool
trigger_is_own(const Trigger *trigger)
{
	for (int i = 0; i < OWN_TRIGGERS; i++)
		if (strcmp(trigger->tgname, own_triggers[i]) == 0)
			return trigger->tgenabled == TRIGGER_FIRES_ALWAYS;
	return false;
}

static bool
table_is_own(Relation log)
{
	const TriggerDesc *triggers = log->trigdesc;
	const TupleConstr *constraints = RelationGetDescr(log)->constr;

	if (triggers == NULL || triggers->numtriggers != OWN_TRIGGERS ||
		constraints == NULL || constraints->num_check != OWN_CHECKS || constraints->has_generated_stored ||
		log->rd_rules != NULL || log->rd_rel->relrowsecurity)
		return false;
	for (int i = 0; i < OWN_TRIGGERS; i++)
		if (!trigger_is_own(&triggers->triggers[i]))
			return false;
	return true;
}

/* Does the row belong into the partial index?  Sets known if dugong made it. */
static bool
partial_index_has(Oid index, const LogRow *row, bool *known)
{
	*known = true;
	if (index == dugong_relid("event_log_first_idx"))
		return DatumGetInt64(log_row_value(row, LOG_SEQUENCE_NUMBER)) == 1;
	if (index == dugong_relid("event_log_correlation_idx"))
		return !log_row_isnull(row, LOG_CORRELATION_ID);
	if (index == dugong_relid("event_log_triggered_by_idx"))
		return !log_row_isnull(row, LOG_TRIGGERED_BY_EVENT_ID);
	*known = false;
	return true;
}

static bool
index_is_plain(Relation index, bool known)
{
	const FormData_pg_index *form = index->rd_index;

	if (index->rd_rel->relam != BTREE_AM_OID || !form->indisready || !form->indimmediate || form->indisexclusion)
		return false;
	for (int i = 0; i < form->indnatts; i++)
		if (form->indkey.values[i] <= 0)
			return false;
	return known || heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
}

static void
close_indexes(Relation *indexes, int count)
{
	for (int i = 0; i < count; i++)
		index_close(indexes[i], NoLock);
}

/* Opens the indexes that the row goes into; -1 if one of them needs the statement. */
static int
open_indexes(Relation log, const LogRow *row, Relation *indexes)
{
	List	   *list = RelationGetIndexList(log);
	ListCell   *cell;
	int			count = 0;

	foreach(cell, list)
	{
		bool		known;

		if (!partial_index_has(lfirst_oid(cell), row, &known))
			continue;
		if (count < MAX_INDEXES)
			indexes[count++] = index_open(lfirst_oid(cell), RowExclusiveLock);
		if (list_length(list) > MAX_INDEXES || !index_is_plain(indexes[count - 1], known))
		{
			close_indexes(indexes, count);
			count = -1;
			break;
		}
	}
	list_free(list);
	return count;
}

static void
insert_into_index(Relation log, Relation index, const LogRow *row, ItemPointer tid)
{
	const FormData_pg_index *form = index->rd_index;
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];

	for (int i = 0; i < form->indnatts; i++)
	{
		values[i] = log_row_value(row, form->indkey.values[i]);
		nulls[i] = log_row_isnull(row, form->indkey.values[i]);
	}
	/* A btree does not ask for an IndexInfo. */
	(void) index_insert(index, values, nulls, tid, log,
						form->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, NULL);
}

/* The short way; false if it cannot be taken. */
static bool
insert_directly(Relation log, LogRow *row)
{
	Relation	indexes[MAX_INDEXES];
	TupleTableSlot *slot;
	HeapTuple	tuple;
	int			count;

	if (!table_is_own(log) || (count = open_indexes(log, row, indexes)) < 0)
		return false;
	tuple = heap_form_tuple(RelationGetDescr(log), row->values, row->nulls);
	slot = MakeSingleTupleTableSlot(RelationGetDescr(log), &TTSOpsHeapTuple);
	ExecStoreHeapTuple(tuple, slot, false);
	table_tuple_insert(log, slot, GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < count; i++)
		insert_into_index(log, indexes[i], row, &slot->tts_tid);
	close_indexes(indexes, count);
	ExecDropSingleTupleTableSlot(slot);
	after_row(log, tuple);
	heap_freetuple(tuple);
	after_statement();
	return true;
}

/* Types and order are those of LogColumn. */
#define INSERT_EVENT \
	"INSERT INTO dugong.event_log (position, sequence_number, \"timestamp\", id, aggregate_id, " \
	"aggregate_type_id, version, tenant_id, type, payload, correlation_id, triggered_by_event_id, " \
	"triggered_by_user_id, metadata) " \
	"VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) "
#define INSERT_EVENT_TYPES \
	{INT8OID, INT8OID, TIMESTAMPTZOID, UUIDOID, UUIDOID, INT4OID, INT4OID, TEXTOID, TEXTOID, \
	JSONBOID, UUIDOID, UUIDOID, TEXTOID, JSONBOID}

static bool
insert_by_statement(LogRow *row, bool contested)
{
	static SavedPlan insert_alone = {
		.sql = INSERT_EVENT,
		.nargs = LOG_NCOLUMNS,
		.argtypes = INSERT_EVENT_TYPES
	};
	static SavedPlan insert_contested = {
		.sql = INSERT_EVENT "ON CONFLICT DO NOTHING",
		.nargs = LOG_NCOLUMNS,
		.argtypes = INSERT_EVENT_TYPES
	};
	bool		inserted;
	Identity	before;

	identity_assume(&before, dugong_owner());
	SPI_connect();
	running = DatumGetInt64(log_row_value(row, LOG_POSITION));
	inserted = plan_execute(contested ? &insert_contested : &insert_alone,
							row->values, row->nulls, false) > 0;
	SPI_finish();
	identity_restore(&before);
	running = 0;
	return inserted;
}

/*
 * Inserts a row that has its place; false if it met a duplicate.
 *
 * contested: a first event and one with a given id may meet a duplicate that
 * is not yet visible; ON CONFLICT waits for it without a subtransaction.  The
 * others are alone, under the aggregate's lock.
 */
bool
insert_row(Relation log, LogRow *row, bool contested)
{
	return (!contested && insert_directly(log, row)) || insert_by_statement(row, contested);
}
