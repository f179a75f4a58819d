/*
 * run.c
 *		CALL dugong.run_projections(): the worker's work, in this session.
 */
#include "postgres.h"

#include <limits.h>

#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "projection/batch.h"
#include "projection/failure.h"
#include "projection/run.h"
#include "store/tenant.h"
#include "util/args.h"
#include "util/attempt.h"

PG_FUNCTION_INFO_V1(dugong_run_projections);

/* Tries at what another try may cure, before the event counts as the fault. */
#define MAX_TRIES 3

/* As part of the caller's transaction: what fails fails it. */
void
run_in_transaction(const char *projection)
{
	BatchRequest request = {.projection = projection,.limit = INT_MAX,.wait = true,.fails = true};
	BatchOutcome outcome;

	while (batch_run(&request, &outcome) == BATCH_MORE)
		CHECK_FOR_INTERRUPTS();
}

typedef struct Try
{
	BatchRequest request;
	bool		retry;			/* what was set aside */
	BatchResult result;
	BatchOutcome outcome;
} Try;

static void
run_try(void *arg)
{
	Try		   *one = arg;

	one->result = one->retry ? batch_retry(&one->request) : batch_run(&one->request, &one->outcome);
}

/*
 * Runs a projection until it has caught up, in transactions of its own, each
 * for a batch, or all in the current one.  After a failure batches are
 * smaller, down to one event; but what the server or somebody at it refuses is
 * for the caller to hear.
 *
 * commits: the caller is connected to SPI as non-atomic.  If false, nothing
 * but the projection's work is in the transaction, and the caller fires
 * deferred triggers.
 * progress: called after each batch with the position; or NULL.
 * Returns the error that it cannot get past, or NULL.
 */
ErrorData *
run_projection(const char *projection, bool commits, bool own_transaction, void (*progress) (int64 position))
{
	Try			one = {.request = {.projection = projection,.limit = INT_MAX,.wait = true,.own_transaction = own_transaction,
	.defers = !commits,.patient = true}};
	int			tries = 0;

	for (;;)
	{
		ErrorData  *error;

		CHECK_FOR_INTERRUPTS();
		error = attempt(run_try, &one);
		if (error == NULL)
		{
			if (commits)
				SPI_commit();
			if (progress)
				progress(one.outcome.position);
			if (one.result != BATCH_MORE && one.retry)
				return NULL;
			one.retry = one.result != BATCH_MORE;
			batch_larger(&one.request);
			tries = 0;
			continue;
		}
		if (failure_class(error) == FAILURE_OF_SERVER)
			ReThrowError(error);
		if (commits)
			SPI_rollback();
		if (one.retry || (one.request.isolates && ++tries >= MAX_TRIES))
			return error;
		batch_smaller(&one.request);
		one.request.patient = tries + 1 < MAX_TRIES;
	}
}

/*
 * Handles everything that is committed now, in every projection.  Each batch
 * commits, unless the procedure is called within a transaction block: then all
 * is part of that transaction, its own events included.  The failure of one
 * projection is raised when the others have run.
 */
Datum
dugong_run_projections(PG_FUNCTION_ARGS)
{
	bool		atomic = call_is_atomic(fcinfo);
	List	   *projections;
	ErrorData  *first_error = NULL;
	ListCell   *cell;

	PreventCommandIfReadOnly("CALL dugong.run_projections()");
	tenant_require_all("CALL dugong.run_projections()");
	SPI_connect_ext(atomic ? 0 : SPI_OPT_NONATOMIC);
	projections = projection_list();
	/* Deferred triggers of who called us are none of the projections'. */
	if (!atomic)
		SPI_commit();
	foreach(cell, projections)
	{
		const Projection *projection = lfirst(cell);
		ErrorData  *error = NULL;

		if (!projection_is_run(projection))
			continue;
		if (atomic)
			run_in_transaction(projection->name);
		else
			error = run_projection(projection->name, true, true, NULL);
		if (first_error == NULL)
			first_error = error;
	}
	if (first_error)
		ReThrowError(first_error);
	SPI_finish();
	PG_RETURN_VOID();
}
