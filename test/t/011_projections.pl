# Projections under load, with crashes, cancels, poison, rebuilds, pauses: every event is handled once, in its order.
#
# DUGONG_SEED chooses another sequence, DUGONG_ROUNDS another number of rounds.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;
use Things;
use Time::HiRes qw(time usleep);

my $seed = $ENV{DUGONG_SEED} || 20261123;
my $rounds = $ENV{DUGONG_ROUNDS} || 50;
my ($clients, $transactions, $things) = (4, 100, 25);
my $dir = PostgreSQL::Test::Utils::tempdir();
my %counts;

srand $seed;
note("seed $seed, $rounds rounds");

my $node = new_server('main', 'restart_after_crash = on', 'max_prepared_transactions = 20', "deadlock_timeout = '20ms'",
	"dugong.poll_interval = '100ms'", 'dugong.max_attempts = 2', "dugong.retry_pause = '20ms'", 'log_min_messages = warning',
	'log_min_error_statement = panic');

sub sql { return $node->safe_psql('shop', shift); }

# Runs a script for psql in the background.  Its errors are the server's crash, or conflicts.
sub start_psql
{
	my ($script) = @_;
	my $file = "$dir/" . ++$counts{'background sessions'};

	PostgreSQL::Test::Utils::append_to_file($file, $script);
	my $pid = fork // die;
	if (!$pid)
	{
		open STDOUT, '>', "$file.out";
		open STDERR, '>', "$file.err";
		exec 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-f', $file, $node->connstr('shop') or die;
	}
	return [ $pid, $file ];
}

# Waits for the ends of background sessions.
sub finish_psql
{
	foreach (@_)
	{
		waitpid($_->[0], 0);
		my $errors = slurp_file("$_->[1].err");
		$counts{"error $1"}++ while $errors =~ /(?:ERROR|FATAL): +(\w{5})/g;
	}
	return;
}

sub one_of { return $_[ int rand @_ ]; }

# Ways to disturb the projections: SQL of a background session.
my %disturbances = (
	'cancel workers' => sub {
		return join '', map { "SELECT pg_cancel_backend(pid) FROM dugong.worker_status WHERE pid IS NOT NULL;\nSELECT pg_sleep(" . (0.01 + rand 0.04) . ");\n" } 1 .. 8;
	},
	'terminate workers' => sub {
		return "SELECT pg_sleep(" . rand(0.1) . ");\nSELECT pg_terminate_backend(pid) FROM dugong.worker_status WHERE pid IS NOT NULL;\n";
	},
	'pause and resume' => sub {
		return join '', map { my $name = one_of('model', 'copy', 'events');
			"SELECT dugong.pause_projection('$name');\nSELECT pg_sleep(" . rand(0.03) . ");\nSELECT dugong.resume_projection('$name');\n" } 1 .. 5;
	},
	'alter' => sub {
		return join '', map { one_of(
				"SELECT dugong.alter_projection('copy', update_handler => 'thing_update(uuid, thing_state)');\n",
				"SELECT dugong.alter_projection('events', on_error => 'park', event_handler => 'thing_event(dugong.domain_event)');\n",
				"SELECT dugong.alter_projection('model', accept => true);\n",
				"BEGIN;\nSELECT dugong.alter_projection('events', on_error => 'stop');\nSELECT pg_sleep(" . rand(0.02) . ");\nROLLBACK;\n") } 1 .. 8;
	},
	'retry dead letters' => sub {
		return join '', map { "SELECT dugong.retry_dead_letters(name) FROM dugong.projections;\nSELECT pg_sleep(" . rand(0.04) . ");\n" } 1 .. 6;
	},
	'rebuild' => sub {
		return "CALL dugong.rebuild_projection('" . one_of('model', 'copy', 'events') . "');\nCALL dugong.rebuild_projection('"
		  . one_of('model', 'copy', 'events') . "');\n";
	},
	'rebuild offline' => sub { return "CALL dugong.rebuild_projection('events', offline => true);\n"; },
	'rebuild, cancelled' => sub {
		return join '', map { "SET statement_timeout = '" . (5 + int rand 100) . "ms';\nCALL dugong.rebuild_projection('" . one_of('model', 'copy', 'events')
			  . "'" . one_of('', '', ', offline => true') . ");\n" } 1 .. 4;
	},
	'run in a session' => sub { return "CALL dugong.run_projections();\n" x 3; });

