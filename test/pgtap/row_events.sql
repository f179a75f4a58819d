-- Events out of the rows of ordinary tables.
BEGIN;
SELECT no_plan();
\ir helpers.psql
SELECT dugong.create_aggregate_type(t, fold => 'dugong.row_fold(dugong.domain_event)') FROM unnest(ARRAY['Order', 'Line', 'Doc', 'Part', 'Odd']) t;

-- Events since the last look: type, payload, in order
CREATE TEMP TABLE seen (position bigint);
INSERT INTO seen VALUES (0);
CREATE FUNCTION pg_temp.news() RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text; last bigint := (SELECT max(position) FROM seen);
BEGIN
    SELECT string_agg(type || ' ' || payload, ' | ' ORDER BY position) INTO result FROM dugong.domain_events WHERE position > last;
    INSERT INTO seen SELECT max(position) FROM dugong.event_log;
    RETURN result;
END $$;
SELECT pg_temp.news();

CREATE TABLE orders (id int PRIMARY KEY, status text, total numeric(10,2), internal text);
CREATE TRIGGER events AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Order', 'id');
INSERT INTO orders VALUES (1, 'new', 5, NULL);
SELECT is(pg_temp.news(), 'OrderInserted {"new": {"id": 1, "total": 5.00, "status": "new", "internal": null}}', 'INSERT');
UPDATE orders SET status = 'paid', total = 6;
SELECT is(pg_temp.news(), 'OrderUpdated {"new": {"total": 6.00, "status": "paid"}, "old": {"total": 5.00, "status": "new"}}', 'UPDATE: what has changed');
UPDATE orders SET status = status, total = total;
SELECT is(pg_temp.news(), NULL, 'an UPDATE that changes nothing');
UPDATE orders SET internal = 'x';
SELECT is(pg_temp.news(), 'OrderUpdated {"new": {"internal": "x"}, "old": {"internal": null}}', 'from NULL');
SELECT is((SELECT dugong.row_fold(e ORDER BY e.sequence_number) FROM dugong.aggregate_events('Order', dugong.aggregate_id('Order', '1')) e), (SELECT to_jsonb(o) FROM orders o), 'the fold gives back the row');
UPDATE orders SET id = 2;
SELECT is(pg_temp.news(), 'OrderDeleted {"old": {"id": 1, "total": 6.00, "status": "paid", "internal": "x"}} | OrderInserted {"new": {"id": 2, "total": 6.00, "status": "paid", "internal": "x"}}', 'another key is another aggregate');
DELETE FROM orders;
SELECT is(pg_temp.news(), 'OrderDeleted {"old": {"id": 2, "total": 6.00, "status": "paid", "internal": "x"}}', 'DELETE');
SELECT is((SELECT dugong.row_fold(e ORDER BY e.sequence_number) FROM dugong.aggregate_events('Order', dugong.aggregate_id('Order', '2')) e), NULL, 'a deleted row folds to NULL');
INSERT INTO orders VALUES (2, 'again', 1, NULL);
SELECT is((SELECT dugong.row_fold(e ORDER BY e.sequence_number) FROM dugong.aggregate_events('Order', dugong.aggregate_id('Order', '2')) e), (SELECT to_jsonb(o) FROM orders o), 'a key that is used again');
SELECT is((SELECT max(sequence_number) FROM dugong.domain_events WHERE aggregate_id = dugong.aggregate_id('Order', '2')), 3::bigint, 'goes on in its stream');
SELECT pg_temp.news();

-- COPY, MERGE, several rows, ON CONFLICT
CREATE TEMP TABLE source AS SELECT n AS id, 'src' AS status FROM generate_series(2, 4) n;
MERGE INTO orders o USING source s ON o.id = s.id WHEN MATCHED THEN UPDATE SET status = s.status WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.status, 0, NULL);
SELECT is((SELECT string_agg(type, ' ' ORDER BY type) FROM dugong.domain_events WHERE position > (SELECT max(position) FROM seen)), 'OrderInserted OrderInserted OrderUpdated', 'MERGE');
SELECT pg_temp.news();
INSERT INTO orders VALUES (4, 'dup', 0, NULL), (5, 'fresh', 0, NULL) ON CONFLICT (id) DO UPDATE SET status = excluded.status;
SELECT is((SELECT string_agg(type, ' ' ORDER BY type) FROM dugong.domain_events WHERE position > (SELECT max(position) FROM seen)), 'OrderInserted OrderUpdated', 'ON CONFLICT DO UPDATE');
SELECT pg_temp.news();
COPY orders FROM STDIN;
10	copied	1	\N
11	copied	2	\N
\.
SELECT is((SELECT string_agg(payload -> 'new' ->> 'id', ' ' ORDER BY position) FROM dugong.domain_events WHERE position > (SELECT max(position) FROM seen)), '10 11', 'COPY');
SELECT pg_temp.news();

