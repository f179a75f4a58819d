"""Bytes per event, heap and indexes, against the table that DugongJS's TypeORM adapter creates, with the same events."""
from lib import report, server

DATABASE = 'bench_bytes'


def per_event(table):
    return server.number(DATABASE, 'SELECT pg_total_relation_size(:\'table\')::numeric / count(*) FROM ' + table, table=table)


def measure(setting, everything, at_most, goal):
    server.create_database(DATABASE)
    server.psql(DATABASE, 'CREATE EXTENSION dugong')
    server.psql_file(DATABASE, 'envelopes.sql', accounts=5000, events=100000, everything=everything)
    server.settle(DATABASE)
    server.psql_file(DATABASE, 'dugongjs_typeorm.sql')
    row = report.sizes('bytes', setting, 'bytes per event', per_event('dugong.event_log'), per_event('domain_events'), at_most, goal)
    server.drop_database(DATABASE)
    return row


def run(effort):
    yield measure('envelope with correlation id', 0, 0.75, 0.65)
    yield measure('everything filled: cause, user, metadata too', 1, None, None)
