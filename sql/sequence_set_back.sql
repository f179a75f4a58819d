-- A sequence of positions that was set back goes on from the end of the log: no event lands where projections have been.
SELECT balance FROM bank_open_account('Alice', 5, '5e900000-0000-4000-8000-000000000001');
SELECT balance FROM bank_deposit('5e900000-0000-4000-8000-000000000001', 1);
CALL dugong.run_projections();
SELECT last_value AS last FROM dugong.event_log_position_seq \gset
SELECT setval('dugong.event_log_position_seq', 1) AS set_back;
SELECT balance FROM bank_deposit('5e900000-0000-4000-8000-000000000001', 100);
SELECT max(position) > :last AS above FROM dugong.event_log;
CALL dugong.run_projections();
SELECT balance FROM bank_account_query_model WHERE id = '5e900000-0000-4000-8000-000000000001';
