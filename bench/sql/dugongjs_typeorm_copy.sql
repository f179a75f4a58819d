-- The events of the log that DugongJS's table does not have yet, in the same order; positions have no holes here
INSERT INTO domain_events
SELECT id, origin, aggregate_type, type, version, aggregate_id, payload, sequence_number, "timestamp", NULLIF(tenant_id, ''),
	correlation_id, triggered_by_event_id, triggered_by_user_id::uuid, metadata
FROM dugong.domain_events WHERE position > (SELECT count(*) FROM domain_events) ORDER BY position;
