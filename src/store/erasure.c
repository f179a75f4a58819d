/*
 * erasure.c
 *		Events whose content was taken out of the log.
 *
 * The law may demand what the log refuses.  Then an event's payload and
 * metadata go, or some keys of them, and the rest stays as its skeleton.  The
 * metadata says so from then on, {"$erased": "keys" | "payload" | "aggregate"},
 * in the row itself: so whoever reads it knows, from a dump and on a subscriber,
 * too.  Only dugong writes that key.
 *
 * A skeleton is what is left of an event that was erased with its aggregate.
 * No fold and no handler of events gets it.  An upcast and a payload's type
 * apply to what has a payload, not to what has lost it.
 *
 * The event "$erased" in the aggregate's stream tells of it: whoever keeps
 * something that he has made of earlier events makes it anew.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "store/erasure.h"
#include "store/event_tag.h"
#include "store/guard.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/snapmgr.h"
#include "util/jsonb_fields.h"
#include "util/plan.h"

/* The key of the metadata, as of the event. */
#define ERASED_KEY ERASED_EVENT

/* Names of event types that begin like this are dugong's. */
#define RESERVED '$'

bool
erasure_name_is_reserved(const text *type)
{
	return VARSIZE_ANY_EXHDR(type) > 0 && *VARDATA_ANY(type) == RESERVED;
}

/* Is it the type of the event that tells of an erasure? */
bool
erasure_is_event(const text *type)
{
	return VARSIZE_ANY_EXHDR(type) == strlen(ERASED_EVENT) &&
		memcmp(VARDATA_ANY(type), ERASED_EVENT, strlen(ERASED_EVENT)) == 0;
}

static bool
has_field(Datum value, const char *key)
{
	Jsonb	   *object = DatumGetJsonbP(value);

	return JB_ROOT_IS_OBJECT(object) && jsonb_field_value(object, key) != NULL;
}

/* payload: of such an event.  Was it the aggregate that was erased? */
bool
erasure_is_of_aggregate(Datum payload, bool isnull)
{
	return !isnull && !has_field(payload, "eventIds");
}

/* Does metadata have the key that only dugong writes? */
bool
erasure_is_mark(Datum metadata, bool isnull)
{
	return !isnull && has_field(metadata, ERASED_KEY);
}

/* What was erased of the event that has this metadata? */
Erasure
erasure_of(Datum metadata, bool isnull)
{
	const char *what = isnull ? NULL : jsonb_field_text(DatumGetJsonbP(metadata), ERASED_KEY);

	if (what == NULL)
		return ERASED_NOTHING;
	if (strcmp(what, "aggregate") == 0)
		return ERASED_AGGREGATE;
	return strcmp(what, "payload") == 0 ? ERASED_PAYLOAD : ERASED_KEYS;
}

Erasure
erasure_of_row(const LogRow *row)
{
	return erasure_of(log_row_value(row, LOG_METADATA), log_row_isnull(row, LOG_METADATA));
}

/* Asked of each event that is folded: one with a payload is none. */
bool
erasure_is_skeleton(const LogRow *row)
{
	return log_row_isnull(row, LOG_PAYLOAD) && !log_row_isnull(row, LOG_METADATA) &&
		erasure_of_row(row) == ERASED_AGGREGATE;
}

/* Which events a statement changes: one, or those of an aggregate. */
typedef struct Erased
{
	const pg_uuid_t *id;		/* NULL = all of key */
	const AggregateKey *key;
} Erased;

/* Does something with the tags of each, as they are now. */
static void
for_each_tagged(const Erased *erased, void (*action) (const TagKeys *tags, int64 position))
{
	Relation	log;
	Snapshot	snapshot;
	LogScan		scan;

	if (!tags_exist())
		return;
	log = log_open(AccessShareLock);
	snapshot = snapshot_register_latest();
	if (erased->id)
		log_scan_id(&scan, log, erased->id, snapshot);
	else
		log_scan_stream(&scan, log, erased->key, 1, PG_INT64_MAX, ForwardScanDirection, snapshot);
	while (log_scan_next(&scan))
	{
		LogRow		row;
		TagKeys		tags;

		CHECK_FOR_INTERRUPTS();
		log_row_from_slot(&row, scan.slot);
		event_tags(&row, &tags);
		action(&tags, DatumGetInt64(log_row_value(&row, LOG_POSITION)));
		event_tags_free(&tags);
	}
	log_scan_end(&scan);
	UnregisterSnapshot(snapshot);
	table_close(log, NoLock);
}

