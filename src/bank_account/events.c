/*
 * events.c
 *		The bank account's domain events.
 *
 * Each function makes an event that is ready to be appended; the log gives it
 * its id, number, time and position.
 */
#include "postgres.h"

#include "bank_account/events.h"
#include "utils/builtins.h"
#include "util/jsonb_fields.h"

static void
make_event(LogRow *row, const AggregateKey *key, const char *type,
		   const JsonbField *fields, int nfields)
{
	memset(row->nulls, true, sizeof(row->nulls));
	log_row_set(row, LOG_AGGREGATE_TYPE_ID, Int32GetDatum(key->type_id));
	log_row_set(row, LOG_AGGREGATE_ID, UUIDPGetDatum(&key->id));
	log_row_set(row, LOG_TENANT_ID, PointerGetDatum(key->tenant_id));
	log_row_set(row, LOG_VERSION, Int32GetDatum(1));
	log_row_set(row, LOG_TYPE, CStringGetTextDatum(type));
	log_row_set(row, LOG_PAYLOAD, JsonbPGetDatum(jsonb_build_fields(fields, nfields)));
}

void
account_opened(LogRow *row, const AggregateKey *key, const char *owner,
			   Numeric initial_balance)
{
	JsonbField	fields[] = {
		{.key = KEY_OWNER,.text = owner},
		{.key = KEY_INITIAL_BALANCE,.number = initial_balance}
	};

	make_event(row, key, ACCOUNT_OPENED, fields, lengthof(fields));
}

/* type: MONEY_DEPOSITED or MONEY_WITHDRAWN. */
void
money_moved(LogRow *row, const AggregateKey *key, const char *type, Numeric amount)
{
	JsonbField	field = {.key = KEY_AMOUNT,.number = amount};

	make_event(row, key, type, &field, 1);
}

void
account_closed(LogRow *row, const AggregateKey *key)
{
	make_event(row, key, ACCOUNT_CLOSED, NULL, 0);
}
