"""Rebuild of the bank account's query model, against one INSERT ... SELECT ... GROUP BY over the log into an empty table."""
import time

from lib import accounts, report, server

DATABASE = 'bench_rebuild'
BY_HAND = """
INSERT INTO query_model_by_hand
SELECT aggregate_id, max(payload ->> 'owner'),
    sum(CASE type WHEN 'AccountOpened' THEN (payload ->> 'initialBalance')::numeric
        WHEN 'MoneyDeposited' THEN (payload ->> 'amount')::numeric
        WHEN 'MoneyWithdrawn' THEN -(payload ->> 'amount')::numeric END),
    tenant_id
FROM dugong.event_log
GROUP BY aggregate_id, tenant_id
HAVING NOT bool_or(type = 'AccountClosed')
"""


def seconds(sql):
    begin = time.monotonic()
    server.psql(DATABASE, sql)
    return time.monotonic() - begin


def once():
    ours = seconds("CALL dugong.rebuild_projection('bank_account')")
    server.psql(DATABASE, 'TRUNCATE query_model_by_hand')
    return [ours, seconds(BY_HAND)]


def run(effort):
    accounts.create(DATABASE, events=effort.rebuild // accounts.ACCOUNTS, also=['rebuild.sql'])
    once()
    runs = [once() for _ in range(effort.repetitions)]
    different = server.psql(DATABASE, 'SELECT count(*) FROM bank_account_query_model m FULL JOIN query_model_by_hand h USING (id) '
                                      'WHERE m.balance IS DISTINCT FROM h.balance OR m.owner IS DISTINCT FROM h.owner')
    if different != '0':
        raise server.Failed('%s rows of the two query models differ' % different)
    setting = '%d events, %d accounts' % (effort.rebuild, accounts.ACCOUNTS)
    yield report.pairs('rebuild', setting, 's', runs, 0.4, 0.7, inverse=True)
