"""Other event stores, out of their npm packages, each in a database of its own."""
import glob
import os
import re
import tarfile

from lib import server

PEERS = os.path.join(os.environ['SANDBOX'], 'peers')


class Missing(Exception):
    """A package that could not be fetched."""


def unpack(name):
    archives = glob.glob(os.path.join(PEERS, name + '-[0-9]*.tgz'))
    if not archives:
        raise Missing('the npm package %s could not be fetched' % name)
    directory = os.path.join(PEERS, name)
    with tarfile.open(archives[0]) as archive:
        archive.extractall(directory)
    version = re.search(r'-([0-9][^/]*)\.tgz$', archives[0]).group(1)
    return os.path.join(directory, 'package'), version


def message_db(database):
    """Installs Message DB with its own script; returns its version."""
    package, version = unpack('eventide-message-db')
    server.create_database(database)
    server.command('bash', os.path.join(package, 'database', 'install.sh'),
                   env={'DATABASE_NAME': database, 'CREATE_DATABASE': 'off'})
    server.psql(database, 'ALTER DATABASE :"name" SET search_path = message_store, public', name=database)
    return version


def emmett(database):
    """Installs Emmett's PostgreSQL store: its newest schema is one template literal of the package, without parameters."""
    package, version = unpack('event-driven-io-emmett-postgresql')
    with open(os.path.join(package, 'dist', 'index.js')) as file:
        schemas = re.findall(r'^var schema_[0-9_]+ = SQL\d*`(.*?[^\\])`;', file.read(), re.S | re.M)
    if not schemas or '${' in schemas[-1]:
        raise server.Failed('the package of Emmett has changed: no schema found')
    server.create_database(database)
    server.psql(database, schemas[-1])
    return version