-- Only some columns; only when some columns are named; WHEN
DROP TRIGGER events ON orders;
CREATE TRIGGER events AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Order', 'id', 'status', 'total');
UPDATE orders SET internal = 'secret' WHERE id = 2;
SELECT is(pg_temp.news(), NULL, 'a column that is not recorded');
UPDATE orders SET internal = 'secret2', total = 9 WHERE id = 2;
SELECT is((SELECT payload -> 'new' FROM dugong.domain_events ORDER BY position DESC LIMIT 1), '{"total": 9.00}', 'only recorded columns');
SELECT pg_temp.news();
DELETE FROM orders WHERE id = 2;
SELECT is(pg_temp.news(), 'OrderDeleted {"old": {"total": 9.00, "status": "src"}}', 'nothing else leaks');
DROP TRIGGER events ON orders;
CREATE TRIGGER events AFTER UPDATE OF status ON orders FOR EACH ROW WHEN (new.status <> 'hidden') EXECUTE FUNCTION dugong.append_row_event('Order', 'id');
UPDATE orders SET total = 100 WHERE id = 3;
UPDATE orders SET status = 'hidden' WHERE id = 3;
SELECT is(pg_temp.news(), NULL, 'UPDATE OF, and WHEN');
UPDATE orders SET status = 'shown' WHERE id = 3;
SELECT is(pg_temp.news(), 'OrderUpdated {"new": {"status": "shown"}, "old": {"status": "hidden"}}', 'as the trigger says');

-- Keys
CREATE TABLE docs (id uuid PRIMARY KEY, body text);
CREATE TRIGGER events AFTER INSERT OR UPDATE OR DELETE ON docs FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Doc', 'id');
INSERT INTO docs VALUES (pg_temp.id('d'), 'x');
SELECT is((SELECT (aggregate_id, metadata) FROM dugong.domain_events ORDER BY position DESC LIMIT 1), (pg_temp.id('d'), NULL::jsonb), 'a UUID is the aggregate''s id');
CREATE TABLE odd ("Key" text, "b c" numeric, flag boolean, at timestamptz, PRIMARY KEY ("Key", "b c", flag, at));
CREATE TRIGGER events AFTER INSERT OR UPDATE OR DELETE ON odd FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Odd', '"Key", "b c", flag, at', 'Key');
SET LOCAL datestyle = 'German';
SET LOCAL dugong.metadata = '{"ip": "::1"}';
INSERT INTO odd VALUES ('k,1', 2.50, true, '2026-01-01 00:00:00+00');
SELECT is((SELECT (aggregate_id, metadata) FROM dugong.domain_events ORDER BY position DESC LIMIT 1),
    (dugong.aggregate_id('Odd', 'k,1', '2.5', 'true', '2026-01-01T00:00:00+00:00'), '{"ip": "::1", "key": {"at": "2026-01-01T00:00:00+00:00", "Key": "k,1", "b c": 2.50, "flag": true}}'::jsonb), 'several columns; the session''s metadata stays');
RESET dugong.metadata;
UPDATE odd SET "b c" = 2.5;
SELECT is((SELECT type FROM dugong.domain_events ORDER BY position DESC LIMIT 1), 'OddInserted', 'an equal key is the same aggregate');
SELECT isnt(dugong.aggregate_id('Odd', 'a', 'b'), dugong.aggregate_id('Odd', 'a,b'), 'keys are kept apart');
SELECT isnt(dugong.aggregate_id('Odd', 'a'), dugong.aggregate_id('Order', 'a'), 'and types');
SELECT is(dugong.aggregate_id(aggregate_type => 'Order', VARIADIC key => ARRAY['1']), dugong.aggregate_id('Order', '1'), 'by name');
SELECT is(dugong.aggregate_id('Order', '1'), 'cdaeb6d5-fb8d-544c-b450-2b822714f7db'::uuid, 'fixed for ever');
SELECT is(dugong.aggregate_id('Order', NULL), NULL, 'NULL');

