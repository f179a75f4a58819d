-- The example projections: balances of owners, one open account an owner.
BEGIN;
SELECT no_plan();
\ir helpers.psql
SELECT bank_open_account('Alice', 500, pg_temp.id('a'));
SELECT bank_deposit(pg_temp.id('a'), 200);
\ir ../../examples/projections.sql
SELECT results_eq('SELECT id, owner FROM reports.open_accounts', $$ VALUES (pg_temp.id('a'), 'Alice') $$, 'the accounts that were there are in the inline projection at once');

SELECT bank_open_account('Bob', 10, pg_temp.id('b'));
SELECT bank_transfer(pg_temp.id('a'), pg_temp.id('b'), 50.5);
SELECT is(pg_temp.answer($$ SELECT bank_open_account('Bob') $$), '23505 Key (tenant_id, owner)=(, Bob) already exists.', 'the constraint says what is wrong');
SET LOCAL dugong.tenant_id = 'T';
SELECT lives_ok($$ SELECT bank_open_account('Bob', 1, pg_temp.id('b')) $$, 'another tenant');
RESET dugong.tenant_id;
CALL dugong.run_projections();
SELECT results_eq('SELECT tenant_id, owner, accounts, balance FROM reports.owners ORDER BY tenant_id, owner',
    $$ VALUES ('', 'Alice', 1, 649.5), ('', 'Bob', 1, 60.5), ('T', 'Bob', 1, 1) $$, 'balances');

SELECT bank_close_account(pg_temp.id('b'));
SELECT lives_ok($$ SELECT bank_open_account('Bob', 3, pg_temp.id('b', 2)) $$, 'he has closed it, so he opens another');
SELECT bank_close_account(pg_temp.id('a'));
CALL dugong.run_projections();
SELECT results_eq('SELECT tenant_id, owner, accounts, balance FROM reports.owners ORDER BY tenant_id, owner', $$ VALUES ('', 'Bob', 1, 3::numeric), ('T', 'Bob', 1, 1) $$, 'closed accounts');
SELECT results_eq('SELECT tenant_id, id, owner FROM reports.open_accounts ORDER BY tenant_id', $$ VALUES ('', pg_temp.id('b', 2), 'Bob'), ('T', pg_temp.id('b'), 'Bob') $$, 'open ones');

-- Two accounts of one owner: without the rule
SELECT dugong.drop_projection('open_accounts');
SELECT bank_open_account('Bob', 4, pg_temp.id('b', 3));
CALL dugong.run_projections();
SELECT results_eq($$ SELECT accounts, balance FROM reports.owners WHERE tenant_id = '' $$, $$ VALUES (2, 7::numeric) $$, 'the sum over two accounts');
SELECT bank_close_account(pg_temp.id('b', 2));
CALL dugong.run_projections();
SELECT results_eq($$ SELECT accounts, balance FROM reports.owners WHERE tenant_id = '' $$, $$ VALUES (1, 4::numeric) $$, 'one of them closed');
SELECT is((SELECT array_agg(balance ORDER BY balance) FROM reports.owners), (SELECT array_agg(balance ORDER BY balance) FROM (SELECT sum(balance) AS balance FROM bank_account_query_model GROUP BY tenant_id, owner) b),
    'as the query model of the accounts says');

-- Rebuilt from the log
UPDATE reports.owners SET balance = -1;
INSERT INTO reports.owners VALUES ('', 'Nobody', 1, 1);
CALL dugong.rebuild_projection('owner_balances');
SELECT results_eq('SELECT tenant_id, owner, accounts, balance FROM reports.owners ORDER BY tenant_id, owner', $$ VALUES ('', 'Bob', 1, 4::numeric), ('T', 'Bob', 1, 1) $$, 'rebuilt');

-- Erased
SELECT dugong.erase_aggregate('BankAccount', pg_temp.id('b'), 'test', 'T') \g /dev/null
CALL dugong.run_projections();
SELECT results_eq('SELECT tenant_id, owner, accounts, balance FROM reports.owners', $$ VALUES ('', 'Bob', 1, 4::numeric) $$, 'an account that was erased is none');

SELECT * FROM finish();
ROLLBACK;
