/*
 * view.c
 *		INSERT into dugong.domain_events, the view that everybody reads.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/trigger.h"
#include "store/append.h"
#include "store/context.h"
#include "store/domain_event.h"
#include "store/tenant.h"
#include "utils/rel.h"
#include "util/identity.h"

PG_FUNCTION_INFO_V1(dugong_domain_events_insert);

/*
 * INSTEAD OF INSERT row trigger: appends the event and returns it as stored,
 * so that RETURNING shows what was assigned.  It appends with the rights of the
 * log's owner, and so takes no position: a restore is the owner's own doing.
 */
Datum
dugong_domain_events_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	TupleDesc	desc;
	EventFields fields;
	EventReader reader;
	LogRow		row;
	Identity	before;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_INSTEAD(trigger->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		RelationGetRelid(trigger->tg_relation) != dugong_relid("domain_events"))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function must be called as the trigger of dugong.domain_events")));

	desc = RelationGetDescr(trigger->tg_relation);
	heap_deform_tuple(trigger->tg_trigtuple, desc, fields.values, fields.nulls);
	if (!event_isnull(&fields, EVENT_POSITION))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("position of a domain event cannot be given"),
				 errhint("To restore an event, insert it into dugong.event_log.")));
	event_fields_to_row(&fields, &row);
	if (log_row_isnull(&row, LOG_TENANT_ID))
		log_row_set(&row, LOG_TENANT_ID, PointerGetDatum(context_tenant_id()));
	(void) tenant_require(DatumGetTextPP(log_row_value(&row, LOG_TENANT_ID)));
	identity_enter(&before);
	event_append(&row);
	identity_leave(&before);
	event_reader_open(&reader);
	event_reader_fields(&reader, &row, &fields);
	event_reader_close(&reader);
	return PointerGetDatum(heap_form_tuple(desc, fields.values, fields.nulls));
}
