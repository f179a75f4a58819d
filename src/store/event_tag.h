/*
 * event_tag.h
 *		What events are found by, across aggregates: their types and tags.
 */
#ifndef DUGONG_EVENT_TAG_H
#define DUGONG_EVENT_TAG_H

#include "postgres.h"

#include "store/aggregate_lock.h"
#include "store/log.h"
#include "utils/jsonb.h"

#define MAX_EVENT_TAGS 100

/* Where the values of a tag stand in the payload. */
typedef struct TagPath
{
	char	   *name;
	int			nkeys;
	char	  **keys;			/* of objects within objects */
} TagPath;

/* The tags of an event type; there may be none. */
typedef struct TagDeclaration
{
	int32		aggregate_type_id;
	char	   *type;
	int			ntags;
	TagPath    *tags;
} TagDeclaration;

/* The keys that stand for an event's type and tags, ascending. */
typedef struct TagKeys
{
	int			count;
	pg_uuid_t  *keys;
} TagKeys;

extern void event_tag_init(void);
extern bool tags_exist(void);
extern const TagDeclaration *tag_declarations(int *count);
extern uint64 tag_declarations_version(void);
extern TagPath *tag_paths_parse(Jsonb *tags, int *count);
extern bool tag_declares(const TagDeclaration *declaration, const char *name);
extern char *tag_value(const JsonbValue *value);
extern pg_uuid_t *tag_key(const TagDeclaration *declaration, const text *tenant_id, const char *name, const char *value);

extern void event_tags(const LogRow *row, TagKeys *tags);
extern void event_tags_free(TagKeys *tags);
extern void event_tags_add_locks(const LogRow *row, TagLocks *locks);
extern void event_tags_lock(const LogRow *row, TagKeys *tags);
extern void event_tags_write(const TagKeys *tags, int64 position);
extern void event_tags_delete(const TagKeys *tags, int64 position);

#endif							/* DUGONG_EVENT_TAG_H */
