/*
 * restore.c
 *		Rows that come back into the log with the position they had.
 *
 * A dump brings rows with their positions.  They are taken as they are and
 * not published.  Two things would make the log lie afterwards:
 *
 * - A row at or below a consumer's checkpoint would never be handled.  So it
 *   is refused, and to make that exact the restoring transaction holds SHARE
 *   on dugong.checkpoints: no checkpoint moves while it runs.
 * - A position drawn later might be in use.  So the sequence is moved past the
 *   highest one, before the transaction draws a position or ends.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "errors.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "store/home.h"
#include "store/horizon.h"
#include "store/log.h"
#include "store/restore.h"
#include "utils/acl.h"
#include "utils/snapmgr.h"
#include "util/plan.h"

/* Of positions and sequence numbers: those that are drawn later lie above, and there must be room for them. */
#define MAX_RESTORED (PG_INT64_MAX / 2)

static struct
{
	bool		active;			/* this transaction has restored a row */
	SubTransactionId subid;		/* floor was read in this one */
	int64		floor;			/* highest position of any checkpoint */
	int64		highest;		/* highest restored; 0 = sequence is past it */
	int64		top;			/* highest restored at any time */
}			state;

/*
 * A checkpoint that was itself restored does not count: nothing was handled
 * here yet, and parallel restores load it before the log.
 */
static int64
read_floor(void)
{
	static SavedPlan select_floor = {
		.sql = "SELECT pg_catalog.max(position) FROM dugong.checkpoints "
		"WHERE system_identifier OPERATOR(pg_catalog.=) $1 AND database_oid OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.argtypes = {INT8OID, OIDOID}
	};
	Datum		values[] = {Int64GetDatum(home_system_identifier()), ObjectIdGetDatum(MyDatabaseId)};
	bool		isnull;
	int64		floor;

	SPI_connect();
	plan_execute(&select_floor, values, NULL, false);
	floor = DatumGetInt64(plan_result(0, 1, &isnull));
	SPI_finish();
	return isnull ? 0 : floor;
}

static void
check_number(const LogRow *row, LogColumn column, const char *name)
{
	int64		number = DatumGetInt64(log_row_value(row, column));

	if (!log_row_isnull(row, column) && (number <= 0 || number > MAX_RESTORED))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s of a domain event must be from 1 to " INT64_FORMAT, name, MAX_RESTORED)));
}

/*
 * Takes a row that brings its position.
 *
 * Errors: 42501 unless by the log's owner, 22023 for numbers that leave no
 * room, 55000 at or below a checkpoint.
 */
void
restore_accept(Relation log, const LogRow *row)
{
	int64		position = DatumGetInt64(log_row_value(row, LOG_POSITION));

	if (!has_privs_of_role(GetUserId(), log->rd_rel->relowner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("only the owner of the event log may give a position")));
	check_number(row, LOG_POSITION, "position");
	check_number(row, LOG_SEQUENCE_NUMBER, "sequence number");

	LockRelationOid(dugong_relid("checkpoints"), ShareLock);
	if (!state.active || state.subid != GetCurrentSubTransactionId())
	{
		state.floor = read_floor();
		state.subid = GetCurrentSubTransactionId();
		state.active = true;
	}
	if (position <= state.floor)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot restore an event at position " INT64_FORMAT, position),
				 errdetail("A projection has handled the log up to position " INT64_FORMAT ".",
						   state.floor),
				 errhint("Leave the position out to append the event.")));
	state.highest = Max(state.highest, position);
	state.top = Max(state.top, position);
}

/* Moves the sequence past what was restored. */
void
restore_finish(void)
{
	if (state.highest == 0)
		return;
	horizon_move_sequence(state.highest);
	state.highest = 0;
}

/* A checkpoint has moved in this transaction: the floor is to be read again. */
void
restore_floor_moved(void)
{
	state.subid = InvalidSubTransactionId;
}

/*
 * Has this transaction restored the row with this position, which it has just
 * put into the log?  One that it drew is beyond all that were restored before.
 */
bool
restore_brought(int64 position)
{
	return position <= state.top;
}

static void
at_transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (state.highest > 0)
			{
				PushActiveSnapshot(GetTransactionSnapshot());
				restore_finish();
				PopActiveSnapshot();
			}
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_PREPARE:
		case XACT_EVENT_ABORT:
			memset(&state, 0, sizeof(state));
			break;
		default:
			break;
	}
}

void
restore_init(void)
{
	RegisterXactCallback(at_transaction_event, NULL);
}
