# Everything in dugong that works, on things, accounts and an old table: for tests that disturb it.
package Deeds;

use strict;
use warnings;

use Exporter 'import';
use Dugong;
use Things;

our @EXPORT = qw(create_deeds %atomic %gradual one_of);

sub one_of { return $_[ int rand @_ ]; }

# What they work on: fifteen things, of which one has so many events.  digest() says what is in all tables.
sub create_deeds
{
	my ($node, $db, $long) = @_;

	$node->safe_psql($db, 'CREATE EXTENSION dugong');
	create_things($node, $db);
	$node->safe_psql($db, <<~SQL . <<~'SQL2');
		CREATE TABLE inline_model (id uuid, tenant_id text, n int, total numeric, PRIMARY KEY (id, tenant_id));
		SELECT dugong.create_projection('inline', 'Thing', 'inline_model', mode => 'inline');
		CREATE FUNCTION ignore(e dugong.domain_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
		CREATE TABLE secret_model (id uuid, tenant_id text, n int, PRIMARY KEY (id, tenant_id));
		SELECT dugong.create_aggregate_type('Secret', fold => 'thing_fold(dugong.domain_event)');
		SELECT dugong.create_projection('secrets', 'Secret', 'secret_model');
		SELECT dugong.declare_tags('Thing', 'Changed', '{"by": "by"}');
		SELECT dugong.create_subscription('mail', '{Thing}', visibility_timeout => '1h');
		SELECT bank_open_account('Owner ' || i, 1000000, ('00000001-0000-4000-8000-' || lpad(to_hex(i), 12, '0'))::uuid) FROM generate_series(1, 5) i;
		SELECT count(*) FROM generate_series(1, 15) i, dugong.append_events('Thing', ('00000003-0000-4000-8000-' || lpad(to_hex(i), 12, '0'))::uuid,
		    (SELECT jsonb_agg(jsonb_build_object('type', 'Changed', 'payload', jsonb_build_object('by', n))) FROM generate_series(1, CASE i WHEN 1 THEN $long ELSE 12 END) n));
		CREATE TABLE old_events AS SELECT gen_random_uuid() AS id, 'Old' AS aggregate_type, gen_random_uuid() AS aggregate_id, 1 AS sequence_number, 'Began' AS type,
		    '{"a": 1}'::jsonb AS payload, now() AS timestamp FROM generate_series(1, 300);
		SQL
		CREATE FUNCTION digest() RETURNS text LANGUAGE plpgsql AS $$
		DECLARE
		    relation regclass;
		    one text;
		    every text := '';
		BEGIN
		    FOR relation IN SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r' AND nspname IN ('dugong', 'public') ORDER BY 1 LOOP
		        EXECUTE format('SELECT count(*) || ''/'' || coalesce(sum(hashtextextended(x::text, 0)), 0) FROM %s x', relation) INTO one;
		        every := every || relation || ' ' || one || E'\n';
		    END LOOP;
		    RETURN every;
		END $$;
		SQL2
	return;
}

sub a_thing { return "'" . thing(2 + int rand 14) . "'"; }
sub an_account { return "'" . uuid(1, 1 + int rand 5) . "'"; }

# What is all done, or not at all
our %atomic = (
	deposit => sub { return 'SELECT count(bank_deposit(' . an_account() . ', 1)) FROM generate_series(1, ' . (1 + int rand 300) . ')'; },
	transfer => sub { my $n = 1 + int rand 4; return "SELECT count(bank_transfer('" . uuid(1, $n) . "', '" . uuid(1, $n + 1) . "', 1)) FROM generate_series(1, " . (1 + int rand 100) . ')'; },
	append => sub { return "SELECT count(dugong.append_event('Thing', " . a_thing() . ", 'Changed', '{\"by\": 1}')) FROM generate_series(1, " . (1 + int rand 200) . ')'; },
	append_many => sub { return "SELECT count(*) FROM dugong.append_events('Thing', " . a_thing() . ", (SELECT jsonb_agg(jsonb_build_object('type', 'Changed', 'payload', '{\"by\": 1}'::jsonb)) FROM generate_series(1, 500)))"; },
	append_if => sub { return "SELECT count(dugong.append_event('Thing', " . a_thing() . ", 'Changed', jsonb_build_object('by', i), if_none_match => jsonb_build_object('tags', jsonb_build_object('by', random()::text)))) FROM generate_series(1, 100) i"; },
	insert => sub { return "INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload) SELECT 'Thing', " . a_thing() . ", 'Changed', '{\"by\": 2}' FROM generate_series(1, 300)"; },
	build => sub { return "SELECT dugong.build_aggregate(NULL::thing_state, 'Thing', '" . thing(1) . "'), dugong.drop_snapshots('Thing'), dugong.build_aggregate(NULL::thing_state, 'Thing', '" . thing(1) . "')"; },
	history => sub { return "SELECT count(*) FROM dugong.aggregate_history('Thing', '" . thing(1) . "')"; },
	read => sub { return 'SELECT count(*) FROM dugong.read_events(max_rows => 100000)'; },
	match => sub { return q{SELECT count(*) FROM generate_series(1, 20) i, dugong.read_events_matching(jsonb_build_object('tags', jsonb_build_object('by', i::text)))}; },
	check_types => sub { return 'SELECT count(*) FROM dugong.check_event_types()'; },
	take => sub { return "SELECT dugong.take_snapshot('Thing', id) FROM dugong.aggregate_ids('Thing') id"; },
	verify_snapshots => sub { return "SELECT count(*) FROM dugong.verify_snapshots('Thing')"; },
	verify => sub { return "SELECT count(*) FROM dugong.verify_projection('" . one_of('model', 'inline') . "', repair => " . one_of('true', 'false') . ')'; },
	as_of => sub { return 'SELECT count(*) FROM dugong.query_model_as_of(NULL::thing_model, to_position => 1000)'; },
	erase => sub { return "SELECT count(*) FROM dugong.append_event('Secret', gen_random_uuid(), 'Changed', '{\"by\": 1}') e, dugong.erase_aggregate('Secret', e.aggregate_id, 'asked')"; },
	erase_payload => sub { return "SELECT count(*) FROM dugong.append_event('Secret', " . a_thing() . ", 'Changed', '{\"by\": 1, \"x\": 1}') e, dugong.erase_payload(e.id, '{x}', 'asked')"; },
	fetch => sub { return "SELECT count(*) FROM dugong.fetch_events('mail', " . (1 + int rand 500) . ')'; },
	ack => sub { return "SELECT dugong.ack('mail', ARRAY(SELECT event_id FROM dugong.outstanding_events WHERE leased_until IS NOT NULL LIMIT 100))"; },
	release => sub { return "SELECT dugong.release('mail', ARRAY(SELECT event_id FROM dugong.outstanding_events WHERE leased_until IS NOT NULL))"; },
	mode => sub { return "SELECT dugong.alter_projection('inline', mode => '" . one_of('inline', 'async') . "')"; },
	tags => sub { return q{SELECT dugong.declare_tags('Thing', 'Began', '{"by": "by"}'), dugong.drop_tags('Thing', 'Began')}; },
	create => sub { return "SELECT dugong.create_projection('new', 'Thing', event_handler => 'ignore(dugong.domain_event)', mode => '" . one_of('inline', 'async') . "'), dugong.drop_projection('new')"; },
	receive => sub { return "SELECT count(dugong.receive_message(dugong.to_message(e))) FROM dugong.aggregate_events('Thing', " . a_thing() . ') e'; });
# What commits on the way
our %gradual = (
	run => sub { return 'CALL dugong.run_projections()'; },
	rebuild => sub { return "CALL dugong.rebuild_projection('" . one_of('model', 'copy', 'events', 'inline') . "')"; },
	offline => sub { return "CALL dugong.rebuild_projection('events', offline => true)"; },
	import => sub { return "CALL dugong.import_events('old_events', create_aggregate_types => true, batch_size => 20)"; },
	wait => sub { return "CALL dugong.wait_for_projection('model', '20 ms')"; },
	wait_for_events => sub { return "CALL dugong.wait_for_events('mail', '20 ms')"; });

1;
