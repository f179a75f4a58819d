"""Time from a commit until the query model shows it, while 8 clients deposit half as fast as they can."""
from concurrent.futures import ThreadPoolExecutor

from lib import accounts, pgbench, report, server

DATABASE = 'bench_lag'
CLIENTS = 8


def run(effort):
    accounts.create(DATABASE)
    load = pgbench.side('deposit_others.sql', DATABASE, lambda run: {'accounts': accounts.ACCOUNTS})
    pgbench.pgbench(load, CLIENTS, seconds=effort.warm_up)
    most = pgbench.median([pgbench.pgbench(load, CLIENTS, seconds=effort.seconds) for _ in range(effort.repetitions)])
    server.settle_behind_run(DATABASE)
    seconds = effort.lag_samples // 50 + 5
    with ThreadPoolExecutor() as background:
        loader = background.submit(pgbench.pgbench, load, CLIENTS, seconds=seconds, rate=most / 2)
        server.psql('postgres', 'SELECT pg_sleep(2)')
        middle, high = server.psql_file(DATABASE, 'lag.sql', samples=effort.lag_samples).split('|')
        outlived = not loader.done()
        loader.result()
    setting = '8 clients at half load, %.0f of %.0f tps, %d samples' % (most / 2, most, effort.lag_samples)
    yield report.absolute('lag', setting + ', median', 'ms', float(middle), 3, 1)
    yield report.absolute('lag', setting + ', 99th percentile', 'ms', float(high), 30, 10)
    if not outlived:
        yield 'lag: the load ended before the last sample.'
