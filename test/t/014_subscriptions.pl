# Subscriptions: several consumers under load, killed at random, with crashes of the server; through a connection pooler; what waiting holds.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Sessions;
use Test::More;
use Things;
use Time::HiRes qw(time usleep);

my ($consumers, $appenders, $things, $crashes, $seconds) = (3, 4, 8, 3, 10 * ($ENV{DUGONG_ROUNDS} || 1));
my $seed = $ENV{DUGONG_SEED} || time ^ $$;
note("DUGONG_SEED=$seed");
srand $seed;

# A lease that ends is an attempt; nothing here is to be given up
my $node = new_server('main', 'max_prepared_transactions = 20', 'restart_after_crash = on', 'dugong.max_attempts = 100', 'fsync = off');
my $directory = PostgreSQL::Test::Utils::tempdir;

sub sql { return $node->safe_psql('shop', shift); }

$node->safe_psql('postgres', 'CREATE DATABASE shop');
sql(<<~'SQL');
	CREATE EXTENSION dugong;
	SELECT dugong.drop_projection('bank_account');
	SELECT dugong.create_aggregate_type('Thing');
	SELECT dugong.create_subscription('mail', '{Thing}', visibility_timeout => '300 ms');
	SQL

# -- what waiting holds

my $waiter = Sessions->new($node->connstr('shop') . " application_name='waiter'", 1);
my $waited = '';
sub begin_wait { my ($timeout) = @_; $waiter->send_sql(0, "CALL dugong.wait_for_events('mail', '$timeout');", sub { $waited = shift; }); return; }

