/*
 * append.h
 *		The one way an event gets into the log.
 */
#ifndef DUGONG_APPEND_H
#define DUGONG_APPEND_H

#include "postgres.h"

#include "store/log.h"

extern bool event_append(LogRow *row);
extern bool event_find(Relation log, const pg_uuid_t *id, LogRow *row);
extern bool event_has_same_content(const LogRow *stored, const LogRow *row);
extern void report_event_id_reused(const pg_uuid_t *id) pg_attribute_noreturn();

#endif							/* DUGONG_APPEND_H */
