-- The bank account: state and fold.

CREATE TYPE @extschema@.bank_account_state AS (
    id uuid,
    owner text,
    balance numeric
);
COMMENT ON TYPE @extschema@.bank_account_state IS 'a bank account as its events make it';

CREATE FUNCTION @extschema@.bank_account_apply(@extschema@.bank_account_state, dugong.domain_event)
RETURNS @extschema@.bank_account_state
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'bank_account_apply';
COMMENT ON FUNCTION @extschema@.bank_account_apply(@extschema@.bank_account_state, dugong.domain_event) IS
    'the bank account after one more event; NULL = closed';

CREATE AGGREGATE @extschema@.bank_account_fold(dugong.domain_event) (
    SFUNC = @extschema@.bank_account_apply,
    STYPE = @extschema@.bank_account_state,
    PARALLEL = SAFE
);
COMMENT ON AGGREGATE @extschema@.bank_account_fold(dugong.domain_event) IS
    'a bank account out of its events, in the order of their sequence numbers';

SELECT dugong.create_aggregate_type('BankAccount',
    fold => '@extschema@.bank_account_fold(dugong.domain_event)',
    origin => 'BankingContext-AccountService', external => false);
