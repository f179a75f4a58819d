/*
 * insert.c
 *		Putting a row that has its place into the log.
 *
 * Two ways lead there.  An INSERT statement is the general one.  The short one
 * writes the table and its indexes, and does what the triggers would do: it
 * costs a quarter.  It is taken only while the log is as dugong made it, but
 * for plain btree and BRIN indexes: with a column, trigger, rule, policy, CHECK or NOT NULL of
 * somebody else's, or an index of another kind, the statement does the work.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "store/insert.h"
#include "store/log_index.h"
#include "utils/memutils.h"
#include "util/identity.h"
#include "util/plan.h"
#include "util/relation_watch.h"

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
	return running != 0 && running == position;
}

static bool
columns_are_own(TupleDesc desc)
{
	if (desc->natts != LOG_NCOLUMNS)
		return false;
	for (int i = LOG_TYPE; i < LOG_NCOLUMNS; i++)
		if (TupleDescAttr(desc, i)->attnotnull)
			return false;
	return true;
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
		log->rd_rules != NULL || log->rd_rel->relforcerowsecurity || !columns_are_own(RelationGetDescr(log)))
		return false;
	for (int i = 0; i < OWN_TRIGGERS; i++)
		if (!trigger_is_own(&triggers->triggers[i]))
			return false;
	return true;
}

/*
 * A partial index of a kind that log_index_column() knows.  An append need not
 * open one that its row does not belong into, so the session remembers those
 * that it has seen.
 */
typedef struct PartialIndex
{
	Oid			relid;
	AttrNumber	column;
} PartialIndex;

static PartialIndex partial_indexes[MAX_INDEXES];
static int	npartial_indexes;

/*
 * Descriptors of the log's first columns.  A row is stored without those at its
 * end that are null: PostgreSQL reads what is missing as null, as after ALTER
 * TABLE ADD COLUMN.  Mostly no null is left then, and no bitmap of nulls: 8 bytes.
 */
static TupleDesc short_descs[LOG_NCOLUMNS];
static Oid	short_descs_relid;

static void
on_relation(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == short_descs_relid)
		short_descs_relid = InvalidOid;
	for (int i = 0; i < npartial_indexes; i++)
		if (relid == InvalidOid || partial_indexes[i].relid == relid)
			npartial_indexes = 0;
}

void
insert_init(void)
{
	relation_watch(on_relation, (Datum) 0);
}

/* The column that the index has rows by, if it is known to be of such a kind; else 0. */
static AttrNumber
known_column(Oid relid)
{
	for (int i = 0; i < npartial_indexes; i++)
		if (partial_indexes[i].relid == relid)
			return partial_indexes[i].column;
	return 0;
}

static bool
has_row(AttrNumber column, const LogRow *row)
{
	return column == LOG_SEQUENCE_NUMBER ? DatumGetInt64(log_row_value(row, column)) == 1 :
		!log_row_isnull(row, column);
}

/* Finds out by what column a partial index has rows, and remembers it; 0 if its predicate is another. */
static AttrNumber
learn_column(Relation index)
{
	AttrNumber	column = log_index_column(index);

	if (column != 0 && npartial_indexes < MAX_INDEXES)
		partial_indexes[npartial_indexes++] = (PartialIndex) {RelationGetRelid(index), column};
	return column;
}

static bool
index_is_plain(Relation index)
{
	const FormData_pg_index *form = index->rd_index;

	if ((index->rd_rel->relam != BTREE_AM_OID && index->rd_rel->relam != BRIN_AM_OID) || !form->indisready || !form->indimmediate || form->indisexclusion)
		return false;
	for (int i = 0; i < form->indnatts; i++)
		if (form->indkey.values[i] <= 0)
			return false;
	return true;
}

/*
 * Opens an index if the row goes into it, else it is NULL; false if the
 * statement is needed for it.
 */
static bool
open_index(Oid relid, const LogRow *row, Relation *index)
{
	AttrNumber	column = known_column(relid);
	bool		plain;

	*index = NULL;
	if (column != 0 && !has_row(column, row))
		return true;
	*index = index_open(relid, RowExclusiveLock);
	plain = index_is_plain(*index);
	if (plain && column == 0 && log_index_is_partial(*index))
		plain = (column = learn_column(*index)) != 0;
	if (plain && (column == 0 || has_row(column, row)))
		return true;
	index_close(*index, NoLock);
	*index = NULL;
	return plain;
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
	bool		plain = list_length(list) <= MAX_INDEXES;

	foreach(cell, list)
	{
		Relation	index = NULL;

		if (!plain)
			break;
		plain = open_index(lfirst_oid(cell), row, &index);
		if (index)
			indexes[count++] = index;
	}
	list_free(list);
	if (plain)
		return count;
	close_indexes(indexes, count);
	return -1;
}

static void
forget_short_descs(Relation log)
{
	for (int i = 0; i < LOG_NCOLUMNS; i++)
	{
		if (short_descs[i])
			FreeTupleDesc(short_descs[i]);
		short_descs[i] = NULL;
	}
	short_descs_relid = RelationGetRelid(log);
}

/* The descriptor of the first columns; count < LOG_NCOLUMNS. */
static TupleDesc
short_desc(Relation log, int count)
{
	MemoryContext old;
	TupleDesc	desc;

	if (short_descs_relid != RelationGetRelid(log))
		forget_short_descs(log);
	if (short_descs[count])
		return short_descs[count];
	old = MemoryContextSwitchTo(TopMemoryContext);
	desc = CreateTemplateTupleDesc(count);
	for (int i = 1; i <= count; i++)
		TupleDescCopyEntry(desc, i, RelationGetDescr(log), i);
	MemoryContextSwitchTo(old);
	return short_descs[count] = desc;
}

static HeapTuple
form_tuple(Relation log, LogRow *row)
{
	int			count = LOG_NCOLUMNS;

	while (log_row_isnull(row, count))
		count--;
	return heap_form_tuple(count < LOG_NCOLUMNS ? short_desc(log, count) : RelationGetDescr(log),
						   row->values, row->nulls);
}

static void
insert_into_index(Relation log, Relation index, const LogRow *row, ItemPointer tid)
{
	const FormData_pg_index *form = index->rd_index;
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];
	IndexInfo  *info = NULL;

	for (int i = 0; i < form->indnatts; i++)
	{
		values[i] = log_row_value(row, form->indkey.values[i]);
		nulls[i] = log_row_isnull(row, form->indkey.values[i]);
	}
	/* A btree does not ask for it. */
	if (index->rd_rel->relam != BTREE_AM_OID)
		info = BuildIndexInfo(index);
	(void) index_insert(index, values, nulls, tid, log,
						form->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, info);
	if (info)
		index_insert_end(index, info);
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
	tuple = form_tuple(log, row);
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
	int64		outer = running;
	Identity	before;

	identity_assume(&before, dugong_owner());
	SPI_connect();
	/* A trigger that the owner has added may append, too. */
	PG_TRY();
	{
		running = DatumGetInt64(log_row_value(row, LOG_POSITION));
		inserted = plan_execute(contested ? &insert_contested : &insert_alone,
								row->values, row->nulls, false) > 0;
	}
	PG_FINALLY();
	{
		running = outer;
	}
	PG_END_TRY();
	SPI_finish();
	identity_restore(&before);
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
