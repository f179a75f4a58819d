/*
 * dugong.c
 *		Loads the library: one call per module.
 */
#include "postgres.h"

#include "aggregate/fingerprint.h"
#include "aggregate/snapshot.h"
#include "broker/publish.h"
#include "fmgr.h"
#include "guc.h"
#include "miscadmin.h"
#include "projection/erased_elsewhere.h"
#include "projection/handler.h"
#include "projection/inline.h"
#include "projection/launch.h"
#include "projection/launcher.h"
#include "projection/projection.h"
#include "projection/suspect.h"
#include "store/aggregate_lock.h"
#include "store/aggregate_type.h"
#include "store/event_tag.h"
#include "store/event_type.h"
#include "store/guard.h"
#include "store/insert.h"
#include "store/restore.h"
#include "store/tenant.h"
#include "util/names.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	guc_init();
	names_init();
	aggregate_type_init();
	event_type_init();
	event_tag_init();
	tenant_init();
	fingerprint_init();
	snapshot_init();
	aggregate_lock_init();
	restore_init();
	insert_init();
	guard_init();
	publish_init();
	projection_init();
	handler_init();
	inline_init();
	erased_elsewhere_init();
	suspect_init();
	launch_init();
	launcher_init();
}
