"""append_event with expected_sequence_number, against a prepared INSERT into a table with the same columns and unique keys."""
from lib import accounts, pgbench, report, server

DATABASE = 'bench_append'


def defines(run):
    """No two runs append to the same aggregates."""
    return {'turn': -1, 'block': run * 100000}


def run(effort):
    accounts.create(DATABASE, also=['plain_log.sql'])
    ours = pgbench.side('append.sql', DATABASE, defines, after=lambda: server.settle_behind_run(DATABASE))
    theirs = pgbench.side('plain_append.sql', DATABASE, defines)
    for synchronous_commit in ('on', 'off'):
        for clients in (1, 8, 16, 32):
            runs = pgbench.interleave(effort, [ours, theirs], clients, synchronous_commit)
            yield report.pairs('append', '%d clients, synchronous_commit %s' % (clients, synchronous_commit), 'tps', runs, 0.75, 0.9)
