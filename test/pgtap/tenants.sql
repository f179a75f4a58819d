-- Two tenants with the same aggregates.  A role that is bound to one of them tries every function and every relation of the
-- extension from the wrong side: it learns nothing of the other, and changes nothing there.  The same attempt without isolation
-- shows that there is something to learn.
--
-- A new function, view or table needs a row in "attempts": what a bound role would try, and whether that "tells" it something
-- of the other tenant or "changes" something there while tenants are not isolated.  NULL = it knows no tenants.
BEGIN;
\ir helpers.psql
SELECT no_plan(); -- it grows with what the extension has
SET LOCAL client_min_messages = error;
CREATE ROLE regress_tenant_a;
CREATE ROLE regress_tenant_b;
CREATE ROLE regress_tenant_group;
CREATE ROLE regress_tenant_member;
CREATE ROLE regress_tenant_nobody;
CREATE SCHEMA tenants;
GRANT CREATE, USAGE ON SCHEMA tenants TO PUBLIC;
GRANT USAGE ON SCHEMA dugong TO PUBLIC;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA dugong, public TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA dugong TO PUBLIC;
GRANT ALL ON bank_account_query_model TO PUBLIC;
GRANT USAGE ON TYPE dugong.domain_event, dugong.domain_events TO PUBLIC;
GRANT regress_tenant_group TO regress_tenant_member;

-- What is the other tenant's says SECRET, or its id begins with beebee.
\set x '''a0000000-0000-4000-8000-000000000001'''
\set y '''a0000000-0000-4000-8000-000000000002'''
\set z '''beebee00-0000-4000-8000-000000000003'''
SELECT dugong.create_aggregate_type('Own', fold => 'dugong.row_fold(dugong.domain_event)', origin => 'here', external => false) \g /dev/null
SELECT dugong.create_aggregate_type('Other', origin => 'elsewhere') \g /dev/null
SELECT bank_open_account('mine', 5, :x, 'a0000000-0000-4000-8000-0000000000e1') FROM set_config('dugong.tenant_id', 'a', true) \g /dev/null
SELECT bank_open_account('mine too', 5, :y) \g /dev/null
SELECT bank_open_account('SECRET', 50, :x, 'beebee00-0000-4000-8000-0000000000e1') FROM set_config('dugong.tenant_id', 'b', true) \g /dev/null
SELECT bank_open_account('SECRET', 50, :y) \g /dev/null
SELECT bank_open_account('SECRET', 50, :z, 'beebee00-0000-4000-8000-0000000000e3') \g /dev/null
SELECT set_config('dugong.tenant_id', '', true) \g /dev/null
SELECT dugong.append_event('Own', :x, 'Old', '{"new": {"text": "SECRET"}}', event_id => 'beebee00-0000-4000-8000-0000000000e2',
    triggered_by_event_id => 'a0000000-0000-4000-8000-0000000000e1', tenant_id => 'b') \g /dev/null
