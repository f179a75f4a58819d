/*
 * table_watch.h
 *		Small tables that each session keeps in memory.
 */
#ifndef DUGONG_TABLE_WATCH_H
#define DUGONG_TABLE_WATCH_H

#include "postgres.h"

#include "util/plan.h"

/* The table must have the trigger dugong.registry_changed(). */
typedef struct TableWatch
{
	Oid			relid;
	uint64		changes;		/* seen so far */
	bool		valid;			/* what is in memory is what is in the table */
} TableWatch;

extern void table_watch_init(TableWatch *watch);
extern void table_watch_read(TableWatch *watch, Oid relid, Oid owner, SavedPlan *select,
							 void (*clear) (void), void (*enter_row) (int row));

#endif							/* DUGONG_TABLE_WATCH_H */
