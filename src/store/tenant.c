/*
 * tenant.c
 *		Which tenants a role sees.
 *
 * While tenants are isolated, a role sees those that were granted to it, or to
 * a role whose rights it has (dugong.tenant_grants).  Who passes by row level
 * security, and who has the rights of the log's owner, sees all.
 *
 * Whom a call is for is its current user, as row level security has it: a SQL
 * function finds its tenant before identity_enter(), the code of handlers and
 * folds runs as their owner, and a projection gets what its owner sees.
 *
 * All is kept in memory, so that it costs a look at a flag while tenants are
 * not isolated.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "guc.h"
#include "miscadmin.h"
#include "store/context.h"
#include "store/tenant.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "util/names.h"
#include "util/table_watch.h"

/* A row of dugong.tenant_grants. */
typedef struct Grant
{
	char	   *role;
	text	   *tenant_id;
} Grant;

/* What a role sees. */
typedef struct Sight
{
	Oid			role;			/* hash key */
	bool		all;
	List	   *tenants;		/* text * */
} Sight;

static MemoryContext context;	/* holds the grants */
static MemoryContext sight_context; /* holds what follows from them */
static List *grants;
static bool isolated;
static HTAB *sights;			/* NULL = nobody was looked at yet */
static bool roles_changed;
static TableWatch watch;		/* of the grants; who changes the other table tells so, too */

static void
on_role(Datum arg, int cacheid, uint32 hashvalue)
{
	roles_changed = true;
}

void
tenant_init(void)
{
	table_watch_init(&watch);
	CacheRegisterSyscacheCallback(AUTHOID, on_role, (Datum) 0);
	CacheRegisterSyscacheCallback(AUTHMEMROLEMEM, on_role, (Datum) 0);
}

static void
forget_sights(void)
{
	if (sight_context)
		MemoryContextReset(sight_context);
	sights = NULL;
}

static void
clear(void)
{
	if (context == NULL)
		context = AllocSetContextCreate(CacheMemoryContext, "dugong tenants", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(context);
	grants = NIL;
	isolated = false;
	forget_sights();
}

/* There is a row if tenants are isolated; it is empty if nothing is granted. */
static void
enter_row(int row)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	bool		isnull;
	Datum		role = plan_result(row, 1, &isnull);

	isolated = true;
	if (!isnull)
	{
		Grant	   *grant = palloc(sizeof(Grant));

		grant->role = TextDatumGetCString(role);
		grant->tenant_id = DatumGetTextPCopy(plan_result(row, 2, &isnull));
		grants = lappend(grants, grant);
	}
	MemoryContextSwitchTo(old);
}

/* Asked by each function and for each row of a view. */
bool
tenants_are_isolated(void)
{
	static SavedPlan select_grants = {
		.sql = "SELECT g.role, g.tenant_id FROM dugong.tenant_isolation LEFT JOIN dugong.tenant_grants g ON true"
	};

	/* A transaction that holds all its locks would not hear of a tenant that is taken away meanwhile. */
	if (isolated)
		AcceptInvalidationMessages();
	if (!watch.valid)
	{
		Oid			relid = get_relname_relid("tenant_grants", dugong_namespace());

		/* The library is newer than the extension's objects. */
		if (!OidIsValid(relid))
			return false;
		table_watch_read(&watch, relid, dugong_owner(), &select_grants, clear, enter_row);
	}
	return isolated;
}

/* Tells all sessions that tenants are isolated, or not any more. */
void
tenant_isolation_forget(void)
{
	CacheInvalidateRelcacheByRelid(dugong_relid("tenant_grants"));
}

static bool
same_text(const text *one, const text *other)
{
	return VARSIZE_ANY_EXHDR(one) == VARSIZE_ANY_EXHDR(other) &&
		memcmp(VARDATA_ANY(one), VARDATA_ANY(other), VARSIZE_ANY_EXHDR(one)) == 0;
}

static bool
has_tenant(const Sight *sight, const text *tenant_id)
{
	ListCell   *cell;

	foreach(cell, sight->tenants)
		if (same_text(lfirst(cell), tenant_id))
			return true;
	return false;
}

/* Makes out what a role sees.  The text of a tenant stays in the grant. */
static void
look(Sight *sight)
{
	MemoryContext old = MemoryContextSwitchTo(sight_context);
	ListCell   *cell;

	sight->tenants = NIL;
	sight->all = has_bypassrls_privilege(sight->role) || has_privs_of_role(sight->role, dugong_owner());
	foreach(cell, sight->all ? NIL : grants)
	{
		const Grant *grant = lfirst(cell);
		Oid			role = get_role_oid(grant->role, true);

		if (OidIsValid(role) && has_privs_of_role(sight->role, role) && !has_tenant(sight, grant->tenant_id))
			sight->tenants = lappend(sight->tenants, grant->tenant_id);
	}
	MemoryContextSwitchTo(old);
}

