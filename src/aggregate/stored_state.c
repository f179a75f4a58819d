/*
 * stored_state.c
 *		The binary form of a state.
 *
 * That of its type's send and receive functions.  Both are users' code: the
 * caller acts as the aggregate type's owner, and is ready for errors.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "aggregate/stored_state.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/* The send and receive functions of a type; 42883 if it has none. */
static void
binary_functions(Oid type, Oid *send, Oid *receive, Oid *ioparam)
{
	HeapTuple	tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
	Form_pg_type form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for type %u", type);
	form = (Form_pg_type) GETSTRUCT(tuple);
	*send = form->typsend;
	*receive = form->typreceive;
	*ioparam = getTypeIOParam(tuple);
	ReleaseSysCache(tuple);
	if (!OidIsValid(*send) || !OidIsValid(*receive))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("the type of the state has no binary form")));
}

static Datum
receive_state(Oid receive, Oid ioparam, bytea *stored)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, VARDATA_ANY(stored), VARSIZE_ANY_EXHDR(stored));
	return OidReceiveFunctionCall(receive, &buf, ioparam, -1);
}


static bool
same_record(Datum one, Datum other)
{
	HeapTupleHeader headers[2] = {DatumGetHeapTupleHeader(one), DatumGetHeapTupleHeader(other)};
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(headers[0]),
											  HeapTupleHeaderGetTypMod(headers[0]));
	Datum	   *values[2];
	bool	   *nulls[2];
	bool		same = true;

	for (int i = 0; i < 2; i++)
	{
		HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(headers[i]),.t_data = headers[i]};

		values[i] = palloc(desc->natts * sizeof(Datum));
		nulls[i] = palloc(desc->natts * sizeof(bool));
		heap_deform_tuple(&tuple, desc, values[i], nulls[i]);
	}
	for (int i = 0; same && i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		same = nulls[0][i] == nulls[1][i] &&
			(nulls[0][i] || stored_state_same(TupleDescAttr(desc, i)->atttypid, values[0][i], values[1][i]));
	}
	ReleaseTupleDesc(desc);
	return same;
}

static bool
same_array(Oid element, Datum one, Datum other)
{
	ArrayType  *arrays[2] = {DatumGetArrayTypeP(one), DatumGetArrayTypeP(other)};
	Datum	   *values[2];
	bool	   *nulls[2];
	int			counts[2];
	int			ndim = ARR_NDIM(arrays[0]);
	int16		typlen;
	bool		typbyval;
	char		typalign;
	bool		same;

	if (ndim != ARR_NDIM(arrays[1]) ||
		memcmp(ARR_DIMS(arrays[0]), ARR_DIMS(arrays[1]), ndim * sizeof(int)) != 0 ||
		memcmp(ARR_LBOUND(arrays[0]), ARR_LBOUND(arrays[1]), ndim * sizeof(int)) != 0)
		return false;
	get_typlenbyvalalign(element, &typlen, &typbyval, &typalign);
	for (int i = 0; i < 2; i++)
		deconstruct_array(arrays[i], element, typlen, typbyval, typalign, &values[i], &nulls[i], &counts[i]);
	same = counts[0] == counts[1];
	for (int i = 0; same && i < counts[0]; i++)
		same = nulls[0][i] == nulls[1][i] &&
			(nulls[0][i] || stored_state_same(element, values[0][i], values[1][i]));
	return same;
}

/*
 * Are two values the same, bit by bit?  Parts of records and arrays are looked
 * at one by one: one may be compressed where the other is not.
 */
bool
stored_state_same(Oid type, Datum one, Datum other)
{
	Oid			element;
	int16		typlen;
	bool		typbyval;

	check_stack_depth();
	type = getBaseType(type);
	if (get_typtype(type) == TYPTYPE_COMPOSITE)
		return same_record(one, other);
	element = get_element_type(type);
	if (OidIsValid(element) && get_typtype(getBaseType(element)) == TYPTYPE_COMPOSITE)
		return same_array(element, one, other);
	get_typlenbyval(type, &typlen, &typbyval);
	return datum_image_eq(one, other, typbyval, typlen);
}

/* The state of a stored form; arg: StoredState. */
void
stored_state_read(void *arg)
{
	StoredState *stored = arg;
	Oid			send;
	Oid			receive;
	Oid			ioparam;

	binary_functions(stored->type, &send, &receive, &ioparam);
	stored->state = receive_state(receive, ioparam, stored->stored);
}

/* The stored form of a state, and whether it comes back the same; arg: StoredState. */
void
stored_state_write(void *arg)
{
	StoredState *stored = arg;
	Oid			send;
	Oid			receive;
	Oid			ioparam;

	binary_functions(stored->type, &send, &receive, &ioparam);
	stored->stored = OidSendFunctionCall(send, stored->state);
	stored->same = stored_state_same(stored->type, stored->state,
							  receive_state(receive, ioparam, stored->stored));
}
