/*
 * identity.c
 *		Acting as another role for a while.
 *
 * dugong's own tables are touched as the owner of the log, with a fixed
 * search_path.  Code that users wrote (folds, upcasts, CHECKs of payload
 * types) runs as the owner of its aggregate type in a security-restricted
 * operation, with the search_path that he had when he registered it, never
 * with that of whoever appends or reads.  What the code sets ends with it.
 *
 * An error needs no care: the end of the (sub)transaction goes back by itself.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "compat.h"
#include "pgtime.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"
#include "util/identity.h"
#include "util/names.h"

/* A setting for as long as the identity is assumed. */
void
identity_set(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * How values look as text where users' code turns them into it, or back: a
 * fold must give the same state whoever runs it.
 */
static const char *const formats[][2] = {
	{"TimeZone", "UTC"},
	{"DateStyle", "ISO, MDY"},
	{"IntervalStyle", "postgres"},
	{"extra_float_digits", "1"}
};

/* Are they so already?  The usual server says Etc/UTC, which is the same. */
bool
identity_formats_are_fixed(void)
{
	const char *zone = pg_get_timezone_name(session_timezone);

	return (strcmp(zone, "UTC") == 0 || strcmp(zone, "Etc/UTC") == 0) &&
		DateStyle == USE_ISO_DATES && DateOrder == DATEORDER_MDY &&
		IntervalStyle == INTSTYLE_POSTGRES && extra_float_digits == 1;
}

/* Settings of formats, for as long as the identity is assumed. */
void
identity_fix_formats(void)
{
	if (identity_formats_are_fixed())
		return;
	for (size_t i = 0; i < lengthof(formats); i++)
		identity_set(formats[i][0], formats[i][1]);
}

/*
 * What SECURITY DEFINER would do, at a tenth of its cost, and later: before it
 * the current user is the caller.  The body of a function that works on
 * dugong's tables goes between these two.  The search_path stays the caller's:
 * who runs statements assumes an identity with one.
 */
void
identity_enter(Identity *before)
{
	GetUserIdAndSecContext(&before->user, &before->sec_context);
	before->guc_level = 0;
	SetUserIdAndSecContext(dugong_owner(), before->sec_context | SECURITY_LOCAL_USERID_CHANGE);
}

void
identity_leave(const Identity *before)
{
	SetUserIdAndSecContext(before->user, before->sec_context);
}

/*
 * Assumes it even if nothing changes, so that settings go back at its end.
 *
 * flags: SECURITY_... of miscadmin.h; those that hold already stay.
 */
void
identity_assume_anew(Identity *before, Oid role, int flags, const char *search_path)
{
	GetUserIdAndSecContext(&before->user, &before->sec_context);
	SetUserIdAndSecContext(role, before->sec_context | flags);
	before->guc_level = NewGUCNestLevel();
	if (strcmp(namespace_search_path, search_path) != 0)
		identity_set("search_path", search_path);
}

static void
assume(Identity *before, Oid role, int flags, const char *search_path)
{
	GetUserIdAndSecContext(&before->user, &before->sec_context);
	before->guc_level = 0;
	if (before->user == role && (before->sec_context & flags) == flags &&
		strcmp(namespace_search_path, search_path) == 0)
		return;
	identity_assume_anew(before, role, flags, search_path);
}

/* For dugong's own work. */
void
identity_assume(Identity *before, Oid role)
{
	assume(before, role, SECURITY_LOCAL_USERID_CHANGE, FIXED_SEARCH_PATH);
}

/* For users' code. */
void
identity_assume_restricted(Identity *before, Oid role, const char *search_path)
{
	assume(before, role, SECURITY_RESTRICTED_OPERATION | SECURITY_GUEST, search_path);
}

void
identity_restore(const Identity *before)
{
	if (before->guc_level == 0)
		return;
	AtEOXact_GUC(false, before->guc_level);
	SetUserIdAndSecContext(before->user, before->sec_context);
}

/*
 * The search_path that code which is registered now will have: the caller's,
 * with the session's temporary objects last, so that they hide nothing.
 */
const char *
identity_search_path(void)
{
	List	   *names;
	ListCell   *cell;

	if (namespace_search_path[0] == '\0')
		return FIXED_SEARCH_PATH;
	(void) SplitIdentifierString(pstrdup(namespace_search_path), ',', &names);
	foreach(cell, names)
		if (strcmp(lfirst(cell), "pg_temp") == 0)
			return namespace_search_path;
	return psprintf("%s, pg_temp", namespace_search_path);
}

/* The current user must be allowed to call a function: 42501; 42883 if there is none. */
void
require_execute(Oid function)
{
	AclResult	result;

	if (!SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(function)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	result = function_aclcheck(function, GetUserId());
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, get_func_name(function));
}
