-- A state that cannot be stored: one warning in a session, and all else works.
CREATE TYPE unstorable AS (n int, acl aclitem);
CREATE FUNCTION unstorable_apply(unstorable, dugong.domain_event) RETURNS unstorable LANGUAGE sql IMMUTABLE
    RETURN ROW(coalesce(($1).n, 0) + 1, 'postgres=r/postgres')::unstorable;
CREATE AGGREGATE unstorable_fold(dugong.domain_event) (SFUNC = unstorable_apply, STYPE = unstorable);
SELECT dugong.create_aggregate_type('Unstorable', fold => 'unstorable_fold(dugong.domain_event)', snapshot_interval => 2);
SELECT sequence_number FROM dugong.append_event('Unstorable', '50a90000-0000-4000-8000-000000000001', 'A');
SELECT sequence_number FROM dugong.append_event('Unstorable', '50a90000-0000-4000-8000-000000000001', 'B');
SELECT sequence_number FROM dugong.append_event('Unstorable', '50a90000-0000-4000-8000-000000000001', 'C');
SELECT sequence_number FROM dugong.append_event('Unstorable', '50a90000-0000-4000-8000-000000000001', 'D');
SELECT dugong.build_aggregate('Unstorable', '50a90000-0000-4000-8000-000000000001') ->> 'n' AS n;
SELECT count(*) FROM dugong.snapshots WHERE aggregate_type = 'Unstorable';
-- Another session is told once, too, whether it appends or takes one by hand
\c -
SELECT dugong.take_snapshot('Unstorable', '50a90000-0000-4000-8000-000000000001');
SELECT dugong.take_snapshot('Unstorable', '50a90000-0000-4000-8000-000000000001');
SELECT sequence_number FROM dugong.append_event('Unstorable', '50a90000-0000-4000-8000-000000000001', 'E');
SELECT sequence_number FROM dugong.append_event('Unstorable', '50a90000-0000-4000-8000-000000000001', 'F');