my $waits = "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND state = 'active' AND wait_event_type = 'Extension'";
begin_wait('30 s');
ok($node->poll_query_until('shop', $waits), 'wait_for_events waits');
my $held = 0;
foreach (1 .. 30)
{
	$held += sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waiter' AND wait_event_type = 'Extension' AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)");
	usleep(5_000);
}
is($held, 0, 'and holds no snapshot');
is(sql("SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'waiter' AND l.mode NOT IN ('AccessShareLock') AND l.locktype <> 'virtualxid'"), '0', 'nor a lock');
my $start = time;
sql(append_thing(1));
$waiter->wait_for(0, 10);
cmp_ok(time - $start, '<', 1, 'it returns when an event comes');
is($waited, '', 'without an error');
is(sql("SELECT count(*) FROM dugong.fetch_events('mail')"), '1', 'which is there');
begin_wait('10 s');
$waiter->wait_for(0, 10);
cmp_ok(time - $start, '<', 2, 'it returns when a lease has ended');
sql("SELECT dugong.ack('mail', ARRAY(SELECT id FROM dugong.fetch_events('mail')))");
# While somebody else fetches there is nothing to fetch
my $fetcher = Sessions->new($node->connstr('shop'), 1);
my $fetched = '';
sql(append_thing(1));
$fetcher->send_sql(0, "BEGIN; SELECT dugong.ack('mail', ARRAY(SELECT id FROM dugong.fetch_events('mail')));", sub { $fetched = shift; });
$fetcher->wait_for(0, 10);
is($fetched, "1\n", 'another fetches, and has not committed');
$start = time;
begin_wait('300 ms');
$waiter->wait_for(0, 10);
cmp_ok(time - $start, '>', 0.25, 'a wait does not end meanwhile');
begin_wait('30 s');
$node->poll_query_until('shop', $waits) or die;
$fetcher->send_sql(0, 'ROLLBACK;');
$fetcher->wait_for(0, 10);
$waiter->wait_for(0, 10);
cmp_ok(time - $start, '<', 5, 'but when he has given up');
is($waited, '', 'without an error');
$fetcher->close_all;
sql("SELECT dugong.ack('mail', ARRAY(SELECT id FROM dugong.fetch_events('mail')))");
# What it costs: looks take at most a twentieth of the time
sql("SELECT dugong.append_event('Thing', t, 'Happened') FROM gen_random_uuid() t, generate_series(1, 9000)");
sql("SELECT dugong.alter_subscription('mail', visibility_timeout => '1 h')");
sql("SELECT count(*) FROM dugong.fetch_events('mail', 1); SELECT count(*) FROM dugong.fetch_events('mail', 1)");
is(sql("SELECT waiting > 8000 FROM dugong.subscription_status WHERE subscription = 'mail'"), 't', 'thousands wait for one');
sub cpu { my ($ticks) = map { (split ' ')[13] } slurp_file('/proc/' . sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'waiter'") . '/stat'); return $ticks / 100; }
my $before = cpu();
begin_wait('2 s');
$waiter->wait_for(0, 10);
cmp_ok(cpu() - $before, '<', 0.3, 'to wait costs little all the same');
begin_wait('30 s');
$node->poll_query_until('shop', $waits) or die;
sql("SELECT dugong.drop_subscription('mail')");
$waiter->wait_for(0, 10);
like($waited, qr/42704/, 'a subscription that is dropped is not waited for');
sql("SELECT dugong.create_subscription('mail', '{Thing}', start_position => NULL, visibility_timeout => '300 ms')");
begin_wait('30 s');
$node->poll_query_until('shop', $waits) or die;
sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'waiter'");
$waiter->wait_for(0, 10);
like($waited, qr/57014/, 'it can be cancelled');
$waiter->close_all;

# -- consumers

# Appends a line to a consumer's file: what it has seen, before it acts on it.
sub record { my ($file, @what) = @_; syswrite $file, join(' ', sprintf('%.6f', time), @what) . "\n"; return; }

# What a session answers.
sub ask
{
	my ($session, $sql) = @_;
	my $answer;

	$session->send_sql(0, $sql, sub { $answer = shift; });
	$session->wait_for(0, 60) or die 'no answer';
	return $answer;
}

sub fetch_sql { my ($count, $consumer) = @_; return "SELECT 'event', id, aggregate_id, sequence_number FROM dugong.fetch_events('mail', $count, " . ($consumer // 'NULL') . ');'; }

sub events_of { return map { [ (split /\|/)[ 1 .. 3 ] ] } grep { /^event\|/ } split /\n/, shift; }

sub uuids { return 'ARRAY[' . join(',', map { "'$_->[0]'" } @_) . ']::uuid[]'; }

# Fetches, handles and acknowledges once, in one of many ways, mostly under its name.
sub consume_once
{
	my ($session, $file) = @_;
	my $kind = rand;
	my $consumer = rand > 0.2 ? "'$$'" : 'NULL';
	my $fetch = fetch_sql(1 + int rand 20, $consumer);

	if ($kind < 0.05) { ask($session, "BEGIN; $fetch ROLLBACK;"); return; }
	# A block: fetched, handled and acknowledged in one transaction
	my $block = $kind < 0.1;
	my $level = rand > 0.3 ? 'READ COMMITTED' : rand > 0.5 ? 'REPEATABLE READ' : 'SERIALIZABLE';
	my @events = events_of(ask($session, $block ? "BEGIN ISOLATION LEVEL $level; SELECT count(*) FROM dugong.event_log; $fetch" : $fetch));

	if (!@events)
	{
		ask($session, $block ? 'COMMIT;' : "CALL dugong.wait_for_events('mail', '100 ms');");
		return;
	}
	record($file, 'fetched', map { join '|', @$_ } @events);
	return if !$block && $kind < 0.13;    # forgets them
	if (!$block && $kind < 0.16)
	{
		ask($session, "SELECT dugong.release('mail', " . ($consumer eq 'NULL' ? uuids(@events) : "consumer => $consumer") . ');');
		return;
	}
	usleep(350_000) if $kind > 0.97;      # too late
	if (!$block && $kind < 0.3)
	{
		my $refused = $events[ rand @events ];

		ask($session, "SELECT dugong.nack('mail', '$refused->[0]', 'no', '" . int(rand 50) . " ms', $consumer);");
		@events = grep { $_->[1] ne $refused->[1] || $_->[2] < $refused->[2] } @events;
	}
	return if !@events;
	@events = reverse @events if $kind > 0.9;
	record($file, 'acks', map { $_->[0] } @events);
	ask($session, $kind > 0.8 ? join ' ', map { "SELECT dugong.ack('mail', " . uuids($_) . ", $consumer);" } @events : "SELECT dugong.ack('mail', " . uuids(@events) . ", $consumer);");
	ask($session, 'COMMIT;') if $block;
	return;
}

# A process that goes on until it is killed.
sub start_child
{
	my ($name, $run) = @_;
	my $my_seed = int rand 1e9;
	my $pid = fork // die;

	return $pid if $pid;
	srand $my_seed;
	$SIG{PIPE} = 'IGNORE';
	open STDOUT, '>>', "$directory/$name.log";
	open STDERR, '>>', "$directory/$name.log";
	$run->() while 1;
}

sub start_consumer
{
	my ($n, $connstr) = @_;
	return start_child("consumer$n", sub {
		eval {
			open my $file, '>>', "$directory/seen.$n" or die;
			my $session = Sessions->new($connstr, 1);
			consume_once($session, $file) while 1;
		};
		print "$@\n";
		usleep(20_000);
	});
}

my $scripts = 0;
sub start_appender
{
	my ($n) = @_;
	my ($name, $round) = ("load$n." . $scripts++, 0);
	my $connstr = $node->connstr('shop');
	return start_child("appender$n", sub {
		open my $psql, '|-', 'psql', '-XAtq', '-d', $connstr or die;
		print $psql load_script("$name." . $round++, 20, $things);
		close $psql;
		usleep(20_000);
	});
}

sub kill_child { my ($pid) = @_; kill 'KILL', $pid; waitpid $pid, 0; return; }

# Ends what a crash has left prepared.
sub end_prepared
{
	foreach my $gid (split /\n/, $node->safe_psql('shop', 'SELECT gid FROM pg_prepared_xacts'))
	{
		sql((rand > 0.4 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$gid'");
	}
	return;
}

my $first = sql("SELECT coalesce(max(position), 0) FROM dugong.event_log");
my %consumer = map { $_ => start_consumer($_, $node->connstr('shop')) } 1 .. $consumers;
my @appender = map { start_appender($_) } 1 .. $appenders;
my ($end, $killed, $crashed) = (time + $seconds, 0, 0);
my ($next_kill, $next_crash) = (time + 0.5, time + $seconds / ($crashes + 1));

END
{
	my $status = $?;
	kill 'KILL', $_ foreach grep { $_ } values %consumer, @appender;
	$? = $status;
}

while (time < $end)
{
	usleep(20_000);
	if (time > $next_kill)
	{
		my $n = 1 + int rand $consumers;

		kill_child($consumer{$n});
		$consumer{$n} = start_consumer($n, $node->connstr('shop'));
		$killed++;
		$next_kill = time + rand 0.6;
	}
	if (time > $next_crash && $crashed < $crashes)
	{
		my (undef, $pid) = $node->psql('shop', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1");

		next if !$pid;
		kill_child($_) foreach @appender;
		kill 'KILL', $pid;
		$crashed++;
		usleep(100_000);
		$node->poll_query_until('postgres', 'SELECT true') or die 'the server does not come back';
		end_prepared();
		@appender = map { start_appender($_) } 1 .. $appenders;
		$next_crash = time + $seconds / ($crashes + 1);
	}
}
kill_child($_) foreach @appender;
@appender = ();
$node->poll_query_until('shop', "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'load'") or die;
end_prepared();
my $committed = sql("SELECT count(*) FROM dugong.event_log WHERE position > $first");
note("$committed events, $killed consumers killed, $crashed crashes");
cmp_ok($committed, '>', 200, 'events were appended');
cmp_ok($killed, '>', 5, 'consumers were killed');
is($crashed, $crashes, 'the server crashed');
# A consumer that was killed may have left its backend in a block
my $done = $node->poll_query_until('shop', "SELECT (lag_events, waiting, leased, retrying, dead_letters) = (0, 0, 0, 0, 0) FROM dugong.subscription_status WHERE subscription = 'mail'");
ok($done, 'nothing is outstanding at the end') or diag(sql('TABLE dugong.subscription_status'));
kill_child($_) foreach values %consumer;
%consumer = ();
is(sql("SELECT count(*) FROM dugong.fetch_events('mail')"), '0', 'nor is there anything to fetch');
is(sql('SELECT count(*) FROM dugong.checkpoint_holes'), '0', 'no hole stays behind');

# When each event was seen first, and with what; when its acknowledgement was sent first
my (%seen, %acked, %fetched, $deliveries);
foreach my $n (1 .. $consumers)
{
	my $fetch = 0;

	foreach my $line (split /\n/, slurp_file("$directory/seen.$n"))
	{
		my ($at, $what, @events) = split / /, $line;

		$fetch++;
		foreach my $event (@events)
		{
			my ($id) = split /\|/, $event;
			my $into = $what eq 'fetched' ? \%seen : \%acked;

			if ($what eq 'fetched')
			{
				$deliveries++;
				$fetched{"$n.$fetch"}{$id} = 1;
			}
			$into->{$id} = { at => $at, fetch => "$n.$fetch" } if !$into->{$id} || $into->{$id}{at} > $at;
		}
	}
}
my ($lost, $unacknowledged, $early, $alien, $previous) = (0, 0, 0, 0);
my %known;
foreach my $row (split /\n/, sql("SELECT id, aggregate_id, sequence_number FROM dugong.event_log WHERE position > $first ORDER BY aggregate_id, sequence_number"))
{
	my ($id, $aggregate, $number) = split /\|/, $row;

	$known{$id} = 1;
	$lost++ if !$seen{$id};
	$unacknowledged++ if !$acked{$id};
	if ($previous && $previous->{aggregate} eq $aggregate && $seen{$id} && $seen{ $previous->{id} })
	{
		my $before = $previous->{id};
		my $together = $fetched{ $seen{$id}{fetch} }{$before};

		if (!$together && (!$acked{$before} || $acked{$before}{at} > $seen{$id}{at}))
		{
			$early++;
			diag("$aggregate $number: first seen $seen{$id}{at} in $seen{$id}{fetch}, the one before acknowledged " . ($acked{$before} ? $acked{$before}{at} : 'never') . ", seen $seen{$before}{at} in $seen{$before}{fetch}");
		}
	}
	$previous = { id => $id, aggregate => $aggregate };
}
$alien = grep { !$known{$_} } keys %seen;
note("$deliveries deliveries");
is($lost, 0, 'every event was delivered');
is($unacknowledged, 0, 'and acknowledged');
is($alien, 0, 'nothing was delivered that is not committed');
is($early, 0, 'no event was delivered before the one before it was acknowledged, or with it');

# -- through a pooler

$ENV{PATH} .= ':/usr/sbin';
my $port = $node->port;
my $user = getpwuid $<;
append_to_file("$directory/users", qq{"$user" ""\n});
append_to_file("$directory/pgbouncer.ini", <<~"INI");
	[databases]
	shop = host=${\$node->host} port=$port dbname=shop
	[pgbouncer]
	unix_socket_dir = $directory
	listen_addr =
	listen_port = 6432
	auth_type = trust
	auth_file = $directory/users
	pool_mode = transaction
	default_pool_size = 2
	logfile = $directory/pgbouncer.log
	INI
my $bouncer = IPC::Run::start([ 'pgbouncer', '-q', "$directory/pgbouncer.ini" ], '<', \undef, '>', \my $output, '2>', \my $errors);
my $pooled = "host=$directory port=6432 dbname=shop user=$user";
my $deadline = time + 10;
usleep(20_000) while system("psql -XAtq -d '$pooled' -c 'SELECT' >$directory/psql.log 2>&1") && time < $deadline;
my $clients = Sessions->new($pooled, 4);
my %got;
my $wrong = 0;

sub client
{
	my ($n, $sql) = @_;
	my $answer;

	$clients->send_sql($n, $sql, sub { $answer = shift; });
	$clients->wait_for($n, 20) or die 'no answer';
	return $answer;
}

sql(join '', map { append_thing(1 + $_ % 7) } 1 .. 200);
my %last = map { split /\|/ } split /\n/, sql('SELECT aggregate_id, min(sequence_number) - 1 FROM (SELECT * FROM dugong.event_log ORDER BY position DESC LIMIT 200) x GROUP BY 1');
$deadline = time + 20;
while (keys %got < 200 && time < $deadline)
{
	my ($one, $other) = (int rand 4, int rand 4);
	my @events = events_of(client($one, fetch_sql(1 + int rand 9)));

	if (!@events) { client($one, "CALL dugong.wait_for_events('mail', '50 ms');"); next; }
	foreach my $event (@events)
	{
		$wrong++ if !$got{ $event->[0] } && $event->[2] != ++$last{ $event->[1] };
		$got{ $event->[0] } = 1;
	}
	# Another client acknowledges, through whatever connection there is
	client($other, "SELECT dugong.ack('mail', " . uuids(@events) . ');');
}
is(scalar keys %got, 200, 'through pgbouncer in transaction mode every event is delivered');
is($wrong, 0, 'in its order');
like(sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = 'shop' AND pid <> pg_backend_pid()"), qr/^[12]$/, 'by no more than two connections');
is(sql("SELECT waiting + leased + retrying FROM dugong.subscription_status WHERE subscription = 'mail'"), '0', 'nothing is outstanding');
# Two clients that wait leave no connection; they come back at their time
$start = time;
foreach my $n (0, 1) { $clients->send_sql($n, "CALL dugong.wait_for_events('mail', '300 ms');"); }
is(client(2, "SELECT count(*) FROM dugong.fetch_events('mail');"), "0\n", 'a third one has its turn after those that wait');
$clients->wait_for($_, 10) foreach 0, 1;
cmp_ok(time - $start, '<', 3, 'and nobody hangs');
# Appending, waiting for a projection and reading: each through whatever connection there is
sql(<<~'SQL');
	CREATE TABLE handled (id uuid);
	CREATE FUNCTION handle(e dugong.domain_event) RETURNS void LANGUAGE sql AS 'INSERT INTO handled VALUES (e.id)';
	SELECT dugong.create_projection('handled', 'Thing', event_handler => 'handle(dugong.domain_event)', start_position => NULL);
	SQL
my $found = 0;
foreach my $n (1 .. 20)
{
	my $id = uuid(6, $n);

	client(int rand 4, "SELECT FROM dugong.append_event('Thing', '" . thing($n) . "', 'Changed', '{\"by\": 1}', event_id => '$id');");
	client(int rand 4, "CALL dugong.wait_for_projection('handled');");
	$found += client(int rand 4, "SELECT count(*) FROM handled WHERE id = '$id';");
}
is($found, 20, 'one reads what was appended, once the projection has it');
$clients->close_all;
$bouncer->signal('INT');
$bouncer->finish;

$node->stop;
done_testing();
