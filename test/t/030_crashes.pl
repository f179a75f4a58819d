# Crashes at random moments, of every kind, under a mixed load, on one data directory: what was acknowledged is in the log, once, and
# all that is made of the log is what the log says.  Then the same with synchronous_commit = off: what vanishes, vanishes everywhere.
# DUGONG_SEED, DUGONG_ROUNDS.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use History;
use HistoryCheck;
use PostgreSQL::Test::Utils;
use Sessions;
use Test::More;
use Things;
use Time::HiRes qw(time usleep);

my $seed = $ENV{DUGONG_SEED} || sized(20261124, time % 1_000_000);
my $rounds = $ENV{DUGONG_ROUNDS} || sized(7, 100);
my ($clients, $appenders, $things) = (8, 2, 25);
srand $seed;
diag("DUGONG_SEED=$seed");

my $node = new_server('main', 'restart_after_crash = on', 'fsync = on', 'max_prepared_transactions = 20', "deadlock_timeout = '20ms'", 'max_connections = 60',
	"dugong.poll_interval = '100ms'", 'log_statement = none');

sub sql { my ($db, $sql) = @_; return $node->safe_psql($db, $sql); }

# The log's things as a consumer within the database has got them
my $mail = <<~'SQL';
	WITH fetched AS (SELECT * FROM dugong.fetch_events('mail', 50)),
	    mailed AS (INSERT INTO mailed (id, aggregate_id, sequence_number) SELECT id, aggregate_id, sequence_number FROM fetched RETURNING id)
	SELECT dugong.ack('mail', ARRAY(SELECT id FROM mailed));
	SQL

sub create_shop
{
	my ($db, $options) = @_;

	sql('postgres', "CREATE DATABASE $db");
	sql('postgres', "ALTER DATABASE $db SET $options") if $options;
	sql($db, 'CREATE EXTENSION dugong');
	create_things($node, $db);
	sql($db, <<~'SQL');
		CREATE TABLE thing_inline (LIKE thing_model INCLUDING ALL);
		SELECT dugong.create_projection('inline', 'Thing', 'thing_inline', 'inline');
		CREATE TABLE mailed (id uuid PRIMARY KEY, aggregate_id uuid, sequence_number bigint, nth bigserial);
		SELECT dugong.create_subscription('mail', '{Thing}', visibility_timeout => '1s'), dugong.create_subscription('post', '{Thing}', visibility_timeout => '1s');
		SQL
	return;
}

# A load of bank commands, appends of all kinds, a consumer within the database and one outside.
sub start_load
{
	my ($db, $waits) = @_;
	my $history = History->new(node => $node, db => $db, sessions => $clients, kind => 1, hot => 10, mortal => 4);

	$history->open_accounts;
	return { db => $db, waits => $waits, history => $history, others => Sessions->new($node->connstr($db), $appenders + 2, keep => 1), scripts => [], number => 0,
		delivered => {}, acknowledged => {}, repeated => 0 };
}

