/*
 * event_type.c
 *		Event types that were declared, with their versions.
 *
 * Each session keeps the declarations in memory, until the table changes.
 * What event_type_find() returns stays valid until its next call.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "errors.h"
#include "store/aggregate_type.h"
#include "store/event_type.h"
#include "store/payload.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "util/table_watch.h"

typedef struct EventTypeKey
{
	int32		aggregate_type_id;
	const char *name;
	int			length;
} EventTypeKey;

typedef struct Entry
{
	EventTypeKey key;
	EventType	type;
} Entry;

static MemoryContext context;	/* child of CacheMemoryContext; holds all of it */
static HTAB *entries;			/* NULL if no event type is declared */
static TableWatch watch;

void
event_type_init(void)
{
	table_watch_init(&watch);
}

static uint32
key_hash(const void *key, Size size)
{
	const EventTypeKey *k = key;

	return hash_bytes((const unsigned char *) k->name, k->length) ^ (uint32) k->aggregate_type_id;
}

static int
key_compare(const void *one, const void *other, Size size)
{
	const EventTypeKey *a = one;
	const EventTypeKey *b = other;

	return !(a->aggregate_type_id == b->aggregate_type_id && a->length == b->length &&
			 memcmp(a->name, b->name, a->length) == 0);
}

static void
create_entries(void)
{
	HASHCTL		ctl = {0};

	ctl.keysize = sizeof(EventTypeKey);
	ctl.entrysize = sizeof(Entry);
	ctl.hash = key_hash;
	ctl.match = key_compare;
	ctl.hcxt = context;
	entries = hash_create("dugong event types", 64, &ctl,
						  HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

static char *
keep_string(const char *string)
{
	return string ? MemoryContextStrdup(context, string) : NULL;
}

/* Enters a row of the last result; the versions of a type come in order. */
static void
enter_row(int row)
{
	HeapTuple	tuple = SPI_tuptable->vals[row];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	bool		isnull;
	bool		found;
	int			version = DatumGetInt32(plan_result(row, 3, &isnull));
	EventTypeKey key;
	Entry	   *entry;
	EventVersion *declared;
	int			nversions;

	if (entries == NULL)
		create_entries();
	key.aggregate_type_id = DatumGetInt32(plan_result(row, 1, &isnull));
	key.name = keep_string(SPI_getvalue(tuple, desc, 2));
	key.length = strlen(key.name);
	entry = hash_search(entries, &key, HASH_ENTER, &found);
	if (!found)
		entry->type.versions = MemoryContextAlloc(context, sizeof(EventVersion));
	/* Behind a gap, which only an edit by hand makes, it begins anew. */
	if (!found || version != entry->type.current + 1)
		entry->type.lowest = version;
	entry->type.current = version;
	nversions = version - entry->type.lowest + 1;
	entry->type.versions = repalloc(entry->type.versions, nversions * sizeof(EventVersion));
	declared = &entry->type.versions[nversions - 1];
	declared->payload_type = keep_string(SPI_getvalue(tuple, desc, 4));
	declared->upcast = keep_string(SPI_getvalue(tuple, desc, 5));
}

static void
clear_types(void)
{
	if (context == NULL)
		context = AllocSetContextCreate(CacheMemoryContext, "dugong event types",
										ALLOCSET_SMALL_SIZES);
	MemoryContextReset(context);
	entries = NULL;
}

static void
ensure_types(void)
{
	static SavedPlan select_types = {
		.sql = "SELECT aggregate_type_id, type, version, payload_type, upcast "
		"FROM dugong.event_types ORDER BY aggregate_type_id, type COLLATE \"C\", version"
	};

	if (!watch.valid)
		table_watch_read(&watch, dugong_relid("event_types"), dugong_owner(), &select_types,
						 clear_types, enter_row);
}

/* Is any event type declared? */
bool
event_types_any(void)
{
	ensure_types();
	return entries != NULL;
}

/* What is declared of an event type; NULL = nothing. */
const EventType *
event_type_find(int32 aggregate_type_id, const text *type)
{
	EventTypeKey key = {aggregate_type_id, VARDATA_ANY(type), VARSIZE_ANY_EXHDR(type)};
	Entry	   *entry;

	ensure_types();
	if (entries == NULL)
		return NULL;
	entry = hash_search(entries, &key, HASH_FIND, NULL);
	return entry ? &entry->type : NULL;
}

static int
compare_upcasts(const ListCell *one, const ListCell *other)
{
	const DeclaredUpcast *a = lfirst(one);
	const DeclaredUpcast *b = lfirst(other);
	int			order = strcmp(a->type, b->type);

	return order != 0 ? order : a->version - b->version;
}

/* All declared versions of a type's events, copied, in a fixed order. */
List *
event_type_upcasts(int32 aggregate_type_id)
{
	HASH_SEQ_STATUS seq;
	Entry	   *entry;
	List	   *upcasts = NIL;

	ensure_types();
	if (entries == NULL)
		return NIL;
	hash_seq_init(&seq, entries);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		const EventType *type = &entry->type;

		if (entry->key.aggregate_type_id != aggregate_type_id)
			continue;
		/* Counted from 0: the last version may be the greatest number that there is */
		for (int i = 0; i <= type->current - type->lowest; i++)
		{
			const char *upcast = type->versions[i].upcast;
			DeclaredUpcast *declared = palloc(sizeof(DeclaredUpcast));

			declared->type = pnstrdup(entry->key.name, entry->key.length);
			declared->version = type->lowest + i;
			declared->upcast = upcast ? pstrdup(upcast) : NULL;
			upcasts = lappend(upcasts, declared);
		}
	}
	list_sort(upcasts, compare_upcasts);
	return upcasts;
}

/* What is declared of a version; NULL = nothing. */
const EventVersion *
event_type_version(const EventType *type, int version)
{
	if (type == NULL || version < type->lowest || version > type->current)
		return NULL;
	return &type->versions[version - type->lowest];
}

/* Is the version one that reads turn into the current one? */
bool
event_type_has_path(const EventType *type, int version)
{
	return type != NULL && version < type->current && version >= type->lowest - 1 &&
		(version >= type->lowest || type->versions[0].upcast != NULL);
}

/* The version that an event has unless its caller says otherwise. */
int
event_type_current_version(int32 aggregate_type_id, const text *type)
{
	const EventType *declared = event_type_find(aggregate_type_id, type);

	return declared ? declared->current : 1;
}

/*
 * Checks a row that is about to be appended against the declarations.
 *
 * Errors: UG008 if its aggregate type is strict and the type or version is not
 * declared, or if the payload does not fit.
 */
void
event_type_check(const LogRow *row)
{
	int32		type_id = DatumGetInt32(log_row_value(row, LOG_AGGREGATE_TYPE_ID));
	text	   *name = DatumGetTextPP(log_row_value(row, LOG_TYPE));
	int			version = DatumGetInt32(log_row_value(row, LOG_VERSION));
	const AggregateType *aggregate_type = aggregate_type_get(type_id);
	const EventVersion *declared = event_type_version(event_type_find(type_id, name), version);

	if (declared == NULL && aggregate_type->strict)
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_EVENT_TYPE_MISMATCH),
				 errmsg("event type \"%s\" version %d of aggregate type \"%s\" is not declared",
						text_to_cstring(name), version, text_to_cstring(aggregate_type->name)),
				 errhint("Declare it with dugong.create_event_type().")));
	if (declared != NULL && declared->payload_type != NULL)
		payload_check(row, aggregate_type, declared->payload_type);
}
