# Histories: commands and reads on bank accounts from 16 sessions at once, at all isolation levels, some of them cancelled or killed, and
# a server that crashes; what they were told is held against the log (HistoryCheck.pm).  DUGONG_SEED, DUGONG_STEPS (operations).
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use History;
use HistoryCheck;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $seed = $ENV{DUGONG_SEED} || sized(20261124, time % 1_000_000);
my $operations = $ENV{DUGONG_STEPS} || sized(6_000, 100_000);
srand $seed;
diag("DUGONG_SEED=$seed");

my $node = new_server('main', 'restart_after_crash = on', 'fsync = off', "deadlock_timeout = '20ms'", 'max_connections = 60', 'log_statement = none');
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', 'CREATE EXTENSION dugong');
my $allowed = qr/^(UG00[1234]|40001|40P01|57014|57P0[12])$/;

# Something happens to one of the sessions; now and then to all.
sub disturb
{
	my ($history, $crashes) = @_;
	my $sessions = $history->{psql};
	my $n = int rand $history->{sessions};
	my $backend = $sessions->backend($n);

	return if !$backend;
	if ($crashes) { $node->stop('immediate'); $node->start; }
	elsif (rand() < 0.3) { $sessions->kill_client($n); }
	else { $node->psql('postgres', 'SELECT ' . (rand() < 0.5 ? 'pg_cancel_backend' : 'pg_terminate_backend') . "($backend)"); }
	return;
}

