-- Subscriptions: creating, fetching, acknowledging, giving back, dead letters, order per aggregate, and who may.
BEGIN;
SELECT no_plan();
\ir helpers.psql

SELECT dugong.create_aggregate_type('Thing');
SELECT dugong.create_aggregate_type('Other');
SELECT dugong.create_aggregate_type('Twice', origin => 'a', external => false);
SELECT dugong.create_aggregate_type('Twice', origin => 'b', external => false);

-- The aggregate of a letter.
CREATE FUNCTION pg_temp.thing(letter text) RETURNS uuid LANGUAGE sql IMMUTABLE
AS $$ SELECT ('00000000-0000-4000-8000-' || lpad(ascii(letter)::text, 12, '0'))::uuid $$;
CREATE FUNCTION pg_temp.letter(thing uuid) RETURNS text LANGUAGE sql IMMUTABLE
AS $$ SELECT chr(right(thing::text, 12)::int) $$;

-- Appends to it.
CREATE FUNCTION pg_temp.append(thing text, type text DEFAULT 'Happened', aggregate_type text DEFAULT 'Thing', tenant text DEFAULT NULL) RETURNS bigint LANGUAGE sql
AS $$ SELECT position FROM dugong.append_event(aggregate_type, pg_temp.thing(thing), type, tenant_id => tenant) $$;

-- What a fetch returns: letters and sequence numbers, in their order.
CREATE FUNCTION pg_temp.fetched(subscription text, max_events int DEFAULT 100) RETURNS text LANGUAGE sql
AS $$ SELECT coalesce(string_agg(pg_temp.letter(e.aggregate_id) || e.sequence_number || CASE e.tenant_id WHEN '' THEN '' ELSE '@' || e.tenant_id END, ' ' ORDER BY e.ordinality), '')
    FROM dugong.fetch_events(subscription, max_events) WITH ORDINALITY AS e $$;

-- The id of an event of a Thing.
CREATE FUNCTION pg_temp.event(thing text, number bigint) RETURNS uuid LANGUAGE sql
AS $$ SELECT id FROM dugong.domain_events WHERE aggregate_type = 'Thing' AND aggregate_id = pg_temp.thing(thing) AND tenant_id = '' AND sequence_number = number $$;

CREATE FUNCTION pg_temp.acked(subscription text, VARIADIC names text[]) RETURNS bigint LANGUAGE sql
AS $$ SELECT dugong.ack(subscription, ARRAY(SELECT pg_temp.event(left(n, 1), substr(n, 2)::bigint) FROM unnest(names) n)) $$;

CREATE FUNCTION pg_temp.status(name text) RETURNS text LANGUAGE sql
AS $$ SELECT format('waiting %s, leased %s, retrying %s, dead %s', waiting, leased, retrying, dead_letters) FROM dugong.subscription_status WHERE subscription = name $$;

CREATE FUNCTION pg_temp.registered(subscription text) RETURNS text LANGUAGE sql
AS $$ SELECT concat_ws(' ', kind, mode, state, 'from', start_position, types, visibility_timeout, cardinality(aggregate_type_ids)) FROM dugong.projections p WHERE p.name = subscription $$;

CREATE FUNCTION on_event(dugong.domain_event) RETURNS void LANGUAGE sql AS 'SELECT';

-- Creating
SELECT lives_ok($$ SELECT dugong.create_subscription('plain', '{Thing}') $$, 'create');
SELECT is(pg_temp.registered('plain'), 'subscription async running from 0 00:00:30 1', 'the defaults');
SELECT lives_ok($$ SELECT dugong.create_subscription(name => 'all', aggregate_types => '{Twice,Twice}', types => '{Happened,Gone}', start_position => 7,
    visibility_timeout => '1.5s', origin => 'b') $$, 'every argument by name');