SELECT dugong.append_event('Own', :z, 'Old', '{"new": {"text": "SECRET"}}', tenant_id => 'b') \g /dev/null
CREATE DOMAIN tenants.strict AS jsonb CHECK (VALUE ? 'x');
SELECT dugong.create_event_type('Own', 'Old', payload_type => 'tenants.strict') \g /dev/null
SELECT dugong.declare_tags('Own', 'Old', '{"text": ["new", "text"]}', 'here') \g /dev/null
SELECT dugong.append_event('BankAccount', :z, 'Noted', metadata => '{"note": "SECRET"}', event_id => 'a0000000-0000-4000-8000-0000000000e4', tenant_id => 'b') \g /dev/null
SELECT dugong.append_event('BankAccount', 'beebee00-0000-4000-8000-000000000004', 'Noted', tenant_id => 'b') \g /dev/null
SELECT dugong.erase_aggregate('BankAccount', 'beebee00-0000-4000-8000-000000000004', 'SECRET', 'b') \g /dev/null
CREATE TABLE tenants.source (id uuid, origin text, "aggregateType" text, "aggregateId" uuid, "sequenceNumber" int, type text, payload jsonb, "timestamp" timestamptz, "tenantId" text);
INSERT INTO tenants.source VALUES ('e0000000-0000-4000-8000-000000000001', 'here', 'Own', 'e0000000-0000-4000-8000-000000000002', 1, 'Made', '{}', '2020-01-01', 'b');
CREATE TABLE tenants.old_source AS SELECT * FROM tenants.source LIMIT 0;
GRANT SELECT ON tenants.source TO PUBLIC;
CALL dugong.import_events('tenants.old_source');
-- A wrong snapshot
SELECT dugong.take_snapshot('BankAccount', :z, 'b') \g /dev/null
UPDATE dugong.aggregate_snapshots SET state = s.state FROM (SELECT 'x'::bytea AS state) s WHERE aggregate_id = :z;
-- What consumers of the role's own had of the other tenant before that was taken from it
CREATE FUNCTION tenants.on_event(dugong.domain_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO tenants.seen VALUES (($1).tenant_id, ($1).payload::text); END';
CREATE FUNCTION tenants.on_reset() RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
CREATE TABLE tenants.seen (tenant_id text, text text);
GRANT ALL ON tenants.seen TO PUBLIC;
SET LOCAL ROLE regress_tenant_a;
CREATE TABLE tenants.model (id uuid, owner text, balance numeric, tenant_id text, PRIMARY KEY (id, tenant_id));
SELECT dugong.create_projection('model', 'BankAccount', 'tenants.model') \g /dev/null
SELECT dugong.create_projection('p', 'BankAccount', event_handler => 'tenants.on_event(dugong.domain_event)', reset_handler => 'tenants.on_reset()') \g /dev/null
SELECT dugong.create_subscription('s', '{BankAccount}') \g /dev/null
RESET ROLE;
INSERT INTO dugong.parked_aggregates (projection, aggregate_type_id, aggregate_id, tenant_id, first_sequence_number, last_sequence_number, event_id, attempts,
    first_failed_at, last_failed_at, sqlstate, message)
SELECT 'p', aggregate_type_id, aggregate_id, tenant_id, 1, 1, id, 9, now(), now(), 'XX000', 'SECRET' FROM dugong.event_log
WHERE id = 'beebee00-0000-4000-8000-0000000000e1';
INSERT INTO dugong.deliveries (subscription, position, event_id, aggregate_type_id, aggregate_id, tenant_id, sequence_number, attempts, leased_until, consumer, dead, reason)
SELECT 's', position, id, aggregate_type_id, aggregate_id, tenant_id, 1, 1, CASE WHEN aggregate_id = :x THEN 'infinity'::timestamptz END, 'me', aggregate_id = :y, 'SECRET'
FROM dugong.event_log WHERE tenant_id = 'b' AND aggregate_type_id = dugong.aggregate_type_id('BankingContext-AccountService', 'BankAccount');
INSERT INTO dugong.projection_failures VALUES ('p', 1, now(), now(), 'XX000', 'SECRET');
INSERT INTO dugong.rebuilds (projection, fingerprint, phase, total, pid, updated_at) VALUES ('model', 1, 'aggregates', 5, 1, now());
CREATE TABLE tenants.rows (id uuid);
GRANT ALL ON tenants.rows TO PUBLIC;
CREATE TRIGGER record AFTER INSERT ON tenants.rows FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Own', 'id');
SELECT dugong.grant_tenant('regress_tenant_' || tenant, tenant) FROM unnest(ARRAY['a', 'b']) AS tenant \g /dev/null
SELECT dugong.grant_tenant('regress_tenant_group', tenant) FROM unnest(ARRAY['a', 'b']) AS tenant \g /dev/null
-- Before: it costs nothing, and a plan that was made then does not stay
CREATE FUNCTION pg_temp.plan(command text) RETURNS SETOF text LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY EXECUTE 'EXPLAIN (VERBOSE) ' || command; END $$;
SELECT is_empty($$ SELECT * FROM pg_temp.plan('SELECT FROM dugong.domain_events') p WHERE p ~ 'sees_tenant' $$, 'while they are not isolated, nobody asks');
SET LOCAL plan_cache_mode = force_generic_plan;
PREPARE before AS SELECT count(*) FROM dugong.domain_events WHERE tenant_id = 'b';
CREATE TABLE tenants.manual AS SELECT 'b' AS tenant_id;
GRANT SELECT ON tenants.manual TO PUBLIC;
ALTER TABLE tenants.manual ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON tenants.manual USING (dugong.sees_tenant(tenant_id));
PREPARE manual AS SELECT count(*) FROM tenants.manual;
SET LOCAL ROLE regress_tenant_a;
EXECUTE before \gset before_
EXECUTE manual \gset before_manual_
RESET ROLE;
SELECT is(:before_manual_count, 1, 'with a policy of one''s own, too');
SELECT cmp_ok(:before_count, '>', 0, 'all is seen');
SELECT is(dugong.enable_tenant_isolation(), true, 'tenants are isolated');
SET LOCAL ROLE regress_tenant_a;
EXECUTE before \gset after_
EXECUTE manual \gset after_manual_
RESET ROLE;
SELECT is(:after_manual_count, 0, 'nor does one of a table that nobody has touched since');
SELECT is(:after_count, 0, 'a plan from before shows nothing');
RESET plan_cache_mode;

-- All that belongs to the other tenant
CREATE FUNCTION pg_temp.belongings() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    relation regclass;
    part text;
    belongings text := '';
BEGIN
    FOR relation IN SELECT attrelid FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
        WHERE attname = 'tenant_id' AND relkind = 'r' AND (relnamespace IN ('dugong'::regnamespace, 'tenants'::regnamespace) OR relname = 'bank_account_query_model') LOOP
        EXECUTE format('SELECT string_agg(t::text, E''\n'' ORDER BY t::text) FROM %s t WHERE tenant_id = ''b''', relation) INTO part;
        belongings := belongings || relation || E'\n' || COALESCE(part, '') || E'\n';
    END LOOP;
    RETURN belongings;
END $$;
-- Does a role's command tell it something of the other tenant, or change something there?  Then it is taken back.
CREATE FUNCTION pg_temp.harm(isolated boolean, tenant text, command text, actor name DEFAULT 'regress_tenant_a') RETURNS text
LANGUAGE plpgsql SET search_path = public AS $$
DECLARE
    before text;
    told text := '';
    harm text;
BEGIN
    BEGIN
        IF NOT isolated THEN
            PERFORM dugong.disable_tenant_isolation();
        END IF;
        before := pg_temp.belongings();
        PERFORM set_config('dugong.tenant_id', tenant, true);
        EXECUTE format('SET LOCAL ROLE %I', actor);
        BEGIN
            IF command LIKE 'SELECT %' THEN
                EXECUTE format('SELECT string_agg(t::text, E''\n'') FROM (%s) t', command) INTO told;
            ELSE
                EXECUTE command;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS told = MESSAGE_TEXT;
            RAISE DEBUG '% %', SQLSTATE, told;
        END;
        RESET ROLE;
        harm := concat_ws(' and ', CASE WHEN told ~ 'SECRET|beebee' THEN 'tells' END, CASE WHEN before <> pg_temp.belongings() THEN 'changes' END);
        RAISE SQLSTATE 'ZZZZZ';
    EXCEPTION
        WHEN SQLSTATE 'ZZZZZ' THEN NULL;
    END;
    RETURN harm;
END $$;

CREATE TEMP TABLE attempts AS SELECT * FROM (VALUES
    -- functions
    ('bank_account_apply(bank_account_state,dugong.domain_event)', NULL, NULL),
    ('bank_account_fold(dugong.domain_event)', NULL, NULL),
    ('bank_open_account(text,numeric,uuid,uuid)', 'changes', $$SELECT bank_open_account('x', 1, gen_random_uuid())$$),
    ('bank_deposit(uuid,numeric,uuid)', 'changes', $$SELECT bank_deposit('a0000000-0000-4000-8000-000000000001', 1)$$),
    ('bank_withdraw(uuid,numeric,uuid)', 'changes', $$SELECT bank_withdraw('a0000000-0000-4000-8000-000000000001', 1)$$),
    ('bank_transfer(uuid,uuid,numeric,uuid)', 'changes', $$SELECT bank_transfer('a0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000002', 1)$$),
    ('bank_close_account(uuid,uuid)', 'changes', $$SELECT bank_close_account('a0000000-0000-4000-8000-000000000001')$$),
    ('bank_get_account(uuid)', 'tells', $$SELECT * FROM bank_get_account('a0000000-0000-4000-8000-000000000001')$$),
    ('dugong.ack(text,uuid[],text)', 'changes', $$SELECT dugong.ack('s', '{beebee00-0000-4000-8000-0000000000e1}')$$),
    ('dugong.aggregate_events(text,uuid,bigint,bigint,text,text)', 'tells', $$SELECT * FROM dugong.aggregate_events('BankAccount', 'a0000000-0000-4000-8000-000000000001', tenant_id => 'b')$$),
    ('dugong.aggregate_history(text,uuid,text,text)', 'tells', $$SELECT * FROM dugong.aggregate_history('BankAccount', 'a0000000-0000-4000-8000-000000000001', tenant_id => 'b')$$),
    ('dugong.aggregate_id(text,text[])', NULL, NULL),
    ('dugong.aggregate_ids(text,uuid,integer,text,text)', 'tells', $$SELECT * FROM dugong.aggregate_ids('BankAccount', tenant_id => 'b')$$),
    ('dugong.aggregate_type_id(text,text)', NULL, NULL),
    ('dugong.aggregate_types()', NULL, NULL),
    ('dugong.alter_aggregate_type(text,regprocedure,integer,boolean,regprocedure[],regrole,text)', NULL, NULL),
    ('dugong.alter_projection(text,regprocedure,regprocedure,regprocedure,regprocedure,regprocedure,text[],text,regrole,boolean,text)', NULL, NULL),
    ('dugong.alter_subscription(text,text[],interval,regrole)', NULL, NULL),
    ('dugong.append_event(text,uuid,text,jsonb,bigint,uuid,integer,jsonb,uuid,uuid,text,timestamp with time zone,text,text)', 'changes',
        $$SELECT dugong.append_event('BankAccount', 'a0000000-0000-4000-8000-000000000001', 'Noted', tenant_id => 'b')$$),
    -- a retry of what the other has appended would give it back
    ('dugong.append_event(text,uuid,text,jsonb,bigint,uuid,integer,jsonb,uuid,uuid,text,timestamp with time zone,text,text)', 'tells',
        $$SELECT dugong.append_event('BankAccount', 'a0000000-0000-4000-8000-000000000001', 'AccountOpened', '{"owner": "SECRET", "initialBalance": 50}',
            event_id => 'beebee00-0000-4000-8000-0000000000e1', version => 1, tenant_id => 'b')$$),
    ('dugong.append_events(text,uuid,jsonb,bigint,jsonb,uuid,uuid,text,timestamp with time zone,text,text)', 'changes',
        $$SELECT dugong.append_events('BankAccount', 'a0000000-0000-4000-8000-000000000001', '[{"type": "Noted"}]', tenant_id => 'b')$$),
    ('dugong.append_row_event()', 'changes', $$INSERT INTO tenants.rows VALUES (gen_random_uuid())$$),
    ('dugong.attempts(text,uuid)', 'tells', $$SELECT 'SECRET ' || dugong.attempts('s', 'beebee00-0000-4000-8000-0000000000e1')$$),
    ('dugong.build_aggregate(text,uuid,bigint,timestamp with time zone,boolean,boolean,text,text)', 'tells',
        $$SELECT dugong.build_aggregate('BankAccount', 'a0000000-0000-4000-8000-000000000001', tenant_id => 'b')$$),
    ('dugong.build_aggregate(anyelement,text,uuid,bigint,timestamp with time zone,boolean,boolean,text,text)', 'tells',
        $$SELECT dugong.build_aggregate(NULL::bank_account_state, 'BankAccount', 'a0000000-0000-4000-8000-000000000001', tenant_id => 'b')$$),
    ('dugong.check_event_types()', 'tells', $$SELECT * FROM dugong.check_event_types()$$),
    ('dugong.create_aggregate_type(text,regprocedure,integer,boolean,regprocedure[],text,boolean)', NULL, NULL),
    ('dugong.create_event_type(text,text,integer,regtype,regprocedure,text)', NULL, NULL),
    -- an inline projection handles what is there at once
    ('dugong.create_projection(text,text,regclass,text,regprocedure,regprocedure,regprocedure,regprocedure,regprocedure,text[],text,bigint,text)', 'changes',
        $$SELECT dugong.create_projection('new', 'Bound', event_handler => 'tenants.on_event(dugong.domain_event)', mode => 'inline')$$),
    ('dugong.create_projection(text,text[],regclass,text,regprocedure,regprocedure,regprocedure,regprocedure,regprocedure,text[],text,bigint,text)', NULL, NULL),
    ('dugong.create_subscription(text,text[],text[],bigint,interval,text)', 'tells',
        $$SELECT e FROM dugong.create_subscription('new', '{BankAccount}'), LATERAL dugong.fetch_events('new') e$$),
    ('dugong.current_payload(integer,text,integer,jsonb)', NULL, NULL),
    ('dugong.current_version(integer,text,integer)', NULL, NULL),
    ('dugong.disable_tenant_isolation()', NULL, $$DO 'BEGIN PERFORM dugong.disable_tenant_isolation(); DELETE FROM dugong.tenant_grants; END'$$),
    ('dugong.discard_dead_letter(text,uuid,text)', 'changes', $$SELECT dugong.discard_dead_letter('p', 'a0000000-0000-4000-8000-000000000001', 'b')$$),
    ('dugong.domain_events_insert()', 'changes',
        $$INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, tenant_id) VALUES ('BankAccount', 'a0000000-0000-4000-8000-000000000001', 'Noted', 'b')$$),
    ('dugong.drop_aggregate_type(text,text)', NULL, NULL),
    ('dugong.drop_event_type(text,text,integer,text)', NULL, NULL),
    ('dugong.drop_projection(text)', NULL, NULL),
    ('dugong.drop_snapshots(text,text)', 'changes', $$SELECT dugong.drop_snapshots('BankAccount')$$),
    ('dugong.drop_subscription(text)', NULL, NULL),
    ('dugong.effects_of(uuid)', 'tells', $$SELECT * FROM dugong.effects_of('a0000000-0000-4000-8000-0000000000e1')$$),
    ('dugong.enable_tenant_isolation()', NULL, $$SELECT dugong.enable_tenant_isolation()$$),
    ('dugong.event(uuid)', 'tells', $$SELECT * FROM dugong.event('beebee00-0000-4000-8000-0000000000e1')$$),
    ('dugong.event_assign()', 'changes', $$INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type, tenant_id)
        VALUES (dugong.aggregate_type_id('BankingContext-AccountService', 'BankAccount'), 'a0000000-0000-4000-8000-000000000001', 'Noted', 'b')$$),
    ('dugong.event_mark()', NULL, NULL),
    ('dugong.fetch_events(text,integer,text)', 'tells', $$SELECT * FROM dugong.fetch_events('s')$$),
    ('dugong.grant_tenant(text,text)', NULL, $$SELECT dugong.grant_tenant('regress_tenant_a', 'b')$$),
    ('dugong.guard_drop()', NULL, NULL),
    ('dugong.inline_projections()', NULL, NULL),
    ('dugong.is_preloaded()', NULL, NULL),
    ('dugong.is_replaying()', NULL, NULL),
    ('dugong.load_for_update(anyelement,text,uuid,boolean,text,text)', 'tells',
        $$SELECT dugong.load_for_update(NULL::bank_account_state, 'BankAccount', 'a0000000-0000-4000-8000-000000000001', tenant_id => 'b')$$),
    ('dugong.nack(text,uuid,text,interval,text)', 'changes', $$SELECT dugong.nack('s', 'beebee00-0000-4000-8000-0000000000e1', 'no')$$),
    ('dugong.pause_projection(text)', NULL, NULL),
    ('dugong.projection_is_stale(text,bigint)', NULL, NULL),
    ('dugong.projection_lock_key(text)', NULL, NULL),
    ('dugong.read_events(bigint,integer,text[],text[],uuid,boolean,boolean,text,text)', 'tells', $$SELECT * FROM dugong.read_events()$$),
    ('dugong.read_events(bigint,integer,text[],text[],uuid,boolean,boolean,text,text)', 'tells', $$SELECT * FROM dugong.read_events(tenant_id => 'b', backward => true)$$),
    ('dugong.rebuild_projection(text,uuid,text,boolean)', 'changes', $$CALL dugong.rebuild_projection('model')$$),
    ('dugong.rebuild_projection(text,uuid,text,boolean)', 'changes', $$CALL dugong.rebuild_projection('model', 'a0000000-0000-4000-8000-000000000001', 'b')$$),
    ('dugong.receive_message(jsonb)', 'changes', $$SELECT dugong.receive_message('{"origin": "elsewhere", "aggregateType": "Other", "type": "Made", "sequenceNumber": 1,
        "id": "e0000000-0000-4000-8000-000000000008", "aggregateId": "a0000000-0000-4000-8000-000000000001", "tenantId": "b"}')$$),
    ('dugong.refuse_change()', NULL, NULL),
    ('dugong.refuse_projected_type()', NULL, NULL),
    ('dugong.registry_changed()', NULL, NULL),
    ('dugong.replace_installed()', NULL, NULL),
    ('dugong.release(text,uuid[],text)', 'changes', $$SELECT dugong.release('s', consumer => 'me')$$),
    ('dugong.resume_projection(text)', NULL, NULL),
    ('dugong.retry_dead_letters(text,uuid)', 'changes', $$SELECT dugong.retry_dead_letters('p')$$),
    ('dugong.retry_dead_letters(text,uuid)', 'changes', $$SELECT dugong.retry_dead_letters('s')$$),
    ('dugong.revoke_tenant(text,text)', NULL, $$SELECT dugong.revoke_tenant('regress_tenant_b', 'b')$$),
    ('dugong.row_apply(jsonb,dugong.domain_event)', NULL, NULL),
    ('dugong.row_fold(dugong.domain_event)', NULL, NULL),
    ('dugong.run_projections()', 'changes', $$CALL dugong.run_projections()$$),
    ('dugong.sees_tenant(text)', 'tells', $$SELECT 'SECRET' WHERE dugong.sees_tenant('b') OR dugong.sees_tenant(NULL) OR dugong.sees_tenant('')$$),
    ('dugong.sees_tenant_support(internal)', NULL, NULL),
    ('dugong.snapshot_is_valid(integer,bigint)', NULL, NULL),
    ('dugong.start_workers()', NULL, NULL),
    ('dugong.stop_workers()', NULL, NULL),
    ('dugong.take_snapshot(text,uuid,text,text)', 'changes', $$SELECT dugong.take_snapshot('BankAccount', 'a0000000-0000-4000-8000-000000000001', 'b')$$),
    ('dugong.tenant_isolation_changed()', NULL, NULL),
    ('dugong.to_domain_event(dugong.domain_events)', 'tells', $$SELECT e::dugong.domain_event FROM dugong.domain_events e$$),
    ('dugong.to_message(dugong.domain_event)', 'tells', $$SELECT dugong.to_message(e) FROM dugong.domain_events e$$),
    ('dugong.verify_snapshots(text,text)', 'changes', $$SELECT * FROM dugong.verify_snapshots('BankAccount')$$),
    ('dugong.wait_for_events(text,interval)', NULL, $$CALL dugong.wait_for_events('s', '1ms')$$),
    ('dugong.wait_for_projection(text,interval,bigint)', NULL, NULL),
    ('dugong.append_event(name,uuid,text,jsonb,bigint,uuid,integer,jsonb,uuid,uuid,text,timestamp with time zone,jsonb,bigint,text,text)', 'changes',
        $$SELECT dugong.append_event('BankAccount', 'a0000000-0000-4000-8000-000000000001', 'Noted', if_none_match => '{"types": ["Old"], "tags": {"text": "none"}}', tenant_id => 'b')$$),
    ('dugong.append_events(name,uuid,jsonb,bigint,jsonb,uuid,uuid,text,timestamp with time zone,jsonb,bigint,text,text)', 'changes',
        $$SELECT dugong.append_events('BankAccount', 'a0000000-0000-4000-8000-000000000001', '[{"type": "Noted"}]', if_none_match => '{"types": ["Old"], "tags": {"text": "none"}}', tenant_id => 'b')$$),
    ('dugong.declare_tags(text,text,jsonb,text)', NULL, NULL),
    ('dugong.drop_tags(text,text,text)', NULL, NULL),
    ('dugong.read_events_matching(jsonb,bigint,integer,boolean,text)', 'tells', $$SELECT * FROM dugong.read_events_matching('{"types": ["Old"]}', tenant_id => 'b')$$),
    ('dugong.erase_aggregate(text,uuid,text,text,text)', 'changes', $$SELECT * FROM dugong.erase_aggregate('BankAccount', 'a0000000-0000-4000-8000-000000000001', 'x', 'b')$$),
    ('dugong.erase_payload(uuid,text[],text)', 'changes', $$SELECT * FROM dugong.erase_payload('a0000000-0000-4000-8000-0000000000e4', '{note}', 'x')$$),
    ('dugong.is_skeleton(dugong.domain_event)', NULL, NULL),
    ('dugong.import_events(regclass,jsonb,boolean,integer)', 'changes', $$CALL dugong.import_events('tenants.source')$$),
    ('dugong.verify_projection(text,integer,boolean)', NULL, $$SELECT * FROM dugong.verify_projection('bank_account')$$),
    ('dugong.query_model_as_of(anyelement,timestamp with time zone,bigint)', 'tells', $$SELECT * FROM dugong.query_model_as_of(NULL::bank_account_query_model)$$),
    -- relations
    ('dugong.declared_tags', NULL, NULL),
    ('dugong.erasure_log', 'tells', $$SELECT * FROM dugong.erasure_log$$),
    ('dugong.erasures', 'tells', $$SELECT * FROM dugong.erasures$$),
    -- what it has of values are hashes
    ('dugong.event_tags', NULL, NULL),
    ('dugong.import_progress', 'tells', $$SELECT 'SECRET' FROM dugong.import_progress$$),
    ('dugong.imports', NULL, NULL),
    ('dugong.tag_declarations', NULL, NULL),
    ('dugong.aggregate_snapshots', 'tells', $$SELECT * FROM dugong.aggregate_snapshots$$),
    ('dugong.aggregate_snapshots', 'changes', $$DELETE FROM dugong.aggregate_snapshots$$),
    ('dugong.aggregate_types', NULL, NULL),
    ('dugong.aggregates', 'tells', $$SELECT * FROM dugong.aggregates$$),
    ('dugong.checkpoint_holes', NULL, NULL),
    ('dugong.checkpoints', NULL, NULL),
    ('dugong.consumed_messages', 'tells', $$SELECT * FROM dugong.consumed_messages$$),
    ('dugong.dead_letters', 'tells', $$SELECT * FROM dugong.dead_letters$$),
    ('dugong.deliveries', 'tells', $$SELECT * FROM dugong.deliveries$$),
    ('dugong.deliveries', 'changes', $$UPDATE dugong.deliveries SET attempts = 0$$),
    ('dugong.domain_events', 'tells', $$SELECT * FROM dugong.domain_events$$),
    ('dugong.domain_events', 'tells', $$SELECT bank_account_fold(e ORDER BY e.sequence_number) FROM dugong.domain_events e WHERE aggregate_type = 'BankAccount' GROUP BY aggregate_id, tenant_id$$),
    ('dugong.event_log', 'tells', $$SELECT * FROM dugong.event_log$$),
    ('dugong.event_types', NULL, NULL),
    ('dugong.home', NULL, NULL),
    ('dugong.outstanding_events', 'tells', $$SELECT * FROM dugong.outstanding_events$$),
    ('dugong.parked_aggregates', 'tells', $$SELECT * FROM dugong.parked_aggregates$$),
    ('dugong.parked_aggregates', 'changes', $$DELETE FROM dugong.parked_aggregates$$),
    -- its messages may be of any tenant, and it is for nobody but through the view
    ('dugong.projection_failures', NULL, NULL),
    ('dugong.projection_status', 'tells', $$SELECT * FROM dugong.projection_status$$),
    ('dugong.projections', NULL, NULL),
    ('dugong.rebuild_progress', 'tells', $$SELECT 'SECRET' FROM dugong.rebuild_progress$$),
    ('dugong.rebuilds', NULL, NULL),
    ('dugong.snapshots', 'tells', $$SELECT * FROM dugong.snapshots$$),
    ('dugong.stopped_workers', NULL, NULL),
    ('dugong.subscription_status', 'tells', $$SELECT 'SECRET' FROM dugong.subscription_status$$),
    ('dugong.tenant_grants', 'changes', $$INSERT INTO dugong.tenant_grants VALUES ('regress_tenant_a', 'b', 'me')$$),
    ('dugong.tenant_isolation', NULL, NULL),
    ('dugong.tenant_status', 'tells', $$SELECT 'SECRET' FROM dugong.tenant_status WHERE tenant_id = 'b'$$),
    ('dugong.worker_status', NULL, NULL),
    ('bank_account_query_model', 'changes', $$INSERT INTO bank_account_query_model VALUES (gen_random_uuid(), 'x', 1, 'b')$$)
) AS v(object, harm, command);
SELECT set_eq('SELECT object FROM attempts', $$
    SELECT objid::regprocedure::text FROM pg_depend JOIN pg_extension e ON refclassid = 'pg_extension'::regclass AND refobjid = e.oid
    WHERE deptype = 'e' AND extname = 'dugong' AND classid = 'pg_proc'::regclass
    UNION ALL
    SELECT objid::regclass::text FROM pg_depend JOIN pg_extension e ON refclassid = 'pg_extension'::regclass AND refobjid = e.oid
    JOIN pg_class c ON c.oid = objid AND c.relkind IN ('r', 'v', 'm', 'p')
    WHERE deptype = 'e' AND extname = 'dugong' AND classid = 'pg_class'::regclass $$, 'every function, view and table is tried');
