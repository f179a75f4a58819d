"""Where a deposit and an append spend their instructions: callgrind, of a backend, by function.

The instructions of a long run less those of a short one, so that what a session does once is left out.  The server's own static
functions have no symbols in Debian's packages and count for the exported function before them.
"""
import glob
import os
import re
import signal
import subprocess
import tempfile
import time
from collections import defaultdict

from lib import accounts, pgbench, server

DATABASE = 'bench_profile'
SHORT, LONG = 100, 600
TOP = 40


# A C function that only the backend under measure calls, and what it executes
MEASURED = [
    ('bank_deposit', 'deposit.sql', 'bank_deposit'),
    ('the PL/pgSQL function beside it', 'crud_deposit.sql', 'plpgsql_call_handler'),
    ('append_event', 'append_any.sql', 'dugong_append_event'),
    ('the INSERT beside it', 'plain_append.sql', 'gen_random_uuid'),
]


def run(effort):
    accounts.create(DATABASE, also=['crud.sql', 'plain_log.sql'])
    yield 'Instructions of a backend for one transaction, %d accounts:' % accounts.ACCOUNTS
    for title, script, symbol in MEASURED:
        side = pgbench.side(script, DATABASE, lambda run: {'accounts': accounts.ACCOUNTS, 'turn': -1, 'block': run * 100000})
        yield table(title, symbol, side)
    server.configure()


def table(title, symbol, side):
    short, long = profile(symbol, side, SHORT), profile(symbol, side, LONG)
    own, inclusive = [{name: (count - before.get(name, 0)) / (LONG - SHORT) for name, count in after.items()}
                      for before, after in zip(short, long)]
    total = sum(own.values())
    # Not what is below everything, nor what has no name
    inclusive = {name: count for name, count in inclusive.items() if count < 0.99 * total and not re.match("0x|.*'\\d+$", name)}
    lines = ['%s, %.0f instructions:' % (title, total), '', '| itself | function | | with what it calls | function |', '|--:|---|---|--:|---|']
    for first, second in zip(top(own, TOP), top(inclusive, TOP)):
        lines.append('| %.1f %% | `%s` | | %.1f %% | `%s` |' % (100 * first[1] / total, first[0], 100 * second[1] / total, second[0]))
    return '\n'.join(lines)


def top(counts, n):
    return sorted(counts.items(), key=lambda item: -item[1])[:n]


def profile(symbol, side, transactions):
    """Instructions by function of the backend that called the C function of this name, of a server under callgrind."""
    directory = tempfile.mkdtemp(dir=os.environ['SANDBOX'])
    subprocess.run(['pg_ctl', '-D', server.DATA, '-s', '-m', 'fast', 'stop'], check=True)
    postmaster = subprocess.Popen(['valgrind', '--tool=callgrind', '--trace-children=yes', '--quiet',
                                   '--callgrind-out-file=%s/%%p' % directory, 'postgres', '-D', server.DATA],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while subprocess.run(['pg_isready', '-q']).returncode != 0 and postmaster.poll() is None:
            time.sleep(0.5)
        pgbench.pgbench(side, 1, transactions=transactions)
    finally:
        postmaster.send_signal(signal.SIGINT)  # fast shutdown
        postmaster.wait()
        subprocess.run(['pg_ctl', '-D', server.DATA, '-l', os.path.join(os.environ['PGHOST'], 'server.log'), '-s', '-w', 'start'],
                       check=True, stdout=subprocess.DEVNULL)
    found = [counts for counts in map(functions, glob.glob(os.path.join(directory, '*'))) if symbol in counts[0]]
    if len(found) != 1:
        raise server.Failed('%d processes called %s' % (len(found), symbol))
    return found[0]


def functions(path):
    """Two dictionaries, of the instructions of each function itself and with what it calls, out of a file of callgrind.

    A line of cost below fn= is of the function itself, but one behind calls= is that of all that was called from there.  What a
    recursive function is called with by itself counts once.
    """
    names, own, inclusive = {}, defaultdict(int), defaultdict(int)
    current = called = None
    with open(path) as file:
        for line in file:
            function = re.match(r'(c?)fn=(\(\d+\))(?: (.*))?', line)
            if function:
                name = names.setdefault(function.group(2), function.group(3))
                if function.group(1):
                    called = name
                else:
                    current, called = name, None
            elif re.match(r'[-+*\d]', line):
                cost = int(line.split()[-1])
                if called is None:
                    own[current] += cost
                if called != current:
                    inclusive[current] += cost
                called = None
    return own, inclusive
