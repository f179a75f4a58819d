/*
 * context.h
 *		What an event takes from the session's settings.
 */
#ifndef DUGONG_CONTEXT_H
#define DUGONG_CONTEXT_H

#include "postgres.h"

#include "store/log.h"

extern Datum context_metadata(bool *isnull);
extern void context_fill(LogRow *row);
extern text *context_tenant_id(void);

#endif							/* DUGONG_CONTEXT_H */
