/*
 * tag_query.h
 *		Which events a query for types and tags means, and finding them.
 */
#ifndef DUGONG_TAG_QUERY_H
#define DUGONG_TAG_QUERY_H

#include "postgres.h"

#include "store/aggregate_lock.h"
#include "store/log.h"
#include "utils/jsonb.h"

/* Events of one type that have all of the tags of one item. */
typedef struct TagTerm
{
	int			item;			/* of the query, from 0 */
	int			nkeys;
	pg_uuid_t  *keys;
} TagTerm;

typedef struct TagQuery
{
	Jsonb	   *items;			/* one, or an array of them */
	text	   *tenant_id;
	uint64		version;		/* of the declarations that the terms are made by */
	List	   *terms;			/* TagTerm *; an event of any of them is meant */
} TagQuery;

/* A walk along the positions under one key. */
typedef struct TagCursor
{
	LogScan		scan;
	const pg_uuid_t *key;
	int64		position;		/* where it stands; 0 = nowhere yet */
} TagCursor;

typedef struct TagWalk
{
	const TagTerm *term;
	TagCursor  *cursors;		/* one for each key */
	int64		position;		/* the next event; 0 = there is none */
} TagWalk;

typedef struct TagScan
{
	Relation	index_table;
	ScanDirection direction;
	int64		last;			/* position that was given out */
	int			nwalks;
	TagWalk    *walks;
} TagScan;

extern void tag_query_make(TagQuery *query, Jsonb *items, text *tenant_id);
extern void tag_query_add_locks(const TagQuery *query, TagLocks *locks);
extern bool tag_query_is_current(const TagQuery *query);
extern Jsonb *tag_query_item(const TagQuery *query, int number);

extern void tag_scan_begin(TagScan *scan, const TagQuery *query, int64 start, ScanDirection direction,
						   Snapshot snapshot);
extern const TagTerm *tag_scan_next(TagScan *scan, int64 *position);
extern void tag_scan_end(TagScan *scan);

#endif							/* DUGONG_TAG_QUERY_H */
