\set account 100000000000 + random(1, :accounts)
SELECT (dugong.append_event('BankAccount', ('00000000-0000-4000-8000-' || :account)::uuid,
	'MoneyDeposited', '{"amount": 1}')).sequence_number;