-- An aggregate type of the role's own, for which it may create an inline projection
SET LOCAL ROLE regress_tenant_a;
SELECT dugong.create_aggregate_type('Bound', origin => 'here', external => false) \g /dev/null
RESET ROLE;
SELECT dugong.append_event('Bound', :x, 'Made', '{"text": "SECRET"}', tenant_id => 'b') \g /dev/null
-- It has been read by a projection
INSERT INTO dugong.checkpoints (projection, position, system_identifier, database_oid) VALUES ('p', 1000000, 1, 1);

SELECT is(pg_temp.harm(true, tenant, command), '', format('isolated, tenant "%s": %s', tenant, command))
FROM attempts, unnest(ARRAY['', 'a', 'b']) AS tenant WHERE command IS NOT NULL ORDER BY object, tenant;
SELECT is(pg_temp.harm(true, tenant, command, 'regress_tenant_nobody'), '', format('a role without tenants, tenant "%s": %s', tenant, command))
FROM attempts, unnest(ARRAY['', 'b']) AS tenant WHERE command IS NOT NULL ORDER BY object, tenant;
SELECT matches(pg_temp.harm(false, 'b', command), harm, format('not isolated: %s', command)) FROM attempts WHERE harm IS NOT NULL ORDER BY object;

-- Each view looks at the tenant first: a function of the user's, however cheap, does not get the others' rows
SELECT is_empty($$ SELECT c.oid::regclass FROM pg_depend JOIN pg_extension e ON refclassid = 'pg_extension'::regclass AND refobjid = e.oid
    JOIN pg_class c ON c.oid = objid AND c.relkind = 'v' WHERE deptype = 'e' AND extname = 'dugong' AND classid = 'pg_class'::regclass
    AND 'security_barrier=true' <> ALL (COALESCE(c.reloptions, '{}')) $$, 'every view is a security barrier');
