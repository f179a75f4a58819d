/*
 * guard.c
 *		What keeps the log append-only and there.
 *
 * UPDATE, DELETE and TRUNCATE of the log and of its view meet a statement
 * trigger that refuses them, superuser or not.
 *
 * DROP EXTENSION, DROP SCHEMA ... CASCADE and DROP OWNED would delete history
 * by accident.  A sql_drop event trigger of the extension does not fire for
 * the extension's own removal, so an object access hook refuses to drop a log
 * that holds events.  The ddl_command_start event trigger is there to load
 * this library, and the hook with it, before such a command begins.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "commands/event_trigger.h"
#include "commands/trigger.h"
#include "errors.h"
#include "fmgr.h"
#include "guc.h"
#include "store/guard.h"
#include "store/log.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(dugong_refuse_change);
PG_FUNCTION_INFO_V1(dugong_guard_drop);

static object_access_hook_type next_object_access_hook;

/*
 * The log at the start of the running command.  By the time that it is its
 * turn to go, its schema may be gone, and with it the name.
 */
static Oid	guarded_log;

static Oid
find_log(void)
{
	Oid			namespace = get_namespace_oid("dugong", true);

	return OidIsValid(namespace) ? get_relname_relid("event_log", namespace) : InvalidOid;
}

/* BEFORE UPDATE, DELETE, TRUNCATE trigger; UG005, always. */
Datum
dugong_refuse_change(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as a trigger")));
	ereport(ERROR,
			(errcode(ERRCODE_DUGONG_APPEND_ONLY),
			 errmsg("the event log is append-only"),
			 errdetail("Domain events are facts and cannot be updated or deleted."),
			 errhint("Append an event that corrects the earlier one.")));
	PG_RETURN_NULL();
}

/* ddl_command_start event trigger: being called, it has loaded the library. */
Datum
dugong_guard_drop(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as an event trigger")));
	guarded_log = find_log();
	PG_RETURN_NULL();
}

static bool
log_holds_events(Oid relid)
{
	Relation	log = table_open(relid, AccessShareLock);
	Snapshot	snapshot = snapshot_register_latest();
	TupleTableSlot *slot = table_slot_create(log, NULL);
	TableScanDesc scan = table_beginscan(log, snapshot, 0, NULL);
	bool		found = table_scan_getnextslot(scan, ForwardScanDirection, slot);

	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(log, AccessShareLock);
	return found;
}

/* The dropping command holds ACCESS EXCLUSIVE on the log by now. */
static void
object_access(ObjectAccessType access, Oid class, Oid object, int subobject, void *arg)
{
	if (next_object_access_hook)
		next_object_access_hook(access, class, object, subobject, arg);

	if (access != OAT_DROP || class != RelationRelationId || subobject != 0 ||
		dugong_allow_drop)
		return;
	if ((object == guarded_log || object == find_log()) && log_holds_events(object))
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_APPEND_ONLY),
				 errmsg("cannot drop the event log while it holds events"),
				 errhint("To delete all events for good, execute SET dugong.allow_drop = on first.")));
}

void
guard_init(void)
{
	next_object_access_hook = object_access_hook;
	object_access_hook = object_access;
}
