/*
 * candidates.h
 *		The transactions that may still fill a hole in the log.
 */
#ifndef DUGONG_CANDIDATES_H
#define DUGONG_CANDIDATES_H

#include "postgres.h"

#include "access/transam.h"
#include "utils/snapshot.h"

typedef struct Candidates
{
	int			count;
	uint64	   *xids;			/* full transaction ids (SQL type xid8) */
} Candidates;

extern void candidates_list(Candidates *candidates);
extern bool candidate_has_ended(uint64 xid, Snapshot snapshot);
extern bool candidate_is_running(uint64 xid);
extern bool log_has_appenders(void);

#endif							/* DUGONG_CANDIDATES_H */
