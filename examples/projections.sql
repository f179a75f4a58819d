-- Projections of one's own, for the bank account.
--
-- One across aggregates, and one that enforces a rule across aggregates.  Run
-- it once in a database with the extension: psql -f examples/projections.sql mydatabase

CREATE SCHEMA reports;

-- 1. How much each owner has, over all his accounts.
--
-- No state of one account says that, so this projection gets events.  A
-- deposit does not say whose account it is; so the projection keeps, beside
-- its query model, what it must remember: a table of its own.

CREATE TABLE reports.owners (
    tenant_id text,
    owner text,
    accounts int NOT NULL,
    balance numeric NOT NULL,
    PRIMARY KEY (tenant_id, owner)
);

CREATE TABLE reports.accounts (
    tenant_id text,
    id uuid,
    owner text NOT NULL,
    balance numeric NOT NULL,
    PRIMARY KEY (tenant_id, id)
);

CREATE FUNCTION reports.on_account_opened(event dugong.domain_event) RETURNS void
LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO reports.accounts (tenant_id, id, owner, balance)
    VALUES ((event).tenant_id, (event).aggregate_id, (event).payload ->> 'owner', ((event).payload ->> 'initialBalance')::numeric);

    INSERT INTO reports.owners AS o (tenant_id, owner, accounts, balance)
    VALUES ((event).tenant_id, (event).payload ->> 'owner', 1, ((event).payload ->> 'initialBalance')::numeric)
    ON CONFLICT (tenant_id, owner) DO UPDATE SET accounts = o.accounts + 1, balance = o.balance + EXCLUDED.balance;
END;

CREATE FUNCTION reports.on_money_moved(event dugong.domain_event, amount numeric) RETURNS void
LANGUAGE sql
BEGIN ATOMIC
    WITH moved AS (
        UPDATE reports.accounts a SET balance = a.balance + amount
        WHERE a.tenant_id = (event).tenant_id AND a.id = (event).aggregate_id
        RETURNING a.tenant_id, a.owner)
    UPDATE reports.owners o SET balance = o.balance + amount
    FROM moved WHERE o.tenant_id = moved.tenant_id AND o.owner = moved.owner;
END;

-- An owner without accounts has no row.
CREATE FUNCTION reports.on_account_closed(event dugong.domain_event) RETURNS void
LANGUAGE sql
BEGIN ATOMIC
    WITH closed AS (
        DELETE FROM reports.accounts a
        WHERE a.tenant_id = (event).tenant_id AND a.id = (event).aggregate_id
        RETURNING a.tenant_id, a.owner, a.balance)
    UPDATE reports.owners o SET accounts = o.accounts - 1, balance = o.balance - closed.balance
    FROM closed WHERE o.tenant_id = closed.tenant_id AND o.owner = closed.owner;

    DELETE FROM reports.owners WHERE accounts = 0;
END;

-- The handler: each event once, in the order of the log.
CREATE FUNCTION reports.on_account_event(event dugong.domain_event) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    CASE event.type
        WHEN 'AccountOpened' THEN PERFORM reports.on_account_opened(event);
        WHEN 'MoneyDeposited' THEN PERFORM reports.on_money_moved(event, (event.payload ->> 'amount')::numeric);
        WHEN 'MoneyWithdrawn' THEN PERFORM reports.on_money_moved(event, -(event.payload ->> 'amount')::numeric);
        WHEN 'AccountClosed' THEN PERFORM reports.on_account_closed(event);
        -- comes whatever types are asked for (docs/erasure.md); without eventIds, the whole account was erased
        WHEN '$erased' THEN
            IF event.payload ->> 'eventIds' IS NULL THEN PERFORM reports.on_account_closed(event); END IF;
    END CASE;
END $$;

-- Before a rebuild handles the events again.  DELETE, not TRUNCATE: whoever reads meanwhile sees the old rows until it commits.
CREATE FUNCTION reports.reset() RETURNS void
LANGUAGE sql
BEGIN ATOMIC
    DELETE FROM reports.owners;
    DELETE FROM reports.accounts;
END;

SELECT dugong.create_projection('owner_balances', 'BankAccount',
    event_handler => 'reports.on_account_event(dugong.domain_event)',
    reset_handler => 'reports.reset()',
    types => '{AccountOpened,MoneyDeposited,MoneyWithdrawn,AccountClosed}');

-- 2. An owner has one open account.
--
-- A command locks one account, so it cannot see that another is being opened
-- for the same owner.  An inline projection runs within the append: its UNIQUE
-- constraint refuses the second account with 23505, and nothing is appended.
-- Fails if the log has two such accounts already.

CREATE TABLE reports.open_accounts (
    id uuid,
    tenant_id text,
    owner text NOT NULL,
    PRIMARY KEY (id, tenant_id),
    CONSTRAINT one_account_an_owner UNIQUE (tenant_id, owner)
);

SELECT dugong.create_projection('open_accounts', 'BankAccount', 'reports.open_accounts', mode => 'inline');