SELECT is(pg_temp.registered('all'), 'subscription async running from 7 {Happened,Gone} 00:00:01.5 1', 'all that was said');
SELECT lives_ok($$ SELECT dugong.create_subscription(repeat('x', 52), '{Thing}') $$, 'a name of 52 bytes');
SELECT is((SELECT owner FROM dugong.projections WHERE name = 'plain'), current_user::text, 'the creator owns it');
SELECT ok(NOT EXISTS (SELECT FROM dugong.projection_status WHERE projection = 'plain'), 'it is not among the projections');
SELECT ok(EXISTS (SELECT FROM dugong.subscription_status WHERE subscription = 'plain' AND state = 'running' AND visibility_timeout = '30s'), 'but among the subscriptions');
SELECT ok(NOT EXISTS (SELECT FROM dugong.subscription_status WHERE subscription = 'bank_account'), 'where no projection is');
SELECT pg_temp.refused(code, command) FROM (VALUES
    ('22004', $$ SELECT dugong.create_subscription(NULL, '{Thing}') $$),
    ('22023', $$ SELECT dugong.create_subscription('', '{Thing}') $$),
    ('42622', $$ SELECT dugong.create_subscription(repeat('x', 53), '{Thing}') $$),
    ('42710', $$ SELECT dugong.create_subscription('plain', '{Thing}') $$),
    ('42710', $$ SELECT dugong.create_subscription('bank_account', '{Thing}') $$),
    ('22004', $$ SELECT dugong.create_subscription('s', NULL) $$),
    ('22023', $$ SELECT dugong.create_subscription('s', '{}') $$),
    ('22004', $$ SELECT dugong.create_subscription('s', '{Thing,NULL}') $$),
    ('42704', $$ SELECT dugong.create_subscription('s', '{Nothing}') $$),
    ('42704', $$ SELECT dugong.create_subscription('s', '{Thing}', origin => 'Nobody') $$),
    ('42P08', $$ SELECT dugong.create_subscription('s', '{Twice}') $$),
    ('22023', $$ SELECT dugong.create_subscription('s', '{Thing}', types => '{}') $$),
    ('22004', $$ SELECT dugong.create_subscription('s', '{Thing}', types => '{Happened,NULL}') $$),
    ('22023', $$ SELECT dugong.create_subscription('s', '{Thing}', start_position => -1) $$),
    ('22004', $$ SELECT dugong.create_subscription('s', '{Thing}', visibility_timeout => NULL) $$),
    ('22023', $$ SELECT dugong.create_subscription('s', '{Thing}', visibility_timeout => '0') $$),
    ('22023', $$ SELECT dugong.create_subscription('s', '{Thing}', visibility_timeout => '-1s') $$),
    ('22023', $$ SELECT dugong.create_subscription('s', '{Thing}', visibility_timeout => '100000 years') $$),
    -- what is a projection
    ('42710', $$ SELECT dugong.create_projection('plain', 'Thing', event_handler => 'on_event(dugong.domain_event)') $$),
    ('42809', $$ SELECT dugong.drop_projection('plain') $$),
    ('42809', $$ SELECT dugong.drop_subscription('bank_account') $$),
    ('42704', $$ SELECT * FROM dugong.fetch_events('bank_account') $$),
    ('42704', $$ SELECT dugong.ack('bank_account', '{}') $$),
    ('42704', $$ SELECT dugong.nack('bank_account', gen_random_uuid()) $$),
    ('42704', $$ CALL dugong.wait_for_events('bank_account') $$),
    -- arguments of the others
    ('22004', $$ SELECT dugong.drop_subscription(NULL) $$),
    ('42704', $$ SELECT dugong.drop_subscription('nothing') $$),
    ('22004', $$ SELECT * FROM dugong.fetch_events(NULL) $$),
    ('42704', $$ SELECT * FROM dugong.fetch_events('nothing') $$),
    ('22004', $$ SELECT * FROM dugong.fetch_events('plain', NULL) $$),
    ('22023', $$ SELECT * FROM dugong.fetch_events('plain', 0) $$),
    ('22023', $$ SELECT * FROM dugong.fetch_events('plain', -1) $$),
    ('22004', $$ SELECT dugong.ack(NULL, '{}') $$),
    ('22004', $$ SELECT dugong.ack('plain', NULL) $$),
    ('42704', $$ SELECT dugong.ack('nothing', '{}') $$),
    ('22004', $$ SELECT dugong.nack(NULL, gen_random_uuid()) $$),
    ('22004', $$ SELECT dugong.nack('plain', NULL) $$),
    ('42704', $$ SELECT dugong.nack('nothing', gen_random_uuid()) $$),
    ('22023', $$ SELECT * FROM dugong.fetch_events('plain', consumer => '') $$),
    ('22023', $$ SELECT dugong.ack('plain', '{}', '') $$),
    ('22023', $$ SELECT dugong.nack('plain', gen_random_uuid(), consumer => '') $$),
    ('22023', $$ SELECT dugong.release('plain', consumer => '') $$),
    ('22004', $$ SELECT dugong.release('plain') $$),
    ('22004', $$ SELECT dugong.release(NULL, '{}') $$),
    ('42704', $$ SELECT dugong.release('nothing', '{}') $$),
    ('42704', $$ SELECT dugong.release('bank_account', '{}') $$),
    ('22004', $$ SELECT dugong.attempts(NULL, gen_random_uuid()) $$),
    ('22004', $$ SELECT dugong.attempts('plain', NULL) $$),
    ('42704', $$ SELECT dugong.attempts('nothing', gen_random_uuid()) $$),
    ('22004', $$ CALL dugong.wait_for_events(NULL) $$),
    ('22004', $$ CALL dugong.wait_for_events('plain', NULL) $$),
    ('42704', $$ CALL dugong.wait_for_events('nothing') $$)) AS bad (code, command);
SELECT is((SELECT count(*) FROM dugong.projections WHERE name = 's'), 0::bigint, 'and none of them is registered');

-- Nothing there
SELECT is(pg_temp.fetched('plain'), '', 'an empty log');
SELECT is(pg_temp.status('plain'), 'waiting 0, leased 0, retrying 0, dead 0', 'nothing is outstanding');

-- Several fetches
SELECT pg_temp.append(x) FROM unnest(string_to_array('a b a a c b', ' ')) x;
SELECT pg_temp.append('a', aggregate_type => 'Other');
SELECT is(pg_temp.fetched('plain', 2), 'a1 b1', 'the first two');
SELECT is(pg_temp.status('plain'), 'waiting 0, leased 2, retrying 0, dead 0', 'they are leased');
SELECT is(pg_temp.fetched('plain', 1), 'c1', 'what is next of an aggregate that nobody has');
SELECT is(pg_temp.fetched('plain'), '', 'the rest waits for its turn');
SELECT is(pg_temp.acked('plain', 'b1'), 1::bigint, 'ack');
SELECT is(pg_temp.fetched('plain'), 'b2', 'lets the next of its aggregate go');
SELECT is(pg_temp.acked('plain', 'a1', 'b2', 'c1'), 3::bigint, 'ack of several');
SELECT is(pg_temp.fetched('plain', 5), 'a2 a3', 'several of one aggregate in one fetch, in their order');
SELECT is(pg_temp.acked('plain', 'a3'), 1::bigint, 'the later one can be acknowledged first');
SELECT is(pg_temp.acked('plain', 'a2'), 1::bigint, 'and the earlier one then');
SELECT is(pg_temp.fetched('plain'), '', 'that was all');
SELECT is((SELECT format('%s %s %s', position = head, lag_events, oldest_lease_ends_at) FROM dugong.subscription_status WHERE subscription = 'plain'), 't 0 ', 'it has read up to the head');
SELECT is((SELECT count(*) FROM dugong.deliveries), 0::bigint, 'nothing stays behind');

