"""Two or more sides under the same load, in turn."""
import os
import re
import statistics
from collections import namedtuple

from lib import server

# script: of bench/sql/pgbench; options: settings of the session; defines: variables of the script, a function of the number of the
# run gives those that must be new each time; before: called before each run, not timed; after: the same, behind it
Side = namedtuple('Side', 'script database defines options before after')


def side(script, database, defines=None, options='', before=None, after=None):
    return Side(script, database, defines or (lambda run: {}), options, before, after)


class Runs:
    """Numbers every run of pgbench, so that a script can use ids that no run has used."""
    count = 0


def pgbench(which, clients, seconds=None, transactions=None, rate=None, options=''):
    """One run; returns transactions per second without the time of connecting.  An error of any client is an error."""
    Runs.count += 1
    arguments = ['pgbench', '-n', '-M', 'prepared', '-c', str(clients), '-j', str(min(clients, os.cpu_count())),
                 '-f', os.path.join(server.SQL, 'pgbench', which.script)]
    arguments += ['-T', str(seconds)] if seconds else ['-t', str(transactions)]
    arguments += ['-R', str(rate)] if rate else []
    for name, value in which.defines(Runs.count).items():
        arguments += ['-D', '%s=%s' % (name, value)]
    if which.before:
        which.before()
    output = server.command(*arguments, which.database, env={'PGOPTIONS': '%s %s' % (which.options, options)})
    if which.after:
        which.after()
    if not re.search(r'failed transactions: 0 ', output):
        raise server.Failed('pgbench: ' + output)
    return float(re.search(r'tps = ([\d.]+) \(without', output).group(1))


def interleave(effort, sides, clients, synchronous_commit='on'):
    """Warms every side up, then runs them in turn; returns, for each repetition, what each side achieved."""
    options = '-c synchronous_commit=' + synchronous_commit
    for which in sides:
        pgbench(which, clients, seconds=effort.warm_up, options=options)
    return [[pgbench(which, clients, seconds=effort.seconds, options=options) for which in sides]
            for _ in range(effort.repetitions)]


def median(values):
    return statistics.median(values)
