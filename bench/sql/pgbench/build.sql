SELECT * FROM dugong.build_aggregate(NULL::bank_account_state, 'BankAccount', ('00000000-0000-4000-8000-' || :account)::uuid,
	skip_snapshot => true);
