/*
 * attempt.c
 *		Work that may fail without failing what it is part of.
 *
 * Nobody else begins subtransactions, because of one rule: whatever leaves a
 * PG_CATCH has rolled its subtransaction back before.  If an error passed with
 * the subtransaction open, a handler further out would roll back that one
 * instead of its own, and go on with the rights that held in here.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "util/attempt.h"

/*
 * Runs an action in a subtransaction, in the current memory context.  Returns
 * NULL if it succeeds; else all that it did is undone, and the error is
 * returned, which the caller may pass on with ReThrowError().
 */
ErrorData *
attempt(AttemptAction action, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		action(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		/* First: to copy the error may fail as well, for lack of memory. */
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return error;
}

/*
 * Is an error nobody's fault in what was attempted: cancelled, out of resources,
 * a lock that was not to be had in time, to be tried again?
 */
bool
error_is_foreign(const ErrorData *error)
{
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_INSUFFICIENT_RESOURCES:
		case ERRCODE_SYSTEM_ERROR:
		case ERRCODE_TRANSACTION_ROLLBACK:
			return true;
		default:
			return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	}
}
