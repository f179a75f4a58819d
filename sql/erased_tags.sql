-- What is erased is no longer found by its tags; by its type it is.
\set VERBOSITY terse
\set id '''0e5a0000-0000-4000-8000-000000000001'''
SELECT dugong.create_aggregate_type('Seat') \g /dev/null
SELECT dugong.declare_tags('Seat', 'Taken', '{"who": "who", "course": "course"}');
CREATE VIEW found AS SELECT q.tag, (SELECT count(*) FROM dugong.read_events_matching(q.query)) FROM (VALUES
    ('type', '{"types": ["Taken"]}'::jsonb), ('who', '{"types": ["Taken"], "tags": {"who": "Ann"}}'), ('course', '{"types": ["Taken"], "tags": {"course": "c1"}}')) AS q (tag, query);
SELECT event.id AS first FROM dugong.append_event('Seat', :id, 'Taken', '{"who": "Ann", "course": "c1"}') AS event \gset
SELECT FROM dugong.append_event('Seat', :id, 'Taken', '{"who": "Ann", "course": "c1"}');
SELECT * FROM found;
-- A key
SELECT what, name FROM dugong.erase_payload(:'first', '{who}', 'on request') WHERE what = 'key';
SELECT * FROM found;
-- All of an event
SELECT what, count FROM dugong.erase_payload(:'first', NULL, 'on request') WHERE what = 'events';
SELECT * FROM found;
-- An aggregate; what its tags were is nowhere
SELECT what, count FROM dugong.erase_aggregate('Seat', :id, 'on request') WHERE what = 'events';
SELECT * FROM found;
SELECT count(*) AS entries, count(DISTINCT tag) AS tags FROM dugong.event_tags WHERE position IN (SELECT position FROM dugong.domain_events WHERE aggregate_id = :id);
SELECT dugong.drop_tags('Seat', 'Taken');
