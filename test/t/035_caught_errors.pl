# Errors in every kind of users' code, caught in PL/pgSQL thousands of times in one transaction: the memory of the session does not grow,
# no lock is left, and the caller is who he was.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;

my $times = sized(1000, 5000);
my $node = new_server('main', 'dugong.max_workers = 0', 'fsync = off', 'autovacuum = off');

$node->safe_psql('postgres', <<~'SQL');
	CREATE EXTENSION dugong;
	CREATE TYPE state AS (n int);
	CREATE FUNCTION apply(state, e dugong.domain_event) RETURNS state LANGUAGE plpgsql AS $$
	BEGIN
	    IF e.type = 'Wrong' THEN RAISE 'fold' USING ERRCODE = 'P0002'; END IF;
	    RETURN ROW(e.sequence_number::int);
	END $$;
	CREATE AGGREGATE fold(dugong.domain_event) (SFUNC = apply, STYPE = state);
	CREATE FUNCTION upcast(payload jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
	    IF payload ? 'wrong' THEN RAISE 'upcast' USING ERRCODE = 'P0003'; END IF;
	    RETURN payload;
	END $$;
	CREATE FUNCTION fits(n int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN IF n < 0 THEN RAISE ''check'' USING ERRCODE = ''XX111''; END IF; RETURN n < 10; END';
	CREATE DOMAIN small AS int CHECK (fits(VALUE));
	CREATE TYPE sized AS (n small);
	CREATE FUNCTION update_handler(id uuid, s state) RETURNS void LANGUAGE plpgsql AS 'BEGIN IF s.n > 1 THEN RAISE ''handler'' USING ERRCODE = ''P0002''; END IF; END';
	CREATE FUNCTION delete_handler(id uuid) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	CREATE FUNCTION event_handler(e dugong.domain_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE ''event handler'' USING ERRCODE = ''P0003''; END';
	CREATE TABLE narrow (id uuid PRIMARY KEY, n int CHECK (n < 2));
	SELECT dugong.create_aggregate_type(t, fold => 'fold(dugong.domain_event)') FROM unnest('{Folded,Handled,Told,Kept,Later}'::text[]) t;
	SELECT dugong.create_aggregate_type('Cast', fold => 'fold(dugong.domain_event)', snapshot_interval => 0);
	SELECT dugong.create_aggregate_type('Fitted');
	SELECT dugong.append_event('Cast', '00000001-0000-4000-8000-000000000001', 'Old', '{"wrong": 1}');
	SELECT dugong.create_event_type('Cast', 'Old', 2, upcast => 'upcast(jsonb)');
	SELECT dugong.create_event_type('Fitted', 'Sized', 1, payload_type => 'sized');
	SELECT dugong.create_projection('handled', 'Handled', update_handler => 'update_handler(uuid, state)', delete_handler => 'delete_handler(uuid)', mode => 'inline');
	SELECT dugong.create_projection('told', 'Told', event_handler => 'event_handler(dugong.domain_event)', mode => 'inline');
	SELECT dugong.create_projection('kept', 'Kept', 'narrow', mode => 'inline');
	SELECT dugong.create_projection('later', 'Later', event_handler => 'event_handler(dugong.domain_event)');
	SELECT dugong.append_event(t, '00000001-0000-4000-8000-000000000001', 'Began') FROM unnest('{Folded,Handled,Kept,Later}'::text[]) t;
	SELECT dugong.append_event('Folded', '00000001-0000-4000-8000-000000000002', 'Wrong');
	SELECT bank_open_account('Anna', 10, '00000001-0000-4000-8000-000000000001');
	CREATE FUNCTION memory() RETURNS numeric LANGUAGE sql AS 'SELECT sum(total_bytes) FROM pg_backend_memory_contexts';
	-- Does it so often, which must fail like this, in a block of its own; by how much memory grows in the last two thirds.
	CREATE FUNCTION catch(command text, code text, times int, OUT grown numeric, OUT left_behind text) LANGUAGE plpgsql AS $$
	DECLARE
	    before numeric;
	    locks bigint;
	BEGIN
	    PERFORM memory(), count(*) FROM pg_locks;
	    FOR i IN 1 .. times LOOP
	        BEGIN
	            EXECUTE command;
	            RAISE 'done' USING ERRCODE = 'XX000';
	        EXCEPTION WHEN OTHERS THEN
	            IF SQLSTATE <> code THEN RAISE; END IF;
	        END;
	        IF i = times / 3 THEN
	            before := memory();
	            locks := (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid());
	        END IF;
	    END LOOP;
	    grown := memory() - before;
	    left_behind := concat_ws(' ', NULLIF(current_setting('search_path'), '"$user", public'), NULLIF(current_user, session_user),
	        NULLIF((SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()) - locks, 0), CASE WHEN dugong.is_replaying() THEN 'replaying' END);
	END $$;
	SQL

my $one = "'00000001-0000-4000-8000-000000000001'";
my %commands = (
	'a fold, in build_aggregate' => [ "SELECT dugong.build_aggregate(NULL::state, 'Folded', '00000001-0000-4000-8000-000000000002')", 'P0002' ],
	'a fold, for an inline projection' => [ "SELECT dugong.append_event('Handled', $one, 'Wrong')", 'P0002' ],
	'an upcast' => [ "SELECT dugong.build_aggregate(NULL::state, 'Cast', $one)", 'P0003' ],
	'an upcast, in a page of events' => [ 'SELECT count(payload) FROM dugong.read_events()', 'P0003' ],
	'a CHECK that raises' => [ "SELECT dugong.append_event('Fitted', $one, 'Sized', '{\"n\": -1}')", 'XX111' ],
	'a CHECK that refuses' => [ "SELECT dugong.append_event('Fitted', $one, 'Sized', '{\"n\": 11}')", 'UG008' ],
	'a handler of states' => [ "SELECT dugong.append_event('Handled', $one, 'More')", 'P0002' ],
	'a handler of events' => [ "SELECT dugong.append_event('Told', gen_random_uuid(), 'Began')", 'P0003' ],
	'a query model' => [ "SELECT dugong.append_event('Kept', $one, 'More')", '23514' ],
	'a handler, by hand' => [ 'CALL dugong.run_projections()', 'P0003' ],
	'a command' => [ "SELECT bank_withdraw($one, 100)", 'UG004' ],
	'a conflict' => [ "SELECT dugong.append_event('Folded', $one, 'More', expected_sequence_number => 7)", 'UG001' ],
	'an import' => [ "CALL dugong.import_events('pg_class')", '22023' ],
	'an append after many' => [ "SELECT count(*), dugong.append_event('Folded', $one, 'More', expected_sequence_number => 0) FROM generate_series(1, 30) i, dugong.append_event('Folded', gen_random_uuid(), 'Began')", 'UG001' ]);

foreach my $what (sort keys %commands)
{
	my ($command, $code) = @{ $commands{$what} };
	my ($rc, $out, $err) = $node->psql('postgres', 'SELECT grown, left_behind FROM catch($$' . $command . "\$\$, '$code', $times)");
	my ($grown, $left) = split /\|/, $out || '|';

	is($err, '', "$what: fails as it should");
	is($left // '', '', "$what: nothing is left behind");
	cmp_ok($grown || 0, '<', 200_000, "$what: memory does not grow");
	figure("$what, $times times: $grown bytes");
}
is($node->safe_psql('postgres', "SELECT count(*) FROM dugong.event_log"), '7', 'no event is left');
my @warnings = grep { /WARNING: |PANIC|TRAP|leak/ } split /\n/, slurp_file($node->logfile);
is("@warnings", '', 'the log of the server warns of nothing');
done_testing();
