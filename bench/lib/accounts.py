"""Databases with dugong and bank accounts in them.  Account k is 00000000-0000-4000-8000-1kkkkkkkkkkk."""
from lib import server

ACCOUNTS = 10000
EVENTS = 20


def create(database, accounts=ACCOUNTS, events=EVENTS, also=()):
    """A database with so many accounts of so many events each, and what these files of bench/sql make."""
    server.create_database(database)
    server.psql(database, 'CREATE EXTENSION dugong')
    append(database, 1, accounts, events)
    server.settle(database)
    for name in also:
        server.psql_file(database, name)
    ready(database)


def append(database, first, last, events):
    """Opens the accounts first to last; each has so many events, appended in calls of 1,000 at most."""
    per_transaction = max(1, 20000 // events)
    server.psql_file(database, 'seed.sql', first=first, last=last, events=events, per_transaction=per_transaction)


def ready(database):
    """The query model is there, the statistics are, and nothing is left to be written."""
    server.settle(database)
    server.psql(database, 'VACUUM ANALYZE; CHECKPOINT')
