#!/usr/bin/env node
// Handles the events of a subscription.
//
//     node consumer.js SUBSCRIPTION [CHANNEL...]
//
// Connects as every libpq program: PGHOST (a directory is a socket's), PGPORT, PGDATABASE, PGUSER, PGPASSWORD.  A channel is
// "origin-aggregate_type"; without one it only polls, as it must behind a pooler in transaction mode.
//
// Give it "projection-SUBSCRIPTION", too: it tells what another consumer released, and what somebody retries.
//
// What it keeps, it keeps in memory.  If it crashes, what it had not acknowledged is delivered again: at least once.
'use strict';

const crypto = require('crypto');
const os = require('os');
const { Client } = require('pg');

const BATCH = 100;                                                  // events in a fetch: they must be handled within the visibility timeout
const ACK_EVERY = 20;                                               // events in an acknowledgement
const POLL = 1000 * Number(process.env.POLL_SECONDS || 5);          // also finds what no notification tells: retries, ended leases
const NAME = `${os.hostname()}-${process.pid}-${Date.now()}`;         // nobody else's, and no later process's
const FAIL_ON = process.env.FAIL_ON;                                // an event type, to see what a failure does
const [subscription, ...channels] = process.argv.slice(2);

// Yours.  May come twice for one event.  What it throws is the reason of the nack.
async function handle(client, event) {
    if (event.type === FAIL_ON) throw new Error(`cannot handle ${event.type}`);
    const { id, type, aggregate_id, payload } = event;
    if (type === 'OrderPlaced') {
        // One transaction, so that the settings are those of this append, also behind a pooler.
        await client.query('BEGIN');
        try {
            await client.query(`SELECT set_config('dugong.triggered_by_event_id', $1, true), set_config('dugong.correlation_id', $2, true),
                set_config('dugong.tenant_id', $3, true)`, [id, event.correlation_id || '', event.tenant_id]);
            // An id made of the event's: when the event comes again, nothing is appended.
            await client.query(`SELECT FROM dugong.append_event('Mail', $1, 'ConfirmationSent', $2::jsonb, event_id => $3)`,
                [aggregate_id, { by: subscription }, derivedId(id, subscription)]);
            await client.query('COMMIT');
        } catch (error) {
            await client.query('ROLLBACK').catch(() => {});
            throw error;
        }
    }
    console.log(JSON.stringify({ id, type, aggregate_id, sequence_number: Number(event.sequence_number), payload }));
}

// A UUID of version 5: the same name in the same namespace is the same UUID.
function derivedId(namespace, name) {
    const hash = crypto.createHash('sha1').update(Buffer.from(namespace.replace(/-/g, ''), 'hex')).update(name).digest();
    hash[6] = (hash[6] & 0x0f) | 0x50;
    hash[8] = (hash[8] & 0x3f) | 0x80;
    return hash.toString('hex', 0, 16).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

let batch = [];             // fetched, not handled
let done = [];              // handled, not known to be acknowledged: ids
let deadline = 0;           // the batch is ours until then
let pause = 100;            // ms before the next connection
let idle = 50;              // ms before the next look, if nothing comes: another may have been fetching at that moment
let stopping = false;
let woken = false;
let endWait = () => {};

function wake() { woken = true; idle = 50; endWait(); }

// For a signal, a notification, a lost connection or the time.
async function wait(ms) {
    if (stopping || woken) return;
    let timer;
    await new Promise(resolve => { endWait = resolve; timer = setTimeout(resolve, ms); });
    clearTimeout(timer);
}

// Is it the connection or the server that failed, not the statement?  What the server says has a severity and a SQLSTATE.
function isLost(error) { return !error.severity || /^(08|53|57)/.test(error.code); }

// If the answer is lost, it is asked again: what is acknowledged already does no harm, nor what is no longer ours.
async function acknowledge(client) {
    if (!done.length) return;
    await client.query('SELECT dugong.ack($1, $2, $3)', [subscription, done, NAME]);
    done = [];
}

// Later events of the aggregate go with it: they come again after it, when the pause is over, which doubles each time.
async function refuse(client, event, reason) {
    const key = e => JSON.stringify([e.origin, e.aggregate_type, e.aggregate_id, e.tenant_id]);
    await client.query('SELECT dugong.nack($1, $2, $3, consumer => $4)', [subscription, event.id, reason, NAME]);
    batch = batch.filter(e => key(e) !== key(event));
}

// Handles the batch and acknowledges it.  A lease outlives the connection, so the batch does, too.
async function workOff(client) {
    while (batch.length && !stopping && performance.now() < deadline) {
        const event = batch[0];
        let failure;
        try { await handle(client, event); } catch (error) { failure = error; }
        if (client.lost) throw client.lost;                         // not the event's fault; if it is noticed later, the nack fails
        if (failure) {
            await refuse(client, event, failure.message);
        } else {
            done.push(event.id);
            batch.shift();
        }
        if (done.length >= ACK_EVERY) await acknowledge(client);
    }
    await acknowledge(client);
    if (stopping && batch.length)                                   // others need not wait for the lease's end, nor does it count
        await client.query('SELECT dugong.release($1, consumer => $2)', [subscription, NAME]);
    batch = [];                                                     // no longer ours: delivered again
}

// Until it is to stop, or throws.
async function consume(client) {
    await client.connect();
    client.on('notification', wake);                                // whatever it says: we fetch
    for (const channel of channels) await client.query('LISTEN ' + client.escapeIdentifier(channel));      // first listen, then fetch
    const { rows } = await client.query(`SELECT extract(epoch FROM visibility_timeout)::float8 AS seconds
        FROM dugong.subscription_status WHERE subscription = $1`, [subscription]);
    if (!rows.length) throw Object.assign(new Error(`subscription "${subscription}" does not exist`), { severity: 'ERROR', code: '42704' });
    while (!stopping) {
        await workOff(client);                                      // also what a lost connection left
        woken = false;
        const start = performance.now();
        batch = (await client.query('SELECT * FROM dugong.fetch_events($1, $2, $3)', [subscription, BATCH, NAME])).rows;
        deadline = start + 1000 * rows[0].seconds;
        pause = 100;
        if (batch.length) {
            idle = 50;
        } else {
            const ms = idle;
            idle = Math.min(idle * 2, POLL);                        // a notification sets it back
            await wait(ms);
        }
        if (client.lost) throw client.lost;
    }
    await workOff(client);
}

async function main() {
    for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => { stopping = true; wake(); });
    while (!stopping) {
        const client = new Client({ user: process.env.PGUSER || os.userInfo().username, fallback_application_name: 'dugong consumer',
            keepAlive: true, connectionTimeoutMillis: 10000 });
        client.on('error', error => { client.lost = client.lost || error; wake(); });      // when no query waits for an answer
        let failure;
        try { await consume(client); } catch (error) { failure = error; }
        client.end().catch(() => {});
        if (!failure) return;
        if (!isLost(failure)) throw failure;
        console.error(`${failure.message}; again in ${pause / 1000} s`);
        client.removeAllListeners('error').on('error', () => {});
        woken = false;
        await wait(pause);
        pause = Math.min(pause * 2, 10000);
    }
}

if (!subscription) {
    console.error('usage: node consumer.js SUBSCRIPTION [CHANNEL...]');
    process.exitCode = 2;
} else {
    main().catch(error => { console.error(error.message); process.exitCode = 1; });
}
