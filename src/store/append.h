/*
 * append.h
 *		The one way an event gets into the log.
 */
#ifndef DUGONG_APPEND_H
#define DUGONG_APPEND_H

#include "postgres.h"

#include "store/append_condition.h"
#include "store/log.h"

extern void event_check(LogRow *row);
/* Called with the last of count events that were appended to an aggregate. */
typedef void (*AppendHook) (const LogRow *row, int64 count);

extern void append_set_hook(AppendHook hook);
extern void append_done(const LogRow *row, int64 count);
extern uint64 append_count(void);
extern bool event_append(LogRow *row);
extern bool event_append_if(LogRow *row, AppendCondition *condition);
extern void append_lock(const LogRow *rows, int count, const AggregateKey *key, bool is_new,
						const AppendCondition *condition);
extern bool event_append_behind(LogRow *row, const AggregateHead *known);
extern bool event_append_checked(LogRow *row);
extern bool event_receive(LogRow *row);
extern void event_append_own(LogRow *row);
extern void event_check_import(LogRow *row, TagLocks *tags);
extern void event_import(Relation log, LogRow *row, AggregateHead *head);
extern void event_check_head(const AggregateKey *key, int64 expected);

#endif							/* DUGONG_APPEND_H */
