/*
 * identity.h
 *		Acting as another role for a while.
 */
#ifndef DUGONG_IDENTITY_H
#define DUGONG_IDENTITY_H

#include "postgres.h"

#include "miscadmin.h"

/* What to go back to. */
typedef struct Identity
{
	Oid			user;
	int			sec_context;
	int			guc_level;		/* 0 = settings were left alone */
} Identity;

extern void identity_assume(Identity *before, Oid role, int flags);
extern void require_execute(Oid function);
extern void identity_restore(const Identity *before);

#endif							/* DUGONG_IDENTITY_H */
