/*
 * monotonic.h
 *		Time that nobody sets: for what waits, and for pauses, within a process.
 *
 * The machine's clock may be set back by hours; what is to be done at a time by
 * it would wait as long.  In microseconds, so that what is made for timestamps
 * computes with it; it is not to be stored, nor compared with one.
 */
#ifndef DUGONG_MONOTONIC_H
#define DUGONG_MONOTONIC_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "portability/instr_time.h"

static inline TimestampTz
monotonic_now(void)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	return (TimestampTz) INSTR_TIME_GET_MICROSEC(now);
}

#endif							/* DUGONG_MONOTONIC_H */
