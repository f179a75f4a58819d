-- Tenants that are kept apart: the bank account of two banks, with the same ids.
\set home :DBNAME
SET client_min_messages = warning;
DROP DATABASE IF EXISTS regress_dugong_tenants;
CREATE DATABASE regress_dugong_tenants;
ALTER DATABASE regress_dugong_tenants SET dugong.max_workers = 0;
ALTER DATABASE regress_dugong_tenants SET dugong.notify = always;
ALTER DATABASE regress_dugong_tenants SET dugong.notify_payload = message;
CREATE ROLE regress_red;
CREATE ROLE regress_blue;
CREATE ROLE regress_both;
\c regress_dugong_tenants
CREATE EXTENSION dugong;
GRANT USAGE ON SCHEMA dugong TO PUBLIC;
GRANT EXECUTE ON FUNCTION bank_open_account, bank_deposit, bank_get_account, dugong.read_events TO PUBLIC;
GRANT SELECT ON bank_account_query_model, dugong.domain_events, dugong.tenant_status TO PUBLIC;
SELECT dugong.grant_tenant('regress_red', 'red'), dugong.grant_tenant('regress_blue', 'blue'),
    dugong.grant_tenant('regress_both', 'red'), dugong.grant_tenant('regress_both', 'blue');
SELECT dugong.enable_tenant_isolation();
\set account '''acc00000-0000-4000-8000-000000000001'''
SET ROLE regress_red;
SELECT owner, balance FROM bank_open_account('Rita', 10, :account);
SET ROLE regress_blue;
\echo the same id is another account, and another event
SELECT owner, balance FROM bank_open_account('Bert', 20, :account);
SELECT owner, balance FROM bank_deposit(:account, 1);
SELECT tenant_id, sequence_number, type FROM dugong.read_events();
SELECT tenant_id, sequence_number, type FROM dugong.domain_events ORDER BY position;
\echo whatever he sets
SET dugong.tenant_id = 'red';
SELECT bank_deposit(:account, 1);
SELECT * FROM dugong.read_events();
SELECT tenant_id FROM dugong.domain_events WHERE tenant_id = 'red';
RESET dugong.tenant_id;
\echo who has several says which
SET ROLE regress_both;
SELECT bank_get_account(:account);
SET dugong.tenant_id = 'red';
SELECT owner, balance FROM bank_get_account(:account);
RESET dugong.tenant_id;
SELECT tenant_id, count(*) FROM dugong.read_events() GROUP BY 1 ORDER BY 1;
RESET ROLE;
REVOKE ALL ON FUNCTION bank_get_account FROM PUBLIC;
GRANT EXECUTE ON FUNCTION bank_get_account TO regress_red;
CALL dugong.run_projections();
SET ROLE regress_red;
SELECT owner, balance, tenant_id FROM bank_account_query_model;
SELECT projection, tenant_id, state, outstanding_events, dead_letters, retrying FROM dugong.tenant_status;
\echo not his to say
SELECT dugong.grant_tenant('regress_red', 'blue');
SELECT dugong.disable_tenant_isolation();
RESET ROLE;
GRANT EXECUTE ON FUNCTION dugong.grant_tenant, dugong.revoke_tenant, dugong.enable_tenant_isolation, dugong.disable_tenant_isolation TO regress_red;
GRANT EXECUTE ON PROCEDURE dugong.run_projections TO regress_red;
SET ROLE regress_red;
SELECT dugong.grant_tenant('regress_red', 'blue');
SELECT dugong.revoke_tenant('regress_blue', 'blue');
SELECT dugong.enable_tenant_isolation();
SELECT dugong.disable_tenant_isolation();
CALL dugong.run_projections();
\echo everybody may listen: a notification says that there may be something
LISTEN "BankingContext-AccountService-BankAccount";
RESET ROLE;
\o |sed 's/PID [0-9]*/PID n/'
SET dugong.tenant_id = 'blue';
SELECT balance FROM bank_deposit(:account, 5);
\o
RESET dugong.tenant_id;
UNLISTEN *;
\echo a role without a tenant
SELECT dugong.revoke_tenant('regress_red', 'red');
SET ROLE regress_red;
SELECT bank_get_account(:account);
SELECT count(*) FROM bank_account_query_model;
RESET ROLE;
\echo a query model without tenants
CREATE TABLE accounts (id uuid PRIMARY KEY, owner text, balance numeric);
SELECT dugong.create_projection('accounts', 'BankAccount', 'accounts');
SELECT dugong.disable_tenant_isolation();
SELECT dugong.create_projection('accounts', 'BankAccount', 'accounts');
SELECT dugong.enable_tenant_isolation();
\c :home
DROP DATABASE regress_dugong_tenants WITH (FORCE);
DROP ROLE regress_red, regress_blue, regress_both;
