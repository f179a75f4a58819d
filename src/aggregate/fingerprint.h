/*
 * fingerprint.h
 *		What a state was made with, in 64 bits.
 */
#ifndef DUGONG_FINGERPRINT_H
#define DUGONG_FINGERPRINT_H

#include "postgres.h"

#include "store/aggregate_type.h"

extern void fingerprint_init(void);
extern uint64 fingerprint_age(void);
extern int64 fingerprint_get(const AggregateType *type);
extern int64 fingerprint_add_string(int64 fingerprint, const char *string);
extern int64 fingerprint_add_function(int64 fingerprint, const char *signature);
extern int64 fingerprint_add_table(int64 fingerprint, const char *name);

#endif							/* DUGONG_FINGERPRINT_H */
