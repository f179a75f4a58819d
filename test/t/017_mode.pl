# Projections are changed from async to inline and back while others append: nothing is lost or handled twice.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;
use Things;
use Time::HiRes qw(time usleep);

my $seed = $ENV{DUGONG_SEED} || 20261123;
my ($appenders, $transactions, $changes) = (4, 400, 40);

srand $seed;
note("seed $seed");
my $node = new_server('main', "max_prepared_transactions = 10", "dugong.poll_interval = '200ms'", "deadlock_timeout = '100ms'");
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', 'CREATE EXTENSION dugong');
create_things($node, 'shop');
$node->safe_psql('shop', append_thing($_)) foreach 1 .. 5;

my @pids;
foreach my $n (1 .. $appenders)
{
	my $script = load_script("appender$n", $transactions, 20);
	my $pid = fork // die;

	if (!$pid)
	{
		$node->psql('shop', $script, on_error_stop => 0);
		require POSIX;
		POSIX::_exit(0);
	}
	push @pids, $pid;
}

my %result = (changed => 0, refused => 0);
my $other = '';
foreach my $n (1 .. $changes)
{
	my $projection = ('events', 'model', 'copy')[ int rand 3 ];
	my $mode = ('inline', 'async')[ int rand 2 ];
	my $err = '';

	$node->psql('shop', "\\set VERBOSITY sqlstate\nSELECT dugong.alter_projection('$projection', mode => '$mode')", stderr => \$err, on_error_stop => 0);
	if ($err eq '') { $result{changed}++ }
	elsif ($err =~ /55P03|40P01|40001/) { $result{refused}++ }
	else { $other .= $err }
	usleep(1000 * int rand 200);
}
waitpid($_, 0) foreach @pids;
note("changed $result{changed}, refused $result{refused}");
is($other, '', 'no change failed for another reason');
cmp_ok($result{changed}, '>', $changes / 2, 'most changes came through');
$node->safe_psql('shop', "SELECT dugong.alter_projection(name, mode => 'async') FROM dugong.projections WHERE mode = 'inline'");
wait_for_things($node, 'shop', 'changed under load');

