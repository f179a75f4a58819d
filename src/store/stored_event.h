/*
 * stored_event.h
 *		Finding out whether an event is in the log already.
 */
#ifndef DUGONG_STORED_EVENT_H
#define DUGONG_STORED_EVENT_H

#include "postgres.h"

#include "compat.h"
#include "store/log.h"

extern bool event_find(Relation log, const pg_uuid_t *id, LogRow *row);
extern bool event_is_stored(Relation log, const LogRow *row, LogRow *stored);
extern bool event_has_same_content(const LogRow *stored, const LogRow *row);
pg_noreturn extern void report_event_id_reused(const pg_uuid_t *id);
pg_noreturn extern void report_stale_snapshot(void);

#endif							/* DUGONG_STORED_EVENT_H */
