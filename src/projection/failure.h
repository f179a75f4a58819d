/*
 * failure.h
 *		What an error of a projection means, and its record.
 */
#ifndef DUGONG_FAILURE_H
#define DUGONG_FAILURE_H

#include "postgres.h"

typedef enum FailureClass
{
	FAILURE_OF_SERVER,			/* it passes, or somebody ends it: try again */
	FAILURE_OF_MOMENT,			/* the next try may succeed */
	FAILURE_OF_HANDLER			/* the next try will fail as well */
} FailureClass;

extern bool failure_is_death(const ErrorData *error);
extern bool failure_is_lack(const ErrorData *error);
extern FailureClass failure_class(const ErrorData *error);
extern void failure_record(const char *projection, const ErrorData *error, int attempts);
extern void failure_forget(const char *projection);
extern bool failure_erase(const char *projection);

#endif							/* DUGONG_FAILURE_H */
