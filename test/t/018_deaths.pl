# A handler that kills the server process: its event is set aside after a few crashes, all others are handled once.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;

foreach my $preload (0, 1)
{
	my $what = $preload ? 'preloaded' : 'not preloaded';
	my $node = new_server("main$preload", 'restart_after_crash = on', $preload ? "shared_preload_libraries = 'dugong'" : ());

	$node->safe_psql('postgres', 'CREATE DATABASE shop');
	$node->safe_psql('shop', <<~'SQL');
		CREATE EXTENSION dugong;
		CREATE TABLE seen (owner text, n serial);
		CREATE FUNCTION on_event(e dugong.domain_event) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
		    IF e.payload ->> 'owner' = 'deadly' THEN
		        COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID';
		        PERFORM pg_sleep(10);
		    END IF;
		    INSERT INTO seen (owner) VALUES (e.payload ->> 'owner');
		END $$;
		SELECT bank_open_account(CASE i WHEN 20 THEN 'deadly' ELSE 'owner' || i END, 1) FROM generate_series(1, 40) i;
		SELECT dugong.create_projection('events', 'BankAccount', event_handler => 'on_event(dugong.domain_event)');
		SQL
	# The server is down again and again meanwhile
	my $done = sub {
		my ($out, $err);
		my $code = eval { $node->psql('shop', "SELECT count(*) FROM dugong.dead_letters WHERE given_up; SELECT count(*), count(DISTINCT owner) FROM seen", stdout => \$out, stderr => \$err) };
		return defined $code && $code == 0 && $out eq "1\n39|39";
	};
	my $waited = 0;
	while (!$done->() && $waited++ < 300) { select undef, undef, undef, 0.1; }
	cmp_ok($waited, '<', 300, "$what: all other events are handled, each once");
	is($node->safe_psql('shop', 'SELECT projection, sqlstate, message FROM dugong.dead_letters'),
		'events|57P02|the server process died 3 times while this event was handled', "$what: and it is a dead letter");
	my $crashes = () = slurp_file($node->logfile) =~ /dugong worker.*was terminated by signal 9/g;
	cmp_ok($crashes, '<=', 6, "$what: after $crashes crashes");
	is($node->safe_psql('shop', "SELECT count(*) FROM bank_account_query_model"), '40', "$what: other projections have not noticed");

	$node->safe_psql('shop', <<~'SQL');
		CREATE OR REPLACE FUNCTION on_event(e dugong.domain_event) RETURNS void LANGUAGE sql
		BEGIN ATOMIC
		    INSERT INTO seen (owner) VALUES (e.payload ->> 'owner');
		END;
		SELECT dugong.retry_dead_letters('events');
		SQL
	ok($node->poll_query_until('shop', 'SELECT count(*) = 40 AND count(DISTINCT owner) = 40 FROM seen'), "$what: mended, it is handled");

	# Workers that are killed for nothing set nothing aside
	foreach my $n (1 .. 4)
	{
		$node->poll_query_until('shop', "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'dugong worker'");
		kill 'KILL', split /\n/, $node->safe_psql('shop', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'dugong worker' LIMIT 1");
		$node->poll_query_until('shop', "SELECT pg_postmaster_start_time() IS NOT NULL");
		my $tries = 0;
		until (eval { $node->safe_psql('shop', "SELECT bank_open_account('later$n', 1)"); 1 } || $tries++ > 20) { select undef, undef, undef, 0.1; }
	}
	ok($node->poll_query_until('shop', 'SELECT count(*) = 44 AND count(DISTINCT owner) = 44 FROM seen'), "$what: workers that are killed for nothing: all is handled, each once");
	is($node->safe_psql('shop', 'SELECT count(*) FROM dugong.dead_letters'), '0', "$what: and nothing is set aside");
	$node->stop;
}

done_testing();
