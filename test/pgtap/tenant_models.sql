-- A query model of a role that is bound to a tenant: nothing of the others comes into it, or is shown in its name, by proof, repair,
-- the past, or an erasure in another tenant; and what an erased aggregate has left there, of a tenant that was taken away since, goes.
BEGIN;
\ir helpers.psql
SELECT plan(22);
SET LOCAL client_min_messages = error;
CREATE ROLE regress_models_a;
CREATE ROLE regress_models_b;
CREATE SCHEMA models AUTHORIZATION regress_models_a;
GRANT USAGE ON SCHEMA dugong TO PUBLIC;
GRANT EXECUTE ON ALL ROUTINES IN SCHEMA dugong, public TO PUBLIC;
GRANT USAGE ON TYPE bank_account_state TO PUBLIC;
SELECT dugong.grant_tenant('regress_models_a', 'a'), dugong.grant_tenant('regress_models_a', 'c'), dugong.grant_tenant('regress_models_b', 'b') \g /dev/null
SELECT dugong.enable_tenant_isolation() \g /dev/null
SELECT bank_open_account('mine', 5, 'a0000000-0000-4000-8000-000000000001') FROM set_config('dugong.tenant_id', 'a', true) \g /dev/null
SELECT bank_open_account('SECRET', 50, 'b0000000-0000-4000-8000-000000000001') FROM set_config('dugong.tenant_id', 'b', true) \g /dev/null
SELECT dugong.append_event('BankAccount', 'b0000000-0000-4000-8000-000000000001', 'Noted', metadata => '{"note": "SECRET"}',
    event_id => 'b0000000-0000-4000-8000-0000000000e1') \g /dev/null
SELECT bank_open_account('once mine', 7, 'c0000000-0000-4000-8000-000000000001') FROM set_config('dugong.tenant_id', 'c', true) \g /dev/null
SELECT set_config('dugong.tenant_id', '', true) \g /dev/null

SET LOCAL ROLE regress_models_a;
CREATE TABLE models.model (id uuid, owner text, balance numeric, tenant_id text, PRIMARY KEY (id, tenant_id));
CREATE TABLE models.told (id uuid, owner text, tenant_id text DEFAULT current_setting('dugong.tenant_id'));
CREATE FUNCTION models.update(uuid, bank_account_state) RETURNS void LANGUAGE sql AS 'INSERT INTO models.told VALUES ($1, $2.owner)';
CREATE FUNCTION models.delete(uuid) RETURNS void LANGUAGE sql AS 'INSERT INTO models.told VALUES ($1)';
CREATE FUNCTION models.update_set(uuid[], bank_account_state[]) RETURNS void LANGUAGE sql AS 'INSERT INTO models.told SELECT unnest($1), (unnest($2)).owner';
SELECT dugong.create_projection('model', 'BankAccount', 'models.model') \g /dev/null
SELECT dugong.create_projection('told', 'BankAccount', update_handler => 'models.update(uuid, bank_account_state)', delete_handler => 'models.delete(uuid)') \g /dev/null
SELECT dugong.create_projection('told_sets', 'BankAccount', set_handler => 'models.update_set(uuid[], bank_account_state[])') \g /dev/null
RESET ROLE;
CALL dugong.run_projections();
PREPARE model AS SELECT tenant_id, owner FROM models.model ORDER BY tenant_id;
SELECT results_eq('model', $$VALUES ('a', 'mine'), ('c', 'once mine')$$, 'a projection gets the tenants of its owner');
SELECT set_eq('SELECT tenant_id, owner FROM models.told', $$VALUES ('a', 'mine'), ('c', 'once mine')$$, 'handlers, too');
DELETE FROM models.told;

SET LOCAL ROLE regress_models_a;
SELECT set_eq('SELECT tenant_id, owner FROM dugong.query_model_as_of(NULL::models.model)', $$VALUES ('a', 'mine'), ('c', 'once mine')$$, 'the past shows no others');
SELECT is_empty($$SELECT * FROM dugong.verify_projection('model')$$, 'the proof misses no others');
SELECT is_empty($$SELECT * FROM dugong.verify_projection('model', sample => 5)$$, 'nor does that of a sample');
-- A row that asks to be repaired
INSERT INTO models.model VALUES ('b0000000-0000-4000-8000-000000000001', 'what is it?', 0, 'b');
SELECT results_eq($$SELECT tenant_id, difference, expected, repaired FROM dugong.verify_projection('model', repair => true)$$,
    $$VALUES ('b', 'extra', NULL::jsonb, true)$$, 'a row of another tenant''s aggregate is one that should not be there');
