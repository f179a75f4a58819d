/*
 * delivery.h
 *		What a subscription has read and nobody has acknowledged.
 */
#ifndef DUGONG_DELIVERY_H
#define DUGONG_DELIVERY_H

#include "postgres.h"

#include "projection/projection.h"
#include "utils/hsearch.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

/* What a fetch takes. */
typedef struct Lease
{
	const Projection *subscription;
	Oid			caller;			/* gets nothing of tenants that it does not see */
	text	   *consumer;		/* or NULL */
	int			limit;
	MemoryContext context;
	HTAB	   *aggregates;		/* those with deliveries */
	int64		outstanding;	/* deliveries, but for those behind a dead letter */
	int64	   *positions;		/* leased, in their order */
	int			count;
	int			allocated;
} Lease;

extern void lease_begin(Lease *lease, const Projection *subscription, Oid caller, int limit, text *consumer);
extern void lease_due(Lease *lease);
extern bool lease_read_on(Lease *lease);
extern bool lease_is_possible(const Projection *subscription, Oid caller, Relation log, Snapshot snapshot);
extern bool delivery_refuse(const char *subscription, const pg_uuid_t *event_id, const char *consumer,
							const Interval *retry_after, const char *reason, const ErrorData *error);
extern int64 delivery_erase(const char *subscription, const AggregateKey *key, const pg_uuid_t *event_id);

#endif							/* DUGONG_DELIVERY_H */
