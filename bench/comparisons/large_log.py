"""Appends to a log of millions of events, against appends to one of 10,000."""
from lib import accounts, pgbench, report, server

LARGE, SMALL = 'bench_large', 'bench_small'


def side(database):
    return pgbench.side('append.sql', database, lambda run: {'turn': -1, 'block': 10000000 + run * 100000},
                        after=lambda: server.settle_behind_run(database))


def run(effort):
    accounts.create(SMALL, accounts=500)
    accounts.create(LARGE, accounts=effort.large_log // 20)
    for synchronous_commit in ('on', 'off'):
        runs = pgbench.interleave(effort, [side(LARGE), side(SMALL)], 8, synchronous_commit)
        setting = '%d events against 10,000, 8 clients, synchronous_commit %s' % (effort.large_log, synchronous_commit)
        yield report.pairs('large_log', setting, 'tps', runs, 0.85, 0.95)
