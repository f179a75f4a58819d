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

$node->stop;
done_testing();
