/*
 * candidates.c
 *		The transactions that may still fill a hole in the log.
 *
 * Who draws a position holds ROW EXCLUSIVE on the log and has a transaction id
 * before that (store/append.c), and keeps both to its end.  So a hole below a
 * position that a snapshot sees can be filled only by a transaction that holds
 * the log's lock when the holders are listed after the snapshot, or that ended
 * in between; and what that one wrote, the next snapshot sees.
 *
 * A holder without a transaction id has drawn nothing yet: whatever it draws
 * lies above.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/twophase.h"
#include "access/xact.h"
#include "compat.h"
#include "miscadmin.h"
#include "projection/candidates.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "store/log.h"
#include "utils/snapmgr.h"

/* The full id of a transaction that is not older than 2^31 others. */
static uint64
full_xid(TransactionId xid)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32		epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return U64FromFullTransactionId(FullTransactionIdFromEpochAndXid(epoch, xid));
}

/* The transaction id behind a virtual one; invalid if it has none or ended. */
static TransactionId
vxid_get_xid(VirtualTransactionId vxid)
{
	volatile PGPROC *proc;
	TransactionId xid;
	bool		have_more;

	/* Prepared before the last restart: its transaction id stands there. */
	if (VirtualTransactionIdIsRecoveredPreparedXact(vxid))
		return vxid.localTransactionId;
	proc = vxid_get_proc(vxid);
	if (proc)
	{
		xid = proc->xid;
		if (proc_local_xid(proc) == vxid.localTransactionId && TransactionIdIsValid(xid))
			return xid;
	}
	/* Its session prepared it, and may run another one now. */
	return TwoPhaseGetXidByVirtualXID(vxid, &have_more);
}

static VirtualTransactionId *
lock_holders(int *count)
{
	LOCKTAG		tag;

	/* SHARE conflicts with ROW EXCLUSIVE and all stronger ones. */
	SET_LOCKTAG_RELATION(tag, MyDatabaseId, dugong_relid("event_log"));
	return GetLockConflicts(&tag, ShareLock, count);
}

/*
 * Lists them, in the current memory context.  Called after the snapshot was
 * taken.  The caller's own transaction is one of them if it has an id: the
 * lock manager does not report one's own locks.
 *
 * Under REPEATABLE READ it is one in any case.  All its batches share one
 * snapshot, and what has ended since that was taken holds no lock any more; so
 * a hole that it notes must outlive it.
 */
void
candidates_list(Candidates *candidates)
{
	int			nholders;
	VirtualTransactionId *holders = lock_holders(&nholders);
	TransactionId own = IsolationUsesXactSnapshot() ?
		GetTopTransactionId() : GetTopTransactionIdIfAny();

	candidates->count = 0;
	candidates->xids = palloc((nholders + 1) * sizeof(uint64));
	if (TransactionIdIsValid(own))
		candidates->xids[candidates->count++] = full_xid(own);
	for (int i = 0; i < nholders; i++)
	{
		TransactionId xid = vxid_get_xid(holders[i]);

		if (TransactionIdIsValid(xid))
			candidates->xids[candidates->count++] = full_xid(xid);
	}
	pfree(holders);
}

/* Does the snapshot see everything that the transaction may have written? */
bool
candidate_has_ended(uint64 fxid, Snapshot snapshot)
{
	TransactionId xid = XidFromFullTransactionId(FullTransactionIdFromU64(fxid));
	uint64		next = U64FromFullTransactionId(ReadNextFullTransactionId());

	if (fxid >= next)
		return false;
	if (next - fxid > PG_INT32_MAX)
		return true;			/* too old to be running */
	if (TransactionIdIsCurrentTransactionId(xid))
		return false;
	return !XidInMVCCSnapshot(xid, snapshot);
}

/* Has it not ended at this moment?  A prepared one has not. */
bool
candidate_is_running(uint64 fxid)
{
	return TransactionIdIsInProgress(XidFromFullTransactionId(FullTransactionIdFromU64(fxid)));
}

/* Does any other transaction hold the log's lock at this moment? */
bool
log_has_appenders(void)
{
	int			count;

	pfree(lock_holders(&count));
	return count > 0;
}
