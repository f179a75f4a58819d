/*
 * verify.h
 *		Is all that an import would bring fit for the log?
 */
#ifndef DUGONG_VERIFY_H
#define DUGONG_VERIFY_H

#include "postgres.h"

#include "import/source.h"
#include "utils/tuplestore.h"

/* What a source has. */
typedef struct Verified
{
	Tuplestorestate *events;	/* SourceRows that are not in the log yet, in their order */
	int64		total;			/* rows of the source */
	int64		stored;			/* of them in the log */
} Verified;

extern void source_verify(Source *source, Verified *verified);

#endif							/* DUGONG_VERIFY_H */
