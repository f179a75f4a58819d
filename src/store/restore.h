/*
 * restore.h
 *		Rows that come back into the log with the position they had.
 */
#ifndef DUGONG_RESTORE_H
#define DUGONG_RESTORE_H

#include "postgres.h"

#include "store/log.h"
#include "utils/rel.h"

extern void restore_init(void);
extern void restore_accept(Relation log, const LogRow *row);
extern void restore_finish(void);
extern void restore_floor_moved(void);
extern bool restore_brought(int64 position);

#endif							/* DUGONG_RESTORE_H */
