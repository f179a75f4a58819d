# More databases with the extension than slots for background workers: everybody gets a turn.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my ($databases, $slots, $seconds) = sized([ 6, 2, 0 ], [ 20, 6, 120 ])->@*;
my @dbs = map { "db$_" } 1 .. $databases;
my $node = new_server('main', "max_worker_processes = $slots", "dugong.poll_interval = '1h'", "max_logical_replication_workers = 0");

sub sql { return $node->safe_psql(@_); }

# All databases are copies of one: a projection that notes how late it was, and a load that appends for as long as somebody says so
sql('postgres', 'CREATE DATABASE model');
sql('model', <<~'SQL');
	CREATE EXTENSION dugong;
	SELECT dugong.stop_workers();
	SELECT dugong.drop_projection('bank_account');
	SELECT dugong.create_aggregate_type('Thing');
	CREATE TABLE done (id uuid PRIMARY KEY, lag interval);
	CREATE FUNCTION handle(e dugong.domain_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO done VALUES (e.id, clock_timestamp() - e."timestamp") $$;
	SELECT dugong.create_projection('done', 'Thing', event_handler => 'handle(dugong.domain_event)');
	CREATE FUNCTION append() RETURNS void LANGUAGE sql AS $$ SELECT FROM dugong.append_event('Thing', '00000003-0000-4000-8000-000000000001', 'Changed') $$;
	CREATE PROCEDURE load() LANGUAGE plpgsql AS $$
	BEGIN
	    WHILE EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'go on') LOOP
	        PERFORM append();
	        COMMIT;
	        PERFORM pg_sleep(0.1);
	    END LOOP;
	END $$;
	SQL
foreach my $db (@dbs)
{
	sql('postgres', "CREATE DATABASE $db TEMPLATE model");
	sql($db, 'SET dugong.max_workers = 0; SELECT dugong.start_workers()');
}

my $flag = $node->background_psql('postgres');
$flag->query_safe(q{SET application_name = 'go on'});
my @pids;
foreach my $db (@dbs)
{
	my $pid = fork // die;
	if (!$pid)
	{
		my $code = $node->psql($db, 'CALL load()');
		require POSIX;
		POSIX::_exit($code);
	}
	push @pids, $pid;
}

# While all go on appending: whoever has a worker would keep it, if he did not give way
my $start = time;
my %waiting = map { $_ => 1 } @dbs;
while (%waiting && time < $start + 60)
{
	usleep(200_000);
	delete @waiting{ grep { sql($_, 'SELECT count(*) > 0 FROM done') eq 't' } keys %waiting };
}
is(join(' ', sort keys %waiting), '', 'each database had a worker while all were appending');
figure(sprintf '%d databases, max_worker_processes = %d: after %.1f s each had had a worker', $databases, $slots, time - $start);
usleep(100_000) while time < $start + $seconds;
$flag->quit;
is(scalar(grep { waitpid($_, 0); $? != 0 } @pids), 0, 'every append succeeded');
figure(sprintf '10 appends a second in each for %.0f s: the longest that an event waited among those that were handled meanwhile: %s s', time - $start,
	(sort { $b <=> $a } map { sql($_, 'SELECT round(extract(epoch FROM max(lag))::numeric, 1) FROM done') } @dbs)[0]);

# Who finds no slot asks again with the next append
my $left = 'SELECT (SELECT count(*) FROM dugong.event_log) - (SELECT count(*) FROM done)';
%waiting = map { $_ => 1 } @dbs;
while (%waiting && time < $start + $seconds + 120)
{
	delete @waiting{ grep { sql($_, $left) eq '0' } keys %waiting };
	sql($_, 'SELECT append()') foreach keys %waiting;
	usleep(300_000);
}
is(join(' ', sort keys %waiting), '', 'everybody has caught up');
like(slurp_file($node->logfile), qr/could not start the dugong worker: no free background worker slot.*\n.*max_worker_processes/, 'who finds no slot says so, with a hint');
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'no process crashed');
done_testing();
