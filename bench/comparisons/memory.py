"""Private memory of the worker while it works off a backlog, beside what it has when it idles."""
import re
import time
from concurrent.futures import ThreadPoolExecutor

from lib import accounts, report, server

DATABASE = 'bench_memory'


def private(pid):
    """MiB of its own memory; 0 if it is gone.  Of the shared buffers, those that only it has touched count as private elsewhere."""
    try:
        with open('/proc/%d/status' % pid) as file:
            return int(re.search(r'^RssAnon:\s+(\d+) kB', file.read(), re.M).group(1)) / 1024
    except OSError:
        return 0


def workers():
    return server.pids('dugong worker', DATABASE)


def run(effort):
    accounts.create(DATABASE, accounts=100)
    idle = max(private(pid) for pid in workers())
    server.psql(DATABASE, 'SELECT dugong.stop_workers()')
    accounts.append(DATABASE, 101, 100 + effort.backlog // accounts.EVENTS, accounts.EVENTS)
    server.psql(DATABASE, 'SELECT dugong.start_workers()')
    peak = 0
    with ThreadPoolExecutor() as background:
        catching_up = background.submit(server.settle, DATABASE)
        while not catching_up.done():
            peak = max([peak] + [private(pid) for pid in workers()])
            time.sleep(0.05)
        catching_up.result()
    setting = 'backlog of %d events, more than idle (%.1f MiB)' % (effort.backlog, idle)
    yield report.absolute('memory', setting, 'MiB', peak - idle, 64, 16)
