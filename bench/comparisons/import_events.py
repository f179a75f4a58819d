"""import_events of the table that DugongJS's TypeORM adapter makes, against COPY of the same events into a table with the same columns and unique keys."""
import os
import time

from lib import accounts, report, server

DATABASE = 'bench_import'
SOURCE = 'bench_import_source'

# Out of one database into the other: what is imported is not in the log
PREPARE = """
COPY domain_events TO '{dir}/domain_events';
COPY (SELECT e.sequence_number, e."timestamp", e.id, e.aggregate_id, 1, e.version, e.tenant_id, e.type, e.payload, e.correlation_id,
	e.triggered_by_event_id, e.triggered_by_user_id, e.metadata FROM dugong.domain_events e ORDER BY e.position) TO '{dir}/plain_log';
"""


def once(directory):
    server.drop_database(DATABASE)
    server.create_database(DATABASE)
    server.psql(DATABASE, 'CREATE EXTENSION dugong')
    server.psql(DATABASE, 'SELECT dugong.stop_workers()')
    server.psql_file(DATABASE, 'plain_log.sql')
    server.psql_file(DATABASE, 'dugongjs_typeorm.sql')
    server.psql(DATABASE, "COPY domain_events FROM '%s/domain_events'; VACUUM ANALYZE; CHECKPOINT" % directory)
    events = server.number(DATABASE, 'SELECT count(*) FROM domain_events')
    begin = time.monotonic()
    server.psql(DATABASE, "CALL dugong.import_events('domain_events')")
    ours = events / (time.monotonic() - begin)
    server.psql(DATABASE, 'CHECKPOINT')
    begin = time.monotonic()
    server.psql(DATABASE, """COPY plain_log (sequence_number, "timestamp", id, aggregate_id, aggregate_type_id, version, tenant_id, type, payload,
        correlation_id, triggered_by_event_id, triggered_by_user_id, metadata) FROM '%s/plain_log'""" % directory)
    return [ours, events / (time.monotonic() - begin)]


def run(effort):
    directory = os.environ['PGHOST']
    accounts.create(SOURCE, also=['dugongjs_typeorm.sql', 'dugongjs_typeorm_copy.sql'])
    server.psql(SOURCE, PREPARE.format(dir=directory))
    runs = [once(directory) for _ in range(effort.repetitions + 1)]  # the first is the warm-up
    for name in ('domain_events', 'plain_log'):
        os.unlink(os.path.join(directory, name))
    yield report.pairs('import_events', "%d events of DugongJS's table" % (accounts.ACCOUNTS * accounts.EVENTS), 'events/s', runs[1:], 0.33, 0.5)
