-- The bank account's query model.

CREATE TABLE @extschema@.bank_account_query_model (
    id uuid,
    owner text NOT NULL,
    balance numeric NOT NULL,
    tenant_id text,
    PRIMARY KEY (id, tenant_id)
);
COMMENT ON TABLE @extschema@.bank_account_query_model IS
    'all open bank accounts, kept by the background worker a moment behind the log';

SELECT dugong.create_projection('bank_account', 'BankAccount', '@extschema@.bank_account_query_model',
    origin => 'BankingContext-AccountService');
