/*
 * log.h
 *		The event log: its columns, and index scans over it.
 */
#ifndef DUGONG_LOG_H
#define DUGONG_LOG_H

#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/sdir.h"
#include "executor/tuptable.h"
#include "utils/hsearch.h"
#include "utils/rel.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"
#include "util/names.h"

/* Columns of dugong.event_log, in their order (src/sql/store/log.sql). */
typedef enum LogColumn
{
	LOG_POSITION = 1,
	LOG_SEQUENCE_NUMBER,
	LOG_TIMESTAMP,
	LOG_ID,
	LOG_AGGREGATE_ID,
	LOG_AGGREGATE_TYPE_ID,
	LOG_VERSION,
	LOG_TENANT_ID,
	LOG_TYPE,
	LOG_PAYLOAD,
	LOG_CORRELATION_ID,
	LOG_TRIGGERED_BY_EVENT_ID,
	LOG_TRIGGERED_BY_USER_ID,
	LOG_METADATA
} LogColumn;

#define LOG_NCOLUMNS LOG_METADATA

/* A row of the log. */
typedef struct LogRow
{
	Datum		values[LOG_NCOLUMNS];
	bool		nulls[LOG_NCOLUMNS];
} LogRow;

#define log_row_value(row, column) ((row)->values[(column) - 1])
#define log_row_isnull(row, column) ((row)->nulls[(column) - 1])

/* What identifies an aggregate. */
typedef struct AggregateKey
{
	int32		type_id;		/* dugong.aggregate_types.id */
	pg_uuid_t	id;
	text	   *tenant_id;		/* '' = no tenant; never NULL */
} AggregateKey;

/* The last event of an aggregate; sequence_number 0 = there is none. */
typedef struct AggregateHead
{
	int64		sequence_number;
	TimestampTz timestamp;
	bool		erased;			/* it is what tells that the aggregate was erased */
} AggregateHead;

/* A scan; its slot holds the current row until the next call. */
typedef struct LogScan
{
	TupleTableSlot *slot;
	/* through an index */
	Relation	index;
	IndexScanDesc scan;
	ScanDirection direction;
	MemoryContext context;		/* it was begun in, and keeps what it allocates on its way */
	/* or of given places, if index is NULL */
	Relation	log;
	Snapshot	snapshot;
	ItemPointer tids;			/* those to come */
	int64		ntids;
} LogScan;

extern bool log_exists(void);
extern Relation log_open(LOCKMODE lockmode);

extern void log_scan_begin(LogScan *scan, Relation table, const char *index, ScanKey keys,
						   int nkeys, ScanDirection direction, Snapshot snapshot);
extern void log_scan_stream(LogScan *scan, Relation log, const AggregateKey *key,
							int64 first, int64 last, ScanDirection direction,
							Snapshot snapshot);
extern void log_scan_positions(LogScan *scan, Relation log, int64 first, int64 last,
							   ScanDirection direction, Snapshot snapshot);
extern void log_scan_id(LogScan *scan, Relation log, const pg_uuid_t *id,
						Snapshot snapshot);
extern void log_scan_tids(LogScan *scan, Relation log, ItemPointer tids, int64 count, Snapshot snapshot);
extern void log_scan_correlation(LogScan *scan, Relation log, const pg_uuid_t *id,
								 int64 first, int64 last, ScanDirection direction,
								 Snapshot snapshot);
extern void log_scan_first_events(LogScan *scan, Relation log, int32 type_id,
								  text *tenant_id, const pg_uuid_t *after, Snapshot snapshot);
extern void log_scan_first_events_beyond(LogScan *scan, Relation log, int32 type_id,
										 text *tenant_id, Snapshot snapshot);
extern bool log_scan_next(LogScan *scan);
extern void log_scan_end(LogScan *scan);

extern bool aggregate_key_equal(const AggregateKey *a, const AggregateKey *b);
extern HTAB *aggregate_table_create(const char *name, Size entry_size, MemoryContext context);
extern void log_row_set(LogRow *row, LogColumn column, Datum value);
extern void log_row_from_slot(LogRow *row, TupleTableSlot *slot);
extern void log_row_from_tuple(LogRow *row, HeapTuple tuple, TupleDesc desc);
extern HeapTuple log_row_to_tuple(LogRow *row, HeapTuple tuple, TupleDesc desc);
extern void log_row_key(const LogRow *row, AggregateKey *key);
extern int64 log_last_position(Relation log, Snapshot snapshot);
extern bool log_has_beyond(Relation log, int64 position);
extern void aggregate_head(Relation log, const AggregateKey *key, int64 guess,
						   Snapshot snapshot, AggregateHead *head);
extern Snapshot snapshot_register_latest(void);
extern Snapshot snapshot_register_now(Relation relation);

#endif							/* DUGONG_LOG_H */
