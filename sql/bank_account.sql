-- DugongJS's tutorial: an account's life, and its query model.
\set id '''0ba00000-0000-4000-8000-000000000001'''
SELECT owner, balance FROM bank_open_account('Alice', 500, :id);
SELECT owner, balance FROM bank_deposit(:id, 200);
SELECT owner, balance FROM bank_withdraw(:id, 300);
SELECT owner, balance FROM bank_get_account(:id);
SELECT sequence_number, type, version, payload, origin, aggregate_type
FROM dugong.domain_events WHERE aggregate_id = :id ORDER BY sequence_number;

-- The query model
\set id '''0ba00000-0000-4000-8000-000000000002'''
SELECT owner, balance FROM bank_open_account('Bob', 500, :id);
CALL dugong.run_projections();
SELECT * FROM bank_account_query_model WHERE id = :id;
SELECT owner, balance FROM bank_deposit(:id, 300);
CALL dugong.run_projections();
SELECT * FROM bank_account_query_model WHERE id = :id;
SELECT owner, balance FROM bank_close_account(:id);
CALL dugong.run_projections();
SELECT * FROM bank_account_query_model WHERE id = :id;
SELECT * FROM bank_get_account(:id);

-- It is the fold of every account
SELECT count(*) AS differences
FROM bank_account_query_model m
FULL JOIN (SELECT (state).*, tenant_id
           FROM (SELECT bank_account_fold(e ORDER BY sequence_number) AS state, tenant_id
                 FROM dugong.domain_events e GROUP BY aggregate_id, tenant_id) AS folds
           WHERE state IS NOT NULL) AS f
USING (id, tenant_id)
WHERE (m.owner, m.balance) IS DISTINCT FROM (f.owner, f.balance);
