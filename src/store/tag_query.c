/*
 * tag_query.c
 *		Which events a query for types and tags means.
 *
 * A query is an item or an array of items, of which an event must fit one.  An
 * item has types, of which the event must have one, and tags, all of which it
 * must have.  A query is taken apart into terms: one for each item and event
 * type that can fit it.
 *
 * What no event could fit is an error: a name that is misspelt would make an
 * append condition hold always.
 */
#include "postgres.h"

#include "compat.h"
#include "miscadmin.h"
#include "store/event_tag.h"
#include "store/tag_query.h"
#include "utils/builtins.h"
#include "util/jsonb_fields.h"

#define MAX_TERMS 100
#define MAX_ITEM_TAGS 20

/* An item of a query. */
typedef struct QueryItem
{
	int			number;			/* from 0 */
	List	   *types;			/* char *; NIL = any */
	int			ntags;
	char	   *names[MAX_ITEM_TAGS];
	char	   *values[MAX_ITEM_TAGS];
} QueryItem;

pg_noreturn static void
report_item(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", what),
			 errhint("An item is {\"types\": [\"StudentEnrolled\"], \"tags\": {\"course\": \"c1\"}}, or has one of the two.")));
}

/* The value under a key; false if there is none or it is null. */
static bool
find_value(Jsonb *object, const char *key, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(&object->root, key, strlen(key), value) != NULL &&
		value->type != jbvNull;
}

static void
read_types(QueryItem *item, Jsonb *object)
{
	JsonbValue	types;
	JsonbContainer *array;

	if (!find_value(object, "types", &types))
		return;
	array = types.type == jbvBinary ? types.val.binary.data : NULL;
	if (array == NULL || !JsonContainerIsArray(array))
		report_item("types of a query must be an array of strings");
	for (uint32 i = 0; i < JsonContainerSize(array); i++)
	{
		JsonbValue *name = getIthJsonbValueFromContainer(array, i);

		if (name->type != jbvString)
			report_item("types of a query must be an array of strings");
		item->types = lappend(item->types, pnstrdup(name->val.string.val, name->val.string.len));
	}
}

static void
read_tags(QueryItem *item, Jsonb *object)
{
	JsonbValue	tags;
	JsonbValue	part;
	JsonbIterator *iterator;

	if (!find_value(object, "tags", &tags))
		return;
	if (tags.type != jbvBinary || !JsonContainerIsObject(tags.val.binary.data))
		report_item("tags of a query must be an object");
	iterator = JsonbIteratorInit(tags.val.binary.data);
	(void) JsonbIteratorNext(&iterator, &part, true);
	while (JsonbIteratorNext(&iterator, &part, true) == WJB_KEY)
	{
		if (item->ntags == MAX_ITEM_TAGS)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("an item of a query cannot have more than %d tags", MAX_ITEM_TAGS)));
		item->names[item->ntags] = pnstrdup(part.val.string.val, part.val.string.len);
		(void) JsonbIteratorNext(&iterator, &part, true);
		item->values[item->ntags] = tag_value(&part);
		if (item->values[item->ntags++] == NULL)
			report_item("tags of a query must be strings, numbers or booleans");
	}
}

static void
read_item(QueryItem *item, Jsonb *object)
{
	static const char *const keys[] = {"types", "tags"};
	char	   *unknown;

	if (object == NULL || !JB_ROOT_IS_OBJECT(object))
		report_item("a query must be an item or an array of items");
	unknown = jsonb_unknown_key(object, keys, lengthof(keys));
	if (unknown)
		report_item(psprintf("key \"%s\" of a query is not known", unknown));
	read_types(item, object);
	read_tags(item, object);
	if (item->types == NIL && item->ntags == 0)
		report_item("an item of a query must have types or tags");
}

static bool
fits(const TagDeclaration *declaration, const QueryItem *item, const char *type)
{
	if (type && strcmp(declaration->type, type) != 0)
		return false;
	for (int i = 0; i < item->ntags; i++)
		if (!tag_declares(declaration, item->names[i]))
			return false;
	return true;
}

static void
add_term(TagQuery *query, const QueryItem *item, const TagDeclaration *declaration)
{
	TagTerm    *term = palloc(sizeof(TagTerm));

	if (list_length(query->terms) == MAX_TERMS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a query cannot ask for more than %d combinations of item and event type", MAX_TERMS)));
	term->item = item->number;
	term->nkeys = Max(item->ntags, 1);
	term->keys = palloc(term->nkeys * sizeof(pg_uuid_t));
	if (item->ntags == 0)
		term->keys[0] = *tag_key(declaration, query->tenant_id, "", "");
	for (int i = 0; i < item->ntags; i++)
		term->keys[i] = *tag_key(declaration, query->tenant_id, item->names[i], item->values[i]);
	query->terms = lappend(query->terms, term);
}

/* type: NULL = any that declares the item's tags. */
static void
add_terms(TagQuery *query, const QueryItem *item, const char *type)
{
	int			count;
	const TagDeclaration *declarations = tag_declarations(&count);
	int			before = list_length(query->terms);

	for (int i = 0; i < count; i++)
		if (fits(&declarations[i], item, type))
			add_term(query, item, &declarations[i]);
	if (list_length(query->terms) == before)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 type ? errmsg("event type \"%s\" does not declare the tags of the query", type) :
				 errmsg("no event type declares the tags of the query"),
				 errhint("Declare them with dugong.declare_tags(), for a query without tags as '{}'.")));
}

static void
make_terms(TagQuery *query)
{
	bool		is_array = JB_ROOT_IS_ARRAY(query->items) && !JB_ROOT_IS_SCALAR(query->items);
	int			count = is_array ? JB_ROOT_COUNT(query->items) : 1;

	if (count == 0)
		report_item("a query must have an item");
	for (int i = 0; i < count; i++)
	{
		QueryItem	item = {.number = i};
		ListCell   *cell;

		CHECK_FOR_INTERRUPTS();
		read_item(&item, tag_query_item(query, i));
		if (item.types == NIL)
			add_terms(query, &item, NULL);
		foreach(cell, item.types)
			add_terms(query, &item, lfirst(cell));
	}
}

/*
 * Errors: 22023 if it is no query, 42704 if no event could fit a part of it,
 * 54000 if it is too large.
 */
void
tag_query_make(TagQuery *query, Jsonb *items, text *tenant_id)
{
	int			count;

	query->items = items;
	query->tenant_id = tenant_id;
	query->terms = NIL;
	(void) tag_declarations(&count);
	query->version = tag_declarations_version();
	make_terms(query);
}

/* Are the declarations what they were? */
bool
tag_query_is_current(const TagQuery *query)
{
	return query->version == tag_declarations_version();
}

/* An item, from 0; NULL if it is no object. */
Jsonb *
tag_query_item(const TagQuery *query, int number)
{
	return JB_ROOT_IS_ARRAY(query->items) ? jsonb_element(query->items, number) : query->items;
}

/*
 * Locks that keep away all who append what the query means.  They hold those
 * of all keys of their events, so one key of each term is enough.
 */
void
tag_query_add_locks(const TagQuery *query, TagLocks *locks)
{
	ListCell   *cell;

	foreach(cell, query->terms)
		tag_locks_add(locks, &((const TagTerm *) lfirst(cell))->keys[0], ExclusiveLock);
}
