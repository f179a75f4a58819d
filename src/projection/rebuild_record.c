/*
 * rebuild_record.c
 *		How far a rebuild has come: a row of dugong.rebuilds.
 *
 * Written in the transaction of what it tells of.  A rebuild that was broken
 * off is found again as long as it would do the same: with the same
 * fingerprint.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "projection/checkpoint.h"
#include "projection/rebuild_record.h"
#include "utils/builtins.h"
#include "util/ids.h"
#include "util/plan.h"

static void
execute(SavedPlan *statement, Datum *values, const bool *nulls)
{
	plan_run(statement, values, nulls);
	CommandCounterIncrement();
}

/* Starts a rebuild, or finds one that was broken off and would do the same. */
void
rebuild_begin(Rebuild *rebuild, const Projection *projection, const char *phase, int64 total)
{
	static SavedPlan select_rebuild = {
		.sql = "SELECT phase OPERATOR(pg_catalog.=) 'sweep', done, total, cursor_tenant, cursor_id FROM dugong.rebuilds "
		"WHERE projection OPERATOR(pg_catalog.=) $1 AND fingerprint OPERATOR(pg_catalog.=) $2 "
		"AND phase OPERATOR(pg_catalog.<>) 'replay'",
		.nargs = 2,
		.argtypes = {TEXTOID, INT8OID}
	};
	static SavedPlan upsert_rebuild = {
		.sql = "INSERT INTO dugong.rebuilds (projection, fingerprint, phase, total, pid, updated_at) "
		"VALUES ($1, $2, $3, $4, pg_catalog.pg_backend_pid(), pg_catalog.clock_timestamp()) ON CONFLICT (projection) DO UPDATE SET "
		"fingerprint = EXCLUDED.fingerprint, phase = EXCLUDED.phase, done = 0, total = EXCLUDED.total, pid = EXCLUDED.pid, "
		"cursor_tenant = NULL, cursor_id = NULL, started_at = EXCLUDED.started_at, updated_at = EXCLUDED.updated_at",
		.nargs = 4,
		.argtypes = {TEXTOID, INT8OID, TEXTOID, INT8OID}
	};
	MemoryContext context = CurrentMemoryContext;
	Datum		values[] = {
		CStringGetTextDatum(projection->name), Int64GetDatum(projection_fingerprint(projection)),
		CStringGetTextDatum(phase), Int64GetDatum(total)
	};
	bool		isnull;

	rebuild->projection = projection;
	rebuild->total = total;
	SPI_connect();
	if (strcmp(phase, "replay") != 0 && plan_execute(&select_rebuild, values, NULL, false) > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		Datum		tenant = plan_result(0, 4, &isnull);

		rebuild->cursor.tenant_id = isnull ? NULL : DatumGetTextPCopy(tenant);
		rebuild->sweeping = DatumGetBool(plan_result(0, 1, &isnull));
		rebuild->done = DatumGetInt64(plan_result(0, 2, &isnull));
		rebuild->total = DatumGetInt64(plan_result(0, 3, &isnull));
		if (rebuild->cursor.tenant_id)
			rebuild->cursor.id = *DatumGetUUIDP(plan_result(0, 5, &isnull));
		MemoryContextSwitchTo(old);
	}
	else
		plan_execute(&upsert_rebuild, values, NULL, false);
	SPI_finish();
	CommandCounterIncrement();
}

void
rebuild_save(const Rebuild *rebuild)
{
	static SavedPlan update_rebuild = {
		.sql = "UPDATE dugong.rebuilds SET phase = $2, done = $3, cursor_tenant = $4, cursor_id = $5, "
		"pid = pg_catalog.pg_backend_pid(), updated_at = pg_catalog.clock_timestamp() WHERE projection OPERATOR(pg_catalog.=) $1",
		.nargs = 5,
		.argtypes = {TEXTOID, TEXTOID, INT8OID, TEXTOID, UUIDOID}
	};
	Datum		values[] = {
		CStringGetTextDatum(rebuild->projection->name), CStringGetTextDatum(rebuild->sweeping ? "sweep" : "aggregates"),
		Int64GetDatum(rebuild->done), PointerGetDatum(rebuild->cursor.tenant_id), UUIDPGetDatum(&rebuild->cursor.id)
	};
	bool		nulls[] = {false, false, false, rebuild->cursor.tenant_id == NULL, rebuild->cursor.tenant_id == NULL};

	execute(&update_rebuild, values, nulls);
}

/* What the table holds is what today's code makes. */
void
rebuild_end(const Projection *projection)
{
	static SavedPlan delete_rebuild = {
		.sql = "DELETE FROM dugong.rebuilds WHERE projection OPERATOR(pg_catalog.=) $1",.nargs = 1,.argtypes = {TEXTOID}
	};
	Datum		name = CStringGetTextDatum(projection->name);

	execute(&delete_rebuild, &name, NULL);
	checkpoint_accept(projection);
}
