/*
 * erased_elsewhere.c
 *		Messages that tell of an erasure at their origin.
 *
 * What came from there is erased here as well, with the message in the place
 * of the event that tells of it.  Were it refused, the messages that follow
 * could not be received.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "projection/erased_elsewhere.h"
#include "projection/erasing.h"
#include "store/erasure.h"
#include "store/message.h"
#include "store/stored_event.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "util/identity.h"
#include "util/ids.h"
#include "util/jsonb_fields.h"

pg_noreturn static void
report_payload(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("payload of event type \"%s\" must name one event, or none", ERASED_EVENT)));
}

/* keys: an array of strings. */
static void
read_keys(Erasing *erasing, Jsonb *keys)
{
	Datum	   *names;
	int			count;

	if (JB_ROOT_IS_SCALAR(keys) || !JB_ROOT_IS_ARRAY(keys))
		report_payload();
	count = JB_ROOT_COUNT(keys);
	names = palloc(Max(count, 1) * sizeof(Datum));
	for (int i = 0; i < count; i++)
	{
		JsonbValue *name = getIthJsonbValueFromContainer(&keys->root, i);

		if (name->type != jbvString)
			report_payload();
		names[i] = PointerGetDatum(cstring_to_text_with_len(name->val.string.val, name->val.string.len));
	}
	erasing->keys = construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT);
	erasing_check_keys(erasing, &names, &count);
}

/* What a message says is erased: eventIds is null, or has one id; so may keys be null. */
static void
read_message(Erasing *erasing)
{
	const LogRow *row = erasing->message;
	Jsonb	   *payload = log_row_isnull(row, LOG_PAYLOAD) ? NULL : DatumGetJsonbP(log_row_value(row, LOG_PAYLOAD));
	Jsonb	   *ids;
	Jsonb	   *keys;
	JsonbValue *id;

	if (payload == NULL || !JB_ROOT_IS_OBJECT(payload))
		report_payload();
	ids = jsonb_field_value(payload, "eventIds");
	if (ids == NULL)
		return;
	if (JB_ROOT_IS_SCALAR(ids) || !JB_ROOT_IS_ARRAY(ids) || JB_ROOT_COUNT(ids) != 1 ||
		(id = getIthJsonbValueFromContainer(&ids->root, 0))->type != jbvString)
		report_payload();
	erasing->event_id = DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(
		pnstrdup(id->val.string.val, id->val.string.len))));
	keys = jsonb_field_value(payload, "keys");
	if (keys != NULL)
		read_keys(erasing, keys);
}

/*
 * Erases the one event that a message names, if it is here and of the message's aggregate.
 *
 * Who comes late may have received what a later erasure has left of it: that
 * stays as it is, or a skeleton would become an event that folds again.
 */
static void
erase_received(Erasing *erasing)
{
	Relation	log = log_open(AccessShareLock);
	LogRow		row;
	AggregateKey key;
	bool		found = event_find(log, erasing->event_id, &row);

	table_close(log, NoLock);
	erasing->first = erasing->last = DatumGetInt64(log_row_value(erasing->message, LOG_SEQUENCE_NUMBER));
	if (!found || erasure_is_event(DatumGetTextPP(log_row_value(&row, LOG_TYPE))))
		return;
	log_row_key(&row, &key);
	if (!aggregate_key_equal(&key, &erasing->key))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("event \"%s\" is of another aggregate", uuid_to_cstring(erasing->event_id))));
	if (erasure_of_row(&row) >= ERASED_PAYLOAD)
		return;
	erasing->events = 1;
	erasing->first = erasing->last = DatumGetInt64(log_row_value(&row, LOG_SEQUENCE_NUMBER));
	if (erasing->keys)
		erase_keys(erasing->event_id, erasing->keys, erasing_keeps_fields(erasing, &row));
	else
		erase_event(erasing->event_id);
	CommandCounterIncrement();
}

/* See message_set_erasure_hook(). */
static void
receive(LogRow *row)
{
	Erasing		erasing = {.message = row,.reason = cstring_to_text("erased at its origin")};
	Identity	before;

	erasing_check_transaction();
	log_row_key(row, &erasing.key);
	erasing.type = aggregate_type_get(erasing.key.type_id);
	read_message(&erasing);
	identity_assume(&before, dugong_owner());
	erasing_lock(&erasing);
	if (erasing.event_id)
		erase_received(&erasing);
	else
		erasing_erase_aggregate(&erasing);
	erasing_finish(&erasing);
	identity_restore(&before);
}

void
erased_elsewhere_init(void)
{
	message_set_erasure_hook(receive);
}
