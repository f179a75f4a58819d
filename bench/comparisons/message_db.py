"""append_event, against write_message of Message DB, which locks a category at a time."""
from lib import accounts, peers, pgbench, report, server

DATABASE, PEER = 'bench_events', 'bench_message_db'
MODES = [
    ('one category', 'message_db_one_category.sql', 'off', 3),
    ('a category per client', 'message_db_category_per_client.sql', 'off', 1.4),
    ('a category per client', 'message_db_category_per_client.sql', 'on', 1.1),
]


def run(effort):
    version = peers.message_db(PEER)
    server.psql_file(PEER, 'message_db_streams.sql')
    accounts.create(DATABASE)
    ours = pgbench.side('append_any.sql', DATABASE, lambda run: {'accounts': accounts.ACCOUNTS},
                        after=lambda: server.settle_behind_run(DATABASE))
    for categories, script, synchronous_commit, at_least in MODES:
        for clients in (8, 16):
            runs = pgbench.interleave(effort, [ours, pgbench.side(script, PEER)], clients, synchronous_commit)
            setting = 'Message DB %s, %s, %d clients, synchronous_commit %s' % (version, categories, clients, synchronous_commit)
            yield report.pairs('message_db', setting, 'tps', runs, at_least)
