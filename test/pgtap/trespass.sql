-- Who tries to do what he may not: each attempt is refused, and nothing of his runs with another's rights.
BEGIN;
-- Before the library is loaded, settings are only names: what a user gives them must not stay.
SET LOCAL client_min_messages = error;
CREATE ROLE regress_dugong_nobody;
SET LOCAL ROLE regress_dugong_nobody;
SET LOCAL dugong.max_workers = 0;
SET LOCAL dugong.unknown = 'x';
RESET ROLE;
SELECT dugong.current_version(0, '', 1) \g /dev/null
RESET client_min_messages;
SELECT no_plan(); -- it grows with the functions that there are
SELECT is(current_setting('dugong.max_workers'), '2', 'a user''s value for a superuser''s setting goes when the library comes');
SELECT is(current_setting('dugong.unknown', true), NULL, 'an unknown setting goes when the library comes');

-- Roles: nobody has nothing, the single one function, the writer appends, the reader reads, the others
-- register types.  The attacker has more: all functions, and a schema of his own.
CREATE ROLE regress_dugong_single;
CREATE ROLE regress_dugong_writer;
CREATE ROLE regress_dugong_reader;
CREATE ROLE regress_dugong_clerk;
CREATE ROLE regress_dugong_developer;
CREATE ROLE regress_dugong_team;
CREATE ROLE regress_dugong_attacker;
CREATE SCHEMA trespass;
GRANT CREATE, USAGE ON SCHEMA trespass TO regress_dugong_attacker, regress_dugong_developer;
GRANT USAGE ON SCHEMA trespass TO PUBLIC;
GRANT regress_dugong_team TO regress_dugong_developer;
GRANT USAGE ON SCHEMA dugong TO regress_dugong_single, regress_dugong_writer, regress_dugong_reader,
    regress_dugong_clerk, regress_dugong_developer, regress_dugong_attacker;
GRANT USAGE ON TYPE dugong.domain_event TO regress_dugong_developer, regress_dugong_attacker;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA dugong TO regress_dugong_attacker;
GRANT EXECUTE ON FUNCTION dugong.create_aggregate_type, dugong.alter_aggregate_type, dugong.drop_aggregate_type,
    dugong.create_event_type, dugong.drop_event_type TO regress_dugong_developer;
GRANT INSERT ON dugong.domain_events TO regress_dugong_writer;
GRANT EXECUTE ON FUNCTION dugong.append_event(text,uuid,text,jsonb,bigint,uuid,int,jsonb,uuid,uuid,text,timestamptz,text,text), dugong.read_events TO regress_dugong_writer;
GRANT SELECT ON dugong.domain_events TO regress_dugong_reader;
GRANT EXECUTE ON FUNCTION dugong.current_version, dugong.current_payload, dugong.read_events, dugong.event,
    dugong.aggregate_events, dugong.aggregate_type_id TO regress_dugong_reader;

-- Only a superuser can ring the alarm, and no rollback silences it.
CREATE SEQUENCE trespass.alarm;
CREATE TABLE trespass.trophy (what text);
CREATE TABLE trespass.seen (place text, who text DEFAULT CURRENT_USER, outcome text, path text DEFAULT current_setting('search_path'));
GRANT SELECT, INSERT ON trespass.seen TO PUBLIC;

-- What comes of a role's command, which is then taken back.
CREATE FUNCTION pg_temp.outcome(actor name, command text, path text DEFAULT 'public') RETURNS text
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    alarms bigint := (SELECT last_value + is_called::int FROM trespass.alarm);
    got text := 'accepted';
BEGIN
    BEGIN
        IF path LIKE '%pg_temp%' THEN
            PERFORM pg_temp.lay_traps('pg_temp');
        END IF;
        EXECUTE format('SET LOCAL ROLE %I', actor);
        EXECUTE format('SET LOCAL search_path = %s', path);
        EXECUTE command;
        RAISE SQLSTATE 'ZZZZZ';
    EXCEPTION
        WHEN SQLSTATE 'ZZZZZ' THEN NULL;
        WHEN OTHERS THEN got := SQLSTATE;
    END;
    RETURN got || CASE WHEN (SELECT last_value + is_called::int FROM trespass.alarm) = alarms THEN '' ELSE ', ALARM' END;
END $$;
-- Who was seen during a role's command, at which places, and what came of his attempts.
CREATE FUNCTION pg_temp.seen(actor name, command text) RETURNS text
LANGUAGE plpgsql SET search_path = public AS $$
DECLARE
    alarms bigint := (SELECT last_value + is_called::int FROM trespass.alarm);
    got text;
BEGIN
    BEGIN
        EXECUTE format('SET LOCAL ROLE %I', actor);
        EXECUTE command;
        RESET ROLE;
        SELECT string_agg(DISTINCT format('%s: %s %s (%s)', place, replace(who, 'regress_dugong_', ''), outcome, path), '; ')
        INTO got FROM trespass.seen;
        RAISE SQLSTATE 'ZZZZZ';
    EXCEPTION
        WHEN SQLSTATE 'ZZZZZ' THEN NULL;
        WHEN OTHERS THEN got := SQLSTATE || ' ' || SQLERRM;
    END;
    RETURN got || CASE WHEN (SELECT last_value + is_called::int FROM trespass.alarm) = alarms THEN '' ELSE ', ALARM' END;
END $$;
-- A plain role's attempt on what is only a superuser's is refused; the superuser himself rings the alarm.
SELECT is(pg_temp.outcome('regress_dugong_attacker', $$ SELECT nextval('trespass.alarm') $$), '42501', 'the attacker cannot ring the alarm');
SELECT is(pg_temp.outcome('postgres', $$ SELECT nextval('trespass.alarm'); SELECT 1 / 0 $$), '22012, ALARM', 'a superuser can, and it stays rung');

-- The members of the extension
CREATE TEMP TABLE members AS
SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
WHERE d.deptype = 'e' AND e.extname = 'dugong';
CREATE TEMP TABLE functions AS
SELECT p.oid, p.oid::regprocedure::text AS signature, p.prokind, p.prosecdef, p.proconfig,
    p.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype) AS is_trigger,
    -- A call with NULLs that is not evaluated before privileges are checked
    format(CASE p.prokind WHEN 'p' THEN 'CALL %s(%s)' ELSE 'SELECT %s(%s) FROM (SELECT %s OFFSET 0) AS n' END,
        format('%I.%I', p.pronamespace::regnamespace, p.proname),
        (SELECT string_agg(CASE WHEN p.provariadic <> 0 AND n = p.pronargs THEN 'VARIADIC ' ELSE '' END ||
            CASE p.prokind WHEN 'p' THEN 'NULL' ELSE 'a' || n END, ', ' ORDER BY n) FROM generate_series(1, p.pronargs) AS n),
        (SELECT string_agg(format('NULL::%s AS a%s', format_type(type, NULL), n), ', ') FROM unnest(p.proargtypes) WITH ORDINALITY AS a(type, n))) AS call
FROM members m JOIN pg_proc p ON p.oid = m.objid WHERE m.classid = 'pg_proc'::regclass
    AND p.prorettype <> 'internal'::regtype; -- the planner's: SQL cannot call them

-- Nothing is PUBLIC's
SELECT cmp_ok((SELECT count(*) FROM members), '>', 50::bigint, 'the members are found');
SELECT set_eq($$ SELECT signature FROM functions WHERE has_function_privilege('public', oid, 'EXECUTE') $$, ARRAY['dugong.sees_tenant(text)'],
    'PUBLIC may call no function but the one that views and policies call');
SELECT is_empty($$ SELECT c.oid::regclass FROM members m JOIN pg_class c ON c.oid = m.objid
    WHERE m.classid = 'pg_class'::regclass AND c.relkind IN ('r', 'v', 'm', 'p')
    AND (has_table_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
         OR has_any_column_privilege('public', c.oid, 'SELECT, INSERT, UPDATE, REFERENCES')) $$, 'PUBLIC may use no table or view');
SELECT is_empty($$ SELECT c.oid::regclass FROM members m JOIN pg_class c ON c.oid = m.objid
    WHERE m.classid = 'pg_class'::regclass AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege('public', c.oid, 'USAGE, SELECT, UPDATE') END $$,
    'PUBLIC may use no sequence');
SELECT is_empty($$ SELECT n.nspname FROM members m JOIN pg_namespace n ON n.oid = m.objid
    WHERE m.classid = 'pg_namespace'::regclass AND has_schema_privilege('public', n.oid, 'USAGE, CREATE') $$, 'PUBLIC may use no schema');
SELECT is_empty($$ SELECT t.oid::regtype FROM members m JOIN pg_type t ON t.oid = m.objid
    WHERE m.classid = 'pg_type'::regclass AND has_type_privilege('public', t.oid, 'USAGE') $$, 'PUBLIC may use no type');
SELECT is_empty($$ SELECT t.oid::regtype FROM members m JOIN pg_type t ON t.typrelid = m.objid
    WHERE m.classid = 'pg_class'::regclass AND has_type_privilege('public', t.oid, 'USAGE') $$, 'nor the row type of a table or view');
-- To set it costs as much as a fifth of a command: these do so when they are about to run a statement (sql/search_path.sql)
SELECT is_empty($$ SELECT signature FROM functions WHERE prosecdef AND proconfig IS DISTINCT FROM ARRAY['search_path=pg_catalog, pg_temp']
    AND signature !~ '^(dugong\.(append_events?|build_aggregate|load_for_update)|(public\.)?bank_(open_account|deposit|withdraw|transfer|close_account|get_account))\(' $$,
    'every SECURITY DEFINER function has a fixed search_path, but for the commands');
SELECT is_empty($$ SELECT signature FROM functions f JOIN pg_proc p USING (oid) JOIN pg_language l ON l.oid = p.prolang
    WHERE l.lanname NOT IN ('c', 'internal') AND p.prosqlbody IS NULL $$, 'every function in SQL was parsed when it was created');

-- Nobody may call anything, with the schema's USAGE or without
SELECT is(pg_temp.outcome('regress_dugong_nobody', call), '42501', 'nobody: ' || signature) FROM functions ORDER BY signature;
SELECT is(pg_temp.outcome('regress_dugong_single', call), '42501', 'nobody with USAGE: ' || signature) FROM functions
WHERE signature <> 'dugong.sees_tenant(text)' ORDER BY signature;

