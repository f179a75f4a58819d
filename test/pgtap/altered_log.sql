-- The log with what its owner has added to it or taken from it: columns, constraints, indexes, triggers.
BEGIN;
SELECT no_plan();
\ir helpers.psql

SELECT id AS a FROM bank_open_account('Alice', 100) \gset
SELECT id AS b FROM bank_open_account('Bob', 100) \gset
\set body 'SELECT balance FROM bank_deposit(''' :a ''', 1)'
CREATE FUNCTION pg_temp.deposit() RETURNS numeric LANGUAGE sql AS :'body';

-- Indexes: a query that reads the index only sees what is in it
CREATE FUNCTION pg_temp.in_index(condition text) RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE n bigint;
BEGIN
    EXECUTE 'SELECT count(*) FROM dugong.event_log WHERE ' || condition INTO n;
    RETURN n;
END $$;

DROP INDEX dugong.event_log_triggered_by_idx, dugong.event_log_correlation_idx;
SELECT is(pg_temp.deposit(), 101::numeric, 'an append does not need the indexes of correlation and cause');
CREATE INDEX event_log_correlation_idx ON dugong.event_log (correlation_id, position);
SELECT is(pg_temp.deposit(), 102::numeric, 'an index of a known name and another definition');
SELECT is(pg_temp.in_index('correlation_id IS NULL'), 4::bigint, 'has every row');
CREATE INDEX ON dugong.event_log (sequence_number) WHERE sequence_number IS NOT NULL;
CREATE INDEX ON dugong.event_log (triggered_by_user_id) WHERE triggered_by_user_id IS NULL;
CREATE INDEX ON dugong.event_log (triggered_by_user_id) WHERE triggered_by_user_id IS NOT NULL;
CREATE INDEX ON dugong.event_log ("timestamp") WHERE sequence_number = 3;
CREATE INDEX ON dugong.event_log (lower(type));
CREATE INDEX ON dugong.event_log USING hash (type);
SELECT is(pg_temp.deposit(), 103::numeric, 'indexes of other kinds');
SET LOCAL dugong.triggered_by_user_id = 'clerk';
SELECT is(pg_temp.deposit(), 104::numeric, 'and a row that belongs into others of them');
SELECT is(ARRAY[pg_temp.in_index('sequence_number > 1'), pg_temp.in_index('triggered_by_user_id IS NULL'), pg_temp.in_index('triggered_by_user_id = ''clerk'''),
    pg_temp.in_index('sequence_number = 3 AND "timestamp" < ''infinity'''), pg_temp.in_index('lower(type) = ''moneydeposited'''), pg_temp.in_index('type = ''MoneyDeposited''')],
    ARRAY[4, 5, 1, 1, 4, 4]::bigint[], 'have every row');
DROP INDEX dugong.event_log_sequence_number_idx, dugong.event_log_triggered_by_user_id_idx, dugong.event_log_triggered_by_user_id_idx1, dugong.event_log_timestamp_idx,
    dugong.event_log_lower_idx, dugong.event_log_type_idx;
RESET dugong.triggered_by_user_id;

UPDATE pg_attribute SET attnotnull = true WHERE attrelid = 'dugong.event_log'::regclass AND attname = 'triggered_by_user_id';	-- as ALTER TABLE, but for the rows that are there
SELECT throws_ok('SELECT pg_temp.deposit()', '23502', NULL, 'a column that the owner does not want to be null');
UPDATE pg_attribute SET attnotnull = false WHERE attrelid = 'dugong.event_log'::regclass AND attname = 'triggered_by_user_id';

ALTER TABLE dugong.event_log ADD COLUMN region text DEFAULT 'north';
ALTER TABLE dugong.event_log ADD COLUMN shard int;
CREATE FUNCTION pg_temp.place() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.shard := 7; RETURN NEW; END';
CREATE TRIGGER aplace BEFORE INSERT ON dugong.event_log FOR EACH ROW EXECUTE FUNCTION pg_temp.place();
SET LOCAL dugong.notify = always;
SET LOCAL dugong.notify_payload = message;
SELECT is(pg_temp.deposit(), 105::numeric, 'columns that the owner has added');
SELECT is((SELECT balance FROM bank_deposit(:'a', 1, pg_temp.id('e'))), 106::numeric, 'an event with an id');
SELECT is((SELECT balance FROM bank_deposit(:'a', 1, pg_temp.id('e'))), 106::numeric, 'and its retry');
INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, tenant_id, type, payload, region)
    SELECT aggregate_type_id, aggregate_id, '', 'MoneyDeposited', '{"amount": 1}', 'south' FROM dugong.event_log WHERE aggregate_id = :'a' AND sequence_number = 1;
SELECT is((SELECT string_agg(format('%s %s %s', sequence_number, region, shard), ', ' ORDER BY sequence_number) FROM dugong.event_log WHERE aggregate_id = :'a' AND sequence_number > 4),
    '5 north , 6 north 7, 7 north 7, 8 south 7', 'have their defaults, and what triggers and INSERT give them');

DROP TRIGGER aplace ON dugong.event_log;
ALTER TABLE dugong.event_log DROP COLUMN region, DROP COLUMN shard;
SELECT is(pg_temp.deposit(), 108::numeric, 'columns that were dropped again');

-- A BEFORE trigger that appends: both events are appended, not restored, so an inline projection gets both
CREATE TABLE seen (aggregate_id uuid, balance numeric);
CREATE FUNCTION see(uuid, bank_account_state) RETURNS void LANGUAGE sql AS 'INSERT INTO public.seen VALUES ($1, ($2).balance)';
CREATE FUNCTION see_end(uuid) RETURNS void LANGUAGE sql AS '';
SELECT dugong.create_projection('seen', 'BankAccount', update_handler => 'see(uuid,bank_account_state)', delete_handler => 'see_end(uuid)', mode => 'inline');
TRUNCATE seen;
\set body 'BEGIN IF NEW.type = ''MoneyDeposited'' THEN PERFORM public.bank_withdraw(''' :b ''', 1::numeric); END IF; RETURN NEW; END'
CREATE FUNCTION also() RETURNS trigger LANGUAGE plpgsql AS :'body';
CREATE TRIGGER also BEFORE INSERT ON dugong.event_log FOR EACH ROW EXECUTE FUNCTION also();
SELECT pg_temp.deposit();
SELECT set_eq('SELECT aggregate_id, balance FROM seen', format('VALUES (%L::uuid, 109::numeric), (%L, 99)', :'a', :'b'), 'a trigger that appends');

SELECT * FROM finish();
ROLLBACK;
