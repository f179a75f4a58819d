/*
 * failure.c
 *		What an error of a projection means, and its record.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "projection/failure.h"
#include "store/log.h"
#include "store/ownership.h"
#include "utils/builtins.h"
#include "util/identity.h"
#include "util/plan.h"

/* Does it stand for processes that have died, and could raise nothing? */
bool
failure_is_death(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_CRASH_SHUTDOWN;
}

/*
 * Does it say that there was too little memory?  It may have been too much that
 * this event takes, or too little that others have left: so others go on
 * without it, and it is never given up.
 */
bool
failure_is_lack(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_OUT_OF_MEMORY;
}

FailureClass
failure_class(const ErrorData *error)
{
	if (failure_is_death(error))
		return FAILURE_OF_HANDLER;
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case ERRCODE_TRANSACTION_ROLLBACK:
			return FAILURE_OF_MOMENT;
		case ERRCODE_OPERATOR_INTERVENTION:
		case ERRCODE_SYSTEM_ERROR:
			return FAILURE_OF_SERVER;
		case ERRCODE_INSUFFICIENT_RESOURCES:
			return failure_is_lack(error) ? FAILURE_OF_MOMENT : FAILURE_OF_SERVER;
		default:
			return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
				error->sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION ? FAILURE_OF_SERVER : FAILURE_OF_HANDLER;
	}
}

/*
 * Records a failure, in the current transaction.
 *
 * attempts: so far; 0 = the projection has gone on without what failed.
 */
void
failure_record(const char *projection, const ErrorData *error, int attempts)
{
	static SavedPlan upsert = {
		.sql = "INSERT INTO dugong.projection_failures AS f (projection, attempts, first_failed_at, last_failed_at, "
		"sqlstate, message, detail, context) "
		"VALUES ($1, $2, pg_catalog.clock_timestamp(), pg_catalog.clock_timestamp(), $3, $4, $5, $6) "
		"ON CONFLICT (projection) DO UPDATE SET attempts = EXCLUDED.attempts, "
		"first_failed_at = CASE WHEN f.attempts OPERATOR(pg_catalog.=) 0 THEN EXCLUDED.first_failed_at ELSE f.first_failed_at END, "
		"last_failed_at = EXCLUDED.last_failed_at, sqlstate = EXCLUDED.sqlstate, message = EXCLUDED.message, "
		"detail = EXCLUDED.detail, context = EXCLUDED.context",
		.nargs = 6,
		.argtypes = {TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}
	};
	Datum		values[6] = {0};
	bool		nulls[6] = {false, false, false, false, error->detail == NULL, error->context == NULL};
	Identity	before;

	values[0] = CStringGetTextDatum(projection);
	values[1] = Int32GetDatum(attempts);
	values[2] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
	values[3] = CStringGetTextDatum(error->message ? error->message : "");
	if (error->detail)
		values[4] = CStringGetTextDatum(error->detail);
	if (error->context)
		values[5] = CStringGetTextDatum(error->context);
	identity_assume(&before, dugong_owner());
	plan_run(&upsert, values, nulls);
	identity_restore(&before);
}

/* The projection has gone on; what the last error was stays. */
void
failure_forget(const char *projection)
{
	static SavedPlan update = {
		.sql = "UPDATE dugong.projection_failures SET attempts = 0 WHERE projection OPERATOR(pg_catalog.=) $1 "
		"AND attempts OPERATOR(pg_catalog.>) 0",
		.nargs = 1,
		.argtypes = {TEXTOID}
	};
	Datum		name = CStringGetTextDatum(projection);
	Identity	before;

	identity_assume(&before, dugong_owner());
	plan_run(&update, &name, NULL);
	identity_restore(&before);
}

/* What the last error says is erased: of which event it was is not known.  False if there was none. */
bool
failure_erase(const char *projection)
{
	static SavedPlan update = {
		.sql = "UPDATE dugong.projection_failures SET message = 'erased', detail = NULL, context = NULL "
		"WHERE projection OPERATOR(pg_catalog.=) $1 AND message OPERATOR(pg_catalog.<>) 'erased'",
		.nargs = 1,
		.argtypes = {TEXTOID}
	};
	Datum		name = CStringGetTextDatum(projection);

	return execute_as_owner(&update, &name, NULL) > 0;
}
