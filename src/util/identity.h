/*
 * identity.h
 *		Acting as another role for a while.
 */
#ifndef DUGONG_IDENTITY_H
#define DUGONG_IDENTITY_H

#include "postgres.h"

#include "miscadmin.h"

#define FIXED_SEARCH_PATH "pg_catalog, pg_temp"

/*
 * Marks of our own in the security context; PostgreSQL's bits are the lowest
 * three.  projection/handler.c says what they mean.
 */
#define SECURITY_HANDLER 0x4000
#define SECURITY_GUEST 0x8000	/* users' code in somebody else's transaction */

/* What to go back to. */
typedef struct Identity
{
	Oid			user;
	int			sec_context;
	int			guc_level;		/* 0 = settings were left alone */
} Identity;

extern void identity_enter(Identity *before);
extern void identity_leave(const Identity *before);
extern void identity_assume(Identity *before, Oid role);
extern void identity_assume_restricted(Identity *before, Oid role, const char *search_path);
extern void identity_assume_anew(Identity *before, Oid role, int flags, const char *search_path);
extern bool identity_formats_are_fixed(void);
extern void identity_fix_formats(void);
extern void identity_set(const char *name, const char *value);
extern const char *identity_search_path(void);
extern void require_execute(Oid function);
extern void identity_restore(const Identity *before);

#endif							/* DUGONG_IDENTITY_H */
