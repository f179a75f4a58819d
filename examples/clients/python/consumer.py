#!/usr/bin/env python3
"""Handles the events of a subscription.

    consumer.py SUBSCRIPTION [CHANNEL...]

Connects as every libpq program: PGHOST (a directory is a socket's), PGPORT, PGDATABASE, PGUSER, PGPASSWORD.  A channel is
"origin-aggregate_type"; without one it only polls, as it must behind a pooler in transaction mode.

Give it "projection-SUBSCRIPTION", too: it tells what another consumer released, and what somebody retries.

What it keeps, it keeps in memory.  If it crashes, what it had not acknowledged is delivered again: at least once.
"""
import json
import os
import select
import signal
import socket
import sys
import time
import uuid

import psycopg
from psycopg import sql
from psycopg.rows import namedtuple_row

BATCH = 100                                             # events in a fetch: they must be handled within the visibility timeout
ACK_EVERY = 20                                          # events in an acknowledgement
POLL = float(os.environ.get('POLL_SECONDS', 5))         # also finds what no notification tells: retries, ended leases
NAME = f'{socket.gethostname()}-{os.getpid()}-{time.time_ns()}'     # nobody else's, and no later process's
FAIL_ON = os.environ.get('FAIL_ON')                     # an event type, to see what a failure does


def handle(conn, subscription, event):
    """Yours.  May come twice for one event.  What it raises is the reason of the nack."""
    if event.type == FAIL_ON:
        raise ValueError(f'cannot handle {event.type}')
    if event.type == 'OrderPlaced':
        # One transaction, so that the settings are those of this append, also behind a pooler.
        with conn.transaction():
            for setting, value in {'triggered_by_event_id': event.id, 'correlation_id': event.correlation_id or '', 'tenant_id': event.tenant_id}.items():
                conn.execute("SELECT set_config('dugong.' || %s, %s, true)", (setting, str(value)))
            # An id made of the event's: when the event comes again, nothing is appended.
            conn.execute("SELECT FROM dugong.append_event('Mail', %s, 'ConfirmationSent', %s::jsonb, event_id => %s)",
                         (event.aggregate_id, json.dumps({'by': subscription}), uuid.uuid5(event.id, subscription)))
    print(json.dumps({'id': str(event.id), 'type': event.type, 'aggregate_id': str(event.aggregate_id),
                      'sequence_number': event.sequence_number, 'payload': event.payload}), flush=True)


class Consumer:
    def __init__(self, subscription, channels):
        self.subscription, self.channels = subscription, channels
        self.batch = []             # fetched, not handled
        self.done = []              # handled, not known to be acknowledged: ids
        self.deadline = 0           # the batch is ours until then
        self.pause = 0.1            # before the next connection
        self.idle = 0.05            # before the next look, if nothing comes: another may have been fetching at that moment
        self.stopping = False
        self.wakeup, self.writer = socket.socketpair()  # a signal ends a wait
        self.writer.setblocking(False)
        signal.set_wakeup_fd(self.writer.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)

    def stop(self, *_):
        self.stopping = True

    def wake(self, *_):
        self.woken, self.idle = True, 0.05

    def run(self):
        while not self.stopping:
            try:
                with psycopg.connect('', autocommit=True, row_factory=namedtuple_row, prepare_threshold=None, connect_timeout=10,
                                     fallback_application_name='dugong consumer') as conn:
                    self.consume(conn)
            except psycopg.OperationalError as error:
                print(f'{str(error).strip()}; again in {self.pause} s', file=sys.stderr, flush=True)
                self.wait(self.pause)
                self.pause = min(self.pause * 2, 10)

    def consume(self, conn):
        """Until it is to stop, or raises."""
        conn.add_notify_handler(self.wake)
        for channel in self.channels:                   # first listen, then fetch: nothing is missed
            conn.execute(sql.SQL('LISTEN {}').format(sql.Identifier(channel)))
        row = conn.execute('SELECT extract(epoch FROM visibility_timeout)::float8 AS seconds FROM dugong.subscription_status '
                           'WHERE subscription = %s', (self.subscription,)).fetchone()
        if row is None:
            sys.exit(f'subscription "{self.subscription}" does not exist')
        while not self.stopping:
            self.work_off(conn)                         # also what a lost connection left
            self.woken = False
            deadline = time.monotonic() + row.seconds
            self.batch = conn.execute('SELECT * FROM dugong.fetch_events(%s, %s, %s)', (self.subscription, BATCH, NAME)).fetchall()
            self.deadline, self.pause = deadline, 0.1
            if self.batch:
                self.idle = 0.05
            elif not self.woken:
                seconds, self.idle = self.idle, min(self.idle * 2, POLL)        # a notification sets it back
                self.wait(seconds, conn)
        self.work_off(conn)

    def work_off(self, conn):
        """Handles the batch and acknowledges it.  A lease outlives the connection, so the batch does, too."""
        while self.batch and not self.stopping and time.monotonic() < self.deadline:
            event = self.batch[0]
            try:
                handle(conn, self.subscription, event)
                self.done.append(event.id)
                del self.batch[0]
            except Exception as error:
                if conn.closed:                         # not the event's fault; if it is noticed later, the nack fails
                    raise psycopg.OperationalError(str(error)) from error
                self.refuse(conn, event, str(error))
            if len(self.done) >= ACK_EVERY:
                self.acknowledge(conn)
        self.acknowledge(conn)
        if self.stopping and self.batch:                # others need not wait for the lease's end, nor does it count
            conn.execute('SELECT dugong.release(%s, consumer => %s)', (self.subscription, NAME))
        self.batch = []                                 # no longer ours: delivered again

    def acknowledge(self, conn):
        """If the answer is lost, it is asked again: what is acknowledged already does no harm, nor what is no longer ours."""
        if self.done:
            conn.execute('SELECT dugong.ack(%s, %s, %s)', (self.subscription, self.done, NAME))
            self.done = []

    def refuse(self, conn, event, reason):
        """Later events of the aggregate go with it: they come again after it, when the pause is over, which doubles each time."""
        def key(e): return e.aggregate_type, e.aggregate_id, e.tenant_id, e.origin
        conn.execute('SELECT dugong.nack(%s, %s, %s, consumer => %s)', (self.subscription, event.id, reason, NAME))
        self.batch = [e for e in self.batch if key(e) != key(event)]

    def wait(self, seconds, conn=None):
        """For a signal, a notification or the time."""
        ready, _, _ = select.select([self.wakeup] + ([conn] if conn else []), [], [], 0 if self.stopping else seconds)
        if conn in ready:
            conn.pgconn.consume_input()
            while conn.pgconn.notifies():               # whatever it says: we fetch
                self.wake()


if __name__ == '__main__':
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    Consumer(sys.argv[1], sys.argv[2:]).run()
