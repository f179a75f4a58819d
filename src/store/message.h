/*
 * message.h
 *		Domain events of other services.
 */
#ifndef DUGONG_STORE_MESSAGE_H
#define DUGONG_STORE_MESSAGE_H

#include "postgres.h"

#include "store/log.h"

/* Called with an event that tells of an erasure at its origin: does the same here, and receives the event. */
typedef void (*ErasureHook) (LogRow *row);

extern void message_set_erasure_hook(ErasureHook hook);

#endif							/* DUGONG_STORE_MESSAGE_H */
