/*
 * source.c
 *		How a row of an import's source becomes an event.
 *
 * What is no UUID where one is needed becomes one of version 5, and stands in
 * the metadata as it was.  The same row gives the same ids every time: that is
 * how an import that is called again knows what it has brought.
 */
#include "postgres.h"

#include <ctype.h>

#include "catalog/pg_type.h"
#include "import/source.h"
#include "store/aggregate_type.h"
#include "store/tenant.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "util/ids.h"
#include "util/jsonb_fields.h"
#include "util/plan.h"

/* An aggregate type as the source names it. */
typedef struct SourceType
{
	text	   *origin;			/* NULL = the only type of that name */
	text	   *name;
	bool		exists;
	int32		id;
} SourceType;

static bool
same_text(const text *one, const text *other)
{
	if (one == NULL || other == NULL)
		return one == other;
	return VARSIZE_ANY_EXHDR(one) == VARSIZE_ANY_EXHDR(other) &&
		memcmp(VARDATA_ANY(one), VARDATA_ANY(other), VARSIZE_ANY_EXHDR(one)) == 0;
}

static text *
text_of(const SourceRow *row, SourceColumn column)
{
	return row->nulls[column] ? NULL : DatumGetTextPP(row->values[column]);
}

/* As the caller, who becomes its owner. */
static void
create_type(const SourceType *type)
{
	static SavedPlan create = {
		.sql = "SELECT dugong.create_aggregate_type(name => $1, origin => $2)",.nargs = 2,.argtypes = {TEXTOID, TEXTOID}
	};
	Datum		values[] = {PointerGetDatum(type->name), PointerGetDatum(type->origin)};
	bool		nulls[] = {false, type->origin == NULL};

	plan_run(&create, values, nulls);
}

static SourceType *
look_up(const Source *source, text *origin, text *name)
{
	SourceType *type = palloc0(sizeof(SourceType));
	char	   *origin_string = origin ? text_to_cstring(origin) : NULL;
	char	   *name_string = text_to_cstring(name);
	const AggregateType *found;

	type->origin = origin ? cstring_to_text(origin_string) : NULL;
	type->name = cstring_to_text(name_string);
	found = aggregate_type_find(origin_string, name_string);
	if (found == NULL && source->create_types)
	{
		create_type(type);
		found = aggregate_type_find(origin_string, name_string);
	}
	type->exists = found != NULL;
	type->id = found ? found->id : 0;
	return type;
}

/*
 * Finds a row's aggregate type, or creates it if that is wanted; false if there
 * is none.
 *
 * Errors: 42P08; those of dugong.create_aggregate_type().
 */
bool
source_find_type(Source *source, const SourceRow *row, int32 *type_id)
{
	text	   *origin = text_of(row, SOURCE_ORIGIN);
	text	   *name = text_of(row, SOURCE_AGGREGATE_TYPE);
	SourceType *type;
	MemoryContext old;
	ListCell   *cell;

	foreach(cell, source->types)
	{
		type = lfirst(cell);
		if (same_text(type->name, name) && same_text(type->origin, origin))
		{
			*type_id = type->id;
			return type->exists;
		}
	}
	old = MemoryContextSwitchTo(source->context);
	type = look_up(source, origin, name);
	source->types = lappend(source->types, type);
	MemoryContextSwitchTo(old);
	*type_id = type->id;
	return type->exists;
}

/* Is it a UUID as PostgreSQL writes it, in either case? */
static bool
is_uuid(const char *string)
{
	for (int i = 0; i < 36; i++)
	{
		bool		hyphen = i == 8 || i == 13 || i == 18 || i == 23;

		if (hyphen ? string[i] != '-' : !isxdigit((unsigned char) string[i]))
			return false;
	}
	return string[36] == '\0';
}

/* What the metadata says of ids that were made. */
typedef struct Originals
{
	JsonbField	fields[4];
	int			count;
} Originals;

static void
set_id(LogRow *event, LogColumn column, const Source *source, const SourceRow *row, SourceColumn from,
	   const pg_uuid_t *ns, const char *key, Originals *originals)
{
	char	   *string;

	if (row->nulls[from])
		return;
	if (getBaseType(TupleDescAttr(source->desc, from)->atttypid) == UUIDOID)
	{
		log_row_set(event, column, row->values[from]);
		return;
	}
	string = TextDatumGetCString(row->values[from]);
	if (is_uuid(string))
	{
		log_row_set(event, column, DirectFunctionCall1(uuid_in, CStringGetDatum(string)));
		return;
	}
	log_row_set(event, column, UUIDPGetDatum(uuid_make_v5(ns, string)));
	originals->fields[originals->count++] = (JsonbField) {.key = key,.text = string};
}

