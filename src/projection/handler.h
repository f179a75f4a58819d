/*
 * handler.h
 *		Users' code that a projection runs.
 */
#ifndef DUGONG_HANDLER_H
#define DUGONG_HANDLER_H

#include "postgres.h"

#include "fmgr.h"
#include "projection/projection.h"
#include "store/log.h"
#include "util/identity.h"

/* Whose rights the code has. */
typedef struct Actor
{
	Oid			role;
	const char *search_path;
	bool		restricted;		/* may it not leave deferred triggers behind? */
} Actor;

/* What a handler finds in the settings; NULL = empty. */
typedef struct HandledContext
{
	const text *tenant_id;
	const pg_uuid_t *event_id;
	const pg_uuid_t *correlation_id;
} HandledContext;

extern void handler_init(void);
extern void handler_check(Oid function, Oid role, const char *name, int nargs, const Oid *argtypes);
extern void handler_open(FmgrInfo *info, const char *signature, const Actor *actor, const char *name,
						 int nargs, const Oid *argtypes);
extern void handler_owner(Actor *actor, const Projection *projection, bool own_transaction);
extern void handler_actor(Actor *actor, const Projection *projection, bool own_transaction);
extern void handler_begin(const Actor *actor, const HandledContext *context, Identity *before);
extern void handler_end(const Identity *before);
extern void handler_call(FmgrInfo *function, const Actor *actor, const HandledContext *context,
						 int nargs, const Datum *args);
extern void handler_fire_deferred(const Actor *actor);
extern void handler_replay(bool now, void (*action) (void *arg), void *arg);

#endif							/* DUGONG_HANDLER_H */