# So many operations; returns the history.
sub make_history
{
	my ($what, $count, $crashes, %options) = @_;
	my $left = $crashes;
	my $history = History->new(node => $node, db => 'shop', sessions => 16, %options);
	my $next = my $every = sized(150, 500);
	my $start = time;
	my $deadline = $start + 900;

	$history->open_accounts;
	while ($history->{operations} < $count && time < $deadline)
	{
		$history->turn(0.05);
		next if $history->{operations} < $next;
		$next += $every;
		disturb($history, $left && $next > $count * ($crashes - $left + 0.5) / $crashes ? $left-- : 0);
	}
	$history->drain;
	$history->close_all;
	my %outcomes;
	$outcomes{ $_->{outcome} }++ foreach @{ $history->{record} };
	figure(sprintf '%s: %d operations in %.1f s, transactions: %s; errors: %s', $what, $history->{operations}, time - $start,
		map { my $of = $_; join ', ', map { "$_ $of->{$_}" } sort keys %$of } \%outcomes, $history->{errors});
	cmp_ok($history->{operations}, '>=', $count, "$what: $count operations");
	is(join(' ', grep { $_ !~ $allowed } sort keys %{ $history->{errors} }), '', "$what: no error but refusals, conflicts and what was done to the sessions");
	cmp_ok($outcomes{$_} // 0, '>', 0, "$what: some are $_") foreach 'committed', 'aborted', $crashes ? 'unknown' : ();
	return $history;
}

sub check
{
	my ($what, $history, %options) = @_;
	my $start = time;
	my $check = HistoryCheck::problems($history->{record}, [ $history->events ], %options);

	is(join("\n", splice @{ $check->{problems} }, 0, 5), '', "$what: no anomaly");
	figure(sprintf '%s: %d balances read, %d fit more than one event, checked in %.1f s', $what, @$check{qw(reads ambiguous)}, time - $start);
	cmp_ok($check->{ambiguous}, '<', $check->{reads} / 20, "$what: nearly every read is known to have seen one event");
	return;
}

# The record with one thing changed: it must be found.
sub is_found
{
	my ($what, $history, $change, $like) = @_;
	my @record = map { my $transaction = $_; +{ %$transaction, node => undef, snapshot => undef,
			steps => [ map { +{ %$_, balances => $_->{balances} && [ @{ $_->{balances} } ], snapshot => undef, number => undef } } @{ $transaction->{steps} } ] } } @{ $history->{record} };
	my @events = map { [@$_] } $history->events;

	$change->(\@record, \@events);
	like(join("\n", @{ HistoryCheck::problems(\@record, \@events)->{problems} }), $like, "found: $what");
	return;
}

my $mixed = make_history('all levels', $operations * 0.8, sized(1, 5), kind => 1, hot => 12, mortal => 6, models => 1);
wait_for_equality($node, 'shop', 'the query model equals the fold of every account');
check('all levels', $mixed);
my $serializable = make_history('serializable', $operations * 0.2, 0, kind => 0x11, hot => 16, mortal => 0, level => 'SERIALIZABLE',
	settings => "options='-c default_transaction_isolation=serializable'");
check('serializable', $serializable, whole => 1);

#
# The checker finds what it is there for
#
my $one = sub { my ($record, $is) = @_; return (grep { $_->{outcome} eq 'committed' && !$_->{again} && $is->($_) } @$record)[-1]; };
my $command = sub { my $record = shift; return $one->($record, sub { my $t = shift; @{ $t->{steps} } == 1 && $t->{steps}[0]{kind} eq 'deposit' }); };
my $transfer = sub { my $record = shift; return $one->($record, sub { my $t = shift; !$t->{end} && $t->{steps}[0]{kind} eq 'transfer' }); };
my $is_of = sub { my ($transaction, $event) = @_; my $id = $transaction->{steps}[0]{id}; return $event->[2] eq $id || $event->[5] eq $id; };

# The balance of an account after each of its events
my $balances = sub {
	my ($events, $account) = @_;
	my @balances = ('-');
	foreach my $event (grep { $_->[0] eq $account } @$events)
	{
		push @balances, $event->[3] eq 'open' ? $event->[4] : $balances[-1] + ($event->[3] eq 'withdraw' ? -$event->[4] : $event->[4]);
	}
	return @balances;
};
my $read = sub {
	my ($from, $to, %balance_of) = @_;
	my @accounts = sort keys %balance_of;
	return { session => 99, level => 'READ COMMITTED', outcome => 'committed', started => $from, committing => $from, acknowledged => $to,
		steps => [ { kind => 'read', accounts => \@accounts, balances => [ @balance_of{@accounts} ], sent => $from, received => $to } ] };
};

is_found('nothing, when nothing is changed', $mixed, sub { }, qr/^$/);
is_found('a wrong balance returned', $mixed, sub { $command->($_[0])->{steps}[0]{balances}[0]++ }, qr/^session \d+ at \d+: deposit \S+ returned \d+, not \d+$/);
is_found('an acknowledged command whose event is lost', $mixed, sub {
	my ($record, $events) = @_;
	my $lost = (grep { @{ $_->{steps} } == 1 && $_->{steps}[0]{id} && $_->{steps}[0]{id} eq $events->[-1][2] } @$record)[0] // $one->($record, sub { grep { ($_->{id} // '') eq ($events->[-1][5] || $events->[-1][2]) } @{ $_[0]{steps} } });
	pop @$events;
	$lost->{outcome} = 'committed';
}, qr/events are there|nobody has sent/);
is_found('half of a transfer', $mixed, sub {
	my ($record, $events) = @_;
	my $half = $transfer->($record);
	@$events = grep { !($is_of->($half, $_) && $_->[3] eq 'deposit') } @$events;
}, qr/1 of 2 events are there/);
is_found('a command done twice', $mixed, sub {
	my ($record, $events) = @_;
	my $done = $command->($record);
	my ($event) = grep { $is_of->($done, $_) } @$events;
	push @$events, [@$event];
}, qr/nobody has sent, or twice/);
is_found('an event of who was told that it failed', $mixed, sub { $command->($_[0])->{outcome} = 'aborted' }, qr/aborted.*|1 of 1 events are there/);
is_found('a read of what was overwritten and acknowledged before', $mixed, sub {
	my ($record, $events) = @_;
	my ($account, @end) = ($mixed->{accounts}[0], 1e9, 1e9 + 1);
	push @$record, $read->(@end, $account => ($balances->($events, $account))[-2]);
}, qr/^session 99 at 1000000000: read read \d+ of \S+, which it was not/);
is_found('a read of what was not yet sent', $mixed, sub {
	my ($record, $events) = @_;
	my $account = $mixed->{accounts}[0];
	push @$record, $read->(1, 2, $account => ($balances->($events, $account))[-1]);
}, qr/^session 99 at 1: read read \d+ of \S+, which it was not/);
is_found('a read of two accounts that saw half of a transfer', $mixed, sub {
	my ($record, $events) = @_;
	my $seen = $transfer->($record);
	my ($from, $to) = @{ $seen->{steps}[0]{accounts} };
	my ($paid, $received) = map { my $kind = $_; (grep { $is_of->($seen, $_) && $_->[3] eq $kind } @$events)[0][1] } 'withdraw', 'deposit';
	push @$record, $read->($seen->{committing} - 1e6, $seen->{acknowledged} + 1e6,
		$from => ($balances->($events, $from))[$paid], $to => ($balances->($events, $to))[ $received - 1 ]);
}, qr/^no order: .*session 99/);
is_found('two reads that saw two commands in different orders', $mixed, sub {
	my ($record, $events) = @_;
	my @last = map { [ $_, ($balances->($events, $_))[ -2, -1 ] ] } @{ $mixed->{accounts} }[ 0, 1 ];
	push @$record, $read->(1, 1e9, $last[0][0] => $last[0][1], $last[1][0] => $last[1][2]), $read->(1, 1e9, $last[0][0] => $last[0][2], $last[1][0] => $last[1][1]);
}, qr/^no order: .*session 99/);

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|signal 11|signal 6|XX000/, 'nothing crashed but what was killed');
done_testing();