-- Acknowledging what is not outstanding
SELECT pg_temp.append('d'), pg_temp.append('d');
SELECT is(pg_temp.acked('plain', 'd1'), 0::bigint, 'ack of what was not read');
SELECT is(pg_temp.fetched('plain', 1), 'd1', 'so it comes');
SELECT pg_temp.append('e');
SELECT is(pg_temp.fetched('plain', 1), 'e1', 'another aggregate, after the second event was read');
SELECT is(pg_temp.acked('plain', 'd2'), 0::bigint, 'ack of what was not fetched');
SELECT is(dugong.nack('plain', pg_temp.event('d', 2)), false, 'nor can it be given back');
SELECT is(pg_temp.acked('plain', 'd1', 'd1', 'a1', 'e1'), 2::bigint, 'twice in one call, and acknowledged before');
SELECT is(pg_temp.acked('plain', 'd1'), 0::bigint, 'twice');
SELECT is(dugong.nack('plain', pg_temp.event('d', 1)), false, 'nack after ack');
SELECT is(dugong.ack('plain', '{}'), 0::bigint, 'ack of nothing');
SELECT is(dugong.ack('plain', ARRAY[NULL]::uuid[]), 0::bigint, 'ack of null values');
SELECT is(dugong.ack('plain', ARRAY[gen_random_uuid(), NULL]), 0::bigint, 'ack of what is unknown');
SELECT is(dugong.nack('plain', gen_random_uuid()), false, 'nack of what is unknown');
SELECT is(pg_temp.fetched('plain'), 'd2', 'all of this has lost nothing');
SELECT is(dugong.ack('plain', ARRAY[[pg_temp.event('d', 2), NULL], [NULL::uuid, NULL]]), 1::bigint, 'an array of two dimensions');

-- Another subscription has its own place
SELECT dugong.create_subscription('second', '{Thing}');
SELECT is(pg_temp.fetched('second', 3), 'a1 b1 a2', 'another subscription begins at the beginning');
SELECT is(dugong.ack('plain', ARRAY[pg_temp.event('a', 1)]), 0::bigint, 'what it has fetched is not the first one''s');
SELECT is(pg_temp.fetched('plain'), '', 'nor does it come there');
SELECT is(dugong.ack('second', ARRAY[pg_temp.event('a', 1)]), 1::bigint, 'it acknowledges');

-- From now on, and from a position
SELECT dugong.create_subscription('late', '{Thing}', start_position => pg_temp.append('f'));
SELECT pg_temp.append('f');
SELECT is(pg_temp.fetched('late'), 'f2', 'what comes after the start position');
SELECT is(pg_temp.acked('plain', 'f1') + pg_temp.acked('late', 'f1'), 0::bigint, 'the one before is not outstanding');

-- Giving back
SELECT is(pg_temp.fetched('plain'), 'f1 f2', 'two of an aggregate');
SELECT is(dugong.nack('plain', pg_temp.event('f', 1), retry_after => '0'), true, 'nack');
SELECT is(pg_temp.status('plain'), 'waiting 1, leased 0, retrying 1, dead 0', 'the later one was given back with it');
SELECT is(pg_temp.acked('plain', 'f2'), 0::bigint, 'so it is not outstanding');
SELECT is(pg_temp.fetched('plain'), 'f1', 'what was delivered before comes alone');
SELECT is(dugong.nack('plain', pg_temp.event('f', 1), retry_after => '0'), true, 'once more');
SELECT is(pg_temp.acked('plain', 'f1'), 1::bigint, 'what was given back can be acknowledged all the same');
SELECT is(pg_temp.fetched('plain'), 'f2', 'and the next one comes');
SELECT is(dugong.nack('plain', pg_temp.event('f', 2), 'not now', '150 ms'), true, 'with a time');
SELECT is(pg_temp.fetched('plain'), '', 'retry_after is not over');
SELECT is((SELECT reason FROM dugong.deliveries WHERE subscription = 'plain' AND event_id = pg_temp.event('f', 2)), 'not now', 'the reason is kept');
SELECT is(dugong.nack('plain', pg_temp.event('f', 2), 'not now', '150 ms'), true, 'again');
SELECT pg_temp.append('f'), pg_temp.append('g'), pg_temp.append('g');
SELECT is(pg_temp.fetched('plain'), 'g1 g2', 'a later one of its aggregate waits behind it, others do not');
SELECT pg_sleep(0.17);
SELECT is(pg_temp.fetched('plain'), 'f2', 'retry_after is over');
SELECT is(dugong.nack('plain', event_id => pg_temp.event('g', 2), reason => NULL, retry_after => '-1 day'), true, 'nack of the later one; a time that is over');
SELECT is(pg_temp.fetched('plain'), '', 'the earlier one is still leased');
SELECT is(pg_temp.acked('plain', 'f2', 'g1'), 2::bigint, 'done');
SELECT is(pg_temp.fetched('plain'), 'f3 g2', 'now it comes');
SELECT is(dugong.nack(subscription => 'plain', event_id => pg_temp.event('f', 3), reason => 'no', retry_after => NULL, consumer => NULL), true, 'every argument by name');
SELECT is((SELECT date_trunc('second', retry_at - failed_at) FROM dugong.outstanding_events WHERE event_id = pg_temp.event('f', 3) AND subscription = 'plain'), '1 s', 'by itself it comes again after dugong.retry_pause');
SELECT dugong.nack('plain', pg_temp.event('f', 3), retry_after => '0');
SELECT pg_temp.fetched('plain');
SELECT dugong.nack('plain', pg_temp.event('f', 3));
SELECT is((SELECT date_trunc('second', retry_at - failed_at) FROM dugong.outstanding_events WHERE event_id = pg_temp.event('f', 3) AND subscription = 'plain'), '2 s', 'which doubles');
SELECT is(pg_temp.acked('plain', 'f3', 'g2'), 2::bigint, 'done');

