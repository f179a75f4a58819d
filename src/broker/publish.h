/*
 * publish.h
 *		What a transaction has appended, and its NOTIFY.
 */
#ifndef DUGONG_PUBLISH_H
#define DUGONG_PUBLISH_H

#include "postgres.h"

#include "access/htup.h"
#include "store/aggregate_type.h"

/* Called for each event that was appended, its row in the log. */
typedef void (*PublishHook) (const AggregateType *type, HeapTuple tuple);

extern void publish_set_hook(PublishHook hook);
extern void publish_notify(const char *channel, const char *key, const char *name, int64 position, int64 count);
extern void publish_init(void);
extern bool publish_pending(void);

#endif							/* DUGONG_PUBLISH_H */
