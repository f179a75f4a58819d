"""bank_deposit, against a PL/pgSQL function that updates a balance and inserts into a history."""
from lib import accounts, pgbench, report, server

DATABASE = 'bench_deposit'
AT_LEAST = {1: 0.95, 8: 0.8, 16: 0.8, 32: 0.8}


def compare(effort, name, at_least, synchronous_commit):
    accounts.create(DATABASE, also=['crud.sql'])

    def defines(run):
        return {'accounts': accounts.ACCOUNTS}

    ours = pgbench.side('deposit.sql', DATABASE, defines, after=lambda: server.settle_behind_run(DATABASE))
    theirs = pgbench.side('crud_deposit.sql', DATABASE, defines)
    for clients, bound in at_least.items():
        runs = pgbench.interleave(effort, [ours, theirs], clients, synchronous_commit)
        yield report.pairs(name, '%d clients, synchronous_commit %s' % (clients, synchronous_commit), 'tps', runs, bound, 1.0)


def run(effort):
    yield from compare(effort, 'deposit', AT_LEAST, 'on')
