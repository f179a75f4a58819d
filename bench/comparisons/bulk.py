"""append_events, 1,000 events a call, against COPY of 1,000 rows into a table with the same columns and unique keys."""
import json
import time

from lib import accounts, report, server

DATABASE = 'bench_bulk'
CALLS = 50
EVENT = {'type': 'MoneyDeposited', 'payload': {'amount': 1}}


def account(k):
    return '00000000-0000-4000-8000-%d' % (100000000000 + k)


def calls(k):
    events = json.dumps([EVENT] * 1000)
    statement = "SELECT count(*) FROM dugong.append_events('BankAccount', '%s', '%s');\n" % (account(k), events)
    return statement * CALLS


def copies(k, first):
    parts = []
    for batch in range(CALLS):
        parts.append('COPY plain_log (aggregate_id, aggregate_type_id, tenant_id, sequence_number, version, type, payload) FROM STDIN;\n')
        for n in range(first + batch * 1000, first + batch * 1000 + 1000):
            parts.append('%s\t1\t\t%d\t1\tMoneyDeposited\t{"amount": 1}\n' % (account(k), n))
        parts.append('\\.\n')
    return ''.join(parts)


def rate(sql):
    begin = time.monotonic()
    server.psql(DATABASE, sql)
    return CALLS * 1000 / (time.monotonic() - begin)


def run(effort):
    accounts.create(DATABASE, also=['plain_log.sql'])
    runs = []
    for k in range(1, effort.repetitions + 2):  # the first is the warm-up
        runs.append([rate(calls(k)), rate(copies(k, accounts.EVENTS + 1))])
        server.settle_behind_run(DATABASE)
    yield report.pairs('bulk', '1,000 a call, synchronous_commit on', 'events/s', runs[1:], 0.4, 0.7)
