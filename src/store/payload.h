/*
 * payload.h
 *		Does a payload fit its declared type?
 */
#ifndef DUGONG_PAYLOAD_H
#define DUGONG_PAYLOAD_H

#include "postgres.h"

#include "store/aggregate_type.h"
#include "store/log.h"

extern void payload_check(const LogRow *row, const AggregateType *aggregate_type,
						  const char *payload_type);

#endif							/* DUGONG_PAYLOAD_H */
