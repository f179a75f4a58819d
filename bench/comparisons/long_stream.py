"""Deposits on an account with a long past, against one with ten events; one client, without waiting for the disk."""
from lib import accounts, pgbench, report, server

DATABASE = 'bench_long'


def run(effort):
    accounts.create(DATABASE, events=10)
    server.psql_file(DATABASE, 'long_stream.sql', events=effort.long_stream)
    accounts.ready(DATABASE)

    def on(account):
        # A short account of each run's own, which grows by the run's deposits only
        return pgbench.side('deposit_to.sql', DATABASE, account, after=lambda: server.settle_behind_run(DATABASE))

    long, short = on(lambda run: {'account': 100000000001}), on(lambda run: {'account': 100000000001 + run})
    for synchronous_commit in ('off', 'on'):
        runs = pgbench.interleave(effort, [long, short], 1, synchronous_commit)
        setting = '%d events against 10, 1 client, synchronous_commit %s' % (effort.long_stream, synchronous_commit)
        yield report.pairs('long_stream', setting, 'tps', runs, 0.9, 1.0)
