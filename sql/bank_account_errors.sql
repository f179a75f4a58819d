-- The wording of refusals.
\set id '''0bad0000-0000-4000-8000-000000000001'''
\set closed '''0bad0000-0000-4000-8000-000000000002'''
\set unknown '''0bad0000-0000-4000-8000-000000000003'''
SELECT owner, balance FROM bank_open_account('Alice', 500, :id);
SELECT owner, balance FROM bank_open_account('Bob', 0, :closed);
SELECT owner, balance FROM bank_close_account(:closed);

SELECT bank_open_account('Alice', 1, :id);
SELECT bank_open_account('Bob', 1, :closed);
SELECT bank_open_account(NULL);
SELECT bank_open_account('  ');
SELECT bank_open_account(repeat('x', 101));
SELECT bank_open_account('Eve', NULL);
SELECT bank_open_account('Eve', -1);
SELECT bank_open_account('Eve', 'NaN');
SELECT bank_open_account('Eve', 0, 'no-uuid');
SELECT bank_deposit(NULL, 1);
SELECT bank_deposit(:id, NULL);
SELECT bank_deposit(:id, 0);
SELECT bank_deposit(:id, -1);
SELECT bank_deposit(:id, 'NaN');
SELECT bank_deposit(:id, '-Infinity');
SELECT bank_deposit(:id, 1e30);
SELECT bank_deposit(:id, 1e100);
SELECT bank_deposit(:id, 0.00001);
SELECT bank_deposit(:unknown, 1);
SELECT bank_deposit(:closed, 1);
SELECT bank_withdraw(:id, 500.01);
SELECT bank_transfer(:id, :id, 1);
SELECT bank_transfer(NULL, :id, 1);
SELECT bank_transfer(:id, NULL, 1);
SELECT bank_transfer(:id, :unknown, 1);
SELECT bank_close_account(:closed);
SELECT bank_get_account(NULL);
SELECT owner, balance FROM bank_deposit(:id, 1, '0bad0000-0000-4000-8000-0000000000e1');
SELECT bank_deposit(:id, 2, '0bad0000-0000-4000-8000-0000000000e1');

-- Nothing is left of them
SELECT aggregate_id, sequence_number, type FROM dugong.domain_events
WHERE aggregate_id IN (:id, :closed, :unknown) ORDER BY aggregate_id, sequence_number;
