"""How fast the worker catches up on a backlog, against how fast 16 clients had made it."""
import time

from lib import accounts, pgbench, report, server

DATABASE = 'bench_catch_up'
CLIENTS = 16


def events():
    return server.number(DATABASE, 'SELECT last_value FROM dugong.event_log_position_seq')


def once(effort):
    server.psql(DATABASE, 'SELECT dugong.stop_workers()')
    before = events()
    appended = pgbench.pgbench(pgbench.side('append_any.sql', DATABASE, lambda run: {'accounts': accounts.ACCOUNTS}), CLIENTS,
                               seconds=effort.seconds * 2, options='-c synchronous_commit=off')
    backlog = events() - before
    server.psql('postgres', 'CHECKPOINT')
    begin = time.monotonic()
    server.psql(DATABASE, 'SELECT dugong.start_workers()')
    server.settle(DATABASE)
    return [backlog / (time.monotonic() - begin), appended]


def run(effort):
    accounts.create(DATABASE)
    once(effort)
    runs = [once(effort) for _ in range(effort.repetitions)]
    yield report.pairs('catch_up', 'appends by %d clients, synchronous_commit off' % CLIENTS, 'events/s', runs, 3, 10)
