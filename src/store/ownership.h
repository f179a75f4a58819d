/*
 * ownership.h
 *		Who owns what is registered.
 */
#ifndef DUGONG_OWNERSHIP_H
#define DUGONG_OWNERSHIP_H

#include "postgres.h"

#include "fmgr.h"
#include "util/plan.h"

extern bool has_rights_of_owner(const char *owner);
extern void require_owner(const char *owner, const char *what, const char *name);
extern int64 execute_as_owner(SavedPlan *statement, Datum *values, const bool *nulls);
extern char *owner_argument(FunctionCallInfo fcinfo, int number);

#endif							/* DUGONG_OWNERSHIP_H */
