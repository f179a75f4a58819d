-- Importing a table: what one sees of it.
\set VERBOSITY default
SELECT dugong.create_aggregate_type('Imported', origin => 'regress', external => false) \g /dev/null
CREATE TABLE tickets (number int, ticket text, what text, "timestamp" timestamptz DEFAULT '2024-01-01Z', payload jsonb);
INSERT INTO tickets (number, ticket, what) SELECT n, 'T-' || n % 3, CASE WHEN n <= 3 THEN 'Opened' ELSE 'Noted' END FROM generate_series(1, 30) n;
\set mapping '{"aggregate_type": "''Imported''", "aggregate_id": "ticket", "type": "what", "order_by": "number"}'

-- Five transactions, then none
CALL dugong.import_events('tickets', :'mapping', batch_size => 7);
CALL dugong.import_events('tickets', :'mapping');
SELECT source, phase, done, total, percent, time_left, pid FROM dugong.import_progress;
SELECT sequence_number, type, metadata FROM dugong.domain_events WHERE aggregate_type = 'Imported' ORDER BY position LIMIT 4;

-- What is wrong
INSERT INTO tickets (number, ticket, what) VALUES (31, 'T-1', NULL), (32, NULL, 'Noted'), (32, 'T-2', ''), (32, 'T-2', 'Noted');
CALL dugong.import_events('tickets', :'mapping');
SELECT source, phase, done, total, pid FROM dugong.import_progress;
DELETE FROM tickets WHERE number > 30;
UPDATE tickets SET what = 'Changed' WHERE number = 12;
CALL dugong.import_events('tickets', :'mapping');
CALL dugong.import_events('tickets', (:'mapping'::jsonb || '{"aggregate_type": "''Unknown''", "where": "number = 1"}')::jsonb);
CALL dugong.import_events('tickets', '{"aggregate_type": "''Imported"}');
CALL dugong.import_events('tickets', '{"aggregate_type": "''Imported'', number"}');
CALL dugong.import_events('tickets', '{"aggregate": "ticket"}');
CALL dugong.import_events('tickets', '{"aggregate_type": "''Imported''", "aggregate_id": "ticket"}');
CALL dugong.import_events('tickets', '{"aggregate_type": "''Imported''", "aggregate_id": "ticket", "type": "what"}');
BEGIN ISOLATION LEVEL REPEATABLE READ;
CALL dugong.import_events('tickets');
ROLLBACK;
DROP TABLE tickets;
