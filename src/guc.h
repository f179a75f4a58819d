/*
 * guc.h
 *		dugong's settings.
 */
#ifndef DUGONG_GUC_H
#define DUGONG_GUC_H

#include "postgres.h"

/* context of the events that this session appends; "" = not set */
extern char *dugong_tenant_id;
extern char *dugong_correlation_id;
extern char *dugong_triggered_by_event_id;
extern char *dugong_triggered_by_user_id;
extern char *dugong_metadata;

extern char *dugong_origin;		/* of new aggregate types; "" = the database's name */
extern bool dugong_allow_drop;	/* may the log be dropped while it holds events? */
extern bool dugong_preloaded;	/* in shared_preload_libraries? */
typedef enum NotifyMode
{
	NOTIFY_AUTO,				/* the worker does, when it can be seen */
	NOTIFY_ALWAYS,				/* the commit that appends does */
	NOTIFY_OFF
} NotifyMode;

typedef enum NotifyPayload
{
	PAYLOAD_SUMMARY,			/* how many events, and the last position */
	PAYLOAD_MESSAGE				/* each event */
} NotifyPayload;

extern int	dugong_notify;		/* NotifyMode */
extern int	dugong_notify_payload;	/* NotifyPayload */
extern int	dugong_batch_size;	/* events that a projection takes per transaction */
extern int	dugong_poll_interval;	/* ms between two polls nobody asked for */
extern int	dugong_max_attempts;	/* at what a projection has set aside */
extern int	dugong_retry_pause; /* ms before the second of those; doubles */
extern int	dugong_max_workers; /* workers per database; 0 = none */

#define MAX_WORKERS 64			/* that dugong.max_workers may say */

extern void guc_init(void);

#endif							/* DUGONG_GUC_H */
