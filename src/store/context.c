/*
 * context.c
 *		What an event takes from the session's settings.
 */
#include "postgres.h"

#include "guc.h"
#include "store/context.h"
#include "store/tenant.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

/* The tenant whose aggregates the current user names without saying it; '' = none.  Errors: 42501. */
text *
context_tenant_id(void)
{
	return dugong_tenant_id[0] == '\0' ? tenant_default() : tenant_require(cstring_to_text(dugong_tenant_id));
}

static void
fill_uuid(LogRow *row, LogColumn column, const char *setting)
{
	if (log_row_isnull(row, column) && setting[0] != '\0')
		log_row_set(row, column, DirectFunctionCall1(uuid_in, CStringGetDatum(setting)));
}

static void
name_metadata_setting(void *arg)
{
	errcontext("setting \"dugong.metadata\"");
}

/* The session's metadata; isnull if it has none. */
Datum
context_metadata(bool *isnull)
{
	ErrorContextCallback callback = {
		.callback = name_metadata_setting,
		.previous = error_context_stack
	};
	Datum		metadata;

	*isnull = dugong_metadata[0] == '\0';
	if (*isnull)
		return (Datum) 0;
	error_context_stack = &callback;
	metadata = DirectFunctionCall1(jsonb_in, CStringGetDatum(dugong_metadata));
	error_context_stack = callback.previous;
	return metadata;
}

/* Gives a row what it leaves out: tenant, and the settings' context. */
void
context_fill(LogRow *row)
{
	if (log_row_isnull(row, LOG_TENANT_ID))
		log_row_set(row, LOG_TENANT_ID, PointerGetDatum(context_tenant_id()));
	fill_uuid(row, LOG_CORRELATION_ID, dugong_correlation_id);
	fill_uuid(row, LOG_TRIGGERED_BY_EVENT_ID, dugong_triggered_by_event_id);
	if (log_row_isnull(row, LOG_TRIGGERED_BY_USER_ID) && dugong_triggered_by_user_id[0] != '\0')
		log_row_set(row, LOG_TRIGGERED_BY_USER_ID,
					CStringGetTextDatum(dugong_triggered_by_user_id));
	if (log_row_isnull(row, LOG_METADATA))
		log_row_value(row, LOG_METADATA) = context_metadata(&log_row_isnull(row, LOG_METADATA));
}
