-- Two ways to build a bank account from its events without dugong: a loop over typed rows, and an aggregate function with a
-- PL/pgSQL transition function over jsonb.
CREATE TABLE typed_event (
	account_id uuid NOT NULL,
	sequence_number bigint NOT NULL,
	type text NOT NULL,
	owner text,
	amount numeric,
	PRIMARY KEY (account_id, sequence_number)
);
INSERT INTO typed_event
SELECT aggregate_id, sequence_number, type, payload ->> 'owner', COALESCE(payload ->> 'amount', payload ->> 'initialBalance')::numeric
FROM dugong.domain_events ORDER BY position;

CREATE TABLE jsonb_event (
	account_id uuid NOT NULL,
	sequence_number bigint NOT NULL,
	type text NOT NULL,
	payload jsonb,
	PRIMARY KEY (account_id, sequence_number)
);
INSERT INTO jsonb_event SELECT aggregate_id, sequence_number, type, payload FROM dugong.domain_events ORDER BY position;

CREATE FUNCTION account_by_loop(account uuid) RETURNS bank_account_state
LANGUAGE plpgsql STABLE AS $$
DECLARE
	state bank_account_state;
	event typed_event;
BEGIN
	FOR event IN SELECT * FROM typed_event WHERE account_id = account ORDER BY sequence_number LOOP
		IF event.type = 'MoneyDeposited' THEN
			state.balance := state.balance + event.amount;
		ELSIF event.type = 'MoneyWithdrawn' THEN
			state.balance := state.balance - event.amount;
		ELSIF event.type = 'AccountOpened' THEN
			state := ROW(event.account_id, event.owner, event.amount);
		ELSIF event.type = 'AccountClosed' THEN
			state := NULL;
		END IF;
	END LOOP;
	RETURN state;
END
$$;

CREATE FUNCTION account_apply(state jsonb, event jsonb_event) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	IF event.type = 'MoneyDeposited' THEN
		RETURN jsonb_set(state, '{balance}', to_jsonb((state ->> 'balance')::numeric + (event.payload ->> 'amount')::numeric));
	ELSIF event.type = 'MoneyWithdrawn' THEN
		RETURN jsonb_set(state, '{balance}', to_jsonb((state ->> 'balance')::numeric - (event.payload ->> 'amount')::numeric));
	ELSIF event.type = 'AccountOpened' THEN
		RETURN jsonb_build_object('id', event.account_id, 'owner', event.payload -> 'owner', 'balance', event.payload -> 'initialBalance');
	ELSIF event.type = 'AccountClosed' THEN
		RETURN NULL;
	END IF;
	RETURN state;
END
$$;
CREATE AGGREGATE account_fold(jsonb_event) (SFUNC = account_apply, STYPE = jsonb);
