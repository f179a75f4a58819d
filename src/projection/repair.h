/*
 * repair.h
 *		Writing the rows of a query model anew that were found to be wrong.
 */
#ifndef DUGONG_REPAIR_H
#define DUGONG_REPAIR_H

#include "postgres.h"

#include "access/tupdesc.h"
#include "projection/projection.h"
#include "utils/tuplestore.h"

extern void repair_require(const Projection *projection);
extern void repair_differences(const char *name, Tuplestorestate *found, TupleDesc desc, Tuplestorestate *result);

#endif							/* DUGONG_REPAIR_H */