/* Changes events, and the index of tags with them: it tells of what was in the payload. */
static int64
change_log(SavedPlan *statement, Datum *values, const Erased *erased)
{
	int64		nrows;

	for_each_tagged(erased, event_tags_delete);
	SPI_connect();
	nrows = guard_execute(statement, values);
	SPI_finish();
	for_each_tagged(erased, event_tags_write);
	return nrows;
}

/*
 * Makes skeletons of all events of an aggregate, whose lock is held; with the
 * rights of the log's owner.  Returns how many.
 */
int64
erase_stream(const AggregateKey *key)
{
	static SavedPlan update = {
		.sql = "UPDATE dugong.event_log SET payload = NULL, metadata = '{\"$erased\": \"aggregate\"}' "
		"WHERE aggregate_id OPERATOR(pg_catalog.=) $1 AND aggregate_type_id OPERATOR(pg_catalog.=) $2 "
		"AND tenant_id COLLATE \"C\" OPERATOR(pg_catalog.=) $3 AND type OPERATOR(pg_catalog.<>) '" ERASED_EVENT "'",
		.nargs = 3,
		.argtypes = {UUIDOID, INT4OID, TEXTOID}
	};
	Datum		values[] = {UUIDPGetDatum(&key->id), Int32GetDatum(key->type_id), PointerGetDatum(key->tenant_id)};

	return change_log(&update, values, &(Erased) {.key = key});
}

/* Takes payload and metadata out of one event. */
void
erase_event(const pg_uuid_t *id)
{
	static SavedPlan update = {
		.sql = "UPDATE dugong.event_log SET payload = NULL, metadata = '{\"$erased\": \"payload\"}' "
		"WHERE id OPERATOR(pg_catalog.=) $1",
		.nargs = 1,
		.argtypes = {UUIDOID}
	};
	Datum		value = UUIDPGetDatum(id);

	change_log(&update, &value, &(Erased) {.id = id});
}

/*
 * Takes keys out of the payload and the metadata of one event.  Metadata that
 * are no object make room for the mark: they come under a key of their own.
 *
 * keep_fields: what the payload has stays there, as null.
 */
void
erase_keys(const pg_uuid_t *id, ArrayType *keys, bool keep_fields)
{
	static SavedPlan update = {
		.sql = "UPDATE dugong.event_log AS e SET "
		"payload = CASE WHEN pg_catalog.jsonb_typeof(e.payload) OPERATOR(pg_catalog.=) 'object' THEN "
		"(e.payload OPERATOR(pg_catalog.-) $2) OPERATOR(pg_catalog.||) CASE WHEN $3 THEN "
		"COALESCE((SELECT pg_catalog.jsonb_object_agg(k.name, NULL::pg_catalog.jsonb) FROM pg_catalog.jsonb_object_keys(e.payload) AS k (name) "
		"WHERE k.name OPERATOR(pg_catalog.=) ANY ($2)), '{}') ELSE '{}' END ELSE e.payload END, "
		"metadata = CASE WHEN e.metadata IS NULL OR pg_catalog.jsonb_typeof(e.metadata) OPERATOR(pg_catalog.=) 'null' THEN '{}' "
		"WHEN pg_catalog.jsonb_typeof(e.metadata) OPERATOR(pg_catalog.=) 'object' THEN e.metadata OPERATOR(pg_catalog.-) $2 "
		"ELSE pg_catalog.jsonb_build_object('metadata', e.metadata) END OPERATOR(pg_catalog.||) '{\"$erased\": \"keys\"}' "
		"WHERE e.id OPERATOR(pg_catalog.=) $1",
		.nargs = 3,
		.argtypes = {UUIDOID, TEXTARRAYOID, BOOLOID}
	};
	Datum		values[] = {UUIDPGetDatum(id), PointerGetDatum(keys), BoolGetDatum(keep_fields)};

	change_log(&update, values, &(Erased) {.id = id});
}
