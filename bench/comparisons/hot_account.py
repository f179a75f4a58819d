"""Deposits of 16 clients on one account, against the PL/pgSQL function on one row.  An error of either ends the comparison."""
from lib import accounts, pgbench, report, server

DATABASE = 'bench_hot'


def run(effort):
    accounts.create(DATABASE, also=['crud.sql'])

    def defines(run):
        return {'account': 100000000001}

    ours = pgbench.side('deposit_to.sql', DATABASE, defines, after=lambda: server.settle_behind_run(DATABASE))
    theirs = pgbench.side('crud_deposit_to.sql', DATABASE, defines)
    for synchronous_commit in ('on', 'off'):
        runs = pgbench.interleave(effort, [ours, theirs], 16, synchronous_commit)
        yield report.pairs('hot_account', '16 clients, synchronous_commit ' + synchronous_commit, 'tps', runs, 0.8, 1.0)
