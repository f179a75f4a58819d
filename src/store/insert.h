/*
 * insert.h
 *		Putting a row that has its place into the log.
 */
#ifndef DUGONG_INSERT_H
#define DUGONG_INSERT_H

#include "postgres.h"

#include "access/htup.h"
#include "store/log.h"
#include "utils/rel.h"

/* What the log's AFTER INSERT triggers do: for each row, and when the statement ends. */
typedef void (*InsertedHook) (Relation log, HeapTuple tuple);
typedef void (*StatementHook) (void);

extern void insert_init(void);
extern void insert_set_inserted_hook(InsertedHook hook);
extern void insert_set_statement_hook(StatementHook hook);
extern bool insert_row(Relation log, LogRow *row, bool contested);
extern bool insert_is_running(int64 position);

#endif							/* DUGONG_INSERT_H */
