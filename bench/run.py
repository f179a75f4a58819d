#!/usr/bin/env python3
"""Runs the comparisons, in the sandbox that bench.sh has made: run.py short|full.  ONLY names some of them."""
import importlib
import os
import sys
import time
from collections import namedtuple

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import machine, peers, report, server  # noqa: E402

# seconds and repetitions: of each side; the rest: how large what is measured is made
Effort = namedtuple('Effort', 'name warm_up seconds repetitions long_stream large_log rebuild backlog lag_samples')
EFFORTS = {
    'short': Effort('short', 1, 2, 3, long_stream=200000, large_log=2000000, rebuild=200000, backlog=500000, lag_samples=500),
    'full': Effort('full', 5, 10, 5, long_stream=1000000, large_log=20000000, rebuild=1000000, backlog=5000000, lag_samples=5000),
}

# In this order; profile only in the full form, or when asked for
COMPARISONS = ['notify', 'deposit', 'deposit_async_commit', 'append', 'bytes', 'wal', 'message_db', 'emmett', 'hot_account',
               'long_stream', 'build', 'bulk', 'import_events', 'catch_up', 'lag', 'rebuild', 'memory', 'idle', 'large_log', 'profile']


def choose(effort):
    only = os.environ.get('ONLY', '').split()
    for name in only:
        if name not in COMPARISONS:
            sys.exit('there is no comparison "%s"; there are: %s' % (name, ' '.join(COMPARISONS)))
    return only or [name for name in COMPARISONS if name != 'profile' or effort.name == 'full']


class Report:
    """Grows while it is measured, so that what was measured is kept whatever happens."""

    def __init__(self, effort):
        self.head = ['# Benchmarks, %s' % time.strftime('%Y-%m-%d'), '', machine.describe(),
                     '- form: %s, %d repetitions of %d s a side' % (effort.name, effort.repetitions, effort.seconds), '']
        self.rows, self.notes = [report.HEADER], []
        print('\n'.join(self.head + self.rows), flush=True)

    def row(self, row):
        self.rows.append(report.line(row))
        print(self.rows[-1], flush=True)
        self.write()

    def note(self, text):
        self.notes += ['', text]
        print(text, file=sys.stderr, flush=True)
        self.write()

    def write(self):
        with open(os.path.join(os.environ['SANDBOX'], 'results.md'), 'w') as file:
            file.write('\n'.join(self.head + self.rows + self.notes) + '\n')


def main():
    effort = EFFORTS[sys.argv[1] if len(sys.argv) > 1 else 'short']
    names = choose(effort)
    server.configure()
    output = Report(effort)
    failed = 0
    for name in names:
        try:
            for item in importlib.import_module('comparisons.' + name).run(effort):
                output.note(item) if isinstance(item, str) else output.row(item)
        except peers.Missing as missing:
            output.note('%s: not measured, %s.' % (name, missing))
        except server.Failed as failure:
            failed += 1
            output.note('%s: **failed**: %s' % (name, failure))
        for database in server.psql('postgres', "SELECT datname FROM pg_database WHERE datname LIKE 'bench%'").split():
            server.drop_database(database)
    if server.Waited.longest:
        output.note('The longest wait for a query model behind a run, which is not part of the run: %.2f s.' % server.Waited.longest)
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
