"""Appends while the worker notifies (auto), while each commit notifies as well (always), and while nobody does (off)."""
from lib import accounts, pgbench, report, server

DATABASE = 'bench_notify'
MODES = ['auto', 'off', 'always']


def side(mode):
    return pgbench.side('append.sql', DATABASE, lambda run: {'turn': -1, 'block': run * 100000},
                        before=lambda: server.alter_system('dugong.notify', mode), after=lambda: server.settle_behind_run(DATABASE))


def run(effort):
    accounts.create(DATABASE)
    for clients in (1, 8, 32):
        runs = pgbench.interleave(effort, [side(mode) for mode in MODES], clients)
        setting = '%d clients' % clients
        yield report.pairs('notify', setting + ', auto, against off', 'tps', runs, 0.95, 1.0)
        yield report.pairs('notify', setting + ', always, against off', 'tps', runs, ours=2)
    server.configure()
