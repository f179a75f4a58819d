-- dugong: event sourcing inside PostgreSQL.
-- This script is put together by the Makefile from the parts in src/sql.
\echo Use "CREATE EXTENSION dugong" to load this file. \quit

CREATE SCHEMA dugong;
COMMENT ON SCHEMA dugong IS 'dugong: the event log, aggregates, projections';
