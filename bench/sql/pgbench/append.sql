-- Each client appends in turn to 100 aggregates of its own, of which it knows the last sequence number.
\set turn :turn + 1
\set account 100000000000 + :block + :client_id * 100 + :turn % 100
\set expected :turn / 100
\if :expected = 0
SELECT (dugong.append_event('BankAccount', ('00000000-0000-4000-8000-' || :account)::uuid,
	'AccountOpened', '{"owner": "Alice", "initialBalance": 100}', expected_sequence_number => 0)).position;
\else
SELECT (dugong.append_event('BankAccount', ('00000000-0000-4000-8000-' || :account)::uuid,
	'MoneyDeposited', '{"amount": 1}', expected_sequence_number => :expected)).position;
\endif