-- Visibility timeout
SELECT dugong.create_subscription('quick', '{Thing}', start_position => (SELECT max(position) FROM dugong.event_log), visibility_timeout => '100 ms');
SELECT pg_temp.append('h'), pg_temp.append('h'), pg_temp.append('i');
SELECT is(pg_temp.fetched('quick', 1), 'h1', 'fetched');
SELECT is(pg_temp.fetched('quick', 1), 'i1', 'another');
SELECT is(pg_temp.acked('quick', 'i1'), 1::bigint, 'which is acknowledged in time');
SELECT pg_sleep(0.11);
SELECT is(pg_temp.status('quick'), 'waiting 1, leased 0, retrying 1, dead 0', 'the lease has ended');
SELECT is(pg_temp.fetched('quick'), 'h1', 'it is delivered again');
SELECT pg_sleep(0.11);
SELECT is(pg_temp.acked('quick', 'h1'), 1::bigint, 'acknowledged too late, but before it was delivered again');
SELECT is(pg_temp.fetched('quick'), 'h2', 'so it does not come again');
SELECT is(pg_temp.acked('quick', 'h2'), 1::bigint, 'done');

-- Dead letters
SELECT is(current_setting('dugong.max_attempts'), '8', 'an event is delivered eight times');
SELECT pg_temp.append('j'), pg_temp.append('j'), pg_temp.append('k');
SELECT pg_temp.fetched('plain');
SELECT is(pg_temp.acked('plain', 'h1', 'h2', 'i1', 'k1'), 4::bigint, 'the others are done');
CREATE FUNCTION pg_temp.refuse(times int) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1 .. times LOOP
        IF i > 1 THEN
            PERFORM pg_temp.fetched('plain', 1);
        END IF;
        PERFORM dugong.nack('plain', pg_temp.event('j', 1), 'no ' || i, '0');
    END LOOP;
    RETURN pg_temp.fetched('plain');
END $$;
SELECT is(pg_temp.refuse(7), 'j1', 'refused seven times it is delivered again');
SELECT is(pg_temp.refuse(1), '', 'refused eight times it is not, nor what is behind it');
SELECT is(pg_temp.status('plain'), 'waiting 1, leased 0, retrying 0, dead 1', 'a dead letter');
SELECT is((SELECT format('%s %s %s %s', aggregate_type, pg_temp.letter(aggregate_id), given_up, message) FROM dugong.dead_letters WHERE projection = 'plain'), 'Thing j t no 1', 'dead_letters shows it');
SELECT is(dugong.nack('plain', pg_temp.event('j', 1)), false, 'it cannot be given back');
SELECT is(dugong.retry_dead_letters('plain', pg_temp.thing('k')), 0::bigint, 'none of another aggregate');
SELECT is(dugong.retry_dead_letters('second'), 0::bigint, 'none of another subscription');
SELECT is(dugong.retry_dead_letters('plain', pg_temp.thing('j')), 1::bigint, 'retry_dead_letters');
SELECT is(pg_temp.status('plain'), 'waiting 2, leased 0, retrying 0, dead 0', 'it waits again');
SELECT is(pg_temp.fetched('plain'), 'j1 j2', 'and is delivered with what waited');
SELECT is(pg_temp.refuse(8), '', 'eight times more');
SELECT is(dugong.discard_dead_letter('plain', pg_temp.thing('k')), 0::bigint, 'none of another aggregate to discard');
SELECT is(dugong.discard_dead_letter('plain', pg_temp.thing('j'), 'somebody'), 0::bigint, 'nor of another tenant');
SELECT is(dugong.discard_dead_letter('plain', pg_temp.thing('j')), 2::bigint, 'discard_dead_letter: with what waited behind it');
SELECT is(pg_temp.fetched('plain'), '', 'nothing of it comes');
-- Leases that end count as attempts, too
SELECT dugong.create_subscription('careless', '{Thing}', start_position => pg_temp.append('l'), visibility_timeout => '1 ms');
SELECT pg_temp.append('l'), pg_temp.append('l');
CREATE FUNCTION pg_temp.neglect() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    fetches text[];
BEGIN
    FOR i IN 1 .. 10 LOOP
        fetches := fetches || pg_temp.fetched('careless', 1);
        PERFORM pg_sleep(0.003);
    END LOOP;
    RETURN array_to_string(fetches, ',');
END $$;
SELECT is(pg_temp.neglect(), 'l2,l2,l2,l2,l2,l2,l2,l2,,', 'what is never acknowledged is delivered eight times, and then nothing of its aggregate');
SELECT is((SELECT message FROM dugong.dead_letters WHERE projection = 'careless'), NULL, 'nobody has said why');

