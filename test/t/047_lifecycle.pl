# Databases and servers come and go while workers are idle, or in the middle of a handler: each command succeeds promptly or says why.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my $prompt = 6;    # seconds; PostgreSQL itself waits 5 for those who use a database
my $node = new_server('main', 'max_worker_processes = 12', "dugong.poll_interval = '1h'");
my $tablespace = PostgreSQL::Test::Utils::tempdir();

sub sql { return $node->safe_psql(@_); }

# Runs a command of the administrator's; what it says if it fails, or how long it took if that was too long.
sub outcome
{
	my ($command) = @_;
	my $start = time;
	my $err = '';

	$node->psql('postgres', $command, stderr => \$err);
	note(sprintf '%s: %.1f s', $command, time - $start);
	return $err ne '' ? $err : time - $start > $prompt ? sprintf('%.1f s', time - $start) : '';
}

# A database with a handler that sleeps as long as an event says, and a worker
sub create_shop
{
	my ($db, @sleep) = @_;

	sql('postgres', "CREATE DATABASE $db");
	sql($db, <<~'SQL');
		CREATE EXTENSION dugong;
		SELECT dugong.drop_projection('bank_account');
		SELECT dugong.create_aggregate_type('Thing');
		CREATE TABLE done (id uuid PRIMARY KEY);
		CREATE TABLE waived (id uuid PRIMARY KEY);
		CREATE FUNCTION handle(e dugong.domain_event) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
		    PERFORM pg_sleep((e.payload ->> 'sleep')::float8) WHERE NOT EXISTS (SELECT FROM waived WHERE waived.id = e.id);
		    INSERT INTO done VALUES (e.id);
		END $$;
		SELECT dugong.create_projection('done', 'Thing', event_handler => 'handle(dugong.domain_event)');
		SQL
	append($db, 0);
	return is_served($db, "$db: its worker works");
}

sub append
{
	my ($db, $sleep) = @_;
	return sql($db, qq{SELECT FROM dugong.append_event('Thing', '00000003-0000-4000-8000-000000000001', 'Made', '{"sleep": $sleep}')});
}

sub is_served
{
	my ($db, $what) = @_;
	return ok($node->poll_query_until($db, 'SELECT (SELECT count(*) FROM done) = (SELECT count(*) FROM dugong.event_log)'), $what);
}

# The worker is in a handler, and stays there
sub make_busy
{
	my ($db) = @_;

	append($db, 600);
	ok($node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = '$db' AND backend_type = 'dugong worker' AND wait_event = 'PgSleep'"),
		"$db: its worker is in a handler");
	return;
}

# What the worker sleeps on is made fast
sub wake
{
	my ($db) = @_;
	sql($db, 'SELECT dugong.stop_workers()');
	return sql($db, 'INSERT INTO waived SELECT id FROM dugong.event_log ON CONFLICT DO NOTHING; SELECT dugong.start_workers()');
}

# Processor time and voluntary switches of an idle worker, in some seconds
sub idle_cost
{
	my ($pid, $seconds) = @_;
	my $read = sub {
		my @stat = split / /, slurp_file("/proc/$pid/stat") =~ s/^.*\) //sr;
		my ($switches) = slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
		return ($stat[11] + $stat[12], $switches);
	};
	my @before = $read->();

	sleep $seconds;
	my @after = $read->();
	return map { $after[$_] - $before[$_] } 0, 1;
}

sub commands_of_administrators
{
	my ($how) = @_;

	# Idle
	create_shop('shop');
	my ($ticks, $switches) = idle_cost(wait_for_worker($node, 'shop'), 3);
	figure("$how: an idle worker, 3 s: $ticks ticks, $switches switches");
	cmp_ok($ticks, '<=', 5, "$how: an idle worker does not spin");
	cmp_ok($switches, '<=', 10, "$how: nor does it wake often");
	is(outcome('ALTER DATABASE shop RENAME TO market'), '', "$how: RENAME beside an idle worker");
	append('market', 0);
	is_served('market', 'renamed, it goes on');
	is(outcome('ALTER DATABASE market SET TABLESPACE space'), '', "$how: SET TABLESPACE beside an idle worker") if sized(0, 1);
	append('market', 0);
	is_served('market', 'in its tablespace, it goes on');
	is(outcome('CREATE DATABASE branch TEMPLATE market'), '', "$how: TEMPLATE beside an idle worker");
	append('branch', 0);
	is_served('branch', 'the copy has a worker of its own');
	is(outcome('ALTER DATABASE branch ALLOW_CONNECTIONS false'), '', "$how: ALLOW_CONNECTIONS false");
	is(outcome('DROP DATABASE branch'), '', "$how: DROP DATABASE beside an idle worker, without connections");
	is(outcome('ALTER DATABASE market CONNECTION LIMIT 0'), '', "$how: CONNECTION LIMIT 0");
	append('market', 0);
	is_served('market', 'workers do not count');

	# In a handler: a command that wants the database fails as PostgreSQL's own do, and stop_workers() makes way
	make_busy('market');
	foreach my $command (sized(0, 1) ? ('ALTER DATABASE market RENAME TO shop', 'DROP DATABASE market', 'CREATE DATABASE branch TEMPLATE market') : ())
	{
		like(outcome($command), qr/is being accessed by other users/, "$how: beside one in a handler: $command");
	}
	sql('market', 'SELECT dugong.stop_workers()');
	is(outcome('ALTER DATABASE market RENAME TO shop'), '', "$how: after stop_workers() it goes at once");
	wake('shop');
	is_served('shop', 'started again, it goes on');
	make_busy('shop');
	is(outcome('DROP DATABASE shop WITH (FORCE)'), '', "$how: DROP DATABASE WITH (FORCE) beside one in a handler");

	# DROP EXTENSION of a worker in a handler waits for it
	create_shop('shop');
	make_busy('shop');
	like(drop_extension("SET lock_timeout = '1s';"), qr/lock timeout/, "$how: DROP EXTENSION waits for a handler");
	is(drop_extension('SELECT dugong.stop_workers();'), '', "$how: stop_workers() makes way for it");
	is(outcome('DROP DATABASE shop'), '', "$how: and the database can go");
	return;
}