SELECT results_eq('model', $$VALUES ('a', 'mine'), ('c', 'once mine')$$, 'its repair does not fill it in');
RESET ROLE;
SELECT set_eq('SELECT tenant_id, owner FROM dugong.query_model_as_of(NULL::models.model)', $$VALUES ('a', 'mine'), ('c', 'once mine')$$,
    'to who sees all, the past shows what the projection would have written');

-- An erasure writes all query models anew
SET LOCAL ROLE regress_models_b;
SELECT results_eq($$SELECT name, count, note FROM dugong.erase_payload('b0000000-0000-4000-8000-0000000000e1', '{note}', 'the law') WHERE what = 'not reached' AND name LIKE 'projection told%' ORDER BY name$$,
    $$VALUES ('projection told', NULL::bigint, 'its owner does not see the tenant, so it is not told; what it has is for him to find'),
        ('projection told_sets', NULL::bigint, 'its owner does not see the tenant, so it is not told; what it has is for him to find')$$, 'an erasure says whom it did not tell');
RESET ROLE;
SELECT results_eq('model', $$VALUES ('a', 'mine'), ('c', 'once mine')$$, 'it brings the aggregate to nobody else''s query model');
SELECT is_empty('TABLE models.told', 'nor to a handler');

-- A tenant that was taken away
SELECT dugong.revoke_tenant('regress_models_a', 'c') \g /dev/null
SELECT results_eq('model', $$VALUES ('a', 'mine'), ('c', 'once mine')$$, 'what is there stays until the projection is rebuilt');
SELECT set_eq($$SELECT tenant_id, difference FROM dugong.verify_projection('model')$$, $$VALUES ('c', 'extra')$$, 'the proof finds it');
SAVEPOINT async;
SELECT dugong.erase_aggregate('BankAccount', 'c0000000-0000-4000-8000-000000000001', 'the law', 'c') \g /dev/null
SELECT results_eq('model', $$VALUES ('a', 'mine')$$, 'an erasure takes it out');
ROLLBACK TO async;
UPDATE dugong.projections SET mode = 'inline' WHERE name = 'model';
SELECT dugong.erase_aggregate('BankAccount', 'c0000000-0000-4000-8000-000000000001', 'the law', 'c') \g /dev/null
SELECT results_eq('model', $$VALUES ('a', 'mine')$$, 'of an inline projection, too');

-- Partitions are tables, too
ROLLBACK TO async;
CREATE TABLE models.parted (LIKE models.model INCLUDING INDEXES) PARTITION BY LIST (tenant_id);
CREATE TABLE models.part PARTITION OF models.parted FOR VALUES IN ('b') PARTITION BY HASH (id);
CREATE TABLE models.part_of_part PARTITION OF models.part FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE models.rest PARTITION OF models.parted DEFAULT;
SELECT dugong.create_projection('parted', 'BankAccount', 'models.parted') \g /dev/null
CALL dugong.run_projections();
GRANT ALL ON ALL TABLES IN SCHEMA models TO regress_models_a;
SELECT is((SELECT count(*) FROM models.part_of_part), 1::bigint, 'partitions have rows');
SET LOCAL ROLE regress_models_a;
SELECT is_empty('SELECT * FROM models.part', 'which are not shown by their partition''s name');
SELECT is_empty('SELECT * FROM models.part_of_part', 'however deep');
RESET ROLE;
CREATE TABLE models.late PARTITION OF models.parted FOR VALUES IN ('d');
SELECT dugong.enable_tenant_isolation() \g /dev/null
SELECT is((SELECT string_agg(relname::text, ' ' ORDER BY relname) FROM pg_class WHERE relrowsecurity AND relnamespace = 'models'::regnamespace),
    'late model part part_of_part parted rest', 'one that came later is bound when it is asked for');
SAVEPOINT isolated;
SELECT dugong.disable_tenant_isolation() \g /dev/null
SELECT is_empty($$SELECT FROM pg_class WHERE relrowsecurity AND relnamespace = 'models'::regnamespace$$, 'and all of it is taken back');

-- A policy that somebody has come to rely on
ROLLBACK TO isolated;
CREATE POLICY own ON models.late USING (owner = 'nobody');
SELECT dugong.disable_tenant_isolation() \g /dev/null
SELECT is((SELECT string_agg(relname::text, ' ') FROM pg_class WHERE relrowsecurity AND relnamespace = 'models'::regnamespace), 'late', 'but where there is another policy');
SELECT is((SELECT string_agg(polname::text, ' ') FROM pg_policy WHERE polrelid = 'models.late'::regclass), 'own', 'which goes on alone');
SELECT * FROM finish();
ROLLBACK;
