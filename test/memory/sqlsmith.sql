-- A database for sqlsmith, whose role may call every function of dugong and read and write what users may, and owns nothing.
CREATE ROLE smith LOGIN;
ALTER ROLE smith SET statement_timeout = '1s';
CREATE DATABASE smith;
\c smith
CREATE EXTENSION dugong;
GRANT USAGE ON SCHEMA dugong TO smith;
GRANT USAGE ON TYPE dugong.domain_event, bank_account_state TO smith;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA dugong, public TO smith;
GRANT SELECT ON ALL TABLES IN SCHEMA dugong, public TO smith;
GRANT INSERT, UPDATE, DELETE ON dugong.domain_events TO smith;
SELECT FROM generate_series(1, 20) n, LATERAL bank_open_account('owner ' || n, 100 * n);
SELECT dugong.create_aggregate_type('Note', fold => 'dugong.row_fold(dugong.domain_event)');
SELECT dugong.create_subscription('notes', '{Note}');
SELECT dugong.declare_tags('Note', 'Written', '{"by": "by"}');
SELECT FROM generate_series(1, 20) n, LATERAL dugong.append_event('Note', gen_random_uuid(), 'Written', jsonb_build_object('by', n));
