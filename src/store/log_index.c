/*
 * log_index.c
 *		Partial indexes of the log, of the two kinds that dugong has: WHERE
 *		column IS NOT NULL, and WHERE sequence_number = 1.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_index.h"
#include "nodes/primnodes.h"
#include "store/log.h"
#include "store/log_index.h"
#include "utils/fmgroids.h"

bool
log_index_is_partial(Relation index)
{
	return !heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
}

static bool
is_column(const Node *node, AttrNumber column)
{
	return IsA(node, Var) && (column == 0 || ((const Var *) node)->varattno == column);
}

/* The column by which a partial index has rows; 0 if its predicate is of neither kind. */
AttrNumber
log_index_column(Relation index)
{
	List	   *predicate = RelationGetIndexPredicate(index);
	Node	   *node = list_length(predicate) == 1 ? linitial(predicate) : NULL;

	if (node && IsA(node, NullTest))
	{
		NullTest   *test = (NullTest *) node;

		if (test->nulltesttype == IS_NOT_NULL && is_column((Node *) test->arg, 0) &&
			!is_column((Node *) test->arg, LOG_SEQUENCE_NUMBER))
			return ((Var *) test->arg)->varattno;
	}
	else if (node && IsA(node, OpExpr) && ((OpExpr *) node)->opfuncid == F_INT84EQ)
	{
		Node	   *left = linitial(((OpExpr *) node)->args);
		Node	   *right = lsecond(((OpExpr *) node)->args);

		if (is_column(left, LOG_SEQUENCE_NUMBER) && IsA(right, Const) &&
			!((Const *) right)->constisnull && DatumGetInt32(((Const *) right)->constvalue) == 1)
			return LOG_SEQUENCE_NUMBER;
	}
	return 0;
}
