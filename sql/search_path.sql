-- Objects of the same names, earlier in the search_path, are never used.
\set id '''05ea0000-0000-4000-8000-000000000001'''
\set other '''05ea0000-0000-4000-8000-000000000002'''
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.trap(anyelement, anyelement) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
DO $$
DECLARE
    type text;
    operator text;
BEGIN
    FOREACH type IN ARRAY ARRAY['uuid', 'bigint', 'int', 'text', 'oid', 'numeric', 'timestamptz', 'jsonb', 'xid8'] LOOP
        EXECUTE format('CREATE FUNCTION hostile.trap(%s, %1$s) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN RAISE ''trapped''; END $f$', type);
        FOREACH operator IN ARRAY ARRAY['=', '<>', '<', '<=', '>', '>='] LOOP
            EXECUTE format('CREATE OPERATOR hostile.%s (FUNCTION = hostile.trap, LEFTARG = %s, RIGHTARG = %2$s)', operator, type);
        END LOOP;
    END LOOP;
END $$;
CREATE FUNCTION hostile.setval(regclass, bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION hostile.nextval(regclass) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION hostile.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE FUNCTION hostile.unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS $$ BEGIN RAISE 'trapped'; END $$;
CREATE AGGREGATE hostile.max(bigint) (SFUNC = pg_catalog.int8larger, STYPE = bigint, INITCOND = '-1');
CREATE TABLE hostile.event_log (position bigint);
CREATE TABLE hostile.checkpoints (position bigint);
CREATE TABLE hostile.bank_account_query_model (LIKE public.bank_account_query_model);
CREATE DOMAIN hostile.regclass AS text;
CREATE DOMAIN hostile.uuid AS text;
\c
SET search_path = hostile, pg_catalog, public;
SELECT owner, balance FROM public.bank_open_account('Alice', 500, :id);
SELECT owner, balance FROM public.bank_open_account('Bob', 0, :other);
SELECT owner, balance FROM public.bank_deposit(:id, 200);
SELECT owner, balance FROM public.bank_withdraw(:id, 300);
SELECT owner, balance FROM public.bank_transfer(:id, :other, 100);
SELECT owner, balance FROM public.bank_close_account(:other);
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload)
VALUES ('BankAccount', :id, 'MoneyDeposited', '{"amount": 1}');
SELECT sequence_number FROM dugong.append_event('BankAccount', :id, 'MoneyDeposited', '{"amount": 1}', event_id => '05ea0000-0000-4000-8000-0000000000e1');
SELECT sequence_number FROM dugong.append_event('BankAccount', :id, 'MoneyDeposited', '{"amount": 1}', event_id => '05ea0000-0000-4000-8000-0000000000e1');
SELECT pg_catalog.count(*) FROM pg_catalog.generate_series(1, 25) n, LATERAL (SELECT public.bank_deposit(:id, 1)) d;
SELECT pg_catalog.count(*) FROM dugong.append_events('BankAccount', :id, (SELECT pg_catalog.jsonb_agg('{"type": "MoneyDeposited", "payload": {"amount": 1}}'::jsonb) FROM pg_catalog.generate_series(1, 25)));
SELECT sequence_number FROM dugong.snapshots WHERE aggregate_id OPERATOR(pg_catalog.=) :id;
SELECT dugong.build_aggregate('BankAccount', :id) ->> 'balance' AS balance, (dugong.load_for_update(NULL::public.bank_account_state, 'BankAccount', :id)).owner;
CALL dugong.run_projections();
SELECT owner, balance FROM public.bank_get_account(:id);
SELECT public.bank_account_fold(e) FROM dugong.domain_events e WHERE aggregate_id OPERATOR(pg_catalog.=) :id;
RESET search_path;
SELECT owner, balance FROM bank_account_query_model WHERE id IN (:id, :other);
SELECT count(*) FROM hostile.bank_account_query_model;
SET client_min_messages = warning;
DROP SCHEMA hostile CASCADE;
