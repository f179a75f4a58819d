-- Events of a correlation id: found through the BRIN index, before and after it knows their pages, through a btree index, and without any.
\set VERBOSITY terse
SET dugong.notify = off;
CREATE FUNCTION cid(n int) RETURNS uuid LANGUAGE sql IMMUTABLE
RETURN ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid;
CREATE TABLE given (n serial, correlation_id uuid, position bigint);
SELECT dugong.create_aggregate_type('Consignment') \g /dev/null
-- 9,000 events, 3 of each correlation id, far from each other, and some without
INSERT INTO given (correlation_id, position)
SELECT cid(k % 3000), (dugong.append_event('Consignment', cid(k % 50), 'Moved', jsonb_build_object('note', repeat('x', 200)), correlation_id => cid(k % 3000))).position
FROM generate_series(1, 9000) AS k;
SELECT count(dugong.append_event('Consignment', cid(1), 'Lost')) FROM generate_series(1, 10);

-- The positions that read_events() gives for each of some ids, against those that are right
CREATE FUNCTION wrong(backward boolean DEFAULT false) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(*) FROM (
        SELECT array_agg(g.position ORDER BY CASE WHEN backward THEN -g.position ELSE g.position END) AS positions,
            (SELECT array_agg(e.position) FROM dugong.read_events(correlation_id => g.correlation_id, backward => backward) e) AS found
        FROM given g WHERE g.correlation_id = ANY (SELECT cid(k) FROM generate_series(0, 2999, 97) k) GROUP BY g.correlation_id) c
    WHERE positions IS DISTINCT FROM found
$$;
SELECT wrong(), wrong(backward => true);
SELECT count(*) FROM dugong.read_events(correlation_id => cid(3000));
SELECT count(*) FROM dugong.read_events(after_position => (SELECT position FROM given WHERE n = 3007), correlation_id => cid(7));

-- The index knows the pages now
SELECT brin_summarize_new_values('dugong.event_log_correlation_idx') >= 0 AS summarized;
SELECT wrong(), wrong(backward => true);
SELECT count(*) FROM dugong.read_events(correlation_id => cid(3000));
-- A lookup reads few pages
SELECT pg_relation_size('dugong.event_log') / 8192 AS pages \gset
BEGIN;
SELECT pg_stat_get_xact_blocks_fetched('dugong.event_log'::regclass) AS before \gset
SELECT count(*) FROM dugong.read_events(correlation_id => cid(3000));
SELECT pg_stat_get_xact_blocks_fetched('dugong.event_log'::regclass) - :before < :pages / 5 AS few;
COMMIT;

-- New events, in pages that it knows and in pages that it does not
SELECT count(dugong.append_event('Consignment', cid(k % 50), 'Moved', correlation_id => cid(4000))) FROM generate_series(1, 500) AS k;
SELECT count(*), bool_and(correlation_id = cid(4000)) FROM dugong.read_events(correlation_id => cid(4000));

-- By hand: of another kind, of use only if it has every event
CREATE INDEX by_minmax ON dugong.event_log USING brin (correlation_id);
SELECT wrong();
CREATE INDEX by_some ON dugong.event_log (correlation_id) WHERE type = 'Lost';
SELECT wrong();
CREATE INDEX by_id ON dugong.event_log (correlation_id);
SELECT wrong(), wrong(backward => true);
SELECT count(dugong.append_event('Consignment', cid(k), 'Moved', correlation_id => cid(5000))) FROM generate_series(1, 5) AS k;
BEGIN;
SELECT pg_stat_get_xact_numscans('dugong.by_id'::regclass) AS before \gset
SELECT count(*) FROM dugong.read_events(correlation_id => cid(5000));
SELECT pg_stat_get_xact_numscans('dugong.by_id'::regclass) - :before AS used;
COMMIT;
DROP INDEX dugong.by_minmax, dugong.by_some, dugong.by_id;

-- None at all
BEGIN;
DROP INDEX dugong.event_log_correlation_idx;
SELECT wrong();
SELECT count(dugong.append_event('Consignment', cid(k), 'Moved', correlation_id => cid(6000))) FROM generate_series(1, 5) AS k;
SELECT count(*) FROM dugong.read_events(correlation_id => cid(6000));
ROLLBACK;
SELECT count(*) FROM dugong.read_events(correlation_id => cid(6000));
