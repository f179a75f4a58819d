-- What an erasure does to dead letters, deliveries, errors, statistics and projections that do not run, and how it is refused.
\set home :DBNAME
CREATE DATABASE regress_dugong_erasure;
ALTER DATABASE regress_dugong_erasure SET dugong.max_workers = 0;
\c regress_dugong_erasure
CREATE EXTENSION dugong;
\set a '''a0000000-0000-4000-8000-000000000001'''
\set b '''b0000000-0000-4000-8000-000000000001'''
\set c '''c0000000-0000-4000-8000-000000000001'''
CREATE TYPE patient AS (name text, ward text);
CREATE FUNCTION patient_apply(patient, dugong.domain_event) RETURNS patient LANGUAGE sql IMMUTABLE
RETURN ROW(coalesce(($2).payload ->> 'name', ($1).name), coalesce(($2).payload ->> 'ward', ($1).ward))::patient;
CREATE AGGREGATE patient_fold(dugong.domain_event) (SFUNC = patient_apply, STYPE = patient);
SELECT dugong.create_aggregate_type('Patient', 'patient_fold(dugong.domain_event)');
CREATE TABLE patients (id uuid PRIMARY KEY, name text, ward text);
CREATE TABLE handled (number bigint GENERATED ALWAYS AS IDENTITY, what text);
CREATE TABLE broken (type text PRIMARY KEY);
CREATE FUNCTION handle(e dugong.domain_event) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM broken WHERE type = e.type) AND e.payload ? 'name' THEN
        RAISE EXCEPTION 'no bed for %', e.payload ->> 'name' USING DETAIL = e.payload::text;
    END IF;
    INSERT INTO handled (what) VALUES (concat_ws(' ', left(e.aggregate_id::text, 1), e.sequence_number, e.type));
END $$;
SELECT dugong.create_projection('beds', 'Patient', event_handler => 'handle(dugong.domain_event)');
SELECT dugong.create_projection('patients', 'Patient', 'patients');
SELECT dugong.create_subscription('post', '{Patient}');
-- Where is something to be found?
CREATE FUNCTION found(secret text) RETURNS SETOF text LANGUAGE plpgsql SET bytea_output = escape AS $$
DECLARE
    relation regclass;
    n int;
BEGIN
    FOR relation IN SELECT oid FROM pg_class WHERE relnamespace IN ('dugong'::regnamespace, 'public'::regnamespace) AND relkind = 'r' ORDER BY oid::regclass::text LOOP
        EXECUTE format('SELECT count(*) FROM %s AS t WHERE t::text LIKE %L', relation, '%' || secret || '%') INTO n;
        IF n > 0 THEN
            RETURN NEXT relation;
        END IF;
    END LOOP;
    RETURN QUERY SELECT tablename || '.' || attname FROM pg_stats WHERE schemaname = 'dugong' AND (most_common_vals::text LIKE '%' || secret || '%' OR histogram_bounds::text LIKE '%' || secret || '%');
END $$;

-- Statistics that are older than the setting that keeps them from being made
ALTER TABLE dugong.event_log ALTER payload SET STATISTICS 100;
SELECT dugong.append_event('Patient', p, 'Admitted', jsonb_build_object('name', left(p::text, 1) || ' Secret', 'ward', 'x')) IS NOT NULL FROM unnest(ARRAY[:a, :b, :c]::uuid[]) AS p;
INSERT INTO broken VALUES ('Admitted');
CALL dugong.run_projections();
SELECT dugong.take_snapshot('Patient', :a);
SELECT dugong.nack('post', id, 'cannot write to ' || (payload ->> 'name'), '1 hour') FROM dugong.fetch_events('post');
SELECT dugong.append_event('Patient', :a, 'Moved', '{"ward": "y"}') IS NOT NULL;
CALL dugong.run_projections();
ANALYZE dugong.event_log;
ALTER TABLE dugong.event_log ALTER payload SET STATISTICS 0;
SELECT found('a Secret');

