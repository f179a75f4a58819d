/*
 * log_index.h
 *		Partial indexes of the log.
 */
#ifndef DUGONG_LOG_INDEX_H
#define DUGONG_LOG_INDEX_H

#include "postgres.h"

#include "access/attnum.h"
#include "utils/rel.h"

extern bool log_index_is_partial(Relation index);
extern AttrNumber log_index_column(Relation index);

#endif							/* DUGONG_LOG_INDEX_H */
