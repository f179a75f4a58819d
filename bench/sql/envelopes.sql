-- Opens the first :open of :accounts accounts and appends :events deposits to all of them in random order, one by one, each with an envelope:
-- a correlation id of its own and, if :everything is 1, a cause, a user and metadata as well.
CREATE PROCEDURE pg_temp.envelopes(open int, accounts int, events int, everything boolean)
LANGUAGE plpgsql AS $$
DECLARE
	account uuid;
	cause uuid;
	users CONSTANT uuid[] := ARRAY(SELECT gen_random_uuid() FROM generate_series(1, 100));
BEGIN
	FOR k IN 1 .. open + events LOOP
		account := '00000000-0000-4000-8000-' || (100000000000 + CASE WHEN k <= open THEN k ELSE 1 + floor(random() * accounts)::bigint END);
		SELECT id INTO cause FROM dugong.append_event('BankAccount', account,
			CASE WHEN k <= open THEN 'AccountOpened' ELSE 'MoneyDeposited' END,
			CASE WHEN k <= open THEN '{"owner": "Alice", "initialBalance": 100}'
				ELSE jsonb_build_object('amount', 1 + floor(random() * 100000) / 100) END,
			correlation_id => gen_random_uuid(),
			triggered_by_event_id => CASE WHEN everything THEN cause END,
			triggered_by_user_id => CASE WHEN everything THEN users[1 + floor(random() * 100)]::text END,
			metadata => CASE WHEN everything THEN '{"source": "web"}'::jsonb END);
		IF k % 100 = 0 THEN
			COMMIT;
		END IF;
	END LOOP;
END
$$;
SET synchronous_commit = off;
CALL pg_temp.envelopes(:open, :accounts, :events, :everything = 1);
