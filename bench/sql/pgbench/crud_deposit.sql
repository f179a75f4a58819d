\set account 100000000000 + random(1, :accounts)
\set amount random(1, 1000)
SELECT * FROM account_deposit(('00000000-0000-4000-8000-' || :account)::uuid, :amount);