static void
set_ids(LogRow *event, const Source *source, const SourceRow *row, Originals *originals)
{
	set_id(event, LOG_AGGREGATE_ID, source, row, SOURCE_AGGREGATE_ID, &source->namespace, "sourceAggregateId", originals);
	set_id(event, LOG_ID, source, row, SOURCE_ID, &source->event_namespace, "sourceEventId", originals);
	set_id(event, LOG_CORRELATION_ID, source, row, SOURCE_CORRELATION_ID, &source->namespace, "sourceCorrelationId", originals);
	set_id(event, LOG_TRIGGERED_BY_EVENT_ID, source, row, SOURCE_TRIGGERED_BY_EVENT_ID, &source->event_namespace,
		   "sourceTriggeredByEventId", originals);
}

/* The id of an event that has none: that of its place. */
static pg_uuid_t *
make_id(const Source *source, const SourceRow *row, const LogRow *event)
{
	AggregateKey key;

	log_row_key(event, &key);
	return uuid_make_v5(&source->event_namespace,
						psprintf("%d/%s/" INT64_FORMAT "/%s", key.type_id, uuid_to_cstring(&key.id),
								 DatumGetInt64(row->values[SOURCE_SEQUENCE_NUMBER]), text_to_cstring(key.tenant_id)));
}

static void
set_metadata(LogRow *event, const SourceRow *row, const Originals *originals)
{
	Jsonb	   *metadata = row->nulls[SOURCE_METADATA] ? NULL : DatumGetJsonbP(row->values[SOURCE_METADATA]);
	Jsonb	   *added;

	if (originals->count == 0)
	{
		if (metadata)
			log_row_set(event, LOG_METADATA, JsonbPGetDatum(metadata));
		return;
	}
	added = jsonb_build_fields(originals->fields, originals->count);
	if (metadata && !JB_ROOT_IS_OBJECT(metadata))
		metadata = jsonb_wrap("metadata", metadata, NULL, NULL);
	log_row_set(event, LOG_METADATA, metadata ?
				DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(metadata), JsonbPGetDatum(added)) : JsonbPGetDatum(added));
}

static void
set_if_given(LogRow *event, LogColumn column, const SourceRow *row, SourceColumn from)
{
	if (!row->nulls[from])
		log_row_set(event, column, row->values[from]);
}

/*
 * Makes the event that a row stands for, in the current memory context; it
 * points into the row.  What is needed is not null.  Errors: 42501 if the
 * caller does not see its tenant.
 */
void
source_to_event(Source *source, const SourceRow *row, int32 type_id, LogRow *event)
{
	Originals	originals = {.count = 0};

	memset(event->nulls, true, sizeof(event->nulls));
	log_row_set(event, LOG_AGGREGATE_TYPE_ID, Int32GetDatum(type_id));
	log_row_set(event, LOG_TENANT_ID, row->nulls[SOURCE_TENANT_ID] ?
				PointerGetDatum(cstring_to_text("")) : row->values[SOURCE_TENANT_ID]);
	(void) tenant_require(DatumGetTextPP(log_row_value(event, LOG_TENANT_ID)));
	log_row_set(event, LOG_SEQUENCE_NUMBER, row->values[SOURCE_SEQUENCE_NUMBER]);
	set_if_given(event, LOG_TYPE, row, SOURCE_TYPE);
	set_if_given(event, LOG_VERSION, row, SOURCE_VERSION);
	set_if_given(event, LOG_PAYLOAD, row, SOURCE_PAYLOAD);
	set_if_given(event, LOG_TIMESTAMP, row, SOURCE_TIMESTAMP);
	set_if_given(event, LOG_TRIGGERED_BY_USER_ID, row, SOURCE_TRIGGERED_BY_USER_ID);
	set_ids(event, source, row, &originals);
	if (log_row_isnull(event, LOG_ID))
		log_row_set(event, LOG_ID, UUIDPGetDatum(make_id(source, row, event)));
	set_metadata(event, row, &originals);
}
