/*
 * parked.h
 *		Aggregates that a projection has set aside.
 */
#ifndef DUGONG_PARKED_H
#define DUGONG_PARKED_H

#include "postgres.h"

#include "store/log.h"

/* A row of dugong.parked_aggregates. */
typedef struct Parked
{
	AggregateKey key;
	int64		first;			/* sequence number that is not handled */
	int64		last;			/* that waits behind it */
	int			attempts;
} Parked;

extern int64 parked_retry_pause(int attempts);
extern bool parked_any(const char *projection);
extern bool parked_is(const char *projection, const AggregateKey *key);
extern void parked_add(const char *projection, const Parked *parked, const pg_uuid_t *event_id, const ErrorData *error);
extern void parked_extend(const char *projection, const AggregateKey *key, int64 last);
extern void parked_advance(const char *projection, const Parked *parked);
extern void parked_remove(const char *projection, const AggregateKey *key);
extern void parked_remove_all(const char *projection);
extern bool parked_erase(const char *projection, const AggregateKey *key);
extern bool parked_take_due(const char *projection, Parked *parked);
extern TimestampTz parked_next_retry(void);

#endif							/* DUGONG_PARKED_H */
