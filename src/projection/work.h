/*
 * work.h
 *		Handling aggregates and events, as a projection does.
 */
#ifndef DUGONG_WORK_H
#define DUGONG_WORK_H

#include "postgres.h"

#include "projection/handler.h"
#include "projection/projection.h"
#include "store/log.h"
#include "utils/hsearch.h"

/* An aggregate that has events to be handled. */
typedef struct Change
{
	AggregateKey key;
	int64		first;			/* sequence numbers of its events here */
	int64		last;
	pg_uuid_t	event_id;		/* of the last */
	pg_uuid_t	correlation_id; /* of the last, if correlated */
	bool		correlated;
	bool		skipped;		/* not handled here: set aside, or done already */
	int64		built;			/* its state is that of this event; 0 = not built */
} Change;

/* What is handled in one go. */
typedef struct Work
{
	const Projection *projection;
	Actor		actor;
	Relation	log;
	Snapshot	snapshot;		/* what states are built from */
	MemoryContext context;		/* of it all */
	bool		remembers;		/* may states be kept beyond the transaction? see state_cache.c */
	Oid			state_type;		/* if the projection gets states */
	FmgrInfo	handler;		/* update_handler, event_handler or set_handler */
	FmgrInfo	delete_handler;
	HTAB	   *changes;		/* Change, by key */
	List	   *events;			/* HeapTuple, rows of the log, if the projection gets events */
	Size		bytes;			/* of events */
} Work;

extern void work_begin(Work *work, const Projection *projection, bool own_transaction,
					   Relation log, Snapshot snapshot);
extern Change *work_find(Work *work, const AggregateKey *key, bool *found);
extern void work_note(Change *change, const LogRow *row, bool first);
extern void work_add_event(Work *work, TupleTableSlot *slot);
extern void work_prepare(Work *work, bool careful);
extern void work_do(Work *work);

#endif							/* DUGONG_WORK_H */
