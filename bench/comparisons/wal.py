"""WAL of a deposit, with what the worker writes for the query model, against that of the PL/pgSQL function."""
from lib import accounts, pgbench, report, server

DATABASE = 'bench_wal'
CLIENTS = 8
DEPOSITS = 2500


def written(which):
    """Bytes per transaction.  All pages have been written to since the last checkpoint, or nearly all: few full-page images."""
    before = server.psql('postgres', 'SELECT pg_current_wal_insert_lsn()')
    pgbench.pgbench(which, CLIENTS, transactions=DEPOSITS)
    return server.number('postgres', "SELECT pg_current_wal_insert_lsn() - :'before'::pg_lsn", before=before) / (CLIENTS * DEPOSITS)


def run(effort):
    accounts.create(DATABASE, also=['crud.sql'])
    server.psql('postgres', "ALTER SYSTEM SET autovacuum = off; SELECT pg_reload_conf()")  # it would write at some times and not at others

    def defines(run):
        return {'accounts': accounts.ACCOUNTS}

    ours = pgbench.side('deposit.sql', DATABASE, defines, after=lambda: server.settle_behind_run(DATABASE))
    theirs = pgbench.side('crud_deposit.sql', DATABASE, defines)
    for which in (ours, theirs) * 2:
        written(which)
    runs = [[written(ours), written(theirs)] for _ in range(effort.repetitions)]
    server.configure()
    yield report.pairs('wal', '%d clients' % CLIENTS, 'bytes per deposit', runs, 2.0, 1.5, smaller=True)
