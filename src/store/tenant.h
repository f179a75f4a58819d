/*
 * tenant.h
 *		Which tenants a role sees.
 */
#ifndef DUGONG_TENANT_H
#define DUGONG_TENANT_H

#include "postgres.h"

#include "fmgr.h"

extern void tenant_init(void);
extern bool tenants_are_isolated(void);
extern void tenant_isolation_forget(void);
extern bool tenant_is_seen(Oid role, const text *tenant_id);
extern Datum tenants_seen(Oid role, bool *all);
extern Datum tenants_meant(bool *all);
extern text *tenant_require(text *tenant_id);
extern text *tenant_default(void);
extern text *tenant_argument(FunctionCallInfo fcinfo, int number);
extern void tenant_require_all(const char *what);
extern void require_log_owner(const char *what);

#endif							/* DUGONG_TENANT_H */
