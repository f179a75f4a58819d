"""append_event, against emt_append_to_stream of Emmett's PostgreSQL store."""
from lib import accounts, peers, pgbench, report, server

DATABASE, PEER = 'bench_events', 'bench_emmett'


def run(effort):
    version = peers.emmett(PEER)
    server.psql_file(PEER, 'emmett_streams.sql')
    accounts.create(DATABASE)
    ours = pgbench.side('append_any.sql', DATABASE, lambda run: {'accounts': accounts.ACCOUNTS},
                        after=lambda: server.settle_behind_run(DATABASE))
    theirs = pgbench.side('emmett_append.sql', PEER, lambda run: {'partition': 'emt:default'})
    for synchronous_commit, at_least in (('off', 1.4), ('on', 1.1)):
        for clients in (8, 16):
            runs = pgbench.interleave(effort, [ours, theirs], clients, synchronous_commit)
            setting = 'Emmett %s, %d clients, synchronous_commit %s' % (version, clients, synchronous_commit)
            yield report.pairs('emmett', setting, 'tps', runs, at_least)
