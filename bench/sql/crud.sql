-- What one writes without event sourcing: a table of accounts, a history, and a function that changes both.
CREATE TABLE account (
	id uuid PRIMARY KEY,
	owner text NOT NULL,
	balance numeric NOT NULL CHECK (balance >= 0)
);

CREATE TABLE account_history (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	account_id uuid NOT NULL REFERENCES account,
	type text NOT NULL,
	amount numeric NOT NULL,
	at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON account_history (account_id, id);

CREATE FUNCTION account_deposit(account_id uuid, amount numeric) RETURNS account
LANGUAGE plpgsql AS $$
DECLARE
	result account;
BEGIN
	IF amount IS NULL OR amount = 'NaN' OR amount <= 0 THEN
		RAISE EXCEPTION 'amount must be positive' USING ERRCODE = '22023';
	END IF;
	UPDATE account SET balance = balance + amount WHERE id = account_id RETURNING * INTO result;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'account % does not exist', account_id USING ERRCODE = 'P0002';
	END IF;
	INSERT INTO account_history (account_id, type, amount) VALUES (account_id, 'MoneyDeposited', amount);
	RETURN result;
END
$$;

-- The same accounts with the same past
INSERT INTO account SELECT id, owner, balance FROM bank_account_query_model;
INSERT INTO account_history (account_id, type, amount, at)
SELECT aggregate_id, type, COALESCE(payload ->> 'amount', payload ->> 'initialBalance')::numeric, "timestamp"
FROM dugong.domain_events ORDER BY position;
