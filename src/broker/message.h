/*
 * message.h
 *		The events of a transaction, as messages that its commit sends.
 */
#ifndef DUGONG_MESSAGE_H
#define DUGONG_MESSAGE_H

#include "postgres.h"

#include "access/htup.h"
#include "lib/stringinfo.h"
#include "store/aggregate_type.h"
#include "utils/rel.h"

extern void message_summary(StringInfo payload, const char *key, const char *name, int64 position, int64 count);
extern bool message_note(const AggregateType *type, HeapTuple tuple, Relation log, int64 position);
extern void messages_send(void);
extern void messages_at_subtransaction_end(bool commit, int level);
extern void messages_forget(void);

#endif							/* DUGONG_MESSAGE_H */
