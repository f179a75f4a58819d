-- The main job of dugong as a story.  Run by examples/demo.sh (make demo).
\set QUIET on
\set ON_ERROR_STOP on
\pset footer off
\echo
\echo '== 1. One CREATE EXTENSION, in a database that is already there'
\set ECHO queries
CREATE EXTENSION dugong;

\set ECHO none
\echo
\echo '== 2. Commands are functions; each returns the account as it is afterwards'
\set ECHO queries
SELECT id AS alice FROM bank_open_account('Alice', 500) \gset
SELECT id AS bob FROM bank_open_account('Bob') \gset
SELECT owner, balance FROM bank_deposit(:'alice', 200);
SELECT owner, balance FROM bank_withdraw(:'alice', 300);
SELECT owner, balance FROM bank_transfer(:'alice', :'bob', 150);

\set ECHO none
\echo
\echo '== 3. What happened is in the log, for good'
\set ECHO queries
SELECT position, sequence_number AS seq, type, payload FROM dugong.domain_events ORDER BY position;

\set ECHO none
\echo
\echo '== 4. A commit notifies whoever listens'
\set ECHO queries
LISTEN "BankingContext-AccountService-BankAccount";
SELECT owner, balance FROM bank_deposit(:'bob', 50);

\set ECHO none
UNLISTEN *;
\echo
\echo '== 5. The background worker has brought the query model up to date'
DO $$
BEGIN
    FOR i IN 1 .. 500 LOOP
        EXIT WHEN (SELECT sum(balance) FROM bank_account_query_model) = 450;
        PERFORM pg_sleep(0.02);
        COMMIT;
    END LOOP;
END $$;
\set ECHO queries
SELECT owner, balance FROM bank_account_query_model ORDER BY owner;

\set ECHO none
\echo
\echo '== 6. A command that breaks a rule is refused and leaves nothing behind'
\set ECHO queries
\set ON_ERROR_STOP off
SELECT * FROM bank_withdraw(:'bob', 1000);
\set ON_ERROR_STOP on

\set ECHO none
\echo
\echo '== 7. A command that is rolled back leaves no trace: no event, no message'
\set ECHO queries
BEGIN;
SELECT owner, balance FROM bank_deposit(:'alice', 1000000);
ROLLBACK;
SELECT owner, balance FROM bank_get_account(:'alice');
SELECT count(*) AS events FROM dugong.domain_events;

\set ECHO none
\echo
\echo '== 8. The past: the account after each of its events'
\set ECHO queries
SELECT e.sequence_number AS seq, e.type, (bank_account_fold(e) OVER (ORDER BY e.sequence_number)).balance
FROM dugong.domain_events e WHERE e.aggregate_id = :'alice' ORDER BY e.sequence_number;

\set ECHO none
\echo
\echo '== 9. History cannot be changed, nor lost by accident'
\set ECHO queries
\set ON_ERROR_STOP off
DELETE FROM dugong.domain_events;
DROP EXTENSION dugong;
\set ECHO none
\echo