-- An event's key: what waited is tried again, and what was said of it is gone
SELECT id AS admitted FROM dugong.domain_events WHERE aggregate_id = :a AND sequence_number = 1 \gset
SELECT what, name, count, note FROM dugong.erase_payload(:'admitted', '{name}', 'asked to') WHERE what NOT IN ('event', 'not reached') ORDER BY 1, 2;
SELECT found('a Secret');
SELECT left(aggregate_id::text, 1) AS patient, first_sequence_number, last_sequence_number, attempts, given_up, message, detail, context FROM dugong.dead_letters WHERE aggregate_id = :a;
SELECT last_error, last_error_code FROM dugong.projection_status WHERE projection = 'beds';
SELECT left(aggregate_id::text, 1) AS patient, reason FROM dugong.deliveries ORDER BY position;
CALL dugong.run_projections();
SELECT what FROM handled ORDER BY number;
SELECT left(aggregate_id::text, 1) AS patient FROM dugong.dead_letters ORDER BY 1;
SELECT left(id::text, 1) AS patient, name, ward FROM patients ORDER BY id;

-- An aggregate whose first event is a dead letter, in a projection and in a subscription
UPDATE dugong.parked_aggregates SET retry_at = NULL WHERE aggregate_id = :b;
UPDATE dugong.deliveries SET dead = true WHERE aggregate_id = :b;
DELETE FROM handled;
SELECT what, name, count, note FROM dugong.erase_aggregate('Patient', :b, 'asked to') WHERE what NOT IN ('event', 'not reached') ORDER BY 1, 2;
SELECT found('b Secret');
CALL dugong.run_projections();
SELECT what FROM handled ORDER BY number;
SELECT left(aggregate_id::text, 1) AS patient FROM dugong.dead_letters ORDER BY 1;
UPDATE dugong.deliveries SET retry_at = NULL WHERE aggregate_id = :b;
SELECT type, payload FROM dugong.fetch_events('post') WHERE aggregate_id = :b;
SELECT dugong.ack('post', ARRAY(SELECT event_id FROM dugong.deliveries WHERE aggregate_id = :b));
SELECT type, payload FROM dugong.fetch_events('post') WHERE aggregate_id = :b;

-- A projection that does not run is corrected; with code that fails, nothing is erased
SELECT dugong.pause_projection('patients');
ALTER TABLE patients ADD CONSTRAINT named CHECK (name IS NOT NULL OR id <> 'c0000000-0000-4000-8000-000000000001');
SELECT id AS admitted FROM dugong.domain_events WHERE aggregate_id = :c \gset
SELECT count(*) FROM dugong.erase_payload(:'admitted', '{name}', 'asked to');
SELECT found('c Secret');
ALTER TABLE patients DROP CONSTRAINT named;
SELECT count(*) > 0 AS erased FROM dugong.erase_payload(:'admitted', '{name}', 'asked to');
SELECT found('c Secret');
SELECT dugong.resume_projection('patients');
CALL dugong.run_projections();
SELECT left(id::text, 1) AS patient, name, ward FROM patients ORDER BY id;

-- What is refused, and how it is said
SELECT count(*) FROM dugong.erase_aggregate('Patient', 'd0000000-0000-4000-8000-000000000001', 'asked to');
SELECT count(*) FROM dugong.erase_aggregate('Patient', :b, 'asked to');
SELECT count(*) FROM dugong.erase_aggregate('Patient', :a, ' ');
SELECT count(*) FROM dugong.erase_payload('d0000000-0000-4000-8000-000000000001', NULL, 'asked to');
DO $$ BEGIN PERFORM dugong.erase_payload(id, '{nmae}', 'asked to') FROM dugong.domain_events WHERE sequence_number = 2 AND type = 'Moved'; EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', regexp_replace(SQLERRM, '[-0-9a-f]{36}', 'ID'); END $$;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM dugong.erase_aggregate('Patient', :a, 'asked to');
ROLLBACK;
BEGIN READ ONLY;
SELECT count(*) FROM dugong.erase_aggregate('Patient', :a, 'asked to');
ROLLBACK;
SELECT dugong.append_event('Patient', :b, 'Moved');
SELECT dugong.append_event('Patient', :a, '$moved');
SELECT dugong.append_event('Patient', :a, 'Moved', metadata => '{"$erased": "aggregate"}');
UPDATE dugong.erasure_log SET reason = 'another';

-- It is part of its transaction
BEGIN;
SAVEPOINT s;
SELECT count(*) > 0 AS erased FROM dugong.erase_aggregate('Patient', :a, 'asked to');
ROLLBACK TO s;
SELECT dugong.build_aggregate('Patient', :a);
SELECT sequence_number FROM dugong.append_event('Patient', :a, 'Moved', '{"ward": "z"}');
COMMIT;
SELECT aggregate_type, left(aggregate_id::text, 1) AS patient, keys, reason, events FROM dugong.erasures ORDER BY erased_at;

\c :home
DROP DATABASE regress_dugong_erasure;
