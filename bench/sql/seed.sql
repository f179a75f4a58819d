-- Opens the accounts :first to :last, of :events events each: 1,000 a call of append_events, :per_transaction accounts a
-- transaction.
CREATE OR REPLACE PROCEDURE pg_temp.seed(first bigint, last bigint, events int, per_transaction int)
LANGUAGE plpgsql AS $$
DECLARE
	opened CONSTANT jsonb := '{"type": "AccountOpened", "payload": {"owner": "Alice", "initialBalance": 100}}';
	rest CONSTANT jsonb := (SELECT COALESCE(jsonb_agg('{"type": "MoneyDeposited", "payload": {"amount": 1}}'::jsonb), '[]')
		FROM generate_series(2, LEAST(events, 1000)));
	more CONSTANT jsonb := rest || '{"type": "MoneyDeposited", "payload": {"amount": 1}}'::jsonb;
	account uuid;
BEGIN
	FOR k IN first .. last LOOP
		account := '00000000-0000-4000-8000-' || (100000000000 + k);
		PERFORM FROM dugong.append_events('BankAccount', account, jsonb_build_array(opened) || rest, 0);
		FOR batch IN 2 .. events / 1000 LOOP
			PERFORM FROM dugong.append_events('BankAccount', account, more);
			COMMIT;
		END LOOP;
		IF k % per_transaction = 0 THEN
			COMMIT;
		END IF;
	END LOOP;
END
$$;
SET synchronous_commit = off;
CALL pg_temp.seed(:first, :last, :events, :per_transaction);
