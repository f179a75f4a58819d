"""The server of the sandbox: SQL in it, its databases, its processes."""
import os
import subprocess
import time

SQL = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'sql')
DATA = os.path.join(os.environ['PGHOST'], 'data')

# What every comparison runs with.  Durable, and otherwise what somebody gives a small server; the rest are the defaults.
SETTINGS = {
    'fsync': 'on',
    'full_page_writes': 'on',
    'synchronous_commit': 'on',
    'wal_level': 'replica',
    'shared_buffers': '1GB',
    'max_wal_size': '8GB',
    'checkpoint_timeout': '30min',
    'max_connections': '100',
    'max_worker_processes': '16',
    'shared_preload_libraries': 'dugong',
}


class Failed(Exception):
    """What a program of PostgreSQL complained of."""


def command(*args, stdin=None, env=None):
    """Runs a program and returns what it prints; a complaint ends the comparison."""
    done = subprocess.run(args, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          universal_newlines=True, env=dict(os.environ, **(env or {})))
    if done.returncode != 0:
        raise Failed('%s: %s' % (args[0], done.stderr.strip()))
    return done.stdout


def psql(database, sql, /, **variables):
    """Runs SQL in one session and returns its output, columns separated by |."""
    sets = [word for name, value in variables.items() for word in ('-v', '%s=%s' % (name, value))]
    return command('psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', database, *sets, stdin=sql,
                   env={'PGOPTIONS': '-c client_min_messages=warning'}).strip()


def psql_file(database, name, /, **variables):
    """Runs a file of bench/sql."""
    with open(os.path.join(SQL, name)) as file:
        return psql(database, file.read(), **variables)


def number(database, sql, /, **variables):
    return float(psql(database, sql, **variables))


def configure(**changes):
    """Restarts the server with SETTINGS and these changes to them."""
    with open(os.path.join(DATA, 'postgresql.auto.conf'), 'w') as file:
        for name, value in dict(SETTINGS, **changes).items():
            file.write("%s = '%s'\n" % (name, value))
    # Its output must not be a pipe to us: the server would hold it open
    subprocess.run(['pg_ctl', '-D', DATA, '-l', os.path.join(os.environ['PGHOST'], 'server.log'), '-s', '-w', '-m', 'fast', 'restart'],
                   check=True, stdout=subprocess.DEVNULL)


def alter_system(name, value):
    """Changes a setting of the running server, for sessions and workers."""
    psql('postgres', "ALTER SYSTEM SET %s = '%s'; SELECT pg_reload_conf()" % (name, value))
    psql('postgres', 'SELECT pg_sleep(0.3)')


def create_database(name):
    command('createdb', name)


def drop_database(name):
    command('dropdb', '--if-exists', '--force', name)


class Waited:
    """The longest that a query model was behind when a run had ended, in seconds."""
    longest = 0.0


def settle(database):
    """What dugong's worker has left to do behind a run is done before the next one begins."""
    begin = time.monotonic()
    psql(database, "CALL dugong.wait_for_projection('bank_account', '1 h')")
    return time.monotonic() - begin


def settle_behind_run(database):
    Waited.longest = max(Waited.longest, settle(database))


def pids(backend_type, database):
    rows = psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = :'type' AND datname = :'database' ORDER BY 1",
                type=backend_type, database=database)
    return [int(pid) for pid in rows.split()]
