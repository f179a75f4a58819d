/*
 * reader.h
 *		Reading on in the log from a checkpoint.
 */
#ifndef DUGONG_READER_H
#define DUGONG_READER_H

#include "postgres.h"

#include "projection/checkpoint.h"
#include "store/log.h"

typedef struct LogReader
{
	Relation	log;
	Snapshot	snapshot;
	Checkpoint *checkpoint;
	void		(*note) (void *arg, TupleTableSlot *slot);	/* called for each event */
	bool		(*is_full) (void *arg); /* is it enough? */
	void	   *arg;
} LogReader;

extern void reader_read_holes(LogReader *reader);
extern void reader_read_above(LogReader *reader, int64 last);

#endif							/* DUGONG_READER_H */
