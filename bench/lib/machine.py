"""What the figures were measured on."""
import os
import platform
import re

from lib import server


def first(path, pattern, default='unknown'):
    try:
        with open(path) as file:
            found = re.search(pattern, file.read(), re.M)
        return found.group(1) if found else default
    except OSError:
        return default


def describe():
    """A list of markdown."""
    sandbox = os.environ['SANDBOX']
    memory = int(first('/proc/meminfo', r'^MemTotal:\s*(\d+)', '0')) / 1024 / 1024
    filesystem = server.command('stat', '-f', '-c', '%T', sandbox).strip()
    settings = ', '.join('%s = %s' % item for item in server.SETTINGS.items())
    facts = [
        ('CPU', '%s, %d cores' % (first('/proc/cpuinfo', r'^model name\s*:\s*(.*)'), os.cpu_count())),
        ('memory', '%.1f GiB' % memory),
        ('kernel', '%s %s' % (platform.system(), platform.release())),
        ('data directory', filesystem),
        ('server', server.psql('postgres', 'SELECT version()')),
        ('dugong', first(os.path.join(sandbox, 'revision'), r'(\S+)')),
        ('settings', settings),
    ]
    return '\n'.join('- %s: %s' % fact for fact in facts)
