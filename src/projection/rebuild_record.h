/*
 * rebuild_record.h
 *		How far a rebuild has come: a row of dugong.rebuilds.
 */
#ifndef DUGONG_REBUILD_RECORD_H
#define DUGONG_REBUILD_RECORD_H

#include "postgres.h"

#include "projection/next_aggregates.h"
#include "projection/projection.h"

typedef struct Rebuild
{
	const Projection *projection;
	bool		own_transaction;	/* is nothing but the rebuild in it? */
	bool		sweeping;		/* the aggregates are done, the table's rows are looked through */
	int64		done;
	int64		total;
	AggregateCursor cursor;		/* the last aggregate or row */
} Rebuild;

extern void rebuild_begin(Rebuild *rebuild, const Projection *projection, const char *phase, int64 total);
extern void rebuild_save(const Rebuild *rebuild);
extern void rebuild_end(const Projection *projection);

#endif							/* DUGONG_REBUILD_RECORD_H */
