-- The domain event.

CREATE TYPE dugong.domain_event AS (
    id uuid,
    origin text,
    aggregate_type text,
    aggregate_id uuid,
    tenant_id text,
    sequence_number bigint,
    type text,
    version int,
    payload jsonb,
    "timestamp" timestamptz,
    correlation_id uuid,
    triggered_by_event_id uuid,
    triggered_by_user_id text,
    metadata jsonb,
    position bigint
);
COMMENT ON TYPE dugong.domain_event IS 'an immutable fact: what happened to one aggregate';
COMMENT ON COLUMN dugong.domain_event.id IS 'unique in the log; the same id again appends nothing';
COMMENT ON COLUMN dugong.domain_event.origin IS 'service (bounded context) that owns the aggregate type';
COMMENT ON COLUMN dugong.domain_event.aggregate_type IS 'aggregate type, unique within its origin';
COMMENT ON COLUMN dugong.domain_event.tenant_id IS 'tenant; empty = no tenant';
COMMENT ON COLUMN dugong.domain_event.sequence_number IS '1, 2, 3 ... within one aggregate, without a hole';
COMMENT ON COLUMN dugong.domain_event.type IS 'what happened';
COMMENT ON COLUMN dugong.domain_event.version IS 'version of the event type''s schema';
COMMENT ON COLUMN dugong.domain_event."timestamp" IS 'when it was appended, never before its predecessor; or what the caller gave';
COMMENT ON COLUMN dugong.domain_event.correlation_id IS 'joins the events of one business transaction';
COMMENT ON COLUMN dugong.domain_event.triggered_by_event_id IS 'event that caused this one';
COMMENT ON COLUMN dugong.domain_event.triggered_by_user_id IS 'user who caused it';
COMMENT ON COLUMN dugong.domain_event.position IS 'order in the whole log; grows, may have holes';
