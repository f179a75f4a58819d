-- What is said to those who would change the log.
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type)
VALUES ('BankAccount', '0a000000-0000-4000-8000-000000000001', 'Noted');
UPDATE dugong.event_log SET type = 'x';
DELETE FROM dugong.event_log;
TRUNCATE dugong.event_log;
UPDATE dugong.domain_events SET type = 'x';
DELETE FROM dugong.domain_events;
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, sequence_number)
VALUES ('BankAccount', '0a000000-0000-4000-8000-000000000001', 'Noted', 7);
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES ('Nothing', gen_random_uuid(), 'Noted');
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id) VALUES ('BankAccount', gen_random_uuid());
SELECT sequence_number, type FROM dugong.domain_events WHERE aggregate_id = '0a000000-0000-4000-8000-000000000001';
