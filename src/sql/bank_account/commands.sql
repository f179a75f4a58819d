-- The bank account's commands.

CREATE FUNCTION @extschema@.bank_open_account(
    owner text, initial_balance numeric DEFAULT 0, account_id uuid DEFAULT NULL, event_id uuid DEFAULT NULL)
RETURNS @extschema@.bank_account_state
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'bank_open_account';
COMMENT ON FUNCTION @extschema@.bank_open_account(text, numeric, uuid, uuid) IS
    'opens a bank account; account_id NULL = a new id; an event_id makes a retry safe';

CREATE FUNCTION @extschema@.bank_deposit(account_id uuid, amount numeric, event_id uuid DEFAULT NULL)
RETURNS @extschema@.bank_account_state
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'bank_deposit';
COMMENT ON FUNCTION @extschema@.bank_deposit(uuid, numeric, uuid) IS
    'deposits money; returns the account as it is then';

CREATE FUNCTION @extschema@.bank_withdraw(account_id uuid, amount numeric, event_id uuid DEFAULT NULL)
RETURNS @extschema@.bank_account_state
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'bank_withdraw';
COMMENT ON FUNCTION @extschema@.bank_withdraw(uuid, numeric, uuid) IS
    'withdraws money, at most the balance; returns the account as it is then';

CREATE FUNCTION @extschema@.bank_transfer(
    from_account_id uuid, to_account_id uuid, amount numeric, event_id uuid DEFAULT NULL)
RETURNS @extschema@.bank_account_state
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'bank_transfer';
COMMENT ON FUNCTION @extschema@.bank_transfer(uuid, uuid, numeric, uuid) IS
    'moves money between two accounts, both events or neither; returns the paying account';

CREATE FUNCTION @extschema@.bank_close_account(account_id uuid, event_id uuid DEFAULT NULL)
RETURNS @extschema@.bank_account_state
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'bank_close_account';
COMMENT ON FUNCTION @extschema@.bank_close_account(uuid, uuid) IS
    'closes a bank account for good; returns the account as it was';

CREATE FUNCTION @extschema@.bank_get_account(account_id uuid)
RETURNS SETOF @extschema@.bank_account_state
LANGUAGE c STABLE PARALLEL SAFE ROWS 1
AS 'MODULE_PATHNAME', 'bank_get_account';
COMMENT ON FUNCTION @extschema@.bank_get_account(uuid) IS
    'the account as its events make it now; no row if unknown or closed';
