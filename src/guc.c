/*
 * guc.c
 *		dugong's settings.
 *
 * A check hook runs outside transactions too (when configuration files are
 * read), so none of them may raise an error or read a catalog.
 */
#include "postgres.h"

#include <limits.h>

#include "guc.h"
#include "miscadmin.h"
#include "utils/guc.h"

char	   *dugong_tenant_id;
char	   *dugong_origin;
char	   *dugong_correlation_id;
char	   *dugong_triggered_by_event_id;
char	   *dugong_triggered_by_user_id;
char	   *dugong_metadata;
bool		dugong_allow_drop;
bool		dugong_preloaded;
int			dugong_notify;
int			dugong_notify_payload;
int			dugong_batch_size;
int			dugong_poll_interval;
int			dugong_max_attempts;
int			dugong_retry_pause;
int			dugong_max_workers;

/* Accepts an empty string, or a UUID in the form that uuid_out() prints. */
static bool
check_uuid(char **newval, void **extra, GucSource source)
{
	const char *p = *newval;

	if (*p == '\0')
		return true;
	for (int i = 0; i < 36; i++)
	{
		bool		hyphen = (i == 8 || i == 13 || i == 18 || i == 23);

		if (hyphen ? p[i] != '-' : !isxdigit((unsigned char) p[i]))
		{
			GUC_check_errdetail("The value must be empty or a UUID such as 0190163d-8694-739b-aea5-966c26f8ad90.");
			return false;
		}
	}
	return p[36] == '\0';
}

static void
define_context(void)
{
	DefineCustomStringVariable("dugong.tenant_id",
							   "Tenant of the aggregates that this session names.",
							   "Empty means no tenant.",
							   &dugong_tenant_id, "", PGC_USERSET, 0,
							   NULL, NULL, NULL);
	DefineCustomStringVariable("dugong.correlation_id",
							   "Correlation id of the events that this session appends.",
							   NULL,
							   &dugong_correlation_id, "", PGC_USERSET, 0,
							   check_uuid, NULL, NULL);
	DefineCustomStringVariable("dugong.triggered_by_event_id",
							   "Id of the event that caused the events that this session appends.",
							   NULL,
							   &dugong_triggered_by_event_id, "", PGC_USERSET, 0,
							   check_uuid, NULL, NULL);
	DefineCustomStringVariable("dugong.triggered_by_user_id",
							   "User who caused the events that this session appends.",
							   NULL,
							   &dugong_triggered_by_user_id, "", PGC_USERSET, 0,
							   NULL, NULL, NULL);
	DefineCustomStringVariable("dugong.metadata",
							   "Metadata of the events that this session appends, as JSON.",
							   NULL,
							   &dugong_metadata, "", PGC_USERSET, 0,
							   NULL, NULL, NULL);
}

static const struct config_enum_entry notify_modes[] = {
	{"auto", NOTIFY_AUTO, false},
	{"always", NOTIFY_ALWAYS, false},
	{"off", NOTIFY_OFF, false},
	{NULL, 0, false}
};

static const struct config_enum_entry notify_payloads[] = {
	{"summary", PAYLOAD_SUMMARY, false},
	{"message", PAYLOAD_MESSAGE, false},
	{NULL, 0, false}
};

static void
define_behaviour(void)
{
	DefineCustomStringVariable("dugong.origin",
							   "Origin of the aggregate types that are created without one.",
							   "Empty means the name of the database.",
							   &dugong_origin, "", PGC_USERSET, 0,
							   NULL, NULL, NULL);
	DefineCustomBoolVariable("dugong.allow_drop",
							 "Allows the event log to be dropped while it holds events.",
							 NULL,
							 &dugong_allow_drop, false, PGC_USERSET, 0,
							 NULL, NULL, NULL);
	DefineCustomEnumVariable("dugong.notify",
							 "Who notifies the channels of aggregate types and projections.",
							 "auto: the background worker, once per batch; always: also each commit that appends; off: nobody.",
							 &dugong_notify, NOTIFY_AUTO, notify_modes, PGC_USERSET, 0,
							 NULL, NULL, NULL);
	DefineCustomEnumVariable("dugong.notify_payload",
							 "What a commit sends under dugong.notify = always.",
							 "summary: the last position and how many, once per channel; message: each event.",
							 &dugong_notify_payload, PAYLOAD_SUMMARY, notify_payloads, PGC_USERSET, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("dugong.batch_size",
							"Number of events that a projection handles in one transaction.",
							NULL,
							&dugong_batch_size, 1000, 1, 100000, PGC_USERSET, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("dugong.poll_interval",
							"Time between two looks at the log that nothing asked for.",
							"A commit wakes the worker at once. This poll finds what cannot, such as COMMIT PREPARED.",
							&dugong_poll_interval, 10000, 100, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("dugong.max_attempts",
							"Number of tries at an event that a projection cannot handle, before it is a dead letter.",
							NULL,
							&dugong_max_attempts, 8, 1, 100, PGC_SIGHUP, 0,
							NULL, NULL, NULL);
	DefineCustomIntVariable("dugong.retry_pause",
							"Time before such an event is tried again.",
							"It doubles with each try, up to an hour.",
							&dugong_retry_pause, 1000, 1, 3600000, PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("dugong.max_workers",
							"Number of background workers in a database, as far as there are projections for them; 0 starts none.",
							"Without a worker, CALL dugong.run_projections() keeps the query models.",
							&dugong_max_workers, 2, 0, MAX_WORKERS, PGC_SUSET, 0,
							NULL, NULL, NULL);
}

void
guc_init(void)
{
	dugong_preloaded = process_shared_preload_libraries_in_progress;
	define_context();
	define_behaviour();
	MarkGUCPrefixReserved("dugong");
}
