-- Deposits :samples times on account 1, which nobody else touches, and looks every 0.2 ms whether the query model shows it.
-- Prints the median and the 99th percentile of the time from the commit to there, in milliseconds.
CREATE TEMP TABLE lag (ms float8);
CREATE PROCEDURE pg_temp.sample(samples int)
LANGUAGE plpgsql AS $$
DECLARE
	expected numeric;
	committed timestamptz;
BEGIN
	FOR k IN 1 .. samples LOOP
		SELECT balance INTO expected FROM bank_deposit('00000000-0000-4000-8000-100000000001', 1);
		COMMIT;
		committed := clock_timestamp();
		WHILE (SELECT balance FROM bank_account_query_model WHERE id = '00000000-0000-4000-8000-100000000001') <> expected LOOP
			PERFORM pg_sleep(0.0002);
		END LOOP;
		INSERT INTO lag VALUES (1000 * extract(epoch FROM clock_timestamp() - committed));
		COMMIT;
		PERFORM pg_sleep(random() * 0.02);
	END LOOP;
END
$$;
CALL pg_temp.sample(:samples);
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms), percentile_cont(0.99) WITHIN GROUP (ORDER BY ms) FROM lag;