CREATE FUNCTION tenants.cheap(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$ BEGIN RAISE '%', $1; END $$;
CREATE FUNCTION tenants.leak(relation text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SELECT FROM %s WHERE tenant_id = ''b'' AND tenants.cheap(tenant_id)', relation);
    RETURN 'nothing';
EXCEPTION WHEN raise_exception THEN
    RETURN SQLERRM;
END $$;
SET LOCAL ROLE regress_tenant_a;
SELECT is(tenants.leak(relation), 'nothing', relation || ' tells a cheap function nothing')
FROM unnest(ARRAY['dugong.domain_events', 'dugong.aggregates', 'dugong.snapshots', 'dugong.dead_letters', 'dugong.outstanding_events', 'dugong.tenant_status', 'dugong.event_log',
    'dugong.deliveries', 'dugong.parked_aggregates', 'bank_account_query_model']) AS relation;
RESET ROLE;

-- What is not the role's is as if it did not exist
CREATE FUNCTION pg_temp.told(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    told text;
BEGIN
    EXECUTE command INTO told;
    RETURN told;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
SET LOCAL ROLE regress_tenant_a;
SELECT is(pg_temp.told(format(command, :z)), replace(pg_temp.told(format(command, id)), id, :z), 'the same as of none: ' || command)
FROM (VALUES ('00000000-0000-4000-8000-0000000000ff')) AS i(id), unnest(ARRAY['SELECT bank_deposit(%L, 1)', 'SELECT bank_get_account(%L)', 'SELECT dugong.build_aggregate(''BankAccount'', %L)',
    'SELECT dugong.load_for_update(NULL::bank_account_state, ''BankAccount'', %L)', 'SELECT dugong.aggregate_events(''BankAccount'', %L)', 'SELECT dugong.take_snapshot(''BankAccount'', %L)',
    'SELECT dugong.discard_dead_letter(''p'', %L)', 'SELECT dugong.retry_dead_letters(''p'', %L)']) AS command;
SELECT is(pg_temp.told('SELECT dugong.event(''beebee00-0000-4000-8000-0000000000e1'')'), NULL, 'nor is there an event');
SELECT is(pg_temp.told('SELECT dugong.read_events(tenant_id => ''b'')'), '42501 permission denied for tenant "b"', 'a tenant that there is');
SELECT is(pg_temp.told('SELECT dugong.read_events(tenant_id => ''none'')'), '42501 permission denied for tenant "none"', 'is refused as one that there is not');
-- An id is unique in the whole log; whose it is is not said
SELECT is(pg_temp.told($$SELECT dugong.append_event('BankAccount', 'a0000000-0000-4000-8000-000000000001', 'Noted', event_id => 'beebee00-0000-4000-8000-0000000000e1')$$),
    'UG006 event id "beebee00-0000-4000-8000-0000000000e1" is in use for another event', 'an event id of the other''s');
SELECT is(pg_temp.told($$SELECT dugong.append_event('BankAccount', 'a0000000-0000-4000-8000-000000000001', 'AccountOpened', '{"owner": "SECRET", "initialBalance": 50}',
    event_id => 'beebee00-0000-4000-8000-0000000000e1', version => 1)$$), 'UG006 event id "beebee00-0000-4000-8000-0000000000e1" is in use for another event', 'with all that it says');

-- The tenant that is not named: the only one
SELECT is((dugong.append_event('BankAccount', :y, 'Noted')).tenant_id, 'a', 'the only tenant is the one that is meant');
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ') FROM dugong.read_events()), 'a', 'reading gives it');
RESET ROLE;
SET LOCAL ROLE regress_tenant_nobody;
SELECT is(pg_temp.answer('SELECT bank_deposit(''a0000000-0000-4000-8000-000000000001'', 1)'), '42501 No tenant is granted to it.', 'who has none');
SELECT is_empty('SELECT * FROM dugong.domain_events', 'sees nothing');
SELECT is_empty('SELECT * FROM dugong.read_events()', 'nor reads anything');
RESET ROLE;
SET LOCAL ROLE regress_tenant_member;
SELECT is(pg_temp.answer('SELECT bank_deposit(''a0000000-0000-4000-8000-000000000001'', 1)'), '42501 Several tenants are granted to it.', 'who has several');
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ' ORDER BY tenant_id) FROM dugong.read_events()), 'a b', 'a member has the group''s tenants');
SET LOCAL dugong.tenant_id = 'b';
SELECT is((dugong.append_event('BankAccount', :y, 'Noted')).tenant_id, 'b', 'of which it names one');
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ') FROM dugong.read_events()), 'b', 'also to read');
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ' ORDER BY tenant_id) FROM dugong.domain_events), 'a b', 'the views show all of its tenants');
RESET ROLE;
SET LOCAL dugong.tenant_id = '';
SELECT is((dugong.append_event('BankAccount', gen_random_uuid(), 'Noted')).tenant_id, '', 'who sees all means none');
SELECT dugong.grant_tenant('regress_tenant_nobody', '') \g /dev/null
SET LOCAL ROLE regress_tenant_nobody;
SELECT is((dugong.append_event('BankAccount', gen_random_uuid(), 'Noted')).tenant_id, '', 'what belongs to no tenant is granted as a tenant is');
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ') FROM dugong.domain_events), '', 'and seen');
RESET ROLE;
SELECT dugong.revoke_tenant('regress_tenant_nobody', '') \g /dev/null

-- A role that does not inherit has nothing of the group, until it becomes the group.  Since 16 the grant remembers whether.
ALTER ROLE regress_tenant_member NOINHERIT;
REVOKE regress_tenant_group FROM regress_tenant_member;
GRANT regress_tenant_group TO regress_tenant_member;
SET LOCAL ROLE regress_tenant_member;
SELECT is_empty('SELECT * FROM dugong.domain_events', 'NOINHERIT');
RESET ROLE;
SET SESSION AUTHORIZATION regress_tenant_member;
SET LOCAL ROLE regress_tenant_group;
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ' ORDER BY tenant_id) FROM dugong.domain_events), 'a b', 'after SET ROLE');
RESET SESSION AUTHORIZATION;
ALTER ROLE regress_tenant_member INHERIT;
REVOKE regress_tenant_group FROM regress_tenant_member;
GRANT regress_tenant_group TO regress_tenant_member;
SET LOCAL ROLE regress_tenant_member;
SELECT isnt_empty('SELECT * FROM dugong.domain_events', 'INHERIT');
RESET ROLE;
REVOKE regress_tenant_group FROM regress_tenant_member;
SET LOCAL ROLE regress_tenant_member;
SELECT is_empty('SELECT * FROM dugong.domain_events', 'no longer a member');
RESET ROLE;
ALTER ROLE regress_tenant_member BYPASSRLS;
SET LOCAL ROLE regress_tenant_member;
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ' ORDER BY tenant_id) FROM dugong.domain_events), ' a b', 'BYPASSRLS passes by this, too');
RESET ROLE;
ALTER ROLE regress_tenant_member NOBYPASSRLS;

-- Prepared statements and cursors, when tenants are taken away
SET LOCAL ROLE regress_tenant_a;
PREPARE by_view AS SELECT count(*) FROM dugong.domain_events WHERE aggregate_id = :y;
PREPARE by_function AS SELECT count(*) FROM dugong.read_events();
PREPARE by_model AS SELECT count(*) FROM bank_account_query_model;
SELECT is(pg_temp.told('EXECUTE by_view')::int, 2, 'prepared');
-- As long as its plan keeps no rows, which the statistics decide
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_material = off;
SET LOCAL enable_memoize = off;
DECLARE by_cursor CURSOR FOR SELECT tenant_id FROM dugong.domain_events;
RESET enable_hashjoin;
RESET enable_mergejoin;
RESET enable_material;
RESET enable_memoize;
SELECT is(pg_temp.told('FETCH by_cursor'), 'a', 'an open cursor');
RESET ROLE;
SELECT is(dugong.revoke_tenant('regress_tenant_a', 'a'), true, 'taken away');
SELECT is(dugong.revoke_tenant('regress_tenant_a', 'a'), false, 'once');
SET LOCAL ROLE regress_tenant_a;
SELECT is(pg_temp.told('EXECUTE by_view')::int, 0, 'a prepared statement shows nothing any more');
SELECT is(pg_temp.told('EXECUTE by_function')::int, 0, 'nor one that calls a function');
SELECT is(pg_temp.told('EXECUTE by_model')::int, 0, 'nor one of a query model');
SELECT is(pg_temp.told('FETCH by_cursor'), NULL, 'nor does the cursor');
RESET ROLE;
SELECT dugong.grant_tenant('regress_tenant_a', 'a') \g /dev/null
SAVEPOINT granted;
SELECT dugong.grant_tenant('regress_tenant_a', 'b') \g /dev/null
SET LOCAL ROLE regress_tenant_a;
SELECT is(dugong.sees_tenant('b'), true, 'granted');
ROLLBACK TO granted;
SET LOCAL ROLE regress_tenant_a;
SELECT is(dugong.sees_tenant('b'), false, 'what is granted and rolled back is not');
RESET ROLE;

-- Somebody else's function shows what that role sees, as with row level security
CREATE FUNCTION tenants.as_b() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT count(*) FROM dugong.read_events() WHERE tenant_id = 'b' $$;
ALTER FUNCTION tenants.as_b() OWNER TO regress_tenant_b;
CREATE FUNCTION tenants.as_a() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS $$ SELECT count(*) FROM dugong.read_events() WHERE tenant_id = 'b' $$;
ALTER FUNCTION tenants.as_a() OWNER TO regress_tenant_a;
SET LOCAL ROLE regress_tenant_a;
SELECT cmp_ok(tenants.as_b(), '>', 0::bigint, 'a function of the other role''s');
RESET ROLE;
SELECT is(tenants.as_a(), 0::bigint, 'a superuser in a bound role''s function sees what that does');

-- Whose tenants a projection gets: its owner's
SET LOCAL ROLE regress_tenant_a;
SELECT dugong.drop_projection('p'), dugong.drop_projection('model') \g /dev/null
SELECT dugong.create_projection('inline', 'Bound', event_handler => 'tenants.on_event(dugong.domain_event)', mode => 'inline') \g /dev/null
SELECT dugong.create_projection('events', 'Bound', event_handler => 'tenants.on_event(dugong.domain_event)') \g /dev/null
SELECT dugong.create_projection('model', 'BankAccount', 'tenants.model') \g /dev/null
-- Its handlers see what it sees
CREATE FUNCTION tenants.look(dugong.domain_event) RETURNS void LANGUAGE sql AS
    'INSERT INTO tenants.seen SELECT DISTINCT tenant_id, ''looked'' FROM dugong.domain_events';
SELECT dugong.create_projection('looking', 'Bound', event_handler => 'tenants.look(dugong.domain_event)') \g /dev/null
RESET ROLE;
TRUNCATE tenants.seen;
SELECT dugong.append_event('Bound', :x, 'Made', tenant_id => tenant) FROM unnest(ARRAY['a', 'b', '']) AS tenant \g /dev/null
SELECT is((SELECT string_agg(tenant_id, ' ') FROM tenants.seen), 'a', 'an inline projection');
CALL dugong.run_projections();
SELECT is((SELECT string_agg(concat_ws(' ', tenant_id, text), ', ' ORDER BY text NULLS FIRST) FROM tenants.seen), 'a, a, a looked', 'an async one, and what its handler sees');
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ') FROM tenants.model), 'a', 'a query model');
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ' ORDER BY tenant_id) FROM bank_account_query_model WHERE tenant_id <> ''), 'a b', 'the superuser''s has all');
SELECT is((SELECT bool_and(position = head) FROM dugong.projection_status WHERE projection IN ('events', 'model')), true, 'they have passed over the others'' events');
SELECT results_eq($$ SELECT projection, tenant_id, dead_letters, retrying FROM dugong.tenant_status WHERE projection IN ('events', 's') ORDER BY 1, 2 $$,
    $$ VALUES ('events', '', 0::bigint, 0::bigint), ('events', 'a', 0, 0), ('events', 'b', 0, 0), ('s', '', 0, 0), ('s', 'a', 0, 0), ('s', 'b', 1, 4) $$, 'the status of each tenant');
-- Rebuilt, it has what the owner sees now
SELECT dugong.grant_tenant('regress_tenant_a', 'b') \g /dev/null
SET LOCAL ROLE regress_tenant_a;
CALL dugong.rebuild_projection('model');
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ' ORDER BY tenant_id) FROM tenants.model), 'a b', 'rebuilt, with another tenant');
RESET ROLE;
SELECT dugong.revoke_tenant('regress_tenant_a', 'b') \g /dev/null
SELECT is(pg_temp.answer($$CALL dugong.rebuild_projection('model', 'a0000000-0000-4000-8000-000000000001', 'b')$$), '42501', 'not even the superuser gives it another''s row');
SET LOCAL ROLE regress_tenant_a;
CALL dugong.rebuild_projection('model');
RESET ROLE;
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ' ORDER BY tenant_id) FROM tenants.model), 'a', 'and without');
-- Nor does a repair, an erasure or the past give it what its owner does not see
CREATE TABLE tenants.told (text text);
GRANT ALL ON tenants.told TO PUBLIC;
GRANT USAGE ON TYPE bank_account_state TO PUBLIC;
SET LOCAL ROLE regress_tenant_a;
CREATE FUNCTION tenants.on_update(id uuid, state bank_account_state) RETURNS void LANGUAGE sql AS 'INSERT INTO tenants.told VALUES (id::text || state::text)';
CREATE FUNCTION tenants.on_delete(id uuid) RETURNS void LANGUAGE sql AS 'INSERT INTO tenants.told VALUES (id::text)';
SELECT dugong.create_projection('told', 'BankAccount', update_handler => 'tenants.on_update(uuid,bank_account_state)', delete_handler => 'tenants.on_delete(uuid)') \g /dev/null
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ') FROM dugong.query_model_as_of(NULL::tenants.model)), 'a', 'the past is his own');
INSERT INTO tenants.model VALUES (:z, 'mine', 1, 'b');
SELECT is((SELECT string_agg(concat_ws(' ', difference, actual ->> 'owner', expected), ', ') FROM dugong.verify_projection('model')), 'extra mine', 'another''s aggregate is none of it');
SELECT is((SELECT string_agg(concat_ws(' ', difference, repaired), ', ') FROM dugong.verify_projection('model', repair => true)), 'extra t', 'nor is it after a repair');
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ') FROM tenants.model), 'a', 'which takes the row away');
RESET ROLE;
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ') FROM dugong.query_model_as_of(NULL::tenants.model)), 'a', 'the past is what the projection would have written, whoever asks');
SELECT is((SELECT string_agg(name, ' ' ORDER BY name) FROM dugong.erase_payload('a0000000-0000-4000-8000-0000000000e4', '{note}', 'x') WHERE note LIKE 'its owner does not see%'),
    'projection told subscription s', 'an erasure says who is not told');
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ') FROM tenants.model), 'a', 'and writes no row');
SELECT is_empty('SELECT * FROM tenants.told', 'nor calls a handler');
SELECT dugong.drop_projection('told') \g /dev/null

-- Query models
CREATE TABLE tenants.plain (id uuid PRIMARY KEY, owner text, balance numeric);
SELECT is(pg_temp.answer($$SELECT dugong.create_projection('plain', 'BankAccount', 'tenants.plain')$$), '55000 It would show the rows of all tenants: tenants.plain.',
    'a query model without tenants is refused');
CREATE TABLE tenants.own_policy (id uuid, owner text, balance numeric, tenant_id text, PRIMARY KEY (id, tenant_id));
ALTER TABLE tenants.own_policy ENABLE ROW LEVEL SECURITY;
CREATE POLICY everything ON tenants.own_policy USING (true);
SELECT dugong.create_projection('own_policy', 'BankAccount', 'tenants.own_policy') \g /dev/null
GRANT SELECT ON tenants.own_policy TO PUBLIC;
CALL dugong.run_projections();
SET LOCAL ROLE regress_tenant_a;
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ') FROM tenants.own_policy), 'a', 'a policy of the owner''s does not widen it');
SELECT is((SELECT string_agg(DISTINCT tenant_id, ' ') FROM bank_account_query_model), 'a', 'the bank account''s');
RESET ROLE;
CLOSE by_cursor;
SELECT is(dugong.disable_tenant_isolation(), true, 'disabled');
SELECT is(dugong.disable_tenant_isolation(), false, 'once');
SELECT is((SELECT string_agg(c.oid::regclass::text, ' ' ORDER BY relname) FROM pg_class c WHERE relrowsecurity), 'tenants.manual tenants.own_policy', 'only what its owner has secured is so');
SELECT is_empty($$ SELECT polname FROM pg_policy WHERE polname LIKE 'dugong%' $$, 'no policy is left');
SELECT is_empty($$ SELECT oid::regclass FROM pg_class WHERE relnamespace = 'dugong'::regnamespace AND 'security_barrier=true' = ANY (reloptions) $$, 'no view is a barrier');
SELECT dugong.create_projection('plain', 'BankAccount', 'tenants.plain') \g /dev/null
SELECT is(pg_temp.answer('SELECT dugong.enable_tenant_isolation()'), '55000 It would show the rows of all tenants: tenants.plain.', 'nor can tenants be isolated with it');
SELECT is(dugong.sees_tenant('x'), true, 'and they are not');
SELECT dugong.drop_projection('plain') \g /dev/null

-- Granting
SELECT is(pg_temp.answer(command), code, command) FROM (VALUES
    ('22004', 'SELECT dugong.grant_tenant(NULL, ''a'')'),
    ('22004', 'SELECT dugong.grant_tenant(''regress_tenant_a'', NULL)'),
    ('22023', 'SELECT dugong.grant_tenant('''', ''a'')'),
    ('42704', 'SELECT dugong.grant_tenant(''no such role'', ''a'')'),
    ('22004', 'SELECT dugong.revoke_tenant(NULL, ''a'')'),
    ('accepted', 'SELECT dugong.revoke_tenant(''no such role'', ''a'')')) AS v(code, command);
SELECT finish();
ROLLBACK;
