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

INSERT INTO dugong.projections (name, aggregate_type_id, query_model)
VALUES ('bank_account',
        dugong.aggregate_type_id('BankingContext-AccountService', 'BankAccount'),
        '@extschema@.bank_account_query_model');
