-- The log is not dropped while it holds events.  Each \c makes a session that has not loaded the library.
\set home :DBNAME
SET client_min_messages = warning;
CREATE ROLE regress_dugong_owner SUPERUSER;
CREATE DATABASE regress_dugong_drop_guard;
ALTER DATABASE regress_dugong_drop_guard SET dugong.max_workers = 0;
ALTER DATABASE regress_dugong_drop_guard SET client_min_messages = warning;
\c regress_dugong_drop_guard
-- Empty: it may go
CREATE EXTENSION dugong;
DROP EXTENSION dugong;
SELECT to_regnamespace('dugong'), to_regproc('bank_deposit'), (SELECT count(*) FROM pg_event_trigger) AS event_triggers;

CREATE SCHEMA bank;
SET ROLE regress_dugong_owner;
CREATE EXTENSION dugong SCHEMA bank;
RESET ROLE;
SELECT owner, balance FROM bank.bank_open_account('Alice', 500, '0d000000-0000-4000-8000-000000000001');
\c
DROP EXTENSION dugong;
\c
DROP EXTENSION dugong CASCADE;
\c
DROP SCHEMA dugong CASCADE;
\c
DROP SCHEMA bank CASCADE;
\c
DROP OWNED BY regress_dugong_owner CASCADE;
\c
DROP TABLE dugong.event_log CASCADE;
BEGIN;
ALTER EXTENSION dugong DROP TABLE dugong.event_log;
DROP TABLE dugong.event_log CASCADE;
ROLLBACK;
SET session_replication_role = replica;
DROP EXTENSION dugong;
RESET session_replication_role;
SELECT owner, balance FROM bank.bank_get_account('0d000000-0000-4000-8000-000000000001');

-- Allowed, and taken back
SET dugong.allow_drop = on;
BEGIN;
DROP EXTENSION dugong;
ROLLBACK;
BEGIN;
DROP SCHEMA bank CASCADE;
ROLLBACK;
BEGIN;
DROP OWNED BY regress_dugong_owner CASCADE;
ROLLBACK;
RESET dugong.allow_drop;
SELECT owner, balance FROM bank.bank_deposit('0d000000-0000-4000-8000-000000000001', 1);

-- A log that is empty again after a rollback may go
\c
SET dugong.allow_drop = on;
DROP EXTENSION dugong;
CREATE EXTENSION dugong SCHEMA bank;
RESET dugong.allow_drop;
BEGIN;
SELECT owner FROM bank.bank_open_account('Bob');
SAVEPOINT s;
DROP EXTENSION dugong;
ROLLBACK;
DROP EXTENSION dugong;
SELECT to_regnamespace('dugong'), to_regproc('bank.bank_deposit');
\c :home
DROP DATABASE regress_dugong_drop_guard;
DROP ROLE regress_dugong_owner;
