/*
 * guard.c
 *		What keeps the log append-only and there.
 *
 * UPDATE, DELETE and TRUNCATE of the log and of its view meet a statement
 * trigger that refuses them, superuser or not.  One statement passes, which
 * comes through guard_execute(): an erasure's (store/erasure.c).
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
#include "compat.h"
#include "errors.h"
#include "fmgr.h"
#include "guc.h"
#include "store/guard.h"
#include "store/log.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "util/relation_change.h"

PG_FUNCTION_INFO_V1(dugong_refuse_change);
PG_FUNCTION_INFO_V1(dugong_guard_drop);

static object_access_hook_type next_object_access_hook;

/*
 * The log at the start of the running command.  By the time that it is its
 * turn to go, its schema may be gone, and with it the name.
 */
static Oid	guarded_log;

/* The log whose triggers were looked at, and have not changed since; by the one who looks. */
static Oid	checked_log;

/* Will the next UPDATE of the log be dugong's own? */
static bool permitted;

static Oid
find_log(void)
{
	Oid			namespace = get_namespace_oid("dugong", true);

	return OidIsValid(namespace) ? get_relname_relid("event_log", namespace) : InvalidOid;
}

/* Is it the UPDATE that is permitted?  No other is, then, not even one that its own triggers make. */
static bool
is_permitted(const TriggerData *trigger)
{
	if (!permitted || !TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event) ||
		RelationGetRelid(trigger->tg_relation) != dugong_relid("event_log"))
		return false;
	permitted = false;
	return true;
}

/* What the trigger keeps: the log, or the record of erasures. */
pg_noreturn static void
report_append_only(const TriggerData *trigger)
{
	if (strcmp(RelationGetRelationName(trigger->tg_relation), "erasure_log") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUGONG_APPEND_ONLY),
				 errmsg("the record of erasures is append-only")));
	ereport(ERROR,
			(errcode(ERRCODE_DUGONG_APPEND_ONLY),
			 errmsg("the event log is append-only"),
			 errdetail("Domain events are facts and cannot be updated or deleted."),
			 errhint("Append an event that corrects the earlier one.")));
}

/* BEFORE UPDATE, DELETE, TRUNCATE trigger; UG005, but for an erasure. */
Datum
dugong_refuse_change(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as a trigger")));
	if (!is_permitted((TriggerData *) fcinfo->context))
		report_append_only((TriggerData *) fcinfo->context);
	return PointerGetDatum(NULL);
}

/* Runs a statement that updates the log; as plan_execute(). */
uint64
guard_execute(SavedPlan *statement, Datum *values)
{
	uint64		nrows;

	PG_TRY();
	{
		permitted = true;
		nrows = plan_execute(statement, values, NULL, false);
	}
	PG_FINALLY();
	{
		permitted = false;
	}
	PG_END_TRY();
	return nrows;
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

/*
 * Warns of a trigger of the log that no longer fires always: ENABLE TRIGGER
 * ALL, which pg_restore --disable-triggers issues, makes it an ordinary one.
 * Looks again when the table has changed.
 */
void
guard_check(void)
{
	static const char *const guards[] = {"event_assign", "event_mark", "inline_projections", "refuse_change"};
	Relation	log;
	int			ntriggers;

	if (OidIsValid(checked_log))
		return;
	log = log_open(AccessShareLock);
	ntriggers = log->trigdesc ? log->trigdesc->numtriggers : 0;
	for (int i = 0; i < ntriggers; i++)
	{
		Trigger    *trigger = &log->trigdesc->triggers[i];

		for (size_t j = 0; j < lengthof(guards); j++)
			if (strcmp(trigger->tgname, guards[j]) == 0 &&
				trigger->tgenabled != TRIGGER_FIRES_ALWAYS)
				ereport(WARNING,
						(errmsg("trigger \"%s\" of the event log is not always enabled", guards[j]),
						 errhint("Execute ALTER TABLE dugong.event_log ENABLE ALWAYS TRIGGER %s.", guards[j])));
	}
	checked_log = RelationGetRelid(log);
	table_close(log, AccessShareLock);
}

static void
on_relation(void *arg, Oid relid)
{
	if (relid == InvalidOid || relid == checked_log)
		checked_log = InvalidOid;
}

void
guard_init(void)
{
	relation_change_hear(on_relation, NULL);
	next_object_access_hook = object_access_hook;
	object_access_hook = object_access;
}
