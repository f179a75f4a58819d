-- dugong: event sourcing inside PostgreSQL.
-- This script is put together by the Makefile from the parts in src/sql.
\echo Use "CREATE EXTENSION dugong" to load this file. \quit

-- Who may create functions in the extension's schema must not get any into what is created here, which is the owner's: one that fits
-- its arguments better than PostgreSQL's would be called.  What is to be in that schema says so.
-- It is the search_path of the bank account's fold, too.
SET LOCAL search_path = pg_catalog, pg_temp;

CREATE SCHEMA dugong;
COMMENT ON SCHEMA dugong IS 'dugong: the event log, aggregates, projections';
