/*
 * event_tag.c
 *		What events are found by, across aggregates: their types and tags.
 *
 * An event type may be declared to have tags: names, and where their values
 * stand in the payload, as reads show it.  Each event of such a type has an
 * entry in dugong.event_tags for its type, and one for each of its tags.  An
 * entry's key is made of tenant, aggregate type, event type, name and value:
 * of a fixed size, and the same in every database.
 *
 * The lock of a key guards its entries.  A transaction holds SHARE on those
 * of an event before it draws the event's position; who decides on what there
 * is under a key holds EXCLUSIVE (append_condition.c).
 *
 * Who declares tags excludes appends; so what a session knows of declarations
 * once it has the log's lock stays true.  What was found out before is found
 * out again then (event_tags_lock).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "errors.h"
#include "lib/qunique.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "store/aggregate_type.h"
#include "store/erasure.h"
#include "store/event_tag.h"
#include "store/event_type.h"
#include "store/ownership.h"
#include "store/upcast.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/numeric.h"
#include "util/ids.h"
#include "util/table_watch.h"

/* Of the keys, which are UUIDs of version 5. */
static const pg_uuid_t namespace = {{0x7d, 0x0c, 0x52, 0xa1, 0x93, 0x6e, 0x4f, 0x1b, 0x8a, 0x3d, 0x2e, 0x64, 0xd0, 0x95, 0x17, 0xc8}};

static MemoryContext context;	/* child of CacheMemoryContext; holds all of it */
static TagDeclaration *declarations;	/* ordered by aggregate type and event type */
static int	ndeclarations;
static int	size;				/* of declarations */
static TableWatch watch;

void
event_tag_init(void)
{
	table_watch_init(&watch);
}

static void
report_path(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("tag \"%s\" must have a key of the payload, or an array of keys", name),
			 errhint("\"studentId\" is a key of the payload, [\"student\", \"id\"] a key of an object in it.")));
}

static char *
string_of(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static void
parse_path(JsonbValue *value, TagPath *path)
{
	JsonbContainer *array = value->type == jbvBinary ? value->val.binary.data : NULL;

	if (value->type == jbvString)
	{
		path->nkeys = 1;
		path->keys = palloc(sizeof(char *));
		path->keys[0] = string_of(value);
		return;
	}
	if (array == NULL || !JsonContainerIsArray(array) || JsonContainerSize(array) == 0)
		report_path(path->name);
	path->nkeys = JsonContainerSize(array);
	path->keys = palloc(path->nkeys * sizeof(char *));
	for (int i = 0; i < path->nkeys; i++)
	{
		JsonbValue *key = getIthJsonbValueFromContainer(array, i);

		if (key->type != jbvString)
			report_path(path->name);
		path->keys[i] = string_of(key);
	}
}

/* The tags that an object of name and path declares, in the current memory context; 22023. */
TagPath *
tag_paths_parse(Jsonb *tags, int *count)
{
	JsonbIterator *iterator;
	JsonbValue	value;
	TagPath    *paths;

	if (!JB_ROOT_IS_OBJECT(tags))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("tags must be a JSON object"),
				 errhint("Its keys are the names of tags, its values say where they stand in the payload.")));
	if (JB_ROOT_COUNT(tags) > MAX_EVENT_TAGS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("an event type cannot have more than %d tags", MAX_EVENT_TAGS)));
	*count = 0;
	paths = palloc0(Max(JB_ROOT_COUNT(tags), 1) * sizeof(TagPath));
	iterator = JsonbIteratorInit(&tags->root);
	(void) JsonbIteratorNext(&iterator, &value, true);
	while (JsonbIteratorNext(&iterator, &value, true) == WJB_KEY)
	{
		TagPath    *path = &paths[(*count)++];

		path->name = string_of(&value);
		if (path->name[0] == '\0')
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("name of a tag must not be empty")));
		(void) JsonbIteratorNext(&iterator, &value, true);
		parse_path(&value, path);
	}
	return paths;
}

