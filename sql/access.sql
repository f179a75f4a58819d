-- EXECUTE on a command is all that its user needs, and all that he can do.
\set id '''0acc0000-0000-4000-8000-000000000001'''
CREATE ROLE regress_dugong_teller;
CREATE ROLE regress_dugong_writer;
SELECT owner, balance FROM bank_open_account('Alice', 500, :id);
\set VERBOSITY sqlstate
SET ROLE regress_dugong_teller;
SELECT bank_open_account('Eve');
SELECT bank_deposit(:id, 1);
SELECT bank_withdraw(:id, 1);
SELECT bank_transfer(:id, :id, 1);
SELECT bank_close_account(:id);
SELECT bank_get_account(:id);
SELECT * FROM bank_account_query_model;
SELECT * FROM dugong.domain_events;
SELECT * FROM dugong.event_log;
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES ('BankAccount', :id, 'Noted');
CALL dugong.run_projections();
SELECT dugong.start_workers();
RESET ROLE;
GRANT EXECUTE ON FUNCTION bank_deposit(uuid, numeric, uuid) TO regress_dugong_teller;
SET ROLE regress_dugong_teller;
SELECT owner, balance FROM bank_deposit(:id, 1);
SELECT bank_withdraw(:id, 1);
SELECT bank_get_account(:id);
SELECT * FROM dugong.domain_events;
RESET ROLE;

-- Who may insert into the view may append, but not choose a position
GRANT USAGE ON SCHEMA dugong TO regress_dugong_writer;
GRANT INSERT ON dugong.domain_events TO regress_dugong_writer;
SET ROLE regress_dugong_writer;
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES ('BankAccount', :id, 'Noted');
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES ('BankAccount', :id, 'Noted') RETURNING id;
SELECT count(*) FROM dugong.domain_events;
UPDATE dugong.domain_events SET type = 'x';
DELETE FROM dugong.domain_events;
INSERT INTO dugong.domain_events (id, aggregate_type, aggregate_id, tenant_id, sequence_number, type, version, "timestamp", position)
VALUES (gen_random_uuid(), 'BankAccount', :id, '', 99, 'Noted', 1, now(), 1000000000);
RESET ROLE;
SELECT sequence_number, type FROM dugong.domain_events WHERE aggregate_id = :id ORDER BY sequence_number;
DROP OWNED BY regress_dugong_teller, regress_dugong_writer;
DROP ROLE regress_dugong_teller, regress_dugong_writer;