static void
create_sights(void)
{
	HASHCTL		ctl = {0};

	if (sight_context == NULL)
		sight_context = AllocSetContextCreate(CacheMemoryContext, "dugong sights", ALLOCSET_SMALL_SIZES);
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(Sight);
	ctl.hcxt = sight_context;
	sights = hash_create("dugong sights", 16, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* What a role sees; tenants are isolated. */
static const Sight *
sight_of(Oid role)
{
	Sight		seen = {.role = role};
	Sight	   *sight;

	if (roles_changed)
	{
		roles_changed = false;
		forget_sights();
	}
	if (sights && (sight = hash_search(sights, &role, HASH_FIND, NULL)) != NULL)
		return sight;
	if (sights == NULL)
		create_sights();
	/* Looking may find that there is something new: it is for the next time, and what was looked at stays. */
	look(&seen);
	sight = hash_search(sights, &role, HASH_ENTER, NULL);
	*sight = seen;
	return sight;
}

/* Does a role see what belongs to a tenant?  NULL = to all of them. */
bool
tenant_is_seen(Oid role, const text *tenant_id)
{
	const Sight *sight;

	if (!tenants_are_isolated())
		return true;
	sight = sight_of(role);
	return sight->all || (tenant_id && has_tenant(sight, tenant_id));
}

/* The tenants that a role sees, as text[], for statements; if it sees all, that is null. */
Datum
tenants_seen(Oid role, bool *all)
{
	const Sight *sight = tenants_are_isolated() ? sight_of(role) : NULL;
	Datum	   *tenants;
	ListCell   *cell;
	int			count = 0;

	*all = sight == NULL || sight->all;
	if (*all)
		return (Datum) 0;
	tenants = palloc(Max(list_length(sight->tenants), 1) * sizeof(Datum));
	foreach(cell, sight->tenants)
		tenants[count++] = PointerGetDatum(lfirst(cell));
	return PointerGetDatum(construct_array(tenants, count, TEXTOID, -1, false, TYPALIGN_INT));
}

/* A tenant that the current user must see: 42501.  It says the same of one that does not exist. */
text *
tenant_require(text *tenant_id)
{
	if (!tenant_is_seen(GetUserId(), tenant_id))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for tenant \"%s\"", text_to_cstring(tenant_id))));
	return tenant_id;
}

/*
 * The tenant of a call that names none, in no way: none, if the current user
 * sees that; or the only one that he sees.
 *
 * Errors: 42501.
 */
text *
tenant_default(void)
{
	text	   *none = cstring_to_text("");
	const Sight *sight;

	if (tenant_is_seen(GetUserId(), none))
		return none;
	sight = sight_of(GetUserId());
	if (list_length(sight->tenants) == 1)
		return DatumGetTextPCopy(PointerGetDatum(linitial(sight->tenants)));
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" must name a tenant", GetUserNameFromId(GetUserId(), false)),
			 sight->tenants == NIL ?
			 errdetail("No tenant is granted to it.") : errdetail("Several tenants are granted to it."),
			 sight->tenants == NIL ?
			 errhint("The owner of the event log grants one with dugong.grant_tenant().") :
			 errhint("Say which tenant is meant, or set dugong.tenant_id.")));
}

/* The tenant that a call names; NULL = the session's.  Errors: 42501 unless the current user sees it. */
text *
tenant_argument(FunctionCallInfo fcinfo, int number)
{
	return PG_ARGISNULL(number) ? context_tenant_id() : tenant_require(PG_GETARG_TEXT_PP(number));
}

/* The session's tenant, if it has one, or else all that the current user sees; as tenants_seen(). */
Datum
tenants_meant(bool *all)
{
	Datum		tenant;

	if (dugong_tenant_id[0] == '\0')
		return tenants_seen(GetUserId(), all);
	*all = false;
	tenant = PointerGetDatum(context_tenant_id());
	return PointerGetDatum(construct_array(&tenant, 1, TEXTOID, -1, false, TYPALIGN_INT));
}

/* 42501 unless the current user sees all tenants.  what: he asks for. */
void
tenant_require_all(const char *what)
{
	if (!tenant_is_seen(GetUserId(), NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for %s", what),
				 errdetail("It is about the events of all tenants.")));
}