# The process to kill, of the kind that chance wants if there is one; or the empty string.
sub victim
{
	my $who = one_of(('dugong worker') x 2, 'load', 'disturbance');
	my $from = "(SELECT pid, CASE backend_type WHEN 'dugong worker' THEN backend_type ELSE application_name END AS kind FROM pg_stat_activity WHERE datname = 'shop') x";
	my ($pid, $kind) = split /\|/,
	  sql("SELECT pid, kind FROM $from WHERE kind IN ('dugong worker', 'load', 'disturbance') ORDER BY kind <> '$who', md5(pid::text || '" . rand() . "') LIMIT 1");

	return '' unless $pid && kill 'KILL', $pid;
	$counts{"$kind killed"}++;
	return $kind;
}

# What is wrong now goes on: prepared transactions end, what was set aside is tried again, rebuilds and pauses are over.
sub calm_down
{
	my @prepared = split /\n/, sql('SELECT gid FROM pg_prepared_xacts');

	$counts{'left prepared'} += @prepared;
	sql(join ';', map { one_of('COMMIT', 'ROLLBACK') . " PREPARED '$_'" } @prepared) if @prepared;
	sql("SELECT dugong.resume_projection(name) FROM dugong.projections WHERE state <> 'running'");
	$counts{'set aside'} += sql('SELECT count(*) FROM dugong.parked_aggregates');
	sql(things_handlers());
	sql('SELECT dugong.retry_dead_letters(name) FROM dugong.projections');
	return;
}

sub run_round
{
	my ($round) = @_;
	my @names = sort keys %disturbances;
	my $name = $names[ $round % @names ];
	my $start = sql('SELECT coalesce(max(position), 0) FROM dugong.event_log');
	my $position = $start + 50 + int rand 600;
	my $killed;

	sql(things_handlers(map { 1 + int rand $things } 1 .. int rand 4));
	my @sessions = map { start_psql(load_script("$round.$_", $transactions, $things)) } 1 .. $clients;
	push @sessions, start_psql("SET application_name = 'disturbance';\n" . $disturbances{$name}->());
	sql(<<~SQL);
		DO \$\$ BEGIN
		    WHILE clock_timestamp() < statement_timestamp() + interval '2 s'
		        AND coalesce((SELECT max(position) FROM dugong.event_log), 0) < $position LOOP
		        PERFORM pg_sleep(0.002);
		    END LOOP;
		END \$\$
		SQL
	$killed = victim();
	finish_psql(@sessions);
	wait_for_server($node);
	calm_down();
	$counts{$name}++;
	return wait_for_things($node, 'shop', "round $round, $name" . ($killed && ", $killed killed"));
}

$node->safe_psql('postgres', 'CREATE DATABASE shop');
sql('CREATE EXTENSION dugong');
create_things($node, 'shop');
foreach my $round (1 .. $rounds) { run_round($round) or last; }

# Poison alone: two things of five cannot be handled, the others are, and then those two, in their order
sql(things_handlers(102, 104));
sql(join '', map { append_thing(101 + $_ % 5) } 1 .. 100);
ok($node->poll_query_until('shop', "SELECT count(*) = 4 FROM dugong.dead_letters WHERE given_up"), 'two aggregates are dead letters of two projections');
ok($node->poll_query_until('shop', "SELECT n = (SELECT count(*) - 40 FROM dugong.event_log WHERE aggregate_type_id = (SELECT id FROM dugong.aggregate_types WHERE name = 'Thing')) FROM counters"),
	'all other events are handled');
sql(join '', map { append_thing(101 + $_ % 5) } 1 .. 50);
is(sql('SELECT count(*) FROM dugong.dead_letters'), '4', 'more of their events wait behind them');
sql(things_handlers());
is(sql("SELECT dugong.retry_dead_letters('copy'), dugong.retry_dead_letters('events')"), '2|2', 'retried, once the handlers are mended');
wait_for_things($node, 'shop', 'dead letters retried');
ok($node->poll_query_until('shop', 'SELECT count(*) = 0 FROM dugong.checkpoint_holes'), 'no hole stays behind');

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|signal 11|signal 6/, 'nothing crashed but what was killed');
note(join ', ', map { "$_: $counts{$_}" } sort keys %counts);
done_testing();
