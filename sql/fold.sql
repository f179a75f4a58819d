-- The fold is an ordinary aggregate: also as a window function, and for the past.
\set id '''0f000000-0000-4000-8000-000000000001'''
BEGIN;
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload, "timestamp") VALUES
    ('BankAccount', :id, 'AccountOpened', '{"owner": "Alice", "initialBalance": 500}', '2020-01-01 00:00+00'),
    ('BankAccount', :id, 'MoneyDeposited', '{"amount": 200}', '2020-01-02 00:00+00'),
    ('BankAccount', :id, 'SomethingElse', NULL, '2020-01-03 00:00+00'),
    ('BankAccount', :id, 'MoneyWithdrawn', '{"amount": 300.50}', '2020-01-04 00:00+00'),
    ('BankAccount', :id, 'AccountClosed', '{}', '2020-01-05 00:00+00');
SELECT bank_account_fold(e ORDER BY sequence_number) FROM dugong.domain_events e WHERE aggregate_id = :id;
SELECT bank_account_fold(e ORDER BY sequence_number) FROM dugong.domain_events e
WHERE aggregate_id = :id AND sequence_number <= 2;
SELECT bank_account_fold(e ORDER BY sequence_number) FROM dugong.domain_events e
WHERE aggregate_id = :id AND "timestamp" < '2020-01-04 12:00+00';
SELECT bank_account_fold(e ORDER BY sequence_number) FROM dugong.domain_events e WHERE false;
SELECT sequence_number, type, (bank_account_fold(e) OVER (ORDER BY sequence_number)).*
FROM dugong.domain_events e WHERE aggregate_id = :id;
ROLLBACK;

-- What is no account
SELECT bank_account_fold(NULL::dugong.domain_event);
SELECT bank_account_fold(ROW(NULL, NULL, NULL, :id, NULL, 1, 'MoneyDeposited', 1, '{"amount": 1}', NULL, NULL, NULL, NULL, NULL, NULL)::dugong.domain_event);
SELECT bank_account_fold(ROW(NULL, NULL, NULL, :id, NULL, 1, 'AccountOpened', 1, '{"owner": "Eve"}', NULL, NULL, NULL, NULL, NULL, NULL)::dugong.domain_event);
SELECT bank_account_fold(ROW(NULL, NULL, NULL, :id, NULL, 1, 'AccountOpened', 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::dugong.domain_event);
SELECT bank_account_fold(ROW(NULL, NULL, NULL, :id, NULL, 1, 'AccountOpened', 1, '{"owner": 1, "initialBalance": 1}', NULL, NULL, NULL, NULL, NULL, NULL)::dugong.domain_event);
SELECT bank_account_fold(ROW(NULL, NULL, NULL, :id, NULL, 1, NULL, 1, '{}', NULL, NULL, NULL, NULL, NULL, NULL)::dugong.domain_event);

-- A balance that takes more and less room
\set wide '''f01d0000-0000-4000-8000-0000000000ff'''
SELECT FROM bank_open_account('Wide', 0, :wide);
SELECT FROM dugong.append_events('BankAccount', :wide, (SELECT jsonb_agg(jsonb_build_object('type', CASE WHEN n <= 60 THEN 'MoneyDeposited' ELSE 'MoneyWithdrawn' END,
    'payload', jsonb_build_object('amount', power(10::numeric, n % 60 * 6) + n / 8.0))) FROM generate_series(1, 119) AS n));
SELECT balance, balance = (SELECT sum(CASE type WHEN 'MoneyDeposited' THEN 1 WHEN 'MoneyWithdrawn' THEN -1 ELSE 0 END * COALESCE((payload ->> 'amount')::numeric, 0))
    FROM dugong.domain_events WHERE aggregate_id = :wide) AS exact FROM bank_get_account(:wide);
SELECT bool_and(s.state ->> 'balance' = h.balance::text) AS same, max(length(h.balance::text)) AS digits FROM dugong.aggregate_history('BankAccount', :wide) s JOIN
    (SELECT e.sequence_number, (bank_account_fold(e) OVER (ORDER BY e.sequence_number)).balance FROM dugong.domain_events e WHERE e.aggregate_id = :wide) h USING (sequence_number);
