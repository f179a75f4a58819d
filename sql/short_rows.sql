-- Rows are stored without the nulls at their end, and are read as all others.
\set VERBOSITY terse
CREATE EXTENSION pageinspect;
SET dugong.notify = off;
CREATE FUNCTION rid(n int) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid;
SELECT dugong.create_aggregate_type('Letter') \g /dev/null
-- The first event of an aggregate, and one whose id is given, go another way
SELECT dugong.append_event('Letter', rid(91), 'Sent', '{"n": 1}') \g /dev/null
SELECT dugong.append_event('Letter', rid(91), 'Moved', '{"n": 2}') \g /dev/null
SELECT dugong.append_event('Letter', rid(91), 'Moved') \g /dev/null
SELECT dugong.append_event('Letter', rid(91), 'Moved', correlation_id => rid(2)) \g /dev/null
SELECT dugong.append_event('Letter', rid(91), 'Moved', '{"n": 5}', correlation_id => rid(2)) \g /dev/null
SELECT dugong.append_event('Letter', rid(91), 'Moved', '{"n": 6}', triggered_by_user_id => 'Alice') \g /dev/null
SELECT dugong.append_event('Letter', rid(91), 'Moved', '{"n": 7}', metadata => '{"m": 7}') \g /dev/null
SELECT dugong.append_event('Letter', rid(91), 'Moved', jsonb_build_object('n', repeat('x', 10000))) \g /dev/null
SELECT dugong.append_event('Letter', rid(91), 'Moved', '{"n": 9}', event_id => rid(99)) \g /dev/null
SELECT e.sequence_number, i.t_infomask2 & 2047 AS columns, (i.t_infomask & 1)::boolean AS has_nulls
FROM dugong.event_log e, LATERAL heap_page_items(get_raw_page('dugong.event_log', (e.ctid::text::point)[0]::int)) i
WHERE e.aggregate_id = rid(91) AND i.lp = (e.ctid::text::point)[1]::int ORDER BY e.sequence_number;

-- From an index, from a whole scan, and by a fold
CREATE VIEW what AS SELECT sequence_number, left(payload ->> 'n', 10) AS n, correlation_id, triggered_by_event_id, triggered_by_user_id, metadata
FROM dugong.domain_events WHERE aggregate_type = 'Letter' AND aggregate_id = rid(91) ORDER BY sequence_number;
SELECT * FROM what;
SELECT sequence_number, correlation_id, triggered_by_user_id, metadata FROM dugong.aggregate_events('Letter', rid(91)) ORDER BY sequence_number;
SELECT count(*) FROM dugong.domain_events WHERE aggregate_type = 'Letter' AND metadata IS NULL AND triggered_by_event_id IS NULL;

-- With another column they are as they were, and new ones go another way
CREATE TABLE before AS SELECT * FROM what;
BEGIN;
ALTER TABLE dugong.event_log ADD COLUMN note text DEFAULT 'none';
SELECT dugong.append_event('Letter', rid(91), 'Moved') \g /dev/null
SELECT count(*) FROM dugong.event_log WHERE note = 'none' AND aggregate_id = rid(91) AND position >= (SELECT first_position FROM dugong.aggregates WHERE aggregate_type = 'Letter');
SELECT count(*) FROM (SELECT * FROM before EXCEPT SELECT * FROM what) AS differences;
ROLLBACK;

-- Written anew, they are long
VACUUM FULL dugong.event_log;
SELECT count(*) FROM (SELECT * FROM before EXCEPT SELECT * FROM what) AS differences;
SELECT (dugong.append_event('Letter', rid(91), 'Moved')).sequence_number;