static void
clear_declarations(void)
{
	if (context == NULL)
		context = AllocSetContextCreate(CacheMemoryContext, "dugong tag declarations", ALLOCSET_SMALL_SIZES);
	MemoryContextReset(context);
	declarations = NULL;
	ndeclarations = 0;
	size = 0;
}

/* Enters a row of the last result; they come in order. */
static void
enter_row(int row)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	TagDeclaration *declaration;
	bool		isnull;

	if (ndeclarations == size)
	{
		size = Max(16, size * 2);
		declarations = declarations ? repalloc(declarations, size * sizeof(TagDeclaration)) :
			palloc(size * sizeof(TagDeclaration));
	}
	declaration = &declarations[ndeclarations];
	declaration->aggregate_type_id = DatumGetInt32(plan_result(row, 1, &isnull));
	declaration->type = TextDatumGetCString(plan_result(row, 2, &isnull));
	declaration->tags = tag_paths_parse(DatumGetJsonbP(plan_result(row, 3, &isnull)), &declaration->ntags);
	ndeclarations++;
	MemoryContextSwitchTo(old);
}

/* Are the tables there?  They came with 0.2.0, and the library may be newer than the extension. */
bool
tags_exist(void)
{
	return OidIsValid(get_relname_relid("tag_declarations", dugong_namespace()));
}

static void
ensure_declarations(void)
{
	static SavedPlan select_declarations = {
		.sql = "SELECT aggregate_type_id, type, tags FROM dugong.tag_declarations ORDER BY aggregate_type_id, type COLLATE \"C\""
	};

	if (watch.valid)
		return;
	if (tags_exist())
		table_watch_read(&watch, dugong_relid("tag_declarations"), dugong_owner(), &select_declarations,
						 clear_declarations, enter_row);
	else
		clear_declarations();
}

/* All of them; they stay until the table changes, see tag_declarations_version(). */
const TagDeclaration *
tag_declarations(int *count)
{
	ensure_declarations();
	*count = ndeclarations;
	return declarations;
}

/* Another number when the declarations may have changed. */
uint64
tag_declarations_version(void)
{
	return watch.changes;
}

/* As the rows are ordered: bytes as they are. */
static int
compare_declaration(const TagDeclaration *declaration, int32 aggregate_type_id, const text *type)
{
	int			length = strlen(declaration->type);
	int			other = VARSIZE_ANY_EXHDR(type);
	int			order;

	if (declaration->aggregate_type_id != aggregate_type_id)
		return declaration->aggregate_type_id < aggregate_type_id ? -1 : 1;
	order = memcmp(declaration->type, VARDATA_ANY(type), Min(length, other));
	return order != 0 ? order : length - other;
}