-- Filters
SELECT dugong.create_subscription('some', '{Thing,Other}', types => '{Wanted}', start_position => pg_temp.append('m'));
SELECT pg_temp.append('m'), pg_temp.append('m', 'Wanted'), pg_temp.append('m'), pg_temp.append('n', 'Wanted', 'Other'), pg_temp.append('m', 'Wanted');
SELECT is(pg_temp.fetched('some'), 'm3 n1 m5', 'only these event types, of these aggregate types');
SELECT is(pg_temp.acked('some', 'm2'), 0::bigint, 'others are not outstanding');
SELECT lives_ok($$ SELECT dugong.alter_subscription('some', types => '{Happened}') $$, 'alter_subscription');
SELECT pg_temp.append('m', 'Wanted'), pg_temp.append('m', 'Happened');
SELECT is(pg_temp.acked('some', 'm3', 'm5'), 2::bigint, 'what was fetched before stays outstanding');
SELECT is(pg_temp.fetched('some'), 'm7', 'what is read from now on is of the new types');
SELECT pg_temp.refused(code, command) FROM (VALUES
    ('42809', $$ SELECT dugong.alter_projection('some', types => '{Happened}') $$),
    ('42809', $$ SELECT dugong.alter_projection('some', mode => 'inline') $$),
    ('42809', $$ SELECT dugong.alter_subscription('bank_account', types => '{Happened}') $$),
    ('42704', $$ SELECT dugong.alter_subscription('nothing') $$),
    ('22004', $$ SELECT dugong.alter_subscription('some', types => '{NULL}') $$),
    ('22023', $$ SELECT dugong.alter_subscription('some', visibility_timeout => '-1s') $$),
    ('22023', $$ SELECT dugong.alter_subscription('some', visibility_timeout => '1 month -29 days') $$),
    ('42809', $$ CALL dugong.wait_for_projection('some') $$),
    ('55000', $$ CALL dugong.rebuild_projection('some') $$)) AS bad (code, command);
-- The same id in two aggregate types, and for two tenants, is several aggregates
SELECT dugong.create_subscription('tenants', '{Thing,Other}', start_position => pg_temp.append('o'));
SELECT pg_temp.append('p'), pg_temp.append('p', tenant => 'x'), pg_temp.append('p', aggregate_type => 'Other'), pg_temp.append('p', tenant => 'x'), pg_temp.append('p');
SELECT is(pg_temp.fetched('tenants', 1), 'p1', 'the first');
SELECT is(pg_temp.fetched('tenants', 2), 'p1@x p1', 'of another tenant, and of another type');
SELECT is(pg_temp.fetched('tenants'), '', 'the rest is behind them');
SELECT is(pg_temp.acked('tenants', 'p1'), 1::bigint, 'one aggregate''s is done');
SELECT is(pg_temp.fetched('tenants'), 'p2', 'so the next one of that, whatever the others do');

-- Many events that are read but not wanted
SELECT dugong.create_subscription('rare', '{Other}', types => '{Rare}');
SET LOCAL dugong.batch_size = 3;
SELECT pg_temp.append('q', aggregate_type => 'Other') FROM generate_series(1, 10);
SELECT pg_temp.append('q', 'Rare', 'Other');
SELECT is(pg_temp.fetched('rare'), 'q11', 'a fetch reads on until it finds something');
SET LOCAL dugong.batch_size = 1000;

-- Pause, resume, owner
SELECT dugong.create_subscription('paused', '{Thing}', start_position => pg_temp.append('r'));
SELECT pg_temp.append('r'), pg_temp.append('r');
SELECT is(pg_temp.fetched('paused', 1), 'r2', 'one is outstanding');
SELECT lives_ok($$ SELECT dugong.pause_projection('paused') $$, 'pause');
SELECT is(pg_temp.fetched('paused'), '', 'a paused one delivers nothing');
SELECT is(pg_temp.acked('paused', 'r2'), 1::bigint, 'but can be acknowledged');
SELECT is((SELECT state FROM dugong.subscription_status WHERE subscription = 'paused'), 'paused', 'the status says so');
SELECT lives_ok($$ SELECT dugong.resume_projection('paused') $$, 'resume');
SELECT is(pg_temp.fetched('paused'), 'r3', 'it goes on where it was');

-- Waiting
SELECT lives_ok($$ CALL dugong.wait_for_events('paused', '10 ms') $$, 'nothing comes: it returns at the timeout');
SELECT lives_ok($$ CALL dugong.wait_for_events('paused', '0') $$, 'at once');
SELECT lives_ok($$ CALL dugong.wait_for_events('paused', '-1 s') $$, 'and at once');
SELECT lives_ok($$ CALL dugong.wait_for_events(subscription => 'second', timeout => '1h') $$, 'something is there');

SELECT is(pg_temp.answer($$ CALL dugong.wait_for_events('second', '1 ms') $$), 'accepted', 'within a function, too');

