/*
 * ownership.c
 *		Who owns what is registered.
 *
 * Owners are kept by name, so that a dump can carry them.  What belongs to a
 * role that is gone is the log owner's.
 */
#include "postgres.h"

#include "access/xact.h"
#include "compat.h"
#include "miscadmin.h"
#include "store/log.h"
#include "store/ownership.h"
#include "utils/acl.h"
#include "util/identity.h"

/* Has the current user the rights of an owner? */
bool
has_rights_of_owner(const char *owner)
{
	Oid			role = get_role_oid(owner, true);

	return has_privs_of_role(GetUserId(), OidIsValid(role) ? role : dugong_owner());
}

/*
 * what, name: of the thing, for the message.
 * Errors: 42501 unless the current user is its owner.
 */
void
require_owner(const char *owner, const char *what, const char *name)
{
	if (!has_rights_of_owner(owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of %s \"%s\"", what, name)));
}

/*
 * The name of a role that the caller may give something to; NULL if the
 * argument is.
 *
 * Errors: 42501, 42704.
 */
char *
owner_argument(FunctionCallInfo fcinfo, int number)
{
	if (PG_ARGISNULL(number))
		return NULL;
	check_can_set_role(GetUserId(), PG_GETARG_OID(number));
	return GetUserNameFromId(PG_GETARG_OID(number), false);
}

/*
 * Runs a statement on dugong's tables, as their owner.  Returns its number of
 * rows; what it has done is seen by what follows.
 *
 * values, nulls: as plan_execute().
 */
int64
execute_as_owner(SavedPlan *statement, Datum *values, const bool *nulls)
{
	Identity	before;
	int64		nrows;

	identity_assume(&before, dugong_owner());
	nrows = plan_run(statement, values, nulls);
	identity_restore(&before);
	CommandCounterIncrement();
	return nrows;
}
