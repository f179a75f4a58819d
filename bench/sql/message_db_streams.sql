-- Message DB's streams: 10,000 of 20 messages in one category, and as many in 16 categories.
INSERT INTO message_store.messages (position, stream_name, type, data)
SELECT n, category || '-00000000-0000-4000-8000-' || (100000000000 + k), 'MoneyDeposited', '{"amount": 1}'
FROM generate_series(0, 19) n, generate_series(1, 10000) k, LATERAL (VALUES ('account'), ('account' || k % 16)) c(category);
VACUUM ANALYZE;
CHECKPOINT;