sub drop_extension
{
	my ($before) = @_;
	my $err = '';

	$node->psql('shop', "$before SET dugong.allow_drop = on; SET client_min_messages = error; DROP EXTENSION dugong CASCADE", stderr => \$err);
	return $err;
}

# Stops the server: how long it took, or undef
sub stop
{
	my ($mode) = @_;
	my $start = time;

	$node->stop($mode);
	return time - $start;
}

sub shutdowns
{
	my ($how) = @_;

	create_shop('shop');
	my $took = stop('fast');
	cmp_ok($took, '<', $prompt, sprintf "$how: fast shutdown beside an idle worker: %.1f s", $took);
	$node->start;
	append('shop', 0);
	is_served('shop', 'started again');
	make_busy('shop');
	$took = stop('fast');
	cmp_ok($took, '<', $prompt, sprintf "$how: fast shutdown beside one in a handler: %.1f s", $took);
	$node->start;
	wake('shop');
	is_served('shop', 'it was not lost');

	# Smart: who is connected goes on, with a worker
	my $client = $node->background_psql('shop');
	my $pid = fork // die;
	if (!$pid)
	{
		system_log('pg_ctl', '-D', $node->data_dir, '-m', 'smart', '-t', 60, 'stop');
		require POSIX;
		POSIX::_exit($? >> 8);
	}
	my $log = $node->logfile;
	usleep(50_000) until slurp_file($log) =~ /received smart shutdown request/;
	$client->query_safe(q{SELECT FROM dugong.append_event('Thing', '00000003-0000-4000-8000-000000000001', 'Made', '{"sleep": 0}')});
	$client->query_safe(q{CALL dugong.wait_for_projection('done', '20s')});
	pass("$how: during a smart shutdown, who is connected is served");
	my $start = time;
	$client->quit;
	waitpid $pid, 0;
	is($?, 0, "$how: smart shutdown ends");
	cmp_ok(time - $start, '<', $prompt, "$how: when the last client has gone");
	$node->{_pid} = undef;
	$node->start;
	is(outcome('DROP DATABASE shop WITH (FORCE)'), '', 'dropped');
	return;
}

# Settings that are read again.  Without preload a session knows their bounds when it has loaded the library.
sub reloads
{
	create_shop('shop');
	my $pid = wait_for_worker($node, 'shop');
	foreach my $bad (q{dugong.poll_interval = '1ms'}, q{dugong.max_workers = -1}, q{dugong.max_workers = 65}, q{dugong.notify = 'perhaps'}, q{dugong.retry_pause = 'x'},
		q{dugong.correlation_id = '1'}, q{dugong.unknown = 1})
	{
		like(outcome("LOAD 'dugong'; ALTER SYSTEM SET $bad"), qr/ERROR/, "ALTER SYSTEM refuses $bad");
	}
	my $conf = slurp_file($node->data_dir . '/postgresql.conf');
	$node->append_conf('postgresql.conf', "dugong.poll_interval = '1ms'\ndugong.max_workers = 1000\ndugong.notify = perhaps\n");
	$node->reload;
	append('shop', 0);
	is_served('shop', 'bad values in the file change nothing');
	is(worker_pid($node, 'shop'), $pid, 'and end no worker');
	is(sql('shop', 'SHOW dugong.poll_interval'), '1h', 'the old ones hold');
	open my $fh, '>', $node->data_dir . '/postgresql.conf' or die;
	print $fh $conf;
	close $fh;
	$node->reload;
	sql('shop', 'SELECT dugong.stop_workers()');
	is(outcome('DROP DATABASE shop'), '', 'dropped');
	return;
}

sql('postgres', "CREATE TABLESPACE space LOCATION '$tablespace'");
foreach my $preload (0, 1)
{
	my $how = $preload ? 'preloaded' : 'not preloaded';

	if ($preload)
	{
		$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dugong'\n");
		$node->restart;
		reloads();
	}
	commands_of_administrators($how) if sized($preload, 1);
	shutdowns($how) if sized(!$preload, 1);
}

# Preloaded, with a slot for the launcher alone: it must not keep it
$node->append_conf('postgresql.conf', "max_worker_processes = 1\nmax_logical_replication_workers = 0\n");
create_shop('shop');
$node->restart;
ok($node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'dugong launcher'"), 'a launcher that has the only slot gives it up');
append('shop', 0);
is_served('shop', 'for a worker');
like(slurp_file($node->logfile), qr/the dugong launcher has found no free background worker slot/, 'and says so');
$node->append_conf('postgresql.conf', "max_worker_processes = 0\n");
$node->restart;
append('shop', 0);
like(slurp_file($node->logfile), qr/could not start the dugong worker: no free background worker slot.*\n.*HINT:.*max_worker_processes/, 'without any slot, appends succeed, and the log has a hint');
is(sql('shop', 'CALL dugong.run_projections(); SELECT count(*) FROM done'), 3, 'run_projections() does the work');

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'no process crashed');
unlike(slurp_file($node->logfile), qr/FATAL:.*database.*does not exist/, 'no worker looks for a database that is gone');
done_testing();
