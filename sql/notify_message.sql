-- Under dugong.notify_payload = message: each event whole, in order, if it fits.
\set home :DBNAME
CREATE DATABASE regress_dugong_message;
ALTER DATABASE regress_dugong_message SET dugong.max_workers = 0;
ALTER DATABASE regress_dugong_message SET dugong.origin = 'Shop';
ALTER DATABASE regress_dugong_message SET dugong.notify = always;
ALTER DATABASE regress_dugong_message SET dugong.notify_payload = message;
\c regress_dugong_message
CREATE EXTENSION dugong;
SELECT dugong.create_aggregate_type('Order'), dugong.create_aggregate_type('Mail');
LISTEN "Shop-Order";
LISTEN "Shop-Mail";
\echo two events of one transaction, two channels
\o |sed 's/PID [0-9]*/PID n/; s/"timestamp": "[^"]*"/"timestamp": "t"/'
BEGIN;
SELECT sequence_number FROM dugong.append_event('Order', '0de00000-0000-4000-8000-000000000001', 'OrderPlaced', '{"total": 20.10}', event_id => '0e000000-0000-4000-8000-000000000001');
SELECT sequence_number FROM dugong.append_event('Mail', '0de00000-0000-4000-8000-000000000001', 'Sent', metadata => '{"to": "Käthe \"K\""}', event_id => '0e000000-0000-4000-8000-000000000002',
    tenant_id => 'acme', correlation_id => '0e000000-0000-4000-8000-0000000000c0', triggered_by_event_id => '0e000000-0000-4000-8000-000000000001', triggered_by_user_id => 'alice');
COMMIT;
\o
\echo one that does not fit is referred to, at its place; what a savepoint took back is not there
\o |sed 's/PID [0-9]*/PID n/; s/"timestamp": "[^"]*"/"timestamp": "t"/'
BEGIN;
SELECT sequence_number FROM dugong.append_event('Order', '0de00000-0000-4000-8000-000000000001', 'Note', jsonb_build_object('text', repeat('x', 8000)), event_id => '0e000000-0000-4000-8000-000000000003');
SAVEPOINT kept;
SELECT sequence_number FROM dugong.append_event('Order', '0de00000-0000-4000-8000-000000000001', 'Kept', event_id => '0e000000-0000-4000-8000-000000000004');
SAVEPOINT gone;
SELECT sequence_number FROM dugong.append_event('Order', '0de00000-0000-4000-8000-000000000001', 'Gone', event_id => '0e000000-0000-4000-8000-000000000005');
SAVEPOINT inner_one;
SELECT sequence_number FROM dugong.append_event('Order', '0de00000-0000-4000-8000-000000000001', 'Gone', event_id => '0e000000-0000-4000-8000-000000000006');
RELEASE inner_one;
ROLLBACK TO gone;
RELEASE kept;
SELECT sequence_number FROM dugong.append_event('Order', '0de00000-0000-4000-8000-000000000001', 'Last', event_id => '0e000000-0000-4000-8000-000000000007');
COMMIT;
\o
\echo the longest that fits, and one byte more
UNLISTEN *;
SELECT length(dugong.to_message(e)::text) - 1 AS frame FROM dugong.append_event('Order', '0de00000-0000-4000-8000-000000000003', 'Frame', '"x"', event_id => '0e000000-0000-4000-8000-000000000010') e \gset
LISTEN "Shop-Order";
\o |sed 's/PID [0-9]*/PID n/; s/xxxx*/x.../; s/"timestamp": "[^"]*"/"timestamp": "t"/'
SELECT length(dugong.to_message(e)::text) FROM dugong.append_event('Order', '0de00000-0000-4000-8000-000000000004', 'Longs', to_jsonb(repeat('x', 7999 - :frame)), event_id => '0e000000-0000-4000-8000-000000000011') e;
SELECT length(dugong.to_message(e)::text) FROM dugong.append_event('Order', '0de00000-0000-4000-8000-000000000004', 'Longs', to_jsonb(repeat('x', 8000 - :frame)), event_id => '0e000000-0000-4000-8000-000000000012') e;
\o
\echo the thousandth is the last that is sent alone
\o |sed -n 's/PID [0-9]*/PID n/; s/"timestamp": "[^"]*"/"timestamp": "t"/; /"sequenceNumber": 1000/p; /count/p'
SELECT count(dugong.append_event('Order', '0de00000-0000-4000-8000-000000000002', 'Many', event_id => ('0e000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::uuid)) FROM generate_series(1, 1100) n;
\o
\echo nothing else: a refusal, a restore, another setting
\o |sed 's/PID [0-9]*/PID n/; s/"timestamp": "[^"]*"/"timestamp": "t"/'
SELECT dugong.append_event('Order', '0de00000-0000-4000-8000-000000000001', 'Kept', expected_sequence_number => 1);
SET dugong.notify_payload = summary;
SELECT sequence_number FROM dugong.append_event('Order', '0de00000-0000-4000-8000-000000000001', 'Kept');
SET dugong.notify_payload = message;
SET dugong.notify = auto;
SELECT sequence_number FROM dugong.append_event('Order', '0de00000-0000-4000-8000-000000000001', 'Kept');
\o
\c :home
DROP DATABASE regress_dugong_message WITH (FORCE);
