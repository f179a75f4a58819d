"""build_aggregate of an account of 10,000 events without a snapshot, against two ways to do it in PL/pgSQL."""
from lib import accounts, pgbench, report, server

DATABASE = 'bench_build'
ACCOUNT = "'00000000-0000-4000-8000-100000000001'"
BALANCES = """
SELECT (dugong.build_aggregate(NULL::bank_account_state, 'BankAccount', %s, skip_snapshot => true)).balance
UNION SELECT (account_by_loop(%s)).balance
UNION SELECT (account_fold(e ORDER BY sequence_number) ->> 'balance')::numeric FROM jsonb_event e WHERE account_id = %s
""" % (ACCOUNT, ACCOUNT, ACCOUNT)


def run(effort):
    accounts.create(DATABASE, accounts=20, events=10000, also=['build.sql'])
    if server.psql(DATABASE, BALANCES) != '10099':
        raise server.Failed('the three do not build the same account')
    sides = [pgbench.side(script, DATABASE, lambda run: {'account': 100000000001})
             for script in ('build.sql', 'build_by_loop.sql', 'build_by_aggregate.sql')]
    runs = pgbench.interleave(effort, sides, 1)
    yield report.pairs('build', '10,000 events, PL/pgSQL loop over typed rows', 'builds/s', runs, 1.3, 2.5, theirs=1)
    yield report.pairs('build', '10,000 events, PL/pgSQL transition function over jsonb', 'builds/s', runs, 3, 6, theirs=2)