-- A working call of each function, by names that no search_path can turn
\set id '''a0000000-0000-4000-8000-00000000000a'''
SELECT bank_open_account('Alice', 500, :id, 'e0000000-0000-4000-8000-000000000001') \g /dev/null
SELECT bank_open_account('Bob', 5, 'b0000000-0000-4000-8000-00000000000b') \g /dev/null
SELECT dugong.append_event('BankAccount', 'b0000000-0000-4000-8000-00000000000b', 'Noted', '{"a": 1}', event_id => 'e0000000-0000-4000-8000-000000000002') \g /dev/null
SELECT dugong.create_aggregate_type('Own', fold => 'dugong.row_fold(dugong.domain_event)', origin => 'here', external => false) \g /dev/null
SELECT dugong.create_aggregate_type('Other', origin => 'elsewhere') \g /dev/null
SELECT dugong.alter_aggregate_type('Own', owner => 'regress_dugong_single', origin => 'here') \g /dev/null
SELECT dugong.create_event_type('Own', 'Made') \g /dev/null
SELECT dugong.declare_tags('Own', 'Tagged', '{}') \g /dev/null
SELECT dugong.create_aggregate_type('Projected', origin => 'here', external => false) \g /dev/null
CREATE FUNCTION trespass.on_event(dugong.domain_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION trespass.on_reset() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
SELECT dugong.create_projection('own', 'Projected', event_handler => 'trespass.on_event(dugong.domain_event)',
    reset_handler => 'trespass.on_reset()', origin => 'here') \g /dev/null
SELECT dugong.create_projection('own_inline', 'Projected', event_handler => 'trespass.on_event(dugong.domain_event)', mode => 'inline', origin => 'here') \g /dev/null
SELECT dugong.create_subscription('sub', '{Projected}', origin => 'here') \g /dev/null
SELECT dugong.alter_projection(name, owner => 'regress_dugong_single') FROM unnest(ARRAY['own', 'own_inline']) AS name \g /dev/null
SELECT dugong.alter_subscription('sub', owner => 'regress_dugong_single') \g /dev/null
CREATE TABLE trespass.own_model (id uuid, tenant_id text, PRIMARY KEY (id, tenant_id));
GRANT SELECT ON trespass.own_model TO regress_dugong_single, regress_dugong_attacker;
SELECT dugong.create_aggregate_type('Shown', fold => 'dugong.row_fold(dugong.domain_event)', origin => 'here', external => false) \g /dev/null
SELECT dugong.create_projection('own_model', 'Shown', 'trespass.own_model', origin => 'here') \g /dev/null
CREATE TABLE trespass.source (id uuid, origin text, "aggregateType" text, "aggregateId" text, "sequenceNumber" int, type text, payload jsonb, "timestamp" timestamptz);
INSERT INTO trespass.source VALUES ('e0000000-0000-4000-8000-000000000010', 'here', 'Own', 'a', 1, 'Made', '{}', '2020-01-01');
GRANT SELECT ON trespass.source TO regress_dugong_single, regress_dugong_attacker;
CREATE TEMP TABLE calls AS SELECT * FROM (VALUES
    ('dugong.verify_projection(text,integer,boolean)', $$SELECT dugong.verify_projection('own_model')$$),
    ('dugong.query_model_as_of(anyelement,timestamp with time zone,bigint)', $$SELECT dugong.query_model_as_of(NULL::trespass.own_model)$$),
    ('bank_account_apply(bank_account_state,dugong.domain_event)', $$SELECT public.bank_account_apply(NULL, pg_catalog.jsonb_populate_record(NULL::dugong.domain_event,
        '{"type": "AccountOpened", "aggregate_id": "a0000000-0000-4000-8000-00000000000a", "payload": {"owner": "A", "initialBalance": 1}}'))$$),
    ('bank_account_fold(dugong.domain_event)', $$SELECT public.bank_account_fold(pg_catalog.jsonb_populate_record(NULL::dugong.domain_event,
        '{"type": "AccountOpened", "aggregate_id": "a0000000-0000-4000-8000-00000000000a", "payload": {"owner": "A", "initialBalance": 1}}'))$$),
    ('bank_open_account(text,numeric,uuid,uuid)', $$SELECT public.bank_open_account('Carol', 1)$$),
    ('bank_deposit(uuid,numeric,uuid)', $$SELECT public.bank_deposit('a0000000-0000-4000-8000-00000000000a', 1)$$),
    ('bank_withdraw(uuid,numeric,uuid)', $$SELECT public.bank_withdraw('a0000000-0000-4000-8000-00000000000a', 1)$$),
    ('bank_transfer(uuid,uuid,numeric,uuid)', $$SELECT public.bank_transfer('a0000000-0000-4000-8000-00000000000a', 'b0000000-0000-4000-8000-00000000000b', 1)$$),
    ('bank_close_account(uuid,uuid)', $$SELECT public.bank_close_account('a0000000-0000-4000-8000-00000000000a')$$),
    ('bank_get_account(uuid)', $$SELECT public.bank_get_account('a0000000-0000-4000-8000-00000000000a')$$),
    ('dugong.aggregate_events(text,uuid,bigint,bigint,text,text)', $$SELECT dugong.aggregate_events('BankAccount', 'a0000000-0000-4000-8000-00000000000a')$$),
    ('dugong.aggregate_id(text,text[])', $$SELECT dugong.aggregate_id(a, b) FROM (VALUES ('a'::pg_catalog.text, 'b'::pg_catalog.text)) AS v(a, b)$$),
    ('dugong.aggregate_ids(text,uuid,integer,text,text)', $$SELECT dugong.aggregate_ids('BankAccount')$$),
    ('dugong.aggregate_type_id(text,text)', $$SELECT dugong.aggregate_type_id(a, b) FROM (VALUES ('a'::pg_catalog.text, 'b'::pg_catalog.text)) AS v(a, b)$$),
    ('dugong.aggregate_history(text,uuid,text,text)', $$SELECT dugong.aggregate_history('Own', gen_random_uuid())$$),
    ('dugong.build_aggregate(text,uuid,bigint,timestamp with time zone,boolean,boolean,text,text)', $$SELECT dugong.build_aggregate('Own', gen_random_uuid())$$),
    ('dugong.build_aggregate(anyelement,text,uuid,bigint,timestamp with time zone,boolean,boolean,text,text)', $$SELECT dugong.build_aggregate(NULL::pg_catalog.jsonb, 'Own', gen_random_uuid())$$),
    ('dugong.load_for_update(anyelement,text,uuid,boolean,text,text)', $$SELECT dugong.load_for_update(NULL::pg_catalog.jsonb, 'Own', gen_random_uuid(), true)$$),
    ('dugong.drop_snapshots(text,text)', $$SELECT dugong.drop_snapshots('Own')$$),
    ('dugong.verify_snapshots(text,text)', $$SELECT dugong.verify_snapshots('Own')$$),
    ('dugong.snapshot_is_valid(integer,bigint)', $$SELECT dugong.snapshot_is_valid(1, 1)$$),
    ('dugong.take_snapshot(text,uuid,text,text)', $$SELECT dugong.take_snapshot('Own', gen_random_uuid())$$),
    ('dugong.aggregate_types()', $$SELECT dugong.aggregate_types()$$),
    ('dugong.alter_aggregate_type(text,regprocedure,integer,boolean,regprocedure[],regrole,text)', $$SELECT dugong.alter_aggregate_type('Own', snapshot_interval => 7, origin => 'here')$$),
    ('dugong.alter_projection(text,regprocedure,regprocedure,regprocedure,regprocedure,regprocedure,text[],text,regrole,boolean,text)',
        $$SELECT dugong.alter_projection('own', event_handler => 'trespass.on_event(dugong.domain_event)', on_error => 'stop', accept => true)$$),
    ('dugong.create_projection(text,text,regclass,text,regprocedure,regprocedure,regprocedure,regprocedure,regprocedure,text[],text,bigint,text)',
        $$SELECT dugong.create_projection('new', 'Projected', event_handler => 'trespass.on_event(dugong.domain_event)', origin => 'here')$$),
    ('dugong.create_projection(text,text[],regclass,text,regprocedure,regprocedure,regprocedure,regprocedure,regprocedure,text[],text,bigint,text)',
        $$SELECT dugong.create_projection('new', ARRAY['Projected'::pg_catalog.text, 'Own'], event_handler => 'trespass.on_event(dugong.domain_event)', start_position => NULL, origin => 'here')$$),
    ('dugong.ack(text,uuid[],text)', $$SELECT dugong.ack('sub', '{}')$$),
    ('dugong.alter_subscription(text,text[],interval,regrole)', $$SELECT dugong.alter_subscription('sub', visibility_timeout => '1 s')$$),
    ('dugong.attempts(text,uuid)', $$SELECT dugong.attempts('sub', gen_random_uuid())$$),
    ('dugong.release(text,uuid[],text)', $$SELECT dugong.release('sub', consumer => 'x')$$),
    ('dugong.create_subscription(text,text[],text[],bigint,interval,text)', $$SELECT dugong.create_subscription('new_sub', '{Projected}', origin => 'here')$$),
    ('dugong.drop_subscription(text)', $$SELECT dugong.drop_subscription('sub')$$),
    ('dugong.fetch_events(text,integer,text)', $$SELECT * FROM dugong.fetch_events('sub')$$),
    ('dugong.nack(text,uuid,text,interval,text)', $$SELECT dugong.nack('sub', gen_random_uuid())$$),
    ('dugong.wait_for_events(text,interval)', $$CALL dugong.wait_for_events('sub', '1ms')$$),
    ('dugong.discard_dead_letter(text,uuid,text)', $$SELECT dugong.discard_dead_letter('own', gen_random_uuid())$$),
    ('dugong.drop_projection(text)', $$SELECT dugong.drop_projection('own')$$),
    ('dugong.is_preloaded()', $$SELECT dugong.is_preloaded()$$),
    ('dugong.is_replaying()', $$SELECT dugong.is_replaying()$$),
    ('dugong.pause_projection(text)', $$SELECT dugong.pause_projection('own')$$),
    ('dugong.projection_is_stale(text,bigint)', $$SELECT dugong.projection_is_stale('own', 1)$$),
    ('dugong.projection_lock_key(text)', $$SELECT dugong.projection_lock_key(a) FROM (VALUES ('own'::pg_catalog.text)) AS v(a)$$),
    ('dugong.rebuild_projection(text,uuid,text,boolean)', $$CALL dugong.rebuild_projection('own')$$),
    ('dugong.resume_projection(text)', $$SELECT dugong.resume_projection('own')$$),
    ('dugong.retry_dead_letters(text,uuid)', $$SELECT dugong.retry_dead_letters('own')$$),
    ('dugong.stop_workers()', $$SELECT dugong.stop_workers()$$),
    ('dugong.wait_for_projection(text,interval,bigint)', $$CALL dugong.wait_for_projection('own_inline')$$),
    ('dugong.append_event(text,uuid,text,jsonb,bigint,uuid,integer,jsonb,uuid,uuid,text,timestamp with time zone,text,text)',
        $$SELECT dugong.append_event('BankAccount', 'a0000000-0000-4000-8000-00000000000a', 'Noted', '{"a": 1}', event_id => 'e0000000-0000-4000-8000-000000000007')$$),
    ('dugong.append_events(text,uuid,jsonb,bigint,jsonb,uuid,uuid,text,timestamp with time zone,text,text)',
        $$SELECT dugong.append_events('BankAccount', 'a0000000-0000-4000-8000-00000000000a', '[{"type": "Noted"}, {"type": "Noted"}]', 1)$$),
    ('dugong.append_event(name,uuid,text,jsonb,bigint,uuid,integer,jsonb,uuid,uuid,text,timestamp with time zone,jsonb,bigint,text,text)',
        $$SELECT dugong.append_event('Own', gen_random_uuid(), 'Tagged', if_none_match => '{"types": ["Tagged"]}')$$),
    ('dugong.append_events(name,uuid,jsonb,bigint,jsonb,uuid,uuid,text,timestamp with time zone,jsonb,bigint,text,text)',
        $$SELECT dugong.append_events('Own', gen_random_uuid(), '[{"type": "Tagged"}]', if_none_match => '{"types": ["Tagged"]}')$$),
    ('dugong.declare_tags(text,text,jsonb,text)', $$SELECT dugong.declare_tags('Own', 'Made', '{"a": "a"}')$$),
    ('dugong.drop_tags(text,text,text)', $$SELECT dugong.drop_tags('Own', 'Tagged')$$),
    ('dugong.read_events_matching(jsonb,bigint,integer,boolean,text)', $$SELECT dugong.read_events_matching('{"types": ["Tagged"]}')$$),
    ('dugong.check_event_types()', $$SELECT dugong.check_event_types()$$),
    ('dugong.create_aggregate_type(text,regprocedure,integer,boolean,regprocedure[],text,boolean)', $$SELECT dugong.create_aggregate_type('New', origin => 'here')$$),
    ('dugong.create_event_type(text,text,integer,regtype,regprocedure,text)', $$SELECT dugong.create_event_type('Own', 'Built', origin => 'here')$$),
    ('dugong.current_payload(integer,text,integer,jsonb)', $$SELECT dugong.current_payload(a, 'Made', 1, '{}') FROM (VALUES (1)) AS v(a)$$),
    ('dugong.current_version(integer,text,integer)', $$SELECT dugong.current_version(a, 'Made', 1) FROM (VALUES (1)) AS v(a)$$),
    ('dugong.drop_aggregate_type(text,text)', $$SELECT dugong.drop_aggregate_type('Own', 'here')$$),
    ('dugong.drop_event_type(text,text,integer,text)', $$SELECT dugong.drop_event_type('Own', 'Made')$$),
    ('dugong.effects_of(uuid)', $$SELECT dugong.effects_of('e0000000-0000-4000-8000-000000000001')$$),
    ('dugong.erase_aggregate(text,uuid,text,text,text)', $$SELECT * FROM dugong.erase_aggregate('BankAccount', 'a0000000-0000-4000-8000-00000000000a', 'why')$$),
    ('dugong.erase_payload(uuid,text[],text)', $$SELECT * FROM dugong.erase_payload('e0000000-0000-4000-8000-000000000002', '{a}', 'why')$$),
    ('dugong.is_skeleton(dugong.domain_event)', $$SELECT dugong.is_skeleton(pg_catalog.jsonb_populate_record(NULL::dugong.domain_event, '{"type": "Made"}'))$$),
    ('dugong.event(uuid)', $$SELECT dugong.event('e0000000-0000-4000-8000-000000000001')$$),
    ('dugong.import_events(regclass,jsonb,boolean,integer)', $$CALL dugong.import_events('trespass.source')$$),
    ('dugong.read_events(bigint,integer,text[],text[],uuid,boolean,boolean,text,text)', $$SELECT dugong.read_events(0, 10, '{BankAccount}', '{AccountOpened}')$$),
    ('dugong.receive_message(jsonb)', $$SELECT dugong.receive_message('{"origin": "elsewhere", "aggregateType": "Other", "type": "Made", "sequenceNumber": 1,
        "id": "e0000000-0000-4000-8000-000000000008", "aggregateId": "a0000000-0000-4000-8000-00000000000a", "tenantId": "t", "timestamp": "2020-01-01T00:00:00Z"}')$$),
    ('dugong.row_apply(jsonb,dugong.domain_event)', $$SELECT dugong.row_apply('{}', pg_catalog.jsonb_populate_record(NULL::dugong.domain_event, '{"payload": {"new": {}}}'))$$),
    ('dugong.row_fold(dugong.domain_event)', $$SELECT dugong.row_fold(pg_catalog.jsonb_populate_record(NULL::dugong.domain_event, '{"payload": {"new": {}}}'))$$),
    ('dugong.run_projections()', $$CALL dugong.run_projections()$$),
    ('dugong.start_workers()', $$SELECT dugong.start_workers()$$),
    ('dugong.sees_tenant(text)', $$SELECT dugong.sees_tenant(a) FROM (VALUES ('a'::pg_catalog.text)) AS v(a)$$),
    ('dugong.to_domain_event(dugong.domain_events)', $$SELECT dugong.to_domain_event(pg_catalog.jsonb_populate_record(NULL::dugong.domain_events, '{"type": "Made"}'))$$),
    ('dugong.to_message(dugong.domain_event)', $$SELECT dugong.to_message(pg_catalog.jsonb_populate_record(NULL::dugong.domain_event,
        '{"type": "Made", "timestamp": "2020-01-01", "tenant_id": "t", "metadata": {}}'))$$)
) AS v(signature, call);
-- EXECUTE is not enough for these: they are for those who have the rights of the log's owner
CREATE TEMP TABLE owners_calls AS SELECT * FROM (VALUES
    ('dugong.disable_tenant_isolation()', $$SELECT dugong.disable_tenant_isolation()$$),
    ('dugong.enable_tenant_isolation()', $$SELECT dugong.enable_tenant_isolation()$$),
    ('dugong.grant_tenant(text,text)', $$SELECT dugong.grant_tenant('regress_dugong_single', 'a')$$),
    ('dugong.revoke_tenant(text,text)', $$SELECT dugong.revoke_tenant('regress_dugong_single', 'a')$$)
) AS v(signature, call);
SELECT set_eq('SELECT signature FROM calls UNION ALL SELECT signature FROM owners_calls', 'SELECT signature FROM functions WHERE NOT is_trigger', 'a call of each function');
SELECT is(pg_temp.outcome('regress_dugong_attacker', call), '42501', 'the owner''s: ' || signature) FROM owners_calls;
SELECT is(pg_temp.outcome('postgres', call), 'accepted', 'the owner: ' || signature) FROM owners_calls;

-- Who may execute one function can do that, and no other thing
CREATE FUNCTION pg_temp.with_only(signature text, call text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    got text;
    others text;
BEGIN
    BEGIN
        EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO regress_dugong_single', signature);
        got := pg_temp.outcome('regress_dugong_single', call);
        SELECT string_agg(f.signature, ', ') INTO others FROM pg_temp.functions f
        WHERE f.signature NOT IN (with_only.signature, 'dugong.sees_tenant(text)') AND pg_temp.outcome('regress_dugong_single', f.call) <> '42501';
        RAISE SQLSTATE 'ZZZZZ';
    EXCEPTION WHEN SQLSTATE 'ZZZZZ' THEN NULL;
    END;
    RETURN concat_ws(', and ', got, others);
END $$;
SELECT is(pg_temp.with_only(signature, call), 'accepted', 'may call only ' || signature) FROM calls ORDER BY signature;

-- A writer appends, and that is all
SELECT is(pg_temp.outcome('regress_dugong_writer', command), 'accepted', 'writer: ' || command)
FROM (VALUES
    ($$INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES ('BankAccount', 'a0000000-0000-4000-8000-00000000000a', 'Noted')$$),
    ($$SELECT dugong.append_event('BankAccount', 'a0000000-0000-4000-8000-00000000000a', 'Noted')$$),
    ($$SELECT dugong.read_events()$$)) AS v(command);
SELECT is(pg_temp.outcome('regress_dugong_writer', command), '42501', 'writer: ' || command)
FROM (
    SELECT format(command, object) FROM unnest(ARRAY['dugong.event_log', 'dugong.aggregate_types', 'dugong.event_types', 'dugong.tag_declarations', 'dugong.event_tags', 'dugong.home',
        'dugong.projections', 'dugong.checkpoints', 'dugong.checkpoint_holes', 'dugong.parked_aggregates', 'dugong.deliveries', 'dugong.projection_failures',
        'dugong.rebuilds', 'dugong.imports', 'dugong.erasure_log', 'dugong.stopped_workers', 'bank_account_query_model']) AS object,
    unnest(ARRAY['SELECT FROM %s', 'INSERT INTO %s DEFAULT VALUES', 'DELETE FROM %s', 'TRUNCATE %s CASCADE', 'LOCK %s',
        'SELECT FROM %s FOR UPDATE', 'CREATE TRIGGER t BEFORE INSERT ON %s EXECUTE FUNCTION suppress_redundant_updates_trigger()',
        'CREATE RULE r AS ON INSERT TO %s DO INSTEAD NOTHING', 'ALTER TABLE %s DISABLE TRIGGER ALL', 'ALTER TABLE %s OWNER TO regress_dugong_writer',
        'GRANT ALL ON %s TO regress_dugong_writer', 'DROP TABLE %s CASCADE', 'COMMENT ON TABLE %s IS ''x''', 'ALTER TABLE %s ENABLE ROW LEVEL SECURITY']) AS command
    UNION ALL
    SELECT 'SELECT FROM dugong.' || view FROM unnest(ARRAY['projection_status', 'dead_letters', 'worker_status', 'rebuild_progress', 'import_progress', 'consumed_messages', 'snapshots', 'subscription_status', 'outstanding_events', 'declared_tags']) AS view
    UNION ALL
    SELECT * FROM (VALUES
        ($$UPDATE dugong.event_log SET payload = NULL$$),
        ($$UPDATE dugong.aggregate_types SET owner = 'regress_dugong_writer'$$),
        ($$UPDATE dugong.event_types SET upcast = NULL$$),
        ($$UPDATE dugong.checkpoints SET position = 0$$),
        ($$UPDATE dugong.projections SET query_model = 'x'$$),
        ($$INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type) VALUES (1, gen_random_uuid(), 'Noted')$$),
        ($$CREATE INDEX ON dugong.event_log ((payload IS NULL))$$),
        ($$SELECT FROM dugong.domain_events$$),
        ($$SELECT FROM dugong.aggregates$$),
        ($$INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES ('BankAccount', gen_random_uuid(), 'Noted') RETURNING payload$$),
        ($$UPDATE dugong.domain_events SET type = 'x'$$),
        ($$DELETE FROM dugong.domain_events$$),
        ($$SELECT setval('dugong.event_log_position_seq', 1)$$),
        ($$SELECT nextval('dugong.event_log_position_seq')$$),
        ($$SELECT last_value FROM dugong.event_log_position_seq$$),
        ($$ALTER SEQUENCE dugong.event_log_position_seq CACHE 20$$),
        ($$SELECT dugong.create_aggregate_type('Mine')$$),
        ($$SELECT dugong.alter_aggregate_type('BankAccount', strict => true)$$),
        ($$SELECT dugong.drop_aggregate_type('Own')$$),
        ($$SELECT dugong.create_event_type('BankAccount', 'Noted')$$),
        ($$SELECT dugong.drop_event_type('Own', 'Made')$$),
        ($$CREATE FUNCTION dugong.max(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 0'$$),
        ($$CREATE TABLE dugong.t ()$$),
        ($$CREATE OR REPLACE FUNCTION dugong.to_message(event dugong.domain_event) RETURNS jsonb LANGUAGE sql AS 'SELECT NULL::jsonb'$$),
        ($$ALTER FUNCTION dugong.append_event(text,uuid,text,jsonb,bigint,uuid,int,jsonb,uuid,uuid,text,timestamptz,text,text) SECURITY INVOKER$$),
        ($$ALTER FUNCTION dugong.append_event(text,uuid,text,jsonb,bigint,uuid,int,jsonb,uuid,uuid,text,timestamptz,text,text) SET search_path = public$$),
        ($$CREATE CAST (dugong.domain_event AS text) WITH INOUT$$),
        ($$CREATE TEMP TABLE t (e dugong.domain_event)$$),
        ($$CREATE TEMP TABLE t (e bank_account_state)$$),
        ($$CREATE TEMP TABLE t (e bank_account_query_model)$$),
        ($$ALTER TYPE dugong.domain_event ADD ATTRIBUTE x int$$),
        ($$ALTER EXTENSION dugong UPDATE$$),
        ($$ALTER EXTENSION dugong DROP TABLE dugong.event_log$$),
        ($$DROP EVENT TRIGGER dugong_guard_drop$$),
        ($$ALTER EVENT TRIGGER dugong_guard_drop DISABLE$$),
        ($$DO 'BEGIN SET LOCAL dugong.allow_drop = on; DROP EXTENSION dugong CASCADE; END'$$),
        ($$DO 'BEGIN SET LOCAL dugong.allow_drop = on; DROP SCHEMA dugong CASCADE; END'$$),
        ($$SET LOCAL dugong.max_workers = 0$$),
        ($$SET LOCAL session_replication_role = replica$$),
        ($$ALTER ROLE regress_dugong_writer SET dugong.max_workers = 0$$)) AS other) AS v(command);
SELECT is(pg_temp.outcome('regress_dugong_writer', $$INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, position) VALUES ('BankAccount', gen_random_uuid(), 'Noted', 9)$$),
    '22023', 'a writer does not choose a position');
GRANT UPDATE, DELETE ON dugong.domain_events TO regress_dugong_writer;
GRANT EXECUTE ON FUNCTION dugong.current_version, dugong.current_payload TO regress_dugong_writer;
GRANT SELECT, UPDATE, DELETE, TRUNCATE ON dugong.event_log TO regress_dugong_writer;
SELECT is(pg_temp.outcome(actor, command), 'UG005', actor || ': ' || command)
FROM unnest(ARRAY['regress_dugong_writer', 'postgres']) AS actor,
    unnest(ARRAY['UPDATE dugong.domain_events SET type = ''x''', 'DELETE FROM dugong.domain_events', 'UPDATE dugong.event_log SET type = ''x''',
    'DELETE FROM dugong.event_log']) AS command;
SELECT is(pg_temp.outcome('postgres', 'TRUNCATE dugong.event_log CASCADE'), 'UG005', 'postgres: TRUNCATE');
REVOKE ALL ON dugong.event_log FROM regress_dugong_writer;
GRANT INSERT ON dugong.event_log TO regress_dugong_writer;
GRANT SELECT ON dugong.checkpoints TO regress_dugong_writer;
SELECT is(pg_temp.outcome('regress_dugong_writer', $$INSERT INTO dugong.event_log (position, sequence_number, "timestamp", id, aggregate_id, aggregate_type_id, version, tenant_id, type)
    VALUES (1000000, 1, now(), gen_random_uuid(), gen_random_uuid(), 1, 1, '', 'Noted')$$), '42501', 'only the log''s owner restores');

-- Settings
SELECT is(pg_temp.outcome(actor, 'SET LOCAL ' || setting), code, format('%s: %s', actor, setting))
FROM (VALUES
    ('postgres', '42602', 'dugong.unknown = 1'),
    ('regress_dugong_writer', '42602', 'dugong.unknown = 1'),
    ('regress_dugong_writer', '42602', 'dugong.placed_position = 1'),
    ('regress_dugong_writer', '42501', 'dugong.max_workers = 1'),
    ('postgres', '22023', 'dugong.max_workers = 1000'),
    ('postgres', '55P02', 'dugong.poll_interval = 1000'),
    ('regress_dugong_writer', '55P02', 'dugong.poll_interval = 1000'),
    ('regress_dugong_writer', '22023', 'dugong.batch_size = 0'),
    ('regress_dugong_writer', '22023', 'dugong.correlation_id = ''x'''),
    ('regress_dugong_writer', 'accepted', 'dugong.tenant_id = ''x''')) AS v(actor, code, setting);

-- Registering
SET LOCAL ROLE regress_dugong_attacker;
CREATE FUNCTION trespass.closed_apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE AGGREGATE trespass.closed_fold(dugong.domain_event) (SFUNC = trespass.closed_apply, STYPE = jsonb);
CREATE AGGREGATE trespass.half_closed_fold(dugong.domain_event) (SFUNC = trespass.closed_apply, STYPE = jsonb);
CREATE FUNCTION trespass.closed_upcast(jsonb) RETURNS jsonb LANGUAGE sql AS 'SELECT $1';
CREATE TYPE trespass.closed_type AS (a int);
CREATE DOMAIN trespass.closed_domain AS jsonb;
REVOKE ALL ON FUNCTION trespass.closed_apply, trespass.closed_fold, trespass.closed_upcast FROM PUBLIC;
REVOKE ALL ON TYPE trespass.closed_type, trespass.closed_domain FROM PUBLIC;
RESET ROLE;
SET LOCAL ROLE regress_dugong_developer;
SELECT dugong.create_aggregate_type('Developed', origin => 'here') \g /dev/null
SELECT dugong.create_event_type('Developed', 'Made') \g /dev/null
RESET ROLE;
SELECT is(pg_temp.outcome(actor, command), code, format('%s: %s', actor, command))
FROM (VALUES
    -- what he may not use
    ('42501', 'regress_dugong_developer', $$SELECT dugong.create_aggregate_type('New', fold => 'trespass.closed_fold(dugong.domain_event)')$$),
    ('42501', 'regress_dugong_developer', $$SELECT dugong.create_aggregate_type('New', fold => 'trespass.half_closed_fold(dugong.domain_event)')$$),
    ('42501', 'regress_dugong_developer', $$SELECT dugong.create_aggregate_type('New', fold => 'bank_account_fold(dugong.domain_event)')$$),
    ('42501', 'regress_dugong_developer', $$SELECT dugong.alter_aggregate_type('Developed', fold => 'trespass.closed_fold(dugong.domain_event)')$$),
    ('42501', 'regress_dugong_developer', $$SELECT dugong.alter_aggregate_type('Developed', fold => 'trespass.half_closed_fold(dugong.domain_event)')$$),
    ('42501', 'regress_dugong_developer', $$SELECT dugong.create_event_type('Developed', 'Made', 2, upcast => 'trespass.closed_upcast(jsonb)')$$),
    ('42501', 'regress_dugong_developer', $$SELECT dugong.create_event_type('Developed', 'Made', 2, payload_type => 'trespass.closed_type')$$),
    ('42501', 'regress_dugong_developer', $$SELECT dugong.create_event_type('Developed', 'Made', 2, payload_type => 'trespass.closed_domain')$$),
    ('accepted', 'regress_dugong_attacker', $$SELECT dugong.create_aggregate_type('New', fold => 'trespass.closed_fold(dugong.domain_event)')$$),
    -- what is no such thing
    ('42809', 'regress_dugong_developer', $$SELECT dugong.create_aggregate_type('New', fold => 'pg_catalog.now()')$$),
    ('42809', 'regress_dugong_developer', $$SELECT dugong.create_aggregate_type('New', fold => 'pg_catalog.max(int)')$$),
    ('42P13', 'regress_dugong_developer', $$SELECT dugong.create_event_type('Developed', 'Made', 2, upcast => 'pg_catalog.now()')$$),
    ('42P13', 'regress_dugong_developer', $$SELECT dugong.create_event_type('Developed', 'Made', 2, upcast => 'pg_catalog.jsonb_array_elements(jsonb)')$$),
    ('42809', 'regress_dugong_developer', $$SELECT dugong.create_event_type('Developed', 'Made', 2, payload_type => 'internal')$$),
    ('42883', 'postgres', $$SELECT dugong.create_aggregate_type('New', fold => 4294967295::regprocedure)$$),
    ('42883', 'regress_dugong_developer', $$SELECT dugong.create_aggregate_type('New', fold => 4294967295::regprocedure)$$),
    ('42883', 'postgres', $$SELECT dugong.create_event_type('Own', 'Made', 2, upcast => 4294967295::regprocedure)$$),
    ('42883', 'regress_dugong_developer', $$SELECT dugong.create_event_type('Developed', 'Made', 2, upcast => 0::regprocedure)$$),
    ('42704', 'postgres', $$SELECT dugong.create_event_type('Own', 'Made', 2, payload_type => 4294967295::regtype)$$),
    ('42704', 'regress_dugong_developer', $$SELECT dugong.create_event_type('Developed', 'Made', 2, payload_type => 0::regtype)$$),
    ('42704', 'postgres', $$SELECT dugong.alter_aggregate_type('Own', owner => 4294967295::regrole)$$),
    -- what is another's
    ('42501', 'regress_dugong_developer', $$SELECT dugong.alter_aggregate_type('BankAccount', strict => true)$$),
    ('42501', 'regress_dugong_developer', $$SELECT dugong.alter_aggregate_type('BankAccount', owner => 'regress_dugong_developer')$$),
    ('42501', 'regress_dugong_developer', $$SELECT dugong.drop_aggregate_type('Other')$$),
    ('42501', 'regress_dugong_developer', $$SELECT dugong.create_event_type('BankAccount', 'MoneyDeposited')$$),
    ('42501', 'regress_dugong_developer', $$SELECT dugong.drop_event_type('Own', 'Made')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.alter_aggregate_type('Developed', strict => true)$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.alter_aggregate_type('Developed')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.drop_aggregate_type('Developed')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.create_event_type('Developed', 'Made', 2)$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.drop_event_type('Developed', 'Made')$$),
    ('42710', 'regress_dugong_attacker', $$SELECT dugong.create_aggregate_type('Developed', origin => 'here')$$),
    -- giving away
    ('42501', 'regress_dugong_developer', $$SELECT dugong.alter_aggregate_type('Developed', owner => 'postgres')$$),
    ('42501', 'regress_dugong_developer', $$SELECT dugong.alter_aggregate_type('Developed', owner => 'regress_dugong_attacker')$$),
    ('42501', 'regress_dugong_developer', $$SELECT dugong.alter_aggregate_type('Developed', owner => 'pg_read_all_data')$$),
    ('accepted', 'regress_dugong_developer', $$SELECT dugong.alter_aggregate_type('Developed', owner => 'regress_dugong_team')$$),
    ('accepted', 'postgres', $$SELECT dugong.alter_aggregate_type('Developed', owner => 'regress_dugong_attacker')$$)
) AS v(code, actor, command);

-- The type belongs to its owner of now
SELECT dugong.alter_aggregate_type('Developed', owner => 'regress_dugong_attacker') \g /dev/null
SELECT is(pg_temp.outcome('regress_dugong_' || actor, $$SELECT dugong.alter_aggregate_type('Developed', strict => true)$$), code, 'given to the attacker: ' || actor)
FROM (VALUES ('developer', '42501'), ('attacker', 'accepted')) AS v(actor, code);
SELECT dugong.alter_aggregate_type('Developed', owner => 'regress_dugong_team') \g /dev/null
SELECT is(pg_temp.outcome('regress_dugong_' || actor, $$SELECT dugong.alter_aggregate_type('Developed', strict => true)$$), code, 'given to the team: ' || actor)
FROM (VALUES ('developer', 'accepted'), ('attacker', '42501')) AS v(actor, code);
REVOKE regress_dugong_team FROM regress_dugong_developer;
SELECT is(pg_temp.outcome('regress_dugong_developer', command), '42501', 'no longer in the team: ' || command)
FROM unnest(ARRAY[$$SELECT dugong.alter_aggregate_type('Developed', owner => 'regress_dugong_developer')$$, $$SELECT dugong.drop_aggregate_type('Developed')$$,
    $$SELECT dugong.drop_event_type('Developed', 'Made')$$]) AS command;

-- Another service's events are not appended, one's own are not received
CREATE TABLE trespass.others (id uuid);
CREATE TRIGGER record AFTER INSERT ON trespass.others FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Other', 'id');
SELECT is(pg_temp.outcome(actor, command), code, format('%s: %s', actor, command))
FROM unnest(ARRAY['postgres', 'regress_dugong_attacker']) AS actor, (VALUES
    ('UG009', $$SELECT dugong.append_event('Other', gen_random_uuid(), 'Made')$$),
    ('UG009', $$SELECT dugong.append_events('Other', gen_random_uuid(), '[{"type": "Made"}]')$$),
    ('UG009', $$SELECT dugong.receive_message('{"origin": "BankingContext-AccountService", "aggregateType": "BankAccount", "type": "MoneyDeposited", "sequenceNumber": 2,
        "id": "e0000000-0000-4000-8000-000000000009", "aggregateId": "a0000000-0000-4000-8000-00000000000a", "payload": {"amount": 1000000}}')$$),
    ('42704', $$SELECT dugong.receive_message('{"origin": "nowhere", "aggregateType": "BankAccount", "type": "MoneyDeposited", "sequenceNumber": 2,
        "id": "e0000000-0000-4000-8000-000000000009", "aggregateId": "a0000000-0000-4000-8000-00000000000a"}')$$),
    ('UG001', $$SELECT dugong.receive_message('{"origin": "elsewhere", "aggregateType": "Other", "type": "Made", "sequenceNumber": 7,
        "id": "e0000000-0000-4000-8000-000000000009", "aggregateId": "a0000000-0000-4000-8000-00000000000a"}')$$)) AS v(code, command);
SELECT is(pg_temp.outcome('postgres', command), 'UG009', command)
FROM unnest(ARRAY[$$INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES ('Other', gen_random_uuid(), 'Made')$$,
    $$INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type) VALUES (dugong.aggregate_type_id('elsewhere', 'Other'), gen_random_uuid(), 'Made')$$,
    $$INSERT INTO trespass.others VALUES (gen_random_uuid())$$]) AS command;

-- The search_path's objects are traps
CREATE SCHEMA hostile;
GRANT USAGE ON SCHEMA hostile TO PUBLIC;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA public TO regress_dugong_attacker;
GRANT TEMPORARY ON DATABASE :"DBNAME" TO regress_dugong_attacker;
CREATE FUNCTION hostile.trap() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE 'TRAP0'; END $$;
DO $$
DECLARE
    type text;
    symbol text;
    signature record;
BEGIN
    FOREACH type IN ARRAY ARRAY['uuid', 'bigint', 'int', 'text', 'oid', 'numeric', 'timestamptz', 'jsonb', 'xid8', 'boolean', 'name', 'bytea', 'regclass'] LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION hostile.operator(%s, %1$s) RETURNS boolean LANGUAGE sql AS ''SELECT hostile.trap()''', type);
        FOREACH symbol IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>=', '||', '-', '+', '->', '?'] LOOP
            EXECUTE format('CREATE OPERATOR hostile.%s (FUNCTION = hostile.operator, LEFTARG = %s, RIGHTARG = %2$s)', symbol, type);
        END LOOP;
    END LOOP;
    -- Functions that the extension uses, with the arguments that they have
    FOR signature IN SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS arguments FROM pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.provariadic = 0 AND p.proname IN ('setval', 'nextval', 'pg_notify', 'to_char', 'sha256', 'encode',
            'substring', 'convert_to', 'to_jsonb', 'timezone', 'octet_length', 'upper', 'lower') LOOP
        EXECUTE format('CREATE FUNCTION hostile.%I(%s) RETURNS boolean LANGUAGE sql AS ''SELECT hostile.trap()''', signature.proname,
            signature.arguments);
    END LOOP;
    EXECUTE 'CREATE AGGREGATE hostile.max(bigint) (SFUNC = pg_catalog.int8larger, STYPE = bigint, INITCOND = ''-1'')';
END $$;
CREATE COLLATION hostile."C" FROM pg_catalog."POSIX";
CREATE FUNCTION hostile.trap_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE 'TRAP0'; END $$;
-- Tables and types may also be temporary; outcome() makes those
CREATE FUNCTION pg_temp.lay_traps(place text) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    object text;
BEGIN
    FOREACH object IN ARRAY ARRAY['event_log', 'aggregate_types', 'event_types', 'projections', 'checkpoints', 'checkpoint_holes', 'home',
        'parked_aggregates', 'projection_failures', 'rebuilds', 'imports', 'stopped_workers'] LOOP
        EXECUTE format('CREATE TABLE %s.%I (LIKE dugong.%2$I)', place, object);
        EXECUTE format('CREATE TRIGGER trap BEFORE INSERT OR UPDATE OR DELETE ON %s.%I EXECUTE FUNCTION hostile.trap_trigger()', place, object);
        EXECUTE format('GRANT ALL ON %s.%I TO PUBLIC', place, object);
    END LOOP;
    FOREACH object IN ARRAY ARRAY['text', 'uuid', 'jsonb', 'int4', 'int8', 'bool', 'numeric', 'timestamptz', 'regclass', 'xid8', 'domain_event', 'bank_account_state'] LOOP
        EXECUTE format('CREATE DOMAIN %s.%I AS pg_catalog.text CHECK (hostile.trap())', place, object);
    END LOOP;
END $$;
CREATE TYPE hostile.color AS ENUM ('red');
CREATE FUNCTION hostile.to_text(hostile.color) RETURNS text LANGUAGE sql AS $$ SELECT hostile.trap()::text $$;
CREATE CAST (hostile.color AS text) WITH FUNCTION hostile.to_text(hostile.color) AS IMPLICIT;
SELECT pg_temp.lay_traps('hostile') \g /dev/null
SELECT is(pg_temp.outcome('regress_dugong_attacker', command, 'hostile, pg_temp, pg_catalog, public'), 'TRAP0', 'a trap works: ' || command)
FROM unnest(ARRAY[$$SELECT 'a'::pg_catalog.text = 'a'::pg_catalog.text$$, $$SELECT 'a'::pg_catalog.text || 'a'::pg_catalog.text$$, $$SELECT 1 < 2$$,
    $$SELECT 'a'::uuid$$, $$SELECT sha256('a'::pg_catalog.bytea)$$, $$DELETE FROM event_log$$]) AS command;
SELECT dugong.alter_aggregate_type('Own', owner => 'regress_dugong_attacker', origin => 'here') \g /dev/null
SELECT dugong.alter_projection(name, owner => 'regress_dugong_attacker') FROM unnest(ARRAY['own', 'own_inline']) AS name \g /dev/null
SELECT dugong.alter_subscription('sub', owner => 'regress_dugong_attacker') \g /dev/null
SELECT is(pg_temp.outcome('regress_dugong_attacker', call, path), 'accepted', format('%s: %s', path, signature))
FROM calls, unnest(ARRAY['hostile, pg_temp, pg_catalog, public', 'pg_temp, hostile']) AS path ORDER BY path, signature;
-- Views and plain SQL, by a superuser
SELECT is(pg_temp.outcome('postgres', command, 'hostile, pg_temp, pg_catalog, public'), 'accepted', 'among traps: ' || command)
FROM unnest(ARRAY[$$INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES ('BankAccount', 'a0000000-0000-4000-8000-00000000000a', 'Noted') RETURNING *$$,
    $$INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type) VALUES (dugong.aggregate_type_id('BankingContext-AccountService', 'BankAccount'), 'a0000000-0000-4000-8000-00000000000a', 'Noted')$$,
    $$SELECT FROM dugong.domain_events$$, $$SELECT FROM dugong.aggregates$$, $$SELECT e::dugong.domain_event FROM dugong.domain_events e$$,
    $$DO 'BEGIN SET CONSTRAINTS ALL IMMEDIATE; END'$$, $$CALL dugong.run_projections()$$]) AS command;

-- Users' code.  At each place the attacker's code tries what only others may, and notes what came of it.
SET LOCAL ROLE regress_dugong_attacker;
CREATE FUNCTION trespass.attempt(place text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    command text;
    commands text[] := ARRAY['SELECT nextval(''trespass.alarm'')', 'INSERT INTO trespass.trophy VALUES (''x'')', 'SET ROLE postgres', 'SET LOCAL ROLE postgres', 'RESET ROLE',
        'SET SESSION AUTHORIZATION postgres', 'SET LOCAL SESSION AUTHORIZATION postgres', 'RESET SESSION AUTHORIZATION', 'SELECT set_config(''role'', ''postgres'', true)',
        'ALTER ROLE regress_dugong_attacker SUPERUSER', 'GRANT ALL ON dugong.event_log TO regress_dugong_attacker', 'SELECT FROM dugong.checkpoints',
        'UPDATE dugong.aggregate_types SET owner = ''regress_dugong_attacker''', 'COPY (SELECT) TO PROGRAM ''true''', 'SELECT pg_read_file(''PG_VERSION'')',
        'SET session_replication_role = replica', 'SELECT dugong.alter_aggregate_type(''Own'', owner => ''postgres'')'];
BEGIN
    -- CREATE AGGREGATE reads the initial value, in this session, which is a superuser's
    IF current_setting('trespass.armed', true) IS NULL THEN
        RETURN true;
    END IF;
    -- What a security-restricted operation refuses, too
    commands := commands || ARRAY['CREATE TEMP TABLE t ()', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1', 'INSERT INTO trespass.deferred VALUES (1)'];
    FOREACH command IN ARRAY commands LOOP
        BEGIN
            EXECUTE command;
            INSERT INTO trespass.seen (place, outcome) VALUES (place, command);
        EXCEPTION WHEN OTHERS THEN
            INSERT INTO trespass.seen (place, outcome) VALUES (place, CASE WHEN SQLSTATE = '42501' THEN SQLSTATE ELSE SQLSTATE || command END);
        END;
    END LOOP;
    PERFORM set_config('dugong.tenant_id', 'attacked', false), set_config('work_mem', '64kB', false);
    IF place = 'payload' THEN
        PERFORM set_config('search_path', 'trespass', false);
    END IF;
    RETURN true;
END $$;
CREATE TABLE trespass.deferred (a int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
CREATE FUNCTION trespass.fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM trespass.attempt('model trigger'); RETURN NEW; END $$;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON trespass.deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION trespass.fire();
CREATE FUNCTION trespass.upcast(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN PERFORM trespass.attempt('upcast'); RETURN $1; END $$;
CREATE FUNCTION trespass.check_payload(jsonb) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN trespass.attempt('payload'); END $$;
CREATE FUNCTION trespass.check_field(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN trespass.attempt('field'); END $$;
CREATE DOMAIN trespass.payload AS jsonb CHECK (trespass.check_payload(VALUE));
CREATE DOMAIN trespass.field AS text CHECK (trespass.check_field(VALUE));
CREATE TYPE trespass.fields AS (f trespass.field);
-- The state's type has code, which the fold's initial value runs
CREATE TYPE trespass.state_row AS (id uuid, n int);
CREATE FUNCTION trespass.check_state(trespass.state_row) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN trespass.attempt('state'); END $$;
CREATE DOMAIN trespass.state AS trespass.state_row CHECK (trespass.check_state(VALUE));
CREATE FUNCTION trespass.apply(trespass.state, dugong.domain_event) RETURNS trespass.state
LANGUAGE plpgsql AS $$ BEGIN PERFORM trespass.attempt('fold'); RETURN ROW($2.aggregate_id, 1)::trespass.state_row; END $$;
CREATE AGGREGATE trespass.fold(dugong.domain_event) (SFUNC = trespass.apply, STYPE = trespass.state, INITCOND = '(,0)');
SELECT dugong.create_aggregate_type('Trespass', fold => 'trespass.fold(dugong.domain_event)', origin => 'here', external => false) \g /dev/null
SELECT dugong.create_event_type('Trespass', 'Raised', 2, upcast => 'trespass.upcast(jsonb)') \g /dev/null
SELECT dugong.create_event_type('Trespass', 'Checked', 1, payload_type => 'trespass.payload') \g /dev/null
SELECT dugong.create_event_type('Trespass', 'CheckedField', 1, payload_type => 'trespass.fields') \g /dev/null
SELECT dugong.create_aggregate_type('TrespassMessage', origin => 'elsewhere', external => true) \g /dev/null
SELECT dugong.create_event_type('TrespassMessage', 'Checked', 1, payload_type => 'trespass.payload') \g /dev/null
RESET ROLE;
SET LOCAL trespass.armed = 'on';
SELECT dugong.append_event('Trespass', 'c0000000-0000-4000-8000-00000000000c', 'Raised', '{}', version => 1, event_id => 'e0000000-0000-4000-8000-00000000000c',
    triggered_by_event_id => 'e0000000-0000-4000-8000-000000000001') \g /dev/null
SELECT is((SELECT count(*) FROM trespass.seen WHERE place = 'upcast'), 20::bigint, 'every attempt is noted');
SELECT dugong.append_event('Trespass', 'c0000000-0000-4000-8000-00000000000c', 'Checked', '{}') \g /dev/null
SELECT is(current_setting(setting), value, 'what users'' code sets ends with it: ' || setting)
FROM (VALUES ('dugong.tenant_id', ''), ('search_path', (SELECT reset_val FROM pg_settings WHERE name = 'search_path')), ('work_mem', '4MB')) AS v(setting, value);
DELETE FROM trespass.seen;
CREATE MATERIALIZED VIEW trespass.copied AS SELECT payload FROM dugong.domain_events WITH NO DATA;
GRANT SELECT ON dugong.domain_events TO regress_dugong_attacker;

-- Whoever reads or appends: the code is its owner's, and restricted
SELECT is(pg_temp.seen(actor, command), places, format('%s: %s', actor, command))
FROM (VALUES
    ('postgres', 'upcast', $$SELECT payload FROM dugong.domain_events$$),
    ('regress_dugong_reader', 'upcast', $$SELECT payload FROM dugong.domain_events$$),
    ('regress_dugong_attacker', 'upcast', $$SELECT payload FROM dugong.domain_events$$),
    ('postgres', 'upcast', $$SELECT e::dugong.domain_event FROM dugong.domain_events e$$),
    ('postgres', 'upcast', $$SELECT FROM dugong.domain_events WHERE payload = '{}'$$),
    ('postgres', 'upcast', $$CREATE TEMP TABLE copied AS SELECT payload FROM dugong.domain_events$$),
    ('postgres', 'upcast', $$DO 'DECLARE e record; BEGIN FOR e IN SELECT * FROM dugong.domain_events LOOP END LOOP; END'$$),
    ('postgres', 'upcast', $$REFRESH MATERIALIZED VIEW trespass.copied$$),
    ('postgres', 'upcast', $$SELECT dugong.current_payload(dugong.aggregate_type_id('here', 'Trespass'), 'Raised', 1, '{}')$$),
    ('regress_dugong_reader', 'upcast', $$SELECT dugong.current_payload(dugong.aggregate_type_id('here', 'Trespass'), 'Raised', 1, '{}')$$),
    ('postgres', 'upcast', $$SELECT dugong.read_events()$$),
    ('regress_dugong_reader', 'upcast', $$SELECT dugong.read_events()$$),
    ('postgres', 'upcast', $$SELECT dugong.read_events(backward => true)$$),
    ('regress_dugong_reader', 'upcast', $$SELECT dugong.aggregate_events('Trespass', 'c0000000-0000-4000-8000-00000000000c')$$),
    ('regress_dugong_reader', 'upcast', $$SELECT dugong.event('e0000000-0000-4000-8000-00000000000c')$$),
    ('postgres', 'upcast', $$SELECT dugong.effects_of('e0000000-0000-4000-8000-000000000001')$$),
    ('regress_dugong_attacker', 'upcast', $$SELECT dugong.effects_of('e0000000-0000-4000-8000-000000000001')$$),
    ('postgres', 'payload, upcast', $$SELECT dugong.check_event_types()$$),
    ('regress_dugong_attacker', 'payload, upcast', $$SELECT dugong.check_event_types()$$),
    ('postgres', 'upcast', $$SELECT dugong.append_event('Trespass', gen_random_uuid(), 'Raised', '{}', version => 1)$$),
    ('regress_dugong_writer', 'upcast', $$SELECT dugong.append_event('Trespass', gen_random_uuid(), 'Raised', '{}', version => 1)$$),
    ('postgres', 'upcast', $$SELECT dugong.append_events('Trespass', gen_random_uuid(), '[{"type": "Raised", "version": 1}]')$$),
    ('regress_dugong_writer', 'upcast', $$INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, version) VALUES ('Trespass', gen_random_uuid(), 'Raised', 1)$$),
    ('postgres', 'payload', $$INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES ('Trespass', gen_random_uuid(), 'Checked')$$),
    ('postgres', 'payload', $$INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type) VALUES (dugong.aggregate_type_id('here', 'Trespass'), gen_random_uuid(), 'Checked')$$),
    ('postgres', 'payload', $$SELECT dugong.append_event('Trespass', gen_random_uuid(), 'Checked', '{}')$$),
    ('regress_dugong_writer', 'payload', $$SELECT dugong.append_event('Trespass', gen_random_uuid(), 'Checked', '{}')$$),
    ('postgres', 'payload', $$SELECT dugong.append_events('Trespass', gen_random_uuid(), '[{"type": "Checked"}]')$$),
    ('postgres', 'field', $$SELECT dugong.append_event('Trespass', gen_random_uuid(), 'CheckedField', '{"f": "x"}')$$),
    ('regress_dugong_writer', 'field', $$SELECT dugong.append_event('Trespass', gen_random_uuid(), 'CheckedField', '{"f": "x"}')$$),
    ('postgres', 'payload', $$SELECT dugong.receive_message('{"origin": "elsewhere", "aggregateType": "TrespassMessage", "type": "Checked", "sequenceNumber": 1,
        "id": "e0000000-0000-4000-8000-00000000000d", "aggregateId": "a0000000-0000-4000-8000-00000000000a"}')$$)
) AS v(actor, place, command),
    LATERAL (SELECT string_agg(format('%s: attacker 42501 ("$user", public, pg_temp)', p), '; ') AS places FROM unnest(string_to_array(place, ', ')) AS p) AS expected;

-- What the CHECK or the upcast calls that is SECURITY DEFINER has its own owner, not the log's
SET LOCAL ROLE regress_dugong_developer;
CREATE FUNCTION trespass.chain(place text) RETURNS boolean LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT trespass.attempt(place) $$;
RESET ROLE;
SELECT is(pg_temp.seen('postgres', format('CREATE OR REPLACE FUNCTION trespass.upcast(jsonb) RETURNS jsonb LANGUAGE sql AS %L; SELECT payload FROM dugong.domain_events',
    $$SELECT trespass.chain('chain'); SELECT $1$$)), 'chain: developer 42501 (pg_catalog, pg_temp)', 'a SECURITY DEFINER function in an upcast is its owner''s');
SELECT is(pg_temp.seen('postgres', 'CREATE OR REPLACE FUNCTION trespass.upcast(jsonb) RETURNS jsonb LANGUAGE sql SECURITY DEFINER AS ''SELECT trespass.attempt(''''definer''''); SELECT $1''; '
    'SELECT dugong.read_events()'), 'definer: attacker 42501 ("$user", public, pg_temp)', 'a SECURITY DEFINER upcast is its owner''s');
SELECT is(pg_temp.seen('postgres', format('CREATE OR REPLACE FUNCTION trespass.upcast(jsonb) RETURNS jsonb LANGUAGE sql AS %L; SELECT payload FROM dugong.domain_events',
    $$SELECT dugong.append_event('Trespass', gen_random_uuid(), 'Checked', '{}'); SELECT $1$$)), 'payload: attacker 42501 ("$user", public, pg_temp)', 'an upcast that appends: still the attacker');

-- The type's owner of now, whoever made the code
SELECT is(pg_temp.seen('postgres', $$SELECT dugong.alter_aggregate_type('Trespass', owner => 'regress_dugong_team'); SELECT payload FROM dugong.domain_events$$),
    'upcast: team 42501 ("$user", public, pg_temp)', 'after the type was given away, its code is the new owner''s');
SELECT is(pg_temp.outcome('postgres', $$ALTER ROLE regress_dugong_attacker RENAME TO regress_dugong_other; SELECT payload FROM dugong.domain_events$$), '42704', 'the code of an owner who is gone is not run');

-- Rows as JSON: the cast is code of whoever made the type, and runs as whoever changes the row
SET LOCAL ROLE regress_dugong_attacker;
CREATE TYPE trespass.cell AS ENUM ('a', 'b');
CREATE FUNCTION trespass.cell_json(trespass.cell) RETURNS json LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO trespass.seen (place, outcome) VALUES ('cast', '');
    BEGIN
        PERFORM nextval('trespass.alarm');
    EXCEPTION WHEN OTHERS THEN
        UPDATE trespass.seen SET outcome = SQLSTATE;
    END;
    RETURN '{}'; END $$;
CREATE CAST (trespass.cell AS json) WITH FUNCTION trespass.cell_json(trespass.cell);
CREATE TABLE trespass.cells (id uuid, c trespass.cell);
CREATE TRIGGER record AFTER INSERT OR UPDATE OR DELETE ON trespass.cells FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Trespass', 'id');
GRANT ALL ON trespass.cells TO PUBLIC;
RESET ROLE;
GRANT UPDATE ON trespass.seen TO PUBLIC;
SELECT is(pg_temp.seen('regress_dugong_clerk', command), 'cast: clerk 42501 (pg_catalog, pg_temp)', 'clerk: ' || command)
FROM unnest(ARRAY[$$INSERT INTO trespass.cells VALUES (gen_random_uuid(), 'a')$$,
    $$INSERT INTO trespass.cells VALUES (gen_random_uuid(), 'a'); UPDATE trespass.cells SET c = 'b'$$,
    $$INSERT INTO trespass.cells VALUES (gen_random_uuid(), 'a'); DELETE FROM trespass.cells$$]) AS command;

-- Projections: the query model's code is the table owner's, a handler the projection owner's, with the search_path
-- of whoever registered it.  Here all is within a transaction block, so it is a security-restricted operation;
-- what runs in transactions of its own is in test/t/011_trespass.pl.
SET LOCAL ROLE regress_dugong_attacker;
CREATE FUNCTION trespass.check_model(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RETURN trespass.attempt('model check'); END $$;
CREATE FUNCTION trespass.index_model(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM trespass.attempt('model index'); RETURN $1; END $$;
CREATE FUNCTION trespass.default_model() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM trespass.attempt('model default'); RETURN 1; END $$;
CREATE TABLE trespass.model (id uuid, n int CHECK (trespass.check_model(n)), d int DEFAULT trespass.default_model(), tenant_id text, PRIMARY KEY (id, tenant_id));
CREATE INDEX ON trespass.model (trespass.index_model(n));
CREATE TRIGGER fire BEFORE INSERT ON trespass.model FOR EACH ROW EXECUTE FUNCTION trespass.fire();
CREATE FUNCTION trespass.handle_update(uuid, trespass.state) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM trespass.attempt('update'); END $$;
CREATE FUNCTION trespass.handle_delete(uuid) RETURNS void LANGUAGE sql AS $$ SELECT trespass.attempt('delete') $$;
CREATE FUNCTION trespass.handle_states(uuid[], trespass.state[]) RETURNS void LANGUAGE sql AS $$ SELECT trespass.attempt('states') $$;
CREATE FUNCTION trespass.handle_event(dugong.domain_event) RETURNS void LANGUAGE sql AS $$ SELECT trespass.attempt('event') $$;
CREATE FUNCTION trespass.handle_events(dugong.domain_event[]) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM trespass.attempt('events'); END $$;
CREATE FUNCTION trespass.handle_reset() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM trespass.attempt('reset'); END $$;
-- A fold that is never there: the delete handler's
CREATE FUNCTION trespass.gone_apply(trespass.state, dugong.domain_event) RETURNS trespass.state LANGUAGE sql AS $$ SELECT NULL::trespass.state $$;
CREATE AGGREGATE trespass.gone_fold(dugong.domain_event) (SFUNC = trespass.gone_apply, STYPE = trespass.state);
SELECT dugong.create_aggregate_type('TrespassGone', fold => 'trespass.gone_fold(dugong.domain_event)', origin => 'here', external => false) \g /dev/null
SELECT dugong.append_event('TrespassGone', gen_random_uuid(), 'Made') \g /dev/null
RESET ROLE;
GRANT EXECUTE ON PROCEDURE dugong.run_projections TO regress_dugong_clerk;
DELETE FROM trespass.seen;
-- How each projection is created, and which of its code runs
CREATE TEMP TABLE trespassing AS SELECT * FROM (VALUES
    ('query_model', 'Trespass', $$query_model => 'trespass.model'$$, '{fold,model check,model default,model index,model trigger,state,upcast}'::text[]),
    ('aggregate', 'Trespass', $$update_handler => 'trespass.handle_update(uuid,trespass.state)', delete_handler => 'trespass.handle_delete(uuid)'$$, '{fold,state,upcast,update}'),
    ('gone', 'TrespassGone', $$update_handler => 'trespass.handle_update(uuid,trespass.state)', delete_handler => 'trespass.handle_delete(uuid)'$$, '{delete,state}'),
    ('aggregate_set', 'Trespass', $$set_handler => 'trespass.handle_states(uuid[],trespass.state[])'$$, '{fold,state,states,upcast}'),
    ('event', 'Trespass', $$event_handler => 'trespass.handle_event(dugong.domain_event)'$$, '{event,upcast}'),
    ('event_set', 'Trespass', $$set_handler => 'trespass.handle_events(dugong.domain_event[])'$$, '{events,upcast}')) AS v(kind, type, how, places);
CREATE FUNCTION pg_temp.creating(kind text, mode text) RETURNS text LANGUAGE sql SET search_path = public AS $$
    SELECT format('SET LOCAL search_path = "$user", public; SELECT dugong.create_projection(%L, %L, mode => %L, origin => %L, reset_handler => %L, %s)',
        'trespass', type, mode, 'here', 'trespass.handle_reset()', how)
    FROM pg_temp.trespassing t WHERE t.kind = creating.kind $$;
CREATE FUNCTION pg_temp.expected(places text[]) RETURNS text LANGUAGE sql SET search_path = public AS $$
    SELECT string_agg(format('%s: attacker 42501 ("$user", public, pg_temp)', place), '; ' ORDER BY place COLLATE "C") FROM unnest(places) AS place $$;
GRANT TEMPORARY ON DATABASE :"DBNAME" TO regress_dugong_attacker;
CREATE FUNCTION pg_temp.seen_of_projection(kind text, mode text, actor name, command text) RETURNS text
LANGUAGE plpgsql SET search_path = public AS $$
DECLARE
    got text;
BEGIN
    BEGIN
        EXECUTE 'SET LOCAL trespass.armed TO DEFAULT';
        EXECUTE 'SET LOCAL ROLE regress_dugong_attacker';
        EXECUTE pg_temp.creating(kind, mode);
        EXECUTE 'RESET ROLE';
        EXECUTE 'SET LOCAL search_path = public';
        EXECUTE 'SET LOCAL trespass.armed = on';
        DELETE FROM trespass.seen;
        got := pg_temp.seen(actor, command);
        RAISE SQLSTATE 'ZZZZY';
    EXCEPTION WHEN SQLSTATE 'ZZZZY' THEN NULL;
    END;
    RETURN got;
END $$;
GRANT SELECT ON trespassing TO PUBLIC;
SELECT is(pg_temp.seen_of_projection(kind, 'async', actor, 'CALL dugong.run_projections()'), pg_temp.expected(places), format('%s, run by %s', kind, actor))
FROM trespassing, unnest(ARRAY['postgres', 'regress_dugong_clerk', 'regress_dugong_attacker']) AS actor;
-- An inline one in whoever's append; the expected places are those of a new aggregate
SELECT is(pg_temp.seen_of_projection(kind, 'inline', actor, format('SELECT dugong.append_event(%L, gen_random_uuid(), %L, version => 1)', type, 'Raised')), pg_temp.expected(places),
    format('%s, inline, appended by %s', kind, actor))
FROM trespassing, unnest(ARRAY['postgres', 'regress_dugong_writer', 'regress_dugong_attacker']) AS actor;
-- Rebuilt by a superuser: the reset handler is the owner's, too.  An inline one has its row already: no index is touched.
SELECT is(pg_temp.seen_of_projection(kind, mode, 'postgres', $$CALL dugong.rebuild_projection('trespass')$$),
    pg_temp.expected(array_remove(places || '{reset}', CASE mode WHEN 'inline' THEN 'model index' END)), format('%s, %s, rebuilt', kind, mode))
FROM trespassing, unnest(ARRAY['async', 'inline']) AS mode;
-- The superuser registers the attacker's table: the table's owner it is
SELECT is(pg_temp.seen(actor, format('RESET ROLE; SET LOCAL search_path = "$user", public; SELECT dugong.create_projection(%L, %L, %L, origin => %L); SET LOCAL ROLE %I; CALL dugong.run_projections()',
    'trespass', 'Trespass', 'trespass.model', 'here', actor)), pg_temp.expected(places), actor || ': the superuser''s projection on the attacker''s table')
FROM trespassing, unnest(ARRAY['postgres', 'regress_dugong_clerk']) AS actor WHERE kind = 'query_model';

-- Who may do what with a projection
GRANT regress_dugong_team TO regress_dugong_developer;
GRANT USAGE ON TYPE dugong.domain_event TO regress_dugong_team;
GRANT USAGE ON SCHEMA dugong, trespass TO regress_dugong_team;
GRANT CREATE ON SCHEMA trespass TO regress_dugong_team;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA dugong TO regress_dugong_developer;
CREATE FUNCTION trespass.closed_handler(dugong.domain_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE FUNCTION trespass.closed_reset() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
REVOKE ALL ON FUNCTION trespass.closed_handler, trespass.closed_reset FROM PUBLIC;
CREATE TABLE trespass.others_model (id uuid PRIMARY KEY, n int);
GRANT ALL ON trespass.others_model TO PUBLIC;
SET LOCAL ROLE regress_dugong_team;
CREATE TABLE trespass.team_model (id uuid, n int, tenant_id text, PRIMARY KEY (id, tenant_id));
RESET ROLE;
SELECT dugong.create_projection('team', 'Projected', event_handler => 'trespass.on_event(dugong.domain_event)', reset_handler => 'trespass.on_reset()', origin => 'here') \g /dev/null
SELECT dugong.alter_projection('team', owner => 'regress_dugong_team') \g /dev/null
INSERT INTO dugong.parked_aggregates VALUES ('team', dugong.aggregate_type_id('here', 'Projected'), 'a0000000-0000-4000-8000-00000000000a', '', 1, 1, gen_random_uuid(), 9, now(), now(), NULL, 'XX000', 'secret');
SELECT is(pg_temp.outcome(actor, command), code, format('%s: %s', actor, command))
FROM (VALUES ('regress_dugong_developer', 'accepted'), ('postgres', 'accepted'), ('regress_dugong_attacker', '42501')) AS v(actor, code),
    unnest(ARRAY[$$SELECT dugong.pause_projection('team')$$, $$SELECT dugong.resume_projection('team')$$, $$SELECT dugong.drop_projection('team')$$,
    $$SELECT dugong.retry_dead_letters('team')$$, $$SELECT dugong.discard_dead_letter('team', 'a0000000-0000-4000-8000-00000000000a', '')$$,
    $$SELECT dugong.alter_projection('team')$$, $$SELECT dugong.alter_projection('team', on_error => 'stop')$$,
    $$SELECT dugong.alter_projection('team', event_handler => 'trespass.on_event(dugong.domain_event)')$$, $$SELECT dugong.alter_projection('team', accept => true)$$,
    $$CALL dugong.rebuild_projection('team')$$]) AS command;
SELECT is(pg_temp.outcome(actor, command), code, format('%s: %s', actor, command))
FROM (VALUES
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.alter_projection('own', owner => 'postgres')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.alter_projection('own', owner => 'regress_dugong_team')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.alter_projection('own', owner => 'pg_read_all_data')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.alter_projection('team', owner => 'regress_dugong_attacker')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.alter_projection('bank_account', owner => 'regress_dugong_attacker')$$),
    ('accepted', 'regress_dugong_developer', $$SELECT dugong.alter_projection('team', owner => 'regress_dugong_developer')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.alter_projection('own', event_handler => 'trespass.closed_handler(dugong.domain_event)')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.alter_projection('own', reset_handler => 'trespass.closed_reset()')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.create_projection('new', 'Projected', event_handler => 'trespass.closed_handler(dugong.domain_event)', origin => 'here')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.create_projection('new', 'Projected', event_handler => 'trespass.on_event(dugong.domain_event)', reset_handler => 'trespass.closed_reset()', origin => 'here')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.create_projection('new', 'Trespass', 'trespass.others_model', origin => 'here')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.create_projection('new', 'Trespass', 'trespass.team_model', origin => 'here')$$),
    ('accepted', 'regress_dugong_developer', $$SELECT dugong.create_projection('new', 'Trespass', 'trespass.team_model', origin => 'here')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.create_projection('new', 'BankAccount', 'bank_account_query_model')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.create_projection('new', 'Projected', event_handler => 'trespass.on_event(dugong.domain_event)', mode => 'inline', origin => 'here')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT dugong.create_projection('new', ARRAY['Trespass', 'Projected'], event_handler => 'trespass.on_event(dugong.domain_event)', mode => 'inline', origin => 'here')$$),
    ('accepted', 'regress_dugong_attacker', $$SELECT dugong.create_projection('new', 'Projected', event_handler => 'trespass.on_event(dugong.domain_event)', origin => 'here')$$),
    ('42710', 'regress_dugong_attacker', $$SELECT dugong.create_projection('team', 'Projected', event_handler => 'trespass.on_event(dugong.domain_event)', origin => 'here')$$),
    ('UG010', 'regress_dugong_attacker', $$CALL dugong.wait_for_projection('team')$$),
    ('42501', 'regress_dugong_attacker', $$SELECT FROM dugong.dead_letters$$),
    ('42501', 'regress_dugong_attacker', $$SELECT FROM dugong.projection_status$$)) AS v(code, actor, command);
-- EXECUTE that was taken away later: the handler is not called
SELECT is(pg_temp.outcome('postgres', $$REVOKE ALL ON FUNCTION trespass.on_event FROM PUBLIC; DELETE FROM dugong.projections WHERE name NOT IN ('own');
    SELECT dugong.append_event('Projected', gen_random_uuid(), 'Made'); CALL dugong.run_projections()$$), '42501', 'a handler that its owner may no longer call');
-- Whose name is gone, his projection does not run
SELECT is(pg_temp.outcome('postgres', $$DELETE FROM dugong.projections WHERE name NOT IN ('own'); ALTER ROLE regress_dugong_attacker RENAME TO regress_dugong_other;
    SELECT dugong.append_event('Projected', gen_random_uuid(), 'Made'); CALL dugong.run_projections()$$), '42704', 'a handler of an owner who is gone');
SELECT dugong.drop_projection('team') \g /dev/null
REVOKE regress_dugong_team FROM regress_dugong_developer;

-- The bank account's type, given to the attacker: what he makes of it does not run as the table's owner
SET LOCAL ROLE regress_dugong_attacker;
CREATE TYPE trespass.money AS (n numeric);
CREATE FUNCTION trespass.money_numeric(trespass.money) RETURNS numeric LANGUAGE plpgsql AS $$ BEGIN PERFORM trespass.attempt('model cast'); RETURN 1; END $$;
CREATE CAST (trespass.money AS numeric) WITH FUNCTION trespass.money_numeric(trespass.money) AS ASSIGNMENT;
CREATE TYPE trespass.account AS (id uuid, owner text, balance trespass.money);
CREATE FUNCTION trespass.account_apply(trespass.account, dugong.domain_event) RETURNS trespass.account
LANGUAGE sql AS $$ SELECT ROW($2.aggregate_id, 'x', ROW(1))::trespass.account $$;
CREATE AGGREGATE trespass.account_fold(dugong.domain_event) (SFUNC = trespass.account_apply, STYPE = trespass.account);
CREATE FUNCTION trespass.number_apply(bigint, dugong.domain_event) RETURNS bigint LANGUAGE sql AS $$ SELECT 1::bigint $$;
CREATE AGGREGATE trespass.number_fold(dugong.domain_event) (SFUNC = trespass.number_apply, STYPE = bigint);
CREATE TYPE trespass.numbers AS (id int, owner int, balance int);
CREATE FUNCTION trespass.numbers_apply(trespass.numbers, dugong.domain_event) RETURNS trespass.numbers LANGUAGE sql AS $$ SELECT ROW(1, 2, 3)::trespass.numbers $$;
CREATE AGGREGATE trespass.numbers_fold(dugong.domain_event) (SFUNC = trespass.numbers_apply, STYPE = trespass.numbers);
RESET ROLE;
SELECT dugong.alter_aggregate_type('BankAccount', owner => 'regress_dugong_attacker') \g /dev/null
SET LOCAL ROLE regress_dugong_attacker;
SELECT dugong.alter_aggregate_type('BankAccount', fold => 'trespass.account_fold(dugong.domain_event)') \g /dev/null
RESET ROLE;
SELECT unalike(pg_temp.seen('postgres', $$CALL dugong.run_projections()$$), '%postgres%', 'a cast of the state''s type is not run as the query model''s owner');
SELECT unalike(pg_temp.outcome('postgres', $$CALL dugong.run_projections()$$), '%ALARM%', 'and rings no alarm');

-- A fold whose state is no bank account is refused by the commands
SELECT is(pg_temp.outcome('postgres', format('SELECT dugong.alter_aggregate_type(%L, fold => %L); SELECT %s', 'BankAccount', fold || '(dugong.domain_event)', command)), '42804',
    format('%s with %s', command, fold))
FROM unnest(ARRAY['trespass.account_fold', 'trespass.number_fold', 'trespass.numbers_fold']) AS fold,
    unnest(ARRAY['bank_get_account(''a0000000-0000-4000-8000-00000000000a'')', 'bank_deposit(''a0000000-0000-4000-8000-00000000000a'', 1)',
    'bank_withdraw(''a0000000-0000-4000-8000-00000000000a'', 1)', 'bank_close_account(''a0000000-0000-4000-8000-00000000000a'')', 'bank_open_account(''X'')',
    'bank_transfer(''a0000000-0000-4000-8000-00000000000a'', ''b0000000-0000-4000-8000-00000000000b'', 1)']) AS command;
SELECT dugong.alter_aggregate_type('BankAccount', fold => 'bank_account_fold(dugong.domain_event)', owner => 'postgres') \g /dev/null

-- A CHECK that changes what is declared, and fails: the error still names its own type
SET LOCAL ROLE regress_dugong_attacker;
CREATE FUNCTION trespass.check_moved(jsonb) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    FOR n IN 1..20 LOOP
        PERFORM dugong.create_event_type('Trespass', repeat('X', 200) || n, 1);
        PERFORM dugong.current_version(1, 'x', 1);
    END LOOP;
    RETURN false; END $$;
CREATE DOMAIN trespass.moved AS jsonb CHECK (trespass.check_moved(VALUE));
SELECT dugong.create_event_type('Trespass', 'Moved', 1, payload_type => 'trespass.moved') \g /dev/null
RESET ROLE;
SELECT throws_ok($$ SELECT dugong.append_event('Trespass', gen_random_uuid(), 'Moved', '{}') $$, 'UG008',
    'payload of event type "Moved" version 1 does not fit type trespass.moved', 'a CHECK that changes the declarations and fails');

-- Wild arguments
SELECT is(pg_temp.outcome('postgres', 'SELECT ' || command), code, command)
FROM (VALUES
    ('accepted', 'dugong.current_payload(NULL, NULL, NULL, NULL)'),
    ('accepted', 'dugong.current_payload(NULL, ''x'', 1, ''{}'')'),
    ('accepted', 'dugong.current_payload(1, NULL, 1, ''{}'')'),
    ('accepted', 'dugong.current_payload(1, ''x'', NULL, ''{}'')'),
    ('accepted', 'dugong.current_payload(dugong.aggregate_type_id(''here'', ''Trespass''), ''Raised'', 1, NULL)'),
    ('accepted', 'dugong.current_payload(dugong.aggregate_type_id(''here'', ''Trespass''), ''Raised'', v, ''{}'') FROM unnest(ARRAY[-2147483648, -1, 0, 2, 3, 2147483647]) AS v'),
    ('accepted', 'dugong.current_version(id, ''Raised'', v) FROM unnest(ARRAY[-2147483648, 0, 2147483647, dugong.aggregate_type_id(''here'', ''Trespass'')]) AS id, unnest(ARRAY[-2147483648, 0, 1, 2147483647]) AS v'),
    ('accepted', 'dugong.aggregate_type_id(NULL, ''x'')'),
    ('accepted', 'dugong.aggregate_type_id(repeat(''x'', 1000000), '''')'),
    ('accepted', 'dugong.aggregate_id(''x'', VARIADIC ''{}'')'),
    ('accepted', 'dugong.aggregate_id(''x'', VARIADIC NULL)'),
    ('accepted', 'dugong.aggregate_id(NULL, ''x'')'),
    ('accepted', 'dugong.aggregate_id(''x'', NULL)'),
    ('accepted', 'dugong.aggregate_id(''x'', VARIADIC ''{{a,b},{c,NULL}}'')'),
    ('22023', 'dugong.aggregate_id('''', ''x'')'),
    ('accepted', 'dugong.projection_lock_key(repeat(''x'', 100000))'),
    ('accepted', 'dugong.projection_is_stale(NULL, NULL), dugong.projection_is_stale(''no such'', 1), dugong.projection_is_stale(''own'', NULL)'),
    ('22004', 'dugong.create_projection(NULL, ''Projected'')'),
    ('22023', 'dugong.create_projection(''w'', ''Projected'', origin => ''here'')'),
    ('22023', 'dugong.create_projection(''w'', ''{}''::text[], event_handler => ''trespass.on_event(dugong.domain_event)'')'),
    ('22004', 'dugong.create_projection(''w'', ''{NULL}''::text[], event_handler => ''trespass.on_event(dugong.domain_event)'')'),
    ('42P01', 'dugong.create_projection(''w'', ''Own'', 4294967295::regclass, origin => ''here'')'),
    ('42P01', 'dugong.create_projection(''w'', ''Own'', 0::regclass, origin => ''here'')'),
    ('42809', 'dugong.create_projection(''w'', ''Own'', ''dugong.projection_status'', origin => ''here'')'),
    ('42883', 'dugong.create_projection(''w'', ''Projected'', event_handler => 4294967295::regprocedure, origin => ''here'')'),
    ('42883', 'dugong.create_projection(''w'', ''Projected'', set_handler => 4294967295::regprocedure, origin => ''here'')'),
    ('22023', 'dugong.create_projection(''w'', ''Projected'', set_handler => 0::regprocedure, origin => ''here'')'),
    ('42P13', 'dugong.create_projection(''w'', ''Projected'', event_handler => ''pg_catalog.now()'', origin => ''here'')'),
    ('42P13', 'dugong.create_projection(''w'', ''Projected'', event_handler => ''dugong.row_fold(dugong.domain_event)'', origin => ''here'')'),
    ('42622', 'dugong.create_projection(repeat(''x'', 53), ''Projected'', event_handler => ''trespass.on_event(dugong.domain_event)'', origin => ''here'')'),
    ('accepted', 'dugong.create_projection(repeat(''x'', 52), ''Projected'', event_handler => ''trespass.on_event(dugong.domain_event)'', start_position => 9223372036854775807, origin => ''here'')'),
    ('22023', 'dugong.create_projection(''w'', ''Projected'', event_handler => ''trespass.on_event(dugong.domain_event)'', start_position => -1, origin => ''here'')'),
    ('22023', 'dugong.create_projection(''w'', ''Projected'', event_handler => ''trespass.on_event(dugong.domain_event)'', mode => ''x'', origin => ''here'')'),
    ('42704', 'dugong.alter_projection(''own'', owner => 4294967295::regrole)'),
    ('42704', 'dugong.alter_projection(''own'', owner => 0::regrole)'),
    ('accepted', 'dugong.alter_projection(''own'', types => ''{}'')'),
    ('22004', 'dugong.alter_projection(''own'', types => ''{{a,b},{c,NULL}}'')'),
    ('42704', 'dugong.discard_dead_letter(''no such'', gen_random_uuid())'),
    ('22004', 'dugong.discard_dead_letter(''own'', NULL)'),
    ('accepted', 'dugong.row_apply(NULL, NULL)'),
    ('accepted', 'dugong.to_domain_event(NULL)'),
    ('accepted', 'dugong.to_message(jsonb_populate_record(NULL::dugong.domain_event, ''{}''))'),
    ('accepted', 'dugong.is_skeleton(NULL), dugong.is_skeleton(jsonb_populate_record(NULL::dugong.domain_event, ''{"metadata": ["$erased"]}''))'),
    ('22004', 'dugong.erase_aggregate(NULL, NULL, NULL)'),
    ('22004', 'dugong.erase_payload(NULL, NULL, ''x'')'),
    ('22004', 'dugong.erase_payload(''e0000000-0000-4000-8000-000000000002'', ''{{a,b},{c,NULL}}'', ''x'')'),
    ('accepted', 'dugong.erase_payload(''e0000000-0000-4000-8000-000000000002'', ''{{a,b},{c,d}}'', ''x'')'),
    ('22004', 'bank_account_apply(NULL, NULL)'),
    ('22004', 'bank_account_apply(NULL, jsonb_populate_record(NULL::dugong.domain_event, ''{}''))'),
    ('accepted', 'dugong.read_events(-9223372036854775808, 2147483647)'),
    ('accepted', 'dugong.read_events(9223372036854775807)'),
    ('accepted', 'dugong.read_events(-9223372036854775808, backward => true)'),
    ('accepted', 'dugong.read_events(aggregate_types => ''{}'', types => ''{}'')'),
    ('22004', 'dugong.read_events(types => ''{NULL}'')'),
    ('22023', 'dugong.read_events(max_rows => -2147483648)'),
    ('accepted', 'dugong.aggregate_events(''Own'', gen_random_uuid(), 9223372036854775807, -9223372036854775808)'),
    ('22003', 'dugong.append_event(''Own'', gen_random_uuid(), ''Made'', NULL, 9223372036854775807)'),
    ('UG001', 'dugong.append_event(''Own'', gen_random_uuid(), ''Made'', NULL, 9223372036854775806)'),
    ('UG001', 'dugong.append_events(''Own'', gen_random_uuid(), ''[{"type": "a"}, {"type": "b"}]'', 9223372036854775806)'),
    ('22023', 'dugong.append_event(''Own'', gen_random_uuid(), ''Made'', version => -2147483648)'),
    ('22023', 'dugong.append_event(''Own'', gen_random_uuid(), ''Made'', event_timestamp => ''infinity'')'),
    ('22023', 'dugong.append_events(''Own'', gen_random_uuid(), ''1'')'),
    ('22023', 'dugong.append_events(''Own'', gen_random_uuid(), ''[null]'')'),
    ('22023', 'dugong.append_events(''Own'', gen_random_uuid(), ''[[]]'')'),
    ('22003', 'dugong.append_events(''Own'', gen_random_uuid(), ''[{"type": "a", "version": 1e30}]'')'),
    ('accepted', 'dugong.append_events(''Own'', gen_random_uuid(), ''[]'')'),
    ('22023', 'dugong.receive_message(''[]'')'),
    ('22004', 'dugong.receive_message(''{}'')'),
    ('22003', 'dugong.receive_message(''{"origin": "elsewhere", "aggregateType": "Other", "id": "e0000000-0000-4000-8000-000000000009", "aggregateId": "e0000000-0000-4000-8000-000000000009", "sequenceNumber": 1e300}'')'),
    ('UG001', 'dugong.receive_message(''{"origin": "elsewhere", "aggregateType": "Other", "type": "x", "id": "e0000000-0000-4000-8000-000000000009", "aggregateId": "e0000000-0000-4000-8000-000000000009", "sequenceNumber": 9223372036854775807}'')')
) AS v(code, command);
-- States that no event makes
SELECT is(pg_temp.outcome('postgres', format($$SELECT bank_account_apply(%s::bank_account_state, jsonb_populate_record(NULL::dugong.domain_event, '{"type": "%s", "aggregate_id": "a0000000-0000-4000-8000-00000000000a", "payload": {"amount": 1}}'))$$, state, type)),
    '22004', format('%s of %s', type, state))
FROM unnest(ARRAY['ROW(NULL, NULL, NULL)', 'ROW(NULL, ''x'', 1)', 'ROW(gen_random_uuid(), NULL, 1)', 'ROW(gen_random_uuid(), ''x'', NULL)']) AS state,
    unnest(ARRAY['MoneyDeposited', 'MoneyWithdrawn']) AS type;

-- A registry that somebody has edited by hand
SELECT is(pg_temp.outcome('postgres', $$DELETE FROM dugong.aggregate_types WHERE name = 'TrespassMessage';
    INSERT INTO dugong.event_types SELECT dugong.aggregate_type_id('elsewhere', 'TrespassMessage'), 'Orphan', 2, NULL, 'trespass.upcast(jsonb)';
    SELECT dugong.current_payload(dugong.aggregate_type_id('elsewhere', 'TrespassMessage'), 'Orphan', 1, '{}')$$), '42704', 'declarations of an aggregate type that is gone');
SELECT is(pg_temp.outcome('postgres', $$INSERT INTO dugong.event_types SELECT dugong.aggregate_type_id('here', 'Trespass'), 'Gap', v, NULL, 'trespass.upcast(jsonb)' FROM unnest(ARRAY[2, 40, 41]) AS v;
    SELECT dugong.current_payload(dugong.aggregate_type_id('here', 'Trespass'), 'Gap', v, '{}') FROM generate_series(0, 42) AS v$$), 'accepted', 'versions with a gap');

-- Trigger functions out of place
SELECT is(pg_temp.outcome('postgres', call), '39P01', 'called as a function: ' || signature)
FROM functions WHERE is_trigger ORDER BY signature;
DO $$
BEGIN
    EXECUTE format('CREATE TABLE trespass.fourteen (%s)', (SELECT string_agg(format('c%s int DEFAULT 1', n), ', ') FROM generate_series(1, 14) AS n));
    EXECUTE format('CREATE VIEW trespass.fifteen AS SELECT %s', (SELECT string_agg(format('%s AS c%s', CASE n WHEN 15 THEN 'NULL::bigint' ELSE '1' END, n), ', ') FROM generate_series(1, 15) AS n));
END $$;
CREATE TABLE trespass.twin (LIKE dugong.event_log INCLUDING ALL);
CREATE VIEW trespass.twin_view AS SELECT * FROM dugong.domain_events;
CREATE TABLE trespass.one (a text);
CREATE TABLE trespass.none ();
CREATE VIEW trespass.one_view AS SELECT a FROM trespass.one;
INSERT INTO trespass.one VALUES ('x');
INSERT INTO trespass.none DEFAULT VALUES;
INSERT INTO trespass.fourteen DEFAULT VALUES;
-- dugong.refuse_change() refuses whatever it is attached to; every other one refuses to be there
SELECT is(pg_temp.outcome('postgres', format('CREATE TRIGGER t %s %s ON trespass.%I FOR EACH %s EXECUTE FUNCTION dugong.%s(%s); %s',
        timing, event, relation, level, name, CASE name WHEN 'append_row_event' THEN '''Own'', ''a''' END,
        format(CASE event WHEN 'INSERT' THEN CASE relation WHEN 'fifteen' THEN 'INSERT INTO trespass.fifteen (c1) VALUES (1)' WHEN 'twin_view' THEN
                'INSERT INTO trespass.twin_view (aggregate_type, aggregate_id, type) VALUES (''Own'', gen_random_uuid(), ''Made'')' WHEN 'twin' THEN
                'INSERT INTO trespass.twin (aggregate_type_id, sequence_number, position, "timestamp", id, aggregate_id, version, tenant_id, type)
                VALUES (dugong.aggregate_type_id(''here'', ''Own''), 1, 1, now(), gen_random_uuid(), gen_random_uuid(), 1, '''', ''Made'')'
                ELSE 'INSERT INTO trespass.%I DEFAULT VALUES' END
            WHEN 'DELETE' THEN 'DELETE FROM trespass.%I' WHEN 'TRUNCATE' THEN 'TRUNCATE trespass.%I' END, relation))),
    CASE name WHEN 'refuse_change' THEN 'UG005' ELSE '39P01' END, format('%s %s on %s for each %s: %s', timing, event, relation, level, name))
FROM (VALUES
    ('BEFORE', 'INSERT', 'ROW', 'one'), ('AFTER', 'INSERT', 'ROW', 'one'), ('BEFORE', 'INSERT', 'STATEMENT', 'one'), ('AFTER', 'INSERT', 'STATEMENT', 'one'),
    ('BEFORE', 'DELETE', 'ROW', 'one'), ('AFTER', 'DELETE', 'ROW', 'one'), ('BEFORE', 'DELETE', 'STATEMENT', 'one'), ('AFTER', 'DELETE', 'STATEMENT', 'one'),
    ('BEFORE', 'TRUNCATE', 'STATEMENT', 'one'), ('AFTER', 'TRUNCATE', 'STATEMENT', 'one'), ('INSTEAD OF', 'INSERT', 'ROW', 'one_view'), ('INSTEAD OF', 'DELETE', 'ROW', 'one_view'),
    ('BEFORE', 'DELETE', 'ROW', 'none'), ('BEFORE', 'INSERT', 'ROW', 'fourteen'), ('AFTER', 'INSERT', 'ROW', 'fourteen'), ('BEFORE', 'INSERT', 'ROW', 'twin'), ('AFTER', 'INSERT', 'ROW', 'twin'),
    ('INSTEAD OF', 'INSERT', 'ROW', 'fifteen'), ('INSTEAD OF', 'INSERT', 'ROW', 'twin_view')) AS place(timing, event, level, relation),
    unnest(ARRAY['event_assign', 'event_mark', 'inline_projections', 'refuse_change', 'refuse_projected_type', 'registry_changed', 'replace_installed', 'domain_events_insert', 'append_row_event']) AS name
WHERE NOT (name = 'append_row_event' AND timing = 'AFTER' AND level = 'ROW') AND NOT (name = 'registry_changed' AND timing = 'AFTER' AND level = 'STATEMENT');
CREATE TABLE trespass.rows (a text, b trespass.cell);
SELECT is(pg_temp.outcome('postgres', format('CREATE TRIGGER t AFTER INSERT ON trespass.rows FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event(%s); INSERT INTO trespass.rows VALUES (%s)', arguments, value)),
    code, format('append_row_event(%s)', arguments))
FROM (VALUES ('39P01', '', '1'), ('39P01', '''Own''', '1'), ('42704', '''Nothing'', ''a''', '1'), ('42703', '''Own'', ''z''', '1'), ('42703', '''Own'', ''a'', ''z''', '1'),
    ('22023', '''Own'', ''a,''', '1'), ('22023', '''Own'', ''''', '1'), ('22004', '''Own'', ''a''', 'NULL'), ('accepted', '''Own'', ''a'', ''a''', '1')) AS v(code, arguments, value);

-- In the end, only the superuser has rung
SELECT is_empty('SELECT FROM trespass.trophy', 'no trophy was taken');
SELECT is((SELECT last_value FROM trespass.alarm), 1::bigint, 'the alarm was rung by the superuser alone');
SELECT is((SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_dugong_attacker'), false, 'the attacker is no superuser');

SELECT * FROM finish();
ROLLBACK;