-- Partitions, dropped columns, generated columns
CREATE TABLE parts (gone int, id int, region text, double int GENERATED ALWAYS AS (id * 2) STORED) PARTITION BY LIST (region);
CREATE TABLE parts_eu PARTITION OF parts FOR VALUES IN ('eu');
CREATE TABLE parts_us (double int GENERATED ALWAYS AS (id * 2) STORED, region text, id int, gone int);
ALTER TABLE parts ATTACH PARTITION parts_us FOR VALUES IN ('us');
ALTER TABLE parts DROP COLUMN gone;
CREATE TRIGGER events AFTER INSERT OR UPDATE OR DELETE ON parts FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Part', 'id');
SELECT pg_temp.news();
INSERT INTO parts VALUES (1, 'eu'), (2, 'us');
SELECT is(pg_temp.news(), 'PartInserted {"new": {"id": 1, "double": 2, "region": "eu"}} | PartInserted {"new": {"id": 2, "double": 4, "region": "us"}}', 'partitions of another shape');
UPDATE parts SET region = 'us' WHERE id = 1;
SELECT is(pg_temp.news(), 'PartDeleted {"old": {"id": 1, "double": 2, "region": "eu"}} | PartInserted {"new": {"id": 1, "double": 2, "region": "us"}}', 'a row that moves');
SELECT is((SELECT dugong.row_fold(e ORDER BY e.sequence_number) FROM dugong.aggregate_events('Part', dugong.aggregate_id('Part', '1')) e), '{"id": 1, "double": 2, "region": "us"}', 'is there');

-- Cascades
CREATE TABLE lines (order_id int REFERENCES orders ON DELETE CASCADE ON UPDATE CASCADE, no int, PRIMARY KEY (order_id, no));
CREATE TRIGGER events AFTER INSERT OR UPDATE OR DELETE ON lines FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Line', 'order_id, no');
INSERT INTO lines VALUES (10, 1), (10, 2);
SELECT pg_temp.news();
DELETE FROM orders WHERE id = 10;
SELECT is(pg_temp.news(), 'LineDeleted {"old": {"no": 1, "order_id": 10}} | LineDeleted {"old": {"no": 2, "order_id": 10}}', 'ON DELETE CASCADE');

-- A transaction that is rolled back leaves nothing
SAVEPOINT s;
INSERT INTO docs VALUES (pg_temp.id('d', 2), 'x');
ROLLBACK TO s;
SELECT is(pg_temp.news(), NULL, 'rolled back');

-- Who changes rows needs nothing of dugong
CREATE ROLE dugong_test_clerk;
GRANT INSERT, UPDATE, DELETE, SELECT ON docs TO dugong_test_clerk;
SET LOCAL ROLE dugong_test_clerk;
INSERT INTO docs VALUES (pg_temp.id('d', 3), 'clerk');
SELECT is(current_user::text, 'dugong_test_clerk', 'still the clerk') FROM docs LIMIT 1;
RESET ROLE;
SELECT is((SELECT payload -> 'new' ->> 'body' FROM dugong.domain_events ORDER BY position DESC LIMIT 1), 'clerk', 'the event is there');

-- Wrong use
CREATE TABLE t (id int, v text);
CREATE FUNCTION pg_temp.with_trigger(definition text, command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER wrong %s', definition);
    EXECUTE command;
    RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE;
END $$;
SELECT is(pg_temp.with_trigger(definition, command), code, definition) FROM (VALUES
    ('39P01', 'BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event(''Order'', ''id'')', 'INSERT INTO t VALUES (1)'),
    ('39P01', 'AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION dugong.append_row_event(''Order'', ''id'')', 'INSERT INTO t VALUES (1)'),
    ('39P01', 'AFTER TRUNCATE ON t EXECUTE FUNCTION dugong.append_row_event(''Order'', ''id'')', 'TRUNCATE t'),
    ('39P01', 'AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event()', 'INSERT INTO t VALUES (1)'),
    ('39P01', 'AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event(''Order'')', 'INSERT INTO t VALUES (1)'),
    ('42704', 'AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event(''Nothing'', ''id'')', 'INSERT INTO t VALUES (1)'),
    ('42703', 'AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event(''Order'', ''no'')', 'INSERT INTO t VALUES (1)'),
    ('42703', 'AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event(''Order'', ''id'', ''no'')', 'INSERT INTO t VALUES (1)'),
    ('22023', 'AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event(''Order'', '','')', 'INSERT INTO t VALUES (1)'),
    ('22004', 'AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event(''Order'', ''id'')', 'INSERT INTO t VALUES (NULL)'),
    ('accepted', 'AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event(''BankingContext-AccountService-BankAccount'', ''id'')', 'INSERT INTO t VALUES (77)'))
    AS c (code, definition, command);

SELECT * FROM finish();
ROLLBACK;
