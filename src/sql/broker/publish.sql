-- A commit publishes what the transaction appended.

CREATE FUNCTION dugong.event_mark() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'dugong_event_mark';
COMMENT ON FUNCTION dugong.event_mark() IS
    'trigger: marks the transaction, whose commit notifies the channel origin-aggregate_type';

CREATE TRIGGER event_mark AFTER INSERT ON dugong.event_log
    FOR EACH ROW EXECUTE FUNCTION dugong.event_mark();
ALTER TABLE dugong.event_log ENABLE ALWAYS TRIGGER event_mark;
