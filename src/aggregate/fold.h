/*
 * fold.h
 *		The SQL aggregate that makes a state out of events.
 */
#ifndef DUGONG_FOLD_H
#define DUGONG_FOLD_H

#include "postgres.h"

#include "fmgr.h"
#include "store/aggregate_type.h"

/* What the catalogs say of a fold. */
typedef struct Fold
{
	FmgrInfo	transition;
	Oid			collation;
	Oid			state_type;
	int16		typlen;
	bool		typbyval;
	Datum		initial;
	bool		initial_isnull;
} Fold;

extern Oid	fold_check(Oid oid);
extern void fold_open(Fold *fold, const AggregateType *type);
extern Datum fold_step(Fold *fold, Datum state, bool *isnull, Datum event);

#endif							/* DUGONG_FOLD_H */
