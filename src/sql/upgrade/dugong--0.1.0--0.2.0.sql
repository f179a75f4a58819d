-- From 0.1.0 to 0.2.0
\echo Use "ALTER EXTENSION dugong UPDATE" to load this file. \quit

-- Under a publication FOR ALL TABLES a table without one can be neither updated nor deleted from.
ALTER TABLE dugong.aggregate_snapshots REPLICA IDENTITY USING INDEX aggregate_snapshots_idx;
ALTER TABLE dugong.stopped_workers REPLICA IDENTITY FULL;