-- As their types are now
SELECT dugong.create_event_type('Thing', 'Renamed');
SELECT dugong.create_subscription('upcast', '{Thing}', types => '{Renamed}');
SELECT position FROM dugong.append_event('Thing', pg_temp.thing('s'), 'Renamed', '{"name": "old"}', correlation_id => pg_temp.thing('c'), metadata => '{"k": 1}');
SELECT (dugong.fetch_events('upcast')).payload AS before \gset
SELECT is(:'before'::text, '{"name": "old"}', 'the payload');
SELECT dugong.nack('upcast', pg_temp.event('s', 1), retry_after => '0');
CREATE FUNCTION renamed_2(jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE RETURN jsonb_build_object('title', $1 ->> 'name');
SELECT dugong.create_event_type('Thing', 'Renamed', 2, upcast => 'renamed_2(jsonb)');
SELECT is((SELECT format('%s %s %s %s', version, payload, correlation_id = pg_temp.thing('c'), metadata) FROM dugong.fetch_events('upcast')),
    '2 {"title": "old"} t {"k": 1}', 'delivered again it is of the new version');
SELECT dugong.ack('upcast', ARRAY[pg_temp.event('s', 1)]);
SELECT is(f::text, d::text, 'what is fetched is what the log shows') FROM (SELECT f FROM dugong.fetch_events('second', 1) f) x JOIN LATERAL (SELECT d FROM dugong.domain_events d WHERE d.id = (f).id) y ON true;
-- An upcast that fails is as if the event were refused: others go on, and it becomes a dead letter
SELECT pg_temp.append('s', 'Renamed'), pg_temp.append('u', 'Renamed'), pg_temp.append('s', 'Renamed'), pg_temp.append('u', 'Renamed');
CREATE FUNCTION renamed_3(jsonb) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN IF $1 ->> 'title' = 'bad' THEN RAISE 'no title' USING ERRCODE = 'P0099'; END IF; RETURN $1; END $$;
SELECT position FROM dugong.append_event('Thing', pg_temp.thing('s'), 'Renamed', '{"title": "bad"}');
SELECT pg_temp.append('s', 'Renamed'), pg_temp.append('v', 'Renamed');
SELECT dugong.create_event_type('Thing', 'Renamed', 3, upcast => 'renamed_3(jsonb)');
SELECT is(pg_temp.fetched('upcast'), 's2 u1 s3 u2 v1', 'what comes before it and other aggregates are delivered');
SELECT is((SELECT string_agg(concat_ws(' ', sequence_number, state, attempts, reason), ',' ORDER BY position) FROM dugong.outstanding_events WHERE subscription = 'upcast' AND sequence_number > 3),
    '4 retrying 1 no title,5 waiting 0', 'it is tried again later, with what is behind it');
SELECT is(pg_temp.acked('upcast', 's2', 's3', 'u1', 'u2', 'v1'), 5::bigint, 'they are acknowledged');
UPDATE dugong.deliveries SET retry_at = NULL WHERE subscription = 'upcast';
SELECT is(pg_temp.fetched('upcast'), '', 'it fails again');
SELECT pg_temp.append('v', 'Renamed');
UPDATE dugong.deliveries SET retry_at = NULL WHERE subscription = 'upcast';
SELECT is(pg_temp.fetched('upcast', 1), 'v2', 'a fetch goes on to what can be delivered');
UPDATE dugong.deliveries SET retry_at = NULL, attempts = 8 WHERE subscription = 'upcast' AND event_id = pg_temp.event('s', 4);
SELECT is(pg_temp.fetched('upcast'), '', 'in the end nothing of its aggregate comes');
SELECT is((SELECT concat_ws(' ', given_up, sqlstate, message, first_failed_at <= last_failed_at, context LIKE '%upcast of event type "Renamed" from version 2%') FROM dugong.dead_letters WHERE projection = 'upcast'),
    't P0099 no title t t', 'a dead letter, with the error');
SELECT dugong.drop_event_type('Thing', 'Renamed', 3);
SELECT is(dugong.retry_dead_letters('upcast'), 1::bigint, 'when it is mended');
SELECT is(pg_temp.fetched('upcast'), 's4 s5', 'nothing is lost by it');

-- Consumers that have a name
SELECT dugong.create_subscription('shared', '{Thing}', start_position => pg_temp.append('w'), visibility_timeout => '100 ms');
SELECT pg_temp.append('w'), pg_temp.append('w'), pg_temp.append('x'), pg_temp.append('y');
CREATE FUNCTION pg_temp.fetched_by(consumer text, max_events int DEFAULT 100) RETURNS text LANGUAGE sql
AS $$ SELECT coalesce(string_agg(pg_temp.letter(e.aggregate_id) || e.sequence_number || ' #' || dugong.attempts('shared', e.id), ' ' ORDER BY e.position), '') FROM dugong.fetch_events('shared', max_events, consumer) e $$;
CREATE FUNCTION pg_temp.held() RETURNS text LANGUAGE sql
AS $$ SELECT string_agg(concat_ws(' ', pg_temp.letter(aggregate_id) || sequence_number, state, consumer), ', ' ORDER BY position) FROM dugong.outstanding_events WHERE subscription = 'shared' $$;
SELECT is(pg_temp.fetched_by('one', 3), 'w2 #1 w3 #1 x1 #1', 'one fetches, and sees which attempt it is');
SELECT is(pg_temp.fetched_by(NULL), 'y1 #1', 'so does one without a name');
SELECT is(pg_temp.held(), 'w2 leased one, w3 leased one, x1 leased one, y1 leased', 'outstanding_events shows who has what');
SELECT is(dugong.ack('shared', ARRAY[pg_temp.event('y', 1)], 'one'), 0::bigint, 'what another has is not acknowledged');
SELECT is(dugong.nack('shared', pg_temp.event('x', 1), consumer => 'other'), false, 'nor given back');
SELECT is(dugong.release('shared', ARRAY[pg_temp.event('x', 1)], 'other'), 0::bigint, 'nor released');
SELECT is(dugong.ack('shared', ARRAY[pg_temp.event('x', 1)], 'one'), 1::bigint, 'its own is');
SELECT is(dugong.ack('shared', ARRAY[pg_temp.event('y', 1)]), 1::bigint, 'who names no consumer acknowledges anybody''s');
SELECT pg_sleep(0.11);
SELECT is(pg_temp.fetched_by('two'), 'w2 #2', 'when a lease has ended another has its event');
SELECT is(dugong.nack('shared', pg_temp.event('w', 2), consumer => 'one'), false, 'the first cannot take it away');
SELECT is(dugong.ack('shared', ARRAY[pg_temp.event('w', 2)], 'one'), 0::bigint, 'nor acknowledge it');
SELECT is(dugong.ack('shared', ARRAY[pg_temp.event('w', 3)], 'one'), 1::bigint, 'but what nobody has fetched since');
SELECT is(pg_temp.held(), 'w2 leased two', 'the second has it still');
SELECT is(dugong.nack('shared', pg_temp.event('w', 2), retry_after => '0', consumer => 'two'), true, 'and refuses it');
SELECT is(pg_temp.held(), 'w2 retrying', 'it is nobody''s');
SELECT is(dugong.ack('shared', ARRAY[pg_temp.event('w', 2)], 'two'), 0::bigint, 'nor does it belong to who has refused it');

-- Giving back without counting
SELECT pg_temp.append('w'), pg_temp.append('z'), pg_temp.append('z'), pg_temp.append('z');
SELECT is(dugong.alter_subscription('shared', visibility_timeout => '1h')::text, '', 'a longer lease');
SELECT is(pg_temp.fetched_by('three', 3), 'w2 #3', 'delivered for the third time');
SELECT is(pg_temp.fetched_by('three'), 'z1 #1 z2 #1 z3 #1', 'and others for the first');
SELECT is((SELECT leased_until > now() + interval '50 min' FROM dugong.outstanding_events WHERE subscription = 'shared' AND event_id = pg_temp.event('z', 1)), true, 'for an hour');
SELECT is(dugong.release('shared', ARRAY[pg_temp.event('z', 2), NULL, gen_random_uuid()], 'three'), 2::bigint, 'release: with it the later ones of its aggregate');
SELECT is(dugong.release('shared', ARRAY[pg_temp.event('z', 2)], 'three'), 0::bigint, 'once');
SELECT is(dugong.release('shared', '{}', 'three'), 0::bigint, 'nothing');
SELECT is(pg_temp.held(), 'w2 leased three, w4 waiting, z1 leased three, z2 waiting, z3 waiting', 'what is released waits');
SELECT is(dugong.release('shared', consumer => 'three'), 2::bigint, 'all that a consumer holds');
SELECT is(pg_temp.fetched_by('four'), 'w2 #3 z1 #1 z2 #1 z3 #1', 'it has not counted');
SELECT is(dugong.release('shared', ARRAY[pg_temp.event('z', 1)]), 3::bigint, 'without a name: anybody''s');
SELECT is(dugong.attempts('shared', pg_temp.event('z', 1)), 0, 'as if not delivered');
SELECT is(dugong.attempts('shared', pg_temp.event('y', 1)), NULL, 'what is acknowledged has no attempts');
SELECT is(dugong.ack('shared', ARRAY[pg_temp.event('z', 1)]), 0::bigint, 'so it cannot be acknowledged');

-- What waits behind a dead letter does not keep others back
SELECT dugong.create_subscription('crowd', '{Thing}', start_position => pg_temp.append('A'));
SELECT pg_temp.append('A'), pg_temp.append('B');
SELECT is(pg_temp.fetched('crowd'), 'A2 B1', 'two aggregates');
SELECT is(pg_temp.acked('crowd', 'B1'), 1::bigint, 'one of them is done');
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) SELECT 'Thing', pg_temp.thing('A'), 'Happened' FROM generate_series(1, 10500);
SELECT pg_temp.append('C');
SELECT is(pg_temp.fetched('crowd'), '', '10,000 are outstanding: no more are read');
SELECT dugong.nack('crowd', pg_temp.event('A', 2), retry_after => '0');
UPDATE dugong.deliveries SET attempts = 8 WHERE subscription = 'crowd' AND event_id = pg_temp.event('A', 2);
SELECT is(pg_temp.fetched('crowd'), 'C1', 'when the first of them is a dead letter others go on');