sub post
{
	my ($load) = @_;
	my ($post, $waiting) = ($appenders + 1, $load->{to_acknowledge});

	if ($waiting)
	{
		$load->{to_acknowledge} = undef;
		$load->{others}->send_sql($post, "SELECT dugong.ack('post', '{" . join(',', @$waiting) . "}');", sub {
			$load->{acknowledged}{$_} = 1 foreach ($_[0] // '') =~ /^\d+$/m ? @$waiting : ();
		});
		return;
	}
	$load->{others}->send_sql($post, "SELECT id FROM dugong.fetch_events('post', 50);", sub {
		my @ids = ($_[0] // '') =~ /^([-0-9a-f]{36})$/mg;
		$load->{repeated} += grep { $load->{acknowledged}{$_} } @ids;
		$load->{delivered}{$_} = 1 foreach @ids;
		$load->{to_acknowledge} = \@ids if @ids;
	});
	return;
}

# Statements of an appender.  What is prepared is on disk, with all that came before: not where that is to wait.
sub script
{
	my ($load) = @_;
	my @lines = split /\n/, load_script("$load->{db}." . $load->{number}++, 20, $things);
	return $load->{waits} ? @lines : map { s/^PREPARE .*/COMMIT;/r } grep { !/ PREPARED / } @lines;
}

# Gives everybody something to do, and takes answers.
sub turn
{
	my ($load) = @_;

	foreach my $n ($load->{others}->idle)
	{
		if ($n > $appenders) { post($load); next; }
		if ($n == $appenders) { $load->{others}->send_sql($n, $mail); next; }
		$load->{scripts}[$n] = [ script($load) ] unless @{ $load->{scripts}[$n] // [] };
		$load->{others}->send_sql($n, shift @{ $load->{scripts}[$n] });
	}
	$load->{history}->turn(0.01);
	$load->{others}->listen(0);
	return;
}

sub run_until
{
	my ($load, $operations) = @_;
	my $deadline = time + 120;

	while ($load->{history}{operations} < $operations) { die 'the load does not go on' if time > $deadline; turn($load); }
	return;
}

sub end_prepared
{
	my ($db) = @_;
	# Its session may be at it itself
	$node->psql($db, (rand() < 0.6 ? 'COMMIT' : 'ROLLBACK') . " PREPARED '$_'") foreach split /\n/, sql($db, 'SELECT gid FROM pg_prepared_xacts WHERE database = current_database()');
	return;
}

# Ends what is open, also what a crash has left prepared.
sub calm_down
{
	my ($load) = @_;
	my $others = $load->{others};

	my $deadline = time + 60;
	my %ended;

	$load->{history}->drain;
	# One may wait for the other, or for what is prepared
	until (keys %ended == $appenders && $others->idle == $appenders + 2)
	{
		die 'the load does not end' if time > $deadline;
		foreach my $n (grep { $_ < $appenders && !$ended{$_}++ } $others->idle)
		{
			$others->send_sql($n, 'ROLLBACK;');
			$load->{scripts}[$n] = [];
		}
		end_prepared($load->{db});
		$others->listen(0.05);
	}
	end_prepared($load->{db});
	return;
}

#
# Crashes
#
sub start_again
{
	my $deadline = time + 60;
	# Processes of the old server may still be there
	until ($node->start(fail_ok => 1))
	{
		die 'the server does not start' if time > $deadline;
		usleep(100_000);
		$node->stop('fast', fail_ok => 1);
	}
	return;
}

# Kills one of these processes, by a condition on pg_stat_activity.
sub kill_process
{
	my ($which) = @_;
	my $pid = sql('postgres', "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND $which ORDER BY md5(pid::text || '" . rand() . "') LIMIT 1");

	return 0 if $pid eq '' || !kill 'KILL', $pid;
	# The server has noticed
	usleep(20_000);
	wait_for_server($node);
	return 1;
}

my %crashes = (
	'a backend is killed' => sub { return kill_process("backend_type = 'client backend' AND datname = '$_[0]{db}'"); },
	'the worker is killed' => sub {
		turn($_[0]) until sql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND datname = '$_[0]{db}'");
		return kill_process("backend_type = 'dugong worker' AND datname = '$_[0]{db}'");
	},
	'another process is killed' => sub { return kill_process("backend_type IN ('checkpointer', 'background writer', 'walwriter')"); },
	'the postmaster is killed' => sub { $node->kill9; start_again(); return 1; },
	'all processes are killed' => sub {
		my @pids = split /\n/, sql('postgres', 'SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()');
		$node->kill9;
		kill 'KILL', @pids;
		start_again();
		return 1;
	},
	'the server is stopped at once' => sub { $node->stop('immediate'); start_again(); return 1; },
	'a server that recovers is killed' => sub {
		$node->stop('immediate');
		system('pg_ctl', '-W', '-s', '-D', $node->data_dir, '-l', $node->logfile, 'start');
		usleep(rand 150_000);
		my ($pid) = -e $node->data_dir . '/postmaster.pid' ? slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/ : ();
		kill 'KILL', $pid if $pid;
		start_again();
		return 1;
	});

sub crash
{
	my ($load, $what) = @_;
	# At no moment in particular
	my $deadline = time + rand 0.05;

	run_until($load, $load->{history}{operations} + 20 + int rand 120);
	turn($load) while time < $deadline;
	$load->{crashed} = $load->{history}{moment};
	ok($crashes{$what}->($load), $what) or return;
	run_until($load, $load->{history}{operations} + 60);
	calm_down($load);
	return;
}

# All that is made of the log is what the log says.
sub check
{
	my ($db, $what) = @_;
	my $fine = wait_for_things($node, $db, $what);

	wait_for_equality($node, $db, "$what: the query model equals the fold of every account");
	is(sql($db, 'TABLE thing_inline EXCEPT TABLE thing_model UNION ALL (TABLE thing_model EXCEPT TABLE thing_inline)'), '', "$what: the inline projection has the same");
	return $fine;
}

# Both consumers have had all events; the one within the database each once, in its order.
sub check_consumers
{
	my ($load) = @_;
	my $log = "(SELECT id FROM dugong.domain_events WHERE aggregate_type = 'Thing')";
	my $deadline = time + 60;

	while (sql($load->{db}, 'SELECT sum(waiting + leased + retrying + lag_events) FROM dugong.subscription_status') > 0 && time < $deadline)
	{
		$load->{others}->send_sql($appenders, $mail) unless $load->{others}->is_busy($appenders);
		post($load) unless $load->{others}->is_busy($appenders + 1);
		$load->{others}->listen(0.1);
	}
	is(sql($load->{db}, "(TABLE mailed EXCEPT SELECT m.* FROM mailed m JOIN $log l USING (id)) LIMIT 3"), '', 'the consumer within the database has had nothing but the log');
	is(sql($load->{db}, "SELECT count(*) FROM $log l WHERE NOT EXISTS (SELECT FROM mailed m WHERE m.id = l.id)"), '0', 'all of it');
	is(sql($load->{db}, 'SELECT count(*) FROM (SELECT sequence_number - row_number() OVER (PARTITION BY aggregate_id ORDER BY nth) AS d FROM mailed) x WHERE d <> 0'), '0', 'in its order');
	is(scalar(grep { !$load->{delivered}{$_} } split /\n/, sql($load->{db}, "SELECT id FROM $log l")), 0, 'the consumer outside has had all of it');
	is($load->{repeated}, 0, 'and nothing again that it had acknowledged');
	cmp_ok(scalar keys %{ $load->{acknowledged} }, '>', 0, 'it has acknowledged some');
	return;
}

sub check_snapshots
{
	my ($db) = @_;
	is(sql($db, "SELECT count(*) FROM unnest('{Thing,BankAccount}'::text[]) t, dugong.verify_snapshots(t)"), '0', 'every snapshot is the fold of its events');
	cmp_ok(sql($db, 'SELECT count(*) FROM dugong.aggregate_snapshots'), '>', 0, 'there are snapshots');
	return;
}

create_shop('shop');
my $load = start_load('shop', 1);
my @kinds = sort keys %crashes;
my ($start, %done) = (time);
foreach my $round (1 .. $rounds)
{
	# Each kind in turn, then any
	my $what = $round <= @kinds ? $kinds[ $round - 1 ] : $kinds[ int rand @kinds ];

	crash($load, $what);
	$done{$what}++;
	check('shop', "round $round, $what") or last;
}
my $history = $load->{history};
my $check = HistoryCheck::problems($history->{record}, [ $history->events ]);
is(join("\n", splice @{ $check->{problems} }, 0, 5), '', 'every acknowledged command is in the log, once, with the balance that was returned; no read saw anything else');
my %outcomes;
$outcomes{ $_->{outcome} }++ foreach @{ $history->{record} };
cmp_ok($outcomes{unknown}, '>', 0, 'there were commands whose outcome nobody was told');
figure(sprintf '%d crashes (%s) in %.0f s; %d operations, transactions: %s; %d events', $rounds, join(', ', map { "$_: $done{$_}" } sort keys %done), time - $start,
	$history->{operations}, join(', ', map { "$_ $outcomes{$_}" } sort keys %outcomes), sql('shop', 'SELECT count(*) FROM dugong.event_log'));
check_consumers($load);
check_snapshots('shop');
$history->close_all;
$load->{others}->close_all;

#
# synchronous_commit = off
#
create_shop('loose', 'synchronous_commit = off');
$load = start_load('loose', 0);
my $vanished = 0;
sql('loose', 'CHECKPOINT');
foreach my $round (1 .. sized(1, 20))
{
	my $what = 'all processes are killed';

	# What commits do not write, this process would
	$node->poll_query_until('postgres', q{SELECT wait_event = 'WalWriterMain' FROM pg_stat_activity WHERE backend_type = 'walwriter'}) or die;
	kill 'STOP', sql('postgres', q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'});
	crash($load, $what);
	check('loose', "synchronous_commit = off, round $round, $what") or last;
	# What vanished was the last: nothing that was begun after one of these was acknowledged has stayed, if it ended before the crash
	my %there = map { $_->[2] => 1 } $load->{history}->events;
	my $is_there = sub { my ($id) = map { $_->{id} // () } @{ $_[0]{steps} }; return !$id || $there{$id}; };
	my @told = grep { $_->{outcome} eq 'committed' && $_->{acknowledged} <= $load->{crashed} } @{ $load->{history}{record} };
	my @lost = grep { !$is_there->($_) } @told;
	my ($first) = sort { $a <=> $b } map { $_->{acknowledged} } @lost;
	is(scalar(grep { @lost && $_->{committing} > $first && $is_there->($_) && grep { $_->{id} } @{ $_->{steps} } } @told), 0, "round $round: what vanished is the end of the log");
	$vanished += @lost;
	@{ $load->{history}{record} } = ();
}
cmp_ok($vanished, '>', 0, 'acknowledged commands have vanished');
figure("synchronous_commit = off: $vanished acknowledged commands vanished");
check_snapshots('loose');
is(sql('loose', "(SELECT id FROM mailed EXCEPT SELECT id FROM dugong.event_log) LIMIT 3"), '', 'what a consumer within the database has got has not');
$load->{history}->close_all;
$load->{others}->close_all;

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|signal 11|signal 6|XX000/, 'nothing crashed but what was killed');
done_testing();
