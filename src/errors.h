/*
 * errors.h
 *		dugong's own SQLSTATEs.
 *
 * Classes that begin with A-H belong to the SQL standard, so dugong uses "UG".
 * This is the only place where a code is spelled; docs/reference.md lists them.
 */
#ifndef DUGONG_ERRORS_H
#define DUGONG_ERRORS_H

#include "utils/elog.h"

/* expected sequence number does not match, or the aggregate exists already */
#define ERRCODE_DUGONG_CONCURRENCY_CONFLICT MAKE_SQLSTATE('U', 'G', '0', '0', '1')
/* no event of the aggregate is in the log */
#define ERRCODE_DUGONG_AGGREGATE_NOT_FOUND MAKE_SQLSTATE('U', 'G', '0', '0', '2')
/* the fold of the aggregate is NULL */
#define ERRCODE_DUGONG_AGGREGATE_DELETED MAKE_SQLSTATE('U', 'G', '0', '0', '3')
/* a business rule refuses the command */
#define ERRCODE_DUGONG_RULE_VIOLATION MAKE_SQLSTATE('U', 'G', '0', '0', '4')
/* the log may not be changed or dropped */
#define ERRCODE_DUGONG_APPEND_ONLY MAKE_SQLSTATE('U', 'G', '0', '0', '5')
/* the event id is in the log with other content */
#define ERRCODE_DUGONG_EVENT_ID_REUSED MAKE_SQLSTATE('U', 'G', '0', '0', '6')
/* sequence numbers of an aggregate have a gap, or its first event is missing */
#define ERRCODE_DUGONG_CORRUPT_STREAM MAKE_SQLSTATE('U', 'G', '0', '0', '7')
/* the payload is not what the event's type declares */
#define ERRCODE_DUGONG_EVENT_TYPE_MISMATCH MAKE_SQLSTATE('U', 'G', '0', '0', '8')
/* the aggregate belongs to another origin */
#define ERRCODE_DUGONG_OTHER_ORIGIN MAKE_SQLSTATE('U', 'G', '0', '0', '9')

/* what is waited for would be the caller's own transaction's doing */
#define ERRCODE_DUGONG_OWN_TRANSACTION MAKE_SQLSTATE('U', 'G', '0', '1', '0')
/* what was waited for has not come in time */
#define ERRCODE_DUGONG_TIMEOUT MAKE_SQLSTATE('U', 'G', '0', '1', '1')

#endif							/* DUGONG_ERRORS_H */
