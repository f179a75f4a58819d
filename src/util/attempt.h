/*
 * attempt.h
 *		Work that may fail without failing what it is part of.
 */
#ifndef DUGONG_ATTEMPT_H
#define DUGONG_ATTEMPT_H

#include "postgres.h"

typedef void (*AttemptAction) (void *arg);

extern bool error_is_foreign(const ErrorData *error);
extern ErrorData *attempt(AttemptAction action, void *arg);

#endif							/* DUGONG_ATTEMPT_H */