/* What is declared of an event type; NULL = nothing. */
static const TagDeclaration *
find_declaration(int32 aggregate_type_id, const text *type)
{
	int			low = 0;
	int			high = ndeclarations;

	while (low < high)
	{
		int			middle = (low + high) / 2;
		int			order = compare_declaration(&declarations[middle], aggregate_type_id, type);

		if (order == 0)
			return &declarations[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

bool
tag_declares(const TagDeclaration *declaration, const char *name)
{
	for (int i = 0; i < declaration->ntags; i++)
		if (strcmp(declaration->tags[i].name, name) == 0)
			return true;
	return false;
}

/* A value as text, whatever its digits: 1, 1.0 and "1" are one.  NULL if it is no string, number or boolean. */
char *
tag_value(const JsonbValue *value)
{
	switch (value->type)
	{
		case jbvString:
			return string_of(value);
		case jbvNumeric:
			return numeric_normalize(value->val.numeric);
		case jbvBool:
			return pstrdup(value->val.boolean ? "true" : "false");
		default:
			return NULL;
	}
}

/* Lengths keep the parts apart; in characters, so that the encoding does not matter. */
static void
append_part(StringInfo string, const char *part)
{
	appendStringInfo(string, "%d:%s", pg_mbstrlen(part), part);
}

/* The key of a tag, or with an empty name and value that of the type itself. */
pg_uuid_t *
tag_key(const TagDeclaration *declaration, const text *tenant_id, const char *name, const char *value)
{
	StringInfoData string;

	initStringInfo(&string);
	appendStringInfo(&string, "%d ", declaration->aggregate_type_id);
	append_part(&string, text_to_cstring(tenant_id));
	append_part(&string, declaration->type);
	append_part(&string, name);
	append_part(&string, value);
	return uuid_make_v5(&namespace, string.data);
}

/* What is collected of one event. */
typedef struct Collection
{
	const TagDeclaration *declaration;
	const TagPath *path;		/* the tag whose values are collected now */
	const text *tenant_id;
	TagKeys    *tags;
} Collection;

static void
add_key(Collection *collection, const char *name, const char *value)
{
	TagKeys    *tags = collection->tags;

	/* One is the type's. */
	if (tags->count > MAX_EVENT_TAGS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("event \"%s\" has more than %d tags", collection->declaration->type, MAX_EVENT_TAGS)));
	tags->keys[tags->count++] = *tag_key(collection->declaration, collection->tenant_id, name, value);
}

static void collect(Collection *collection, JsonbContainer *container, int depth);

/* Collects what a value has to say, depth keys down the path. */
static void
collect_value(Collection *collection, JsonbValue *value, int depth)
{
	char	   *text;

	if (value->type == jbvBinary &&
		(depth < collection->path->nkeys || JsonContainerIsArray(value->val.binary.data)))
		collect(collection, value->val.binary.data, depth);
	else if (depth < collection->path->nkeys || value->type == jbvNull)
		;						/* no such key, no tag */
	else if ((text = tag_value(value)) != NULL)
		add_key(collection, collection->path->name, text);
	else
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_EVENT_TYPE_MISMATCH),
				 errmsg("tag \"%s\" of event \"%s\" cannot be an object",
						collection->path->name, collection->declaration->type)));
}

/* An array stands for each of its elements. */
static void
collect(Collection *collection, JsonbContainer *container, int depth)
{
	JsonbIterator *iterator;
	JsonbValue	value;

	check_stack_depth();
	if (JsonContainerIsArray(container))
	{
		iterator = JsonbIteratorInit(container);
		(void) JsonbIteratorNext(&iterator, &value, true);
		while (JsonbIteratorNext(&iterator, &value, true) == WJB_ELEM)
			collect_value(collection, &value, depth);
	}
	else if (getKeyJsonValueFromContainer(container, collection->path->keys[depth],
										  strlen(collection->path->keys[depth]), &value))
		collect_value(collection, &value, depth + 1);
}

static int
compare_keys(const void *one, const void *other)
{
	return memcmp(one, other, UUID_LEN);
}

/* The payload as reads show it; NULL if there is none. */
static Jsonb *
shown_payload(const LogRow *row, int32 type_id, const text *type)
{
	Datum		payload = log_row_value(row, LOG_PAYLOAD);
	bool		isnull = log_row_isnull(row, LOG_PAYLOAD);

	if (!log_row_isnull(row, LOG_VERSION) && !(isnull && erasure_of_row(row) >= ERASED_PAYLOAD))
	{
		Upcaster	upcaster;

		upcaster_init(&upcaster, CurrentMemoryContext);
		payload = upcast_payload(&upcaster, type_id, type, DatumGetInt32(log_row_value(row, LOG_VERSION)),
								 payload, &isnull);
	}
	return isnull ? NULL : DatumGetJsonbP(payload);
}

/* Collects the keys of an event of a type that has tags. */
static void
collect_all(const LogRow *row, int32 type_id, const text *type, TagKeys *tags)
{
	Collection	collection = {.tags = tags};
	Jsonb	   *payload = shown_payload(row, type_id, type);

	/* An upcast is users' code: declarations may have been read anew. */
	ensure_declarations();
	collection.declaration = find_declaration(type_id, type);
	if (collection.declaration == NULL)
		return;
	collection.tenant_id = DatumGetTextPP(log_row_value(row, LOG_TENANT_ID));
	add_key(&collection, "", "");
	for (int i = 0; payload && i < collection.declaration->ntags; i++)
	{
		collection.path = &collection.declaration->tags[i];
		collect(&collection, &payload->root, 0);
	}
	qsort(tags->keys, tags->count, sizeof(pg_uuid_t), compare_keys);
	tags->count = qunique(tags->keys, tags->count, sizeof(pg_uuid_t), compare_keys);
}

