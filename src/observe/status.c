/*
 * status.c
 *		What the monitoring views cannot find out by themselves.
 */
#include "postgres.h"

#include "fmgr.h"
#include "guc.h"
#include "projection/projection.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(dugong_projection_lock_key);
PG_FUNCTION_INFO_V1(dugong_projection_is_stale);
PG_FUNCTION_INFO_V1(dugong_is_preloaded);

/* projection_lock_key(projection): as pg_locks shows it */
Datum
dugong_projection_lock_key(PG_FUNCTION_ARGS)
{
	LOCKTAG		tag = projection_lock_tag(text_to_cstring(PG_GETARG_TEXT_PP(0)));

	PG_RETURN_INT64((int64) ((uint64) tag.locktag_field2 << 32 | tag.locktag_field3));
}

/* projection_is_stale(projection, fingerprint): NULL if it is not known what made it */
Datum
dugong_projection_is_stale(PG_FUNCTION_ARGS)
{
	const Projection *projection;
	bool		stale;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_NULL();
	projection = projection_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (projection == NULL)
		PG_RETURN_NULL();
	stale = projection_fingerprint(projection) != PG_GETARG_INT64(1);
	PG_RETURN_BOOL(stale);
}

/* is_preloaded() */
Datum
dugong_is_preloaded(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(dugong_preloaded);
}
