/*
 * run.h
 *		Running a projection until it has caught up.
 */
#ifndef DUGONG_RUN_H
#define DUGONG_RUN_H

#include "postgres.h"

extern void run_in_transaction(const char *projection);
extern ErrorData *run_projection(const char *projection, bool commits, bool own_transaction, void (*progress) (int64 position));

#endif							/* DUGONG_RUN_H */