/*
 * The keys of an event, in the current memory context; nothing else stays
 * there, for a call may be about very many events.
 *
 * Errors: 54000 if it has too many tags, UG008 if one is an object.
 */
void
event_tags(const LogRow *row, TagKeys *tags)
{
	int32		type_id = DatumGetInt32(log_row_value(row, LOG_AGGREGATE_TYPE_ID));
	text	   *type = DatumGetTextPP(log_row_value(row, LOG_TYPE));
	pg_uuid_t	keys[MAX_EVENT_TAGS + 1];
	MemoryContext scratch;
	MemoryContext old;

	*tags = (TagKeys) {0};
	ensure_declarations();
	if (ndeclarations == 0 || find_declaration(type_id, type) == NULL)
		return;
	scratch = AllocSetContextCreate(CurrentMemoryContext, "dugong event's tags", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(scratch);
	tags->keys = keys;
	collect_all(row, type_id, type, tags);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	tags->keys = palloc(Max(tags->count, 1) * sizeof(pg_uuid_t));
	memcpy(tags->keys, keys, tags->count * sizeof(pg_uuid_t));
}

void
event_tags_free(TagKeys *tags)
{
	if (tags->keys)
		pfree(tags->keys);
	*tags = (TagKeys) {0};
}

/* Adds the locks that an event needs. */
void
event_tags_add_locks(const LogRow *row, TagLocks *locks)
{
	TagKeys		tags;

	event_tags(row, &tags);
	for (int i = 0; i < tags.count; i++)
		tag_locks_add(locks, &tags.keys[i], ShareLock);
	event_tags_free(&tags);
}

/*
 * The keys of an event that is about to get its position, with their locks.
 * Mostly they are held: see append_lock().
 */
void
event_tags_lock(const LogRow *row, TagKeys *tags)
{
	TagLocks	locks = {0};

	event_tags(row, tags);
	for (int i = 0; i < tags->count; i++)
		tag_locks_add(&locks, &tags->keys[i], ShareLock);
	tag_locks_take(&locks);
}

/* Does a statement about the tags, an array, and the position of an event. */
static void
change_index(SavedPlan *statement, const TagKeys *tags, int64 position)
{
	Datum		elements[MAX_EVENT_TAGS + 1];
	Datum		values[2];

	if (tags->count == 0)
		return;
	for (int i = 0; i < tags->count; i++)
		elements[i] = UUIDPGetDatum(&tags->keys[i]);
	values[0] = PointerGetDatum(construct_array(elements, tags->count, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
	values[1] = Int64GetDatum(position);
	(void) execute_as_owner(statement, values, NULL);
	pfree(DatumGetPointer(values[0]));
}

/* Enters an event into the index. */
void
event_tags_write(const TagKeys *tags, int64 position)
{
	static SavedPlan insert_tags = {
		.sql = "INSERT INTO dugong.event_tags (tag, position) SELECT pg_catalog.unnest($1), $2",
		.nargs = 2,
		.argtypes = {UUIDARRAYOID, INT8OID}
	};

	change_index(&insert_tags, tags, position);
}

/* Takes an event out of it, which is about to be another. */
void
event_tags_delete(const TagKeys *tags, int64 position)
{
	static SavedPlan delete_tags = {
		.sql = "DELETE FROM dugong.event_tags WHERE tag OPERATOR(pg_catalog.=) ANY ($1) AND position OPERATOR(pg_catalog.=) $2",
		.nargs = 2,
		.argtypes = {UUIDARRAYOID, INT8OID}
	};

	change_index(&delete_tags, tags, position);
}