-- consumed_messages
SELECT is((SELECT count(*) FROM dugong.consumed_messages WHERE consumer = 'upcast' AND event_id = pg_temp.event('s', 1)), 1::bigint, 'acknowledged is consumed');
SELECT is((SELECT count(*) FROM dugong.consumed_messages WHERE consumer = 'upcast' AND event_id = pg_temp.event('s', 4)), 0::bigint, 'fetched is not');

-- Read only
SAVEPOINT s;
SET TRANSACTION READ ONLY;
SELECT is(pg_temp.answer($$ SELECT * FROM dugong.fetch_events('plain') $$), '25006', 'fetch in a read-only transaction');
SELECT is(pg_temp.answer($$ SELECT dugong.ack('plain', '{}') $$), '25006', 'ack in a read-only transaction');
SELECT is(pg_temp.answer($$ SELECT dugong.nack('plain', gen_random_uuid()) $$), '25006', 'nack in a read-only transaction');
SELECT is(pg_temp.answer($$ SELECT dugong.release('plain', '{}') $$), '25006', 'release in a read-only transaction');
ROLLBACK TO s;

-- Who may
CREATE ROLE consumer_owner;
CREATE ROLE consumer_member IN ROLE consumer_owner;
CREATE ROLE consumer_stranger;
GRANT USAGE ON SCHEMA dugong TO consumer_owner, consumer_stranger;
SELECT ok(NOT has_function_privilege('consumer_stranger', f, 'EXECUTE'), f || ' is nobody''s')
FROM unnest('{"dugong.create_subscription(text, text[], text[], bigint, interval, text)", dugong.drop_subscription(text), "dugong.fetch_events(text, int, text)", "dugong.alter_subscription(text, text[], interval, regrole)", "dugong.release(text, uuid[], text)", "dugong.attempts(text, uuid)",
    "dugong.ack(text, uuid[], text)", "dugong.nack(text, uuid, text, interval, text)", "dugong.wait_for_events(text, interval)"}'::text[]) f;
