/*
 * proof.h
 *		Does a query model show what the log says?
 */
#ifndef DUGONG_PROOF_H
#define DUGONG_PROOF_H

#include "postgres.h"

#include "projection/projection.h"

/* Columns of what verify_projection() returns. */
enum
{
	FOUND_ID, FOUND_TENANT, FOUND_DIFFERENCE, FOUND_EXPECTED, FOUND_ACTUAL, FOUND_REPAIRED, FOUND_NCOLUMNS
};

extern Projection *proof_get_projection(const char *name);

#endif							/* DUGONG_PROOF_H */