# An appender that stays open: the change gives up, names him, and holds no append up for long
my $idle = $node->background_psql('shop');
$idle->query_safe('BEGIN');
$idle->query_safe(append_thing(1));
my $pid = $idle->query_safe('SELECT pg_backend_pid()');
my $change = fork // die;
if (!$change)
{
	my $err = '';
	$node->psql('shop', "SELECT dugong.alter_projection('events', mode => 'inline')", stderr => \$err);
	require POSIX;
	POSIX::_exit($err =~ /The log's lock is held by process $pid/ ? 0 : 1);
}
my ($slowest, $count) = (0, 0);
while (waitpid($change, 1) == 0)
{
	my $start = time;

	$node->safe_psql('shop', append_thing(2));
	$slowest = time - $start if time - $start > $slowest;
	$count++;
}
is($? >> 8, 0, 'an open appender makes the change give up, and is named');
note(sprintf '%d appends meanwhile, the slowest took %.0f ms', $count, $slowest * 1000);
cmp_ok($slowest, '<', 0.6, 'appends go on meanwhile');
$idle->query_safe('COMMIT');
$idle->quit;
wait_for_things($node, 'shop', 'after the change that gave up');

# A prepared one as well
$node->safe_psql('shop', 'BEGIN;' . append_thing(1) . "PREPARE TRANSACTION 'forgotten'");
my $error;
$node->psql('shop', "SELECT dugong.alter_projection('events', mode => 'inline')", stderr => \$error);
like($error, qr/The log's lock is held by prepared transaction "forgotten"/, 'a prepared transaction is named');
$node->psql('shop', "SELECT dugong.create_projection('new', 'Thing', event_handler => 'thing_event(dugong.domain_event)', mode => 'inline')", stderr => \$error);
like($error, qr/The log's lock is held by prepared transaction "forgotten"/, 'also when an inline projection is created');
$node->safe_psql('shop', append_thing(2) . "COMMIT PREPARED 'forgotten'");
wait_for_things($node, 'shop', 'a prepared transaction');

$node->safe_psql('shop', <<~'SQL');
	CREATE TABLE took (ms float8);
	CREATE PROCEDURE append_for(seconds float8) LANGUAGE plpgsql AS $$
	DECLARE
	    the_end timestamptz := clock_timestamp() + seconds * '1 s'::interval;
	    start timestamptz;
	BEGIN
	    WHILE clock_timestamp() < the_end LOOP
	        start := clock_timestamp();
	        PERFORM FROM dugong.append_event('Thing', '00000003-0000-4000-8000-000000000009', 'Changed', '{"by": 1}');
	        COMMIT;
	        INSERT INTO took VALUES (extract(epoch FROM clock_timestamp() - start) * 1000);
	        COMMIT;
	        PERFORM pg_sleep(0.05);
	    END LOOP;
	END $$;
	SQL

# What is appended while the change waits is not handled while appends wait
sub slow_handler
{
	my ($seconds) = @_;
	return things_handlers() =~ s/BEGIN\n/BEGIN\n    PERFORM pg_sleep($seconds);\n/r;
}

sub change_while_appending
{
	my ($seconds, $open) = @_;
	my $appender = $node->background_psql('shop');
	my $holder = $node->background_psql('shop');

	$node->safe_psql('shop', 'TRUNCATE took');
	$appender->query_until(qr/begun/, "\\echo begun\nCALL append_for($seconds);\n");
	$holder->query_safe('BEGIN');
	$holder->query_safe(append_thing(1));
	my $changing = fork // die;
	if (!$changing)
	{
		my $code = $node->psql('shop', "SELECT dugong.alter_projection('events', mode => 'inline')", stderr => \$error);
		require POSIX;
		POSIX::_exit($code == 0 ? 0 : $error =~ /It does not catch up/ ? 1 : 2);
	}
	usleep($open * 1_000_000);
	$holder->query_safe('COMMIT');
	waitpid $changing, 0;
	my $result = $? >> 8;
	$appender->quit;
	$holder->quit;
	my ($events, $longest) = split /\|/, $node->safe_psql('shop', 'SELECT count(*), round(max(ms)) FROM took');
	note("$events appends, the longest took $longest ms");
	return ($result, $longest);
}
$node->safe_psql('shop', slow_handler(0.03));
my ($result, $longest) = change_while_appending(6, 3);
is($result, 0, 'a change that catches up before each try comes through');
cmp_ok($longest, '<', 400, 'and holds no append up for long');
$node->safe_psql('shop', "SELECT dugong.alter_projection('events', mode => 'async')");
wait_for_things($node, 'shop', 'changed with a slow handler');

$node->safe_psql('shop', slow_handler(0.15));
($result, $longest) = change_while_appending(4, 0);
cmp_ok($result, '<=', 1, 'a handler that is slower than the appends: through when they end, or given up');
cmp_ok($longest, '<', 400, 'and none is held up for long');
$node->safe_psql('shop', things_handlers());
$node->safe_psql('shop', "SELECT dugong.alter_projection('events', mode => 'async')");
wait_for_things($node, 'shop', 'changed with a handler that is too slow');

# An autovacuum of the log gives way
$node->safe_psql('shop', <<~'SQL');
	ALTER TABLE dugong.event_log SET (autovacuum_vacuum_insert_threshold = 0, autovacuum_vacuum_insert_scale_factor = 0,
	    autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1);
	ALTER SYSTEM SET autovacuum_naptime = '1s';
	ALTER SYSTEM SET autovacuum = on;
	SELECT pg_reload_conf();
	SQL
ok($node->poll_query_until('shop', "SELECT count(*) > 0 FROM pg_stat_progress_vacuum WHERE relid = 'dugong.event_log'::regclass"), 'the log is being vacuumed');
is($node->psql('shop', "SELECT dugong.alter_projection('events', mode => 'inline')"), 0, 'and that gives way');

$node->stop;
done_testing();
