/*
 * identity.h
 *		Acting as another role for a while.
 */
#ifndef DUGONG_IDENTITY_H
#define DUGONG_IDENTITY_H

#include "postgres.h"

#include "miscadmin.h"

#define FIXED_SEARCH_PATH "pg_catalog, pg_temp"

/* What to go back to. */
typedef struct Identity
{
	Oid			user;
	int			sec_context;
	int			guc_level;		/* 0 = settings were left alone */
} Identity;

extern void identity_assume(Identity *before, Oid role);
extern void identity_assume_restricted(Identity *before, Oid role, const char *search_path);
extern void identity_assume_anew(Identity *before, Oid role, int flags, const char *search_path);
extern void identity_set(const char *name, const char *value);
extern const char *identity_search_path(void);
extern void require_execute(Oid function);
extern void identity_restore(const Identity *before);

#endif							/* DUGONG_IDENTITY_H */
