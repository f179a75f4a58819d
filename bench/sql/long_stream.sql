-- Account 1 gets :events events more; it was opened by the seed.
CREATE PROCEDURE pg_temp.lengthen(events int)
LANGUAGE plpgsql AS $$
DECLARE
	thousand CONSTANT jsonb := (SELECT jsonb_agg('{"type": "MoneyDeposited", "payload": {"amount": 1}}'::jsonb) FROM generate_series(1, 1000));
BEGIN
	FOR batch IN 1 .. events / 1000 LOOP
		PERFORM FROM dugong.append_events('BankAccount', '00000000-0000-4000-8000-100000000001', thousand);
		COMMIT;
	END LOOP;
END
$$;
SET synchronous_commit = off;
CALL pg_temp.lengthen(:events);
