/*
 * restored_row.c
 *		Rows of the registry that a dump brings, and CREATE EXTENSION has made already.
 *
 * A dump leaves out what the install script inserts, unless somebody has
 * altered it.  Then the altered row comes, and takes the place of the other.
 * dugong's own functions do not come so far: they refuse a name in use.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "store/log.h"
#include "utils/acl.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

PG_FUNCTION_INFO_V1(dugong_replace_installed);

static bool
same_key(Relation table, HeapTuple one, HeapTuple other)
{
	Form_pg_attribute key = TupleDescAttr(RelationGetDescr(table), 0);
	bool		isnull;

	return datum_image_eq(heap_getattr(one, 1, RelationGetDescr(table), &isnull),
						  heap_getattr(other, 1, RelationGetDescr(table), &isnull),
						  key->attbyval, key->attlen);
}

/* Deletes the row that has the same first column, which is the key; no trigger hears of it. */
static void
delete_same(Relation table, HeapTuple tuple)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(table, snapshot, 0, NULL);
	HeapTuple	found;

	while ((found = heap_getnext(scan, ForwardScanDirection)) != NULL)
		if (same_key(table, found, tuple))
			simple_heap_delete(table, &found->t_self);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
}

/* BEFORE INSERT row trigger of a table of the registry. */
Datum
dugong_replace_installed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BEFORE(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		(RelationGetRelid(trigger->tg_relation) != dugong_relid("aggregate_types") &&
		 RelationGetRelid(trigger->tg_relation) != dugong_relid("projections")))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as the trigger of a table of the registry")));
	if (has_privs_of_role(GetUserId(), trigger->tg_relation->rd_rel->relowner))
		delete_same(trigger->tg_relation, trigger->tg_trigtuple);
	return PointerGetDatum(trigger->tg_trigtuple);
}
