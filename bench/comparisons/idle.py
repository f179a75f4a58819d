"""An installation with nothing to do, for ten seconds: WAL that it writes, and how often its worker wakes."""
import re
import time

from lib import accounts, report, server

DATABASE = 'bench_idle'
SECONDS = 10


def switches(pid):
    """How often the process has waited; None if it is gone."""
    try:
        with open('/proc/%d/status' % pid) as file:
            return int(re.search(r'^voluntary_ctxt_switches:\s+(\d+)', file.read(), re.M).group(1))
    except OSError:
        return None


def wal():
    return server.number('postgres', "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")


def measure(preloaded):
    server.configure(shared_preload_libraries='dugong' if preloaded else '')
    # A command wakes the worker; then it has nothing to do, and reading finds nothing to prune
    for _ in range(2):
        server.psql(DATABASE, "SELECT FROM bank_deposit('00000000-0000-4000-8000-100000000001', 1)")
        server.settle(DATABASE)
        server.psql(DATABASE, 'VACUUM; CHECKPOINT')
    processes = server.pids('dugong worker', DATABASE) + [int(pid) for pid in server.psql(
        'postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'dugong launcher'").split()]
    time.sleep(1)
    before, last = wal(), {pid: switches(pid) for pid in processes}
    first = dict(last)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        time.sleep(0.2)
        last = {pid: switches(pid) or last[pid] for pid in processes}
    written = wal() - before
    wakes = sum(last[pid] - first[pid] for pid in processes if first[pid] is not None)
    return written, wakes


def run(effort):
    accounts.create(DATABASE, accounts=100)
    for preloaded in (True, False):
        setting = '%d s, %s preload' % (SECONDS, 'with' if preloaded else 'without')
        written, wakes = measure(preloaded)
        yield report.absolute('idle', setting, 'bytes of WAL', written, 0, 0)
        yield report.absolute('idle', setting, 'wake-ups of launcher and worker', wakes, SECONDS / 2, 0 if preloaded else SECONDS / 2)
    server.configure()
