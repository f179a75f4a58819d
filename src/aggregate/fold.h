/*
 * fold.h
 *		The SQL aggregate that makes a state out of events.
 */
#ifndef DUGONG_FOLD_H
#define DUGONG_FOLD_H

#include "postgres.h"

#include "fmgr.h"
#include "store/aggregate_type.h"

/* How values of a type are copied. */
typedef struct FoldType
{
	Oid			oid;
	int16		typlen;
	bool		typbyval;
} FoldType;

/* What the catalogs say of a fold. */
typedef struct Fold
{
	MemoryContext context;		/* holds all of it */
	int32		type_id;
	uint64		age;			/* of the catalogs that it was read from: fingerprint_age() */
	bool		is_dugongs;		/* only code of this library runs */
	FmgrInfo	transition;
	FmgrInfo	final;			/* if has_final */
	bool		has_final;
	bool		starts_with_event;	/* the first event is the first state */
	int			final_nargs;	/* the state, and as many nulls as it wants */
	FoldType	state;			/* what the transition function makes */
	FoldType	result;			/* what the fold makes: the state, without a final function */
	Datum		initial;
	bool		initial_isnull;
} Fold;

extern void fold_check(Oid oid);
extern Oid	fold_result_type(const AggregateType *type);
extern Fold *fold_take(const AggregateType *type);
extern void fold_give_back(Fold *fold);
extern Datum fold_step(Fold *fold, Datum state, bool *isnull, Datum event, bool first);
extern Datum fold_finish(Fold *fold, Datum state, bool *isnull);

#endif							/* DUGONG_FOLD_H */
