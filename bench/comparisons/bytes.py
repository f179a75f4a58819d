"""Bytes per event, heap and indexes, against the table that DugongJS's TypeORM adapter creates, with the same events.

The pages of a btree that is filled at random split in waves: they are full at one size of the log and half empty at
the next.  So the sizes are taken at steps from 80,000 to 160,000 events, and the figure is their mean.
"""
from lib import report, server

DATABASE = 'bench_bytes'
ACCOUNTS = 5000
STEP = 10000
STEPS = range(8, 17)


def per_event(table):
    return server.number(DATABASE, 'SELECT pg_total_relation_size(:\'table\')::numeric / count(*) FROM ' + table, table=table)


def append(accounts, events, everything):
    server.psql_file(DATABASE, 'envelopes.sql', open=accounts, accounts=ACCOUNTS, events=events, everything=everything)
    server.psql(DATABASE, 'VACUUM dugong.event_log')
    server.settle(DATABASE)


def measure(setting, everything, at_most, goal):
    own = []
    other = []
    server.create_database(DATABASE)
    server.psql(DATABASE, 'CREATE EXTENSION dugong')
    server.psql_file(DATABASE, 'dugongjs_typeorm.sql')
    append(ACCOUNTS, STEPS[0] * STEP - ACCOUNTS, everything)
    for step in STEPS:
        server.psql_file(DATABASE, 'dugongjs_typeorm_copy.sql')
        own.append(per_event('dugong.event_log'))
        other.append(per_event('domain_events'))
        if step < STEPS[-1]:
            append(0, STEP, everything)
    server.drop_database(DATABASE)
    return report.sizes('bytes', setting, 'bytes per event', sum(own) / len(own), sum(other) / len(other), at_most, goal)


def run(effort):
    yield measure('envelope with correlation id', 0, 0.75, 0.65)
    yield measure('everything filled: cause, user, metadata too', 1, None, None)