SELECT ok(NOT has_table_privilege('consumer_stranger', t, 'SELECT'), t || ' is nobody''s') FROM unnest('{dugong.deliveries,dugong.subscription_status,dugong.outstanding_events}'::text[]) t;
GRANT EXECUTE ON FUNCTION dugong.create_subscription, dugong.drop_subscription, dugong.fetch_events, dugong.ack, dugong.nack, dugong.pause_projection, dugong.retry_dead_letters,
    dugong.discard_dead_letter, dugong.alter_subscription, dugong.release, dugong.attempts TO consumer_owner, consumer_stranger;
GRANT EXECUTE ON PROCEDURE dugong.wait_for_events TO consumer_owner, consumer_stranger;
GRANT SELECT ON dugong.subscription_status TO consumer_owner;
SELECT dugong.create_subscription('owned', '{Thing}', start_position => pg_temp.append('t'));
SELECT pg_temp.append('t'), pg_temp.append('t');
SELECT pg_temp.event('t', 2) AS event \gset
SELECT lives_ok($$ SELECT dugong.alter_subscription('owned', owner => 'consumer_owner') $$, 'another owner');
CREATE FUNCTION pg_temp.as_role(role text, command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE format('SET LOCAL ROLE %I', role);
    answer := pg_temp.answer(command);
    RESET ROLE;
    RETURN answer;
END $$;
SELECT is(pg_temp.as_role('consumer_stranger', command), '42501', 'a stranger: ' || command) FROM (VALUES
    ($$SELECT * FROM dugong.fetch_events('owned')$$),
    ($$SELECT dugong.ack('owned', '{}')$$),
    ($$SELECT dugong.nack('owned', gen_random_uuid())$$),
    ($$SELECT dugong.release('owned', consumer => 'x')$$),
    ($$SELECT dugong.attempts('owned', gen_random_uuid())$$),
    ($$CALL dugong.wait_for_events('owned', '1 ms')$$),
    ($$SELECT dugong.drop_subscription('owned')$$),
    ($$SELECT dugong.pause_projection('owned')$$),
    ($$SELECT dugong.retry_dead_letters('owned')$$),
    ($$SELECT dugong.alter_subscription('owned', owner => 'consumer_stranger')$$),
    ($$SELECT dugong.discard_dead_letter('owned', gen_random_uuid())$$)) AS c (command);
SELECT is(pg_temp.as_role('consumer_owner', command), 'accepted', 'the owner: ' || command) FROM (VALUES
    ($$CALL dugong.wait_for_events('owned', '1h')$$),
    ($$SELECT 1 / count(*) FROM dugong.fetch_events('owned', 1)$$),
    (format($$SELECT 1 / dugong.attempts('owned', %L)$$, :'event')),
    (format($$SELECT 1 / dugong.release('owned', ARRAY[%L]::uuid[])$$, :'event')),
    ($$SELECT 1 / count(*) FROM dugong.fetch_events('owned', 1)$$),
    (format($$SELECT 1 / dugong.nack('owned', %L, retry_after => '0')::int$$, :'event')),
    ($$SELECT 1 / count(*) FROM dugong.fetch_events('owned', 2)$$),
    (format($$SELECT 1 / dugong.ack('owned', ARRAY[%L]::uuid[])$$, :'event')),
    ($$SELECT 1 / count(*) FROM dugong.subscription_status WHERE subscription = 'owned' AND leased = 0$$),
    ($$SELECT dugong.retry_dead_letters('owned')$$)) AS c (command);
SELECT is(pg_temp.as_role('consumer_member', $$SELECT * FROM dugong.fetch_events('owned')$$), 'accepted', 'a member of the owner''s role');
SELECT is(pg_temp.as_role('consumer_member', $$SELECT dugong.drop_subscription('owned')$$), 'accepted', 'drops it');
SELECT is(pg_temp.as_role('consumer_owner', $$SELECT dugong.create_subscription('mine', '{Thing}')$$), 'accepted', 'whoever may execute it creates one');
SELECT is((SELECT owner FROM dugong.projections WHERE name = 'mine'), 'consumer_owner', 'and owns it');

-- Dropping
SELECT is(pg_temp.fetched('second', 1) <> '', true, 'something is outstanding');
SELECT lives_ok($$ SELECT dugong.drop_subscription('second') $$, 'drop');
SELECT is((SELECT count(*) FROM dugong.deliveries WHERE subscription = 'second'), 0::bigint, 'with what is outstanding');
SELECT is((SELECT count(*) FROM dugong.checkpoints WHERE projection = 'second'), 0::bigint, 'and its checkpoint');
SELECT is(pg_temp.answer($$ SELECT * FROM dugong.fetch_events('second') $$), '42704', 'it is gone');
SELECT lives_ok($$ SELECT dugong.create_subscription('second', '{Thing}') $$, 'the name can be used again');
SELECT is(pg_temp.fetched('second', 2), 'a1 b1', 'from the beginning');
SELECT dugong.create_subscription('of another', '{Twice}', origin => 'b');
SELECT dugong.drop_subscription('all');
SELECT pg_temp.refused('2BP01', $$ SELECT dugong.drop_aggregate_type('Twice', 'b') $$);
SELECT dugong.drop_subscription('of another');
SELECT lives_ok($$ SELECT dugong.drop_aggregate_type('Twice', 'b') $$, 'its type can be dropped with it');

SELECT finish();
ROLLBACK;
