# Random interleavings of appends, aborts, savepoints, two-phase commits, polls and pages read: nothing is lost, nothing
# comes twice.
#
# DUGONG_SEED chooses another sequence of steps, DUGONG_STEPS another number of them.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Sessions;
use Test::More;

my $seed = $ENV{DUGONG_SEED} || 20261123;
my $steps = $ENV{DUGONG_STEPS} || 15000;
my ($appenders, $consumers) = (5, 3);
my $reader = $appenders + $consumers - 1;      # pages through the log; the others of them poll
my $allowed = qr/^(40001|40P01|25P02|3B001|UG001|UG002)$/;

srand $seed;
note("seed $seed, $steps steps");

my $node = new_server('main', 'max_prepared_transactions = 20', "deadlock_timeout = '20ms'",
	'dugong.max_workers = 0',
	'log_statement = none');
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', q{CREATE EXTENSION dugong; SELECT dugong.create_aggregate_type('Thing')});

# Who does what comes from the seed; which of two waiting sessions wins is the server's.
my $sessions = Sessions->new($node->connstr('shop'), $appenders + $consumers + 1);
my $janitor = $appenders + $consumers;      # ends prepared transactions when all others wait
my @plan = map { [] } 0 .. $appenders + $consumers - 1;    # statements to come, by session
my @running = map { undef } 0 .. $appenders + $consumers - 1;    # the transaction of a session
my %prepared;      # gid => transaction
my @open;          # accounts, or those about to be
my (@committed, @rolled_back, %errors, %counts);
my ($next_event, $next_account, $next_gid) = (0, 0, 0);
my @read;          # positions in the order of reading

sub one_of { return $_[ int rand @_ ]; }

# An append and the event id that it is known by.
sub append
{
	my $id = uuid(1, ++$next_event);

	if (rand() < 0.4)
	{
		# The engine's own append: one event, or several at once
		my $thing = uuid(3, int rand 200);
		return { sql => "SELECT FROM dugong.append_event('Thing', '$thing', 'Happened', event_id => '$id');", event => $id } if rand() < 0.8;
		my $other = uuid(1, ++$next_event);
		return { sql => "SELECT FROM dugong.append_events('Thing', '$thing', "
			  . qq{'[{"type": "One", "eventId": "$id"}, {"type": "Two", "eventId": "$other"}]');}, event => [ $id, $other ] };
	}
	if (@open < 5 || rand() < 0.3)
	{
		my $account = uuid(2, ++$next_account);
		return { sql => "SELECT FROM bank_open_account('x', 1, '$account', '$id');", event => $id, opens => $account };
	}
	# Old accounts, and now and then one of the last, where others are at work
	my $account = $open[ rand() < 0.5 ? rand @open : -1 - int rand 5 ];
	return { sql => "SELECT FROM bank_deposit('$account', 1, '$id');", event => $id };
}

# Makes a transaction of an appender: a list of statements.
sub plan_appends
{
	my $transaction = { events => [], opened => [], failed => 0 };
	my @made = ({ sql => 'BEGIN ISOLATION LEVEL ' . one_of(('READ COMMITTED') x 4, 'REPEATABLE READ', 'SERIALIZABLE') . ';' });

	foreach (1 .. 1 + int rand 3)
	{
		my $shape = rand;
		if ($shape < 0.6) { push @made, append(); }
		else
		{
			push @made, { sql => "SAVEPOINT s$_;", save => 1 }, append(),
			  $shape < 0.8 ? { sql => "ROLLBACK TO s$_;", back => 1 } : { sql => "RELEASE s$_;" };
		}
	}
	my $end = rand;
	if ($end < 0.6) { push @made, { sql => 'COMMIT;', end => 'commit' }; }
	elsif ($end < 0.8) { push @made, { sql => 'ROLLBACK;', end => 'rollback' }; }
	else { push @made, { sql => "PREPARE TRANSACTION 'p" . ++$next_gid . "';", end => 'prepare', gid => "p$next_gid" }; }
	return ($transaction, @made);
}

# A consumer polls, sometimes twice under one snapshot, sometimes in vain.
sub plan_polls
{
	my $poll = { sql => 'CALL dugong.run_projections();', poll => 1 };
	my @made = ({ sql => 'SET dugong.batch_size = ' . one_of(1, 2, 5, 1000) . ';' });

	return (@made, $poll) if rand() < 0.6;
	return (@made, { sql => 'BEGIN ISOLATION LEVEL ' . one_of('REPEATABLE READ', 'READ COMMITTED', 'SERIALIZABLE') . ';' },
		$poll, ($poll) x int rand 2, { sql => one_of('COMMIT;', 'COMMIT;', 'ROLLBACK;') });
}

sub finish
{
	my ($transaction, $how) = @_;
	push @{ $how eq 'commit' ? \@committed : \@rolled_back }, @{ $transaction->{events} };
	push @open, @{ $transaction->{opened} } if $how eq 'commit';
	$counts{$how}++;
	return;
}

sub note_errors
{
	my ($output) = @_;
	my $failed = 0;

	while ($output =~ /^(?:psql:)?.*?(?:ERROR|FATAL): +(\w{5})/mg) { $errors{$1}++; $failed = 1; }
	return $failed;
}

# A statement of an appender has ended.
sub after_append_step
{
	my ($n, $step, $output) = @_;
	my $transaction = $running[$n];
	my $failed = note_errors($output);

	push @{ $transaction->{events} }, ref $step->{event} ? @{ $step->{event} } : $step->{event} if $step->{event} && !$failed;
	if ($step->{opens} && !$failed)
	{
		# Now and then others come before it is committed
		push @{ rand() < 0.1 ? \@open : $transaction->{opened} }, $step->{opens};
	}
	# Where a savepoint is set, nothing has failed yet; going back there mends what has since
	$transaction->{saved} = @{ $transaction->{events} } if $step->{save} && !$failed;
	if ($step->{back} && !$failed)
	{
		push @rolled_back, splice @{ $transaction->{events} }, $transaction->{saved};
		$transaction->{failed} = 0;
	}
	$transaction->{failed} = 1 if $failed && !$step->{end};
	return unless $step->{end};
	if ($failed || $transaction->{failed} || $step->{end} eq 'rollback') { finish($transaction, 'rollback'); }
	elsif ($step->{end} eq 'prepare') { $prepared{ $step->{gid} } = $transaction; $counts{prepare}++; }
	else { finish($transaction, 'commit'); }
	return;
}

sub end_prepared
{
	my ($n) = @_;
	my $gid = one_of(sort keys %prepared);
	my $transaction = delete $prepared{$gid};
	my $how = rand() < 0.6 ? 'commit' : 'rollback';

	$sessions->send_sql($n, "$how prepared '$gid';", sub {
		die "could not $how $gid: $_[0]" if note_errors($_[0]);
		finish($transaction, $how);
	});
	return;
}

sub step_appender
{
	my ($n) = @_;

	if (!@{ $plan[$n] })
	{
		# What one prepared, any other may end
		return end_prepared($n) if %prepared && rand() < 0.3 + keys(%prepared) / 15;
		($running[$n], @{ $plan[$n] }) = plan_appends();
	}
	my $step = shift @{ $plan[$n] };
	$sessions->send_sql($n, $step->{sql}, sub { after_append_step($n, $step, $_[0]); });
	return;
}

# Reads a page behind the last position; under an old snapshot, too, and sometimes in vain.
sub plan_reads
{
	my $read = { read => 1 };

	return ($read) if rand() < 0.7;
	return ({ sql => 'BEGIN ISOLATION LEVEL REPEATABLE READ;' }, $read, $read, { sql => one_of('COMMIT;', 'ROLLBACK;') });
}

sub step_reader
{
	@{ $plan[$reader] } = plan_reads() unless @{ $plan[$reader] };
	my $step = shift @{ $plan[$reader] };
	my $sql = $step->{read}
	  ? 'SELECT position FROM dugong.read_events(' . ($read[-1] // 0) . ', ' . one_of(1, 3, 100) . ');'
	  : $step->{sql};

	$sessions->send_sql($reader, $sql, sub {
		return if note_errors($_[0]) || !$step->{read};
		push @read, split /\n/, $_[0];
		$counts{read}++;
	});
	return;
}

sub step_consumer
{
	my ($n) = @_;

	return step_reader() if $n == $reader;

	@{ $plan[$n] } = plan_polls() unless @{ $plan[$n] };
	my $step = shift @{ $plan[$n] };
	$sessions->send_sql($n, $step->{sql}, sub {
		my $failed = note_errors($_[0]);
		$counts{poll}++ if $step->{poll} && !$failed;
	});
	return;
}

sub step
{
	my @idle = grep { $_ != $janitor } $sessions->idle;

	# Appenders wait for each other's end, which the server breaks, or for a prepared transaction's
	end_prepared($janitor) if %prepared && !$sessions->is_busy($janitor) && !grep { $_ < $appenders } @idle;
	if (!@idle)
	{
		$sessions->listen(1);
		return;
	}
	my $n = one_of(@idle);
	$n < $appenders ? step_appender($n) : step_consumer($n);
	$sessions->wait_for($n, 0.002);
	return;
}

step() foreach 1 .. $steps;

# Ends all that is open.
my $deadline = time + 60;
while (time < $deadline)
{
	my @idle = $sessions->idle;
	my ($open) = grep { $_ != $janitor && @{ $plan[$_] } } @idle;

	if (defined $open) { $open < $appenders ? step_appender($open) : step_consumer($open); }
	elsif (%prepared && !$sessions->is_busy($janitor)) { end_prepared($janitor); }
	elsif (@idle == $appenders + $consumers + 1 && !%prepared) { last; }
	$sessions->listen(0.01);
}
cmp_ok(time, '<', $deadline, 'every statement came to an end');
$sessions->close_all;

note(join(', ', map { "$_: $counts{$_}" } sort keys %counts));
note('errors: ' . join(', ', map { "$_: $errors{$_}" } sort keys %errors));
is(join(' ', grep { $_ !~ $allowed } sort keys %errors), '', 'no error but conflicts');
cmp_ok($counts{$_} // 0, '>', $steps / 200, "enough of kind $_") foreach qw(commit rollback prepare poll read);

sub count_of { my ($sql) = @_; return $node->safe_psql('shop', "SELECT count(*) FROM ($sql) AS x"); }

$node->safe_psql('shop', 'CREATE TABLE said (id uuid, how text)');
$node->safe_psql('shop', 'COPY said FROM STDIN;' . join("\n", '', map({ "$_\tcommit" } @committed), map({ "$_\trollback" } @rolled_back), '\\.', ''));
is(count_of('SELECT FROM dugong.event_log'), scalar @committed, 'as many events as were committed');
is(count_of(q{SELECT FROM dugong.event_log JOIN said USING (id) WHERE how = 'commit'}), scalar @committed, 'all that were committed');
is(count_of(q{SELECT FROM dugong.event_log JOIN said USING (id) WHERE how = 'rollback'}), 0, 'none that was rolled back');
is(count_of(<<'SQL'), 0, 'sequence numbers are 1 to n, in the order of positions');
	SELECT FROM (SELECT sequence_number, row_number() OVER (PARTITION BY aggregate_type_id, aggregate_id ORDER BY position) AS number FROM dugong.event_log) AS e
	WHERE sequence_number <> number
SQL
while (my $page = $node->safe_psql('shop', 'SELECT position FROM dugong.read_events(' . ($read[-1] // 0) . ')')) { push @read, split /\n/, $page; }
is(join(' ', @read), join(' ', split(/\n/, $node->safe_psql('shop', 'SELECT position FROM dugong.event_log ORDER BY position'))),
	'the pages that were read are the log, in its order, each event once');
my $holes = count_of('SELECT FROM dugong.checkpoint_holes');
$node->safe_psql('shop', 'CALL dugong.run_projections()');
is_equal_to_fold($node, 'shop', 'the query model equals the fold of every account');
$node->safe_psql('shop', 'CALL dugong.run_projections()');
note("holes before the last polls: $holes");
is(count_of('SELECT FROM dugong.checkpoint_holes'), 0, 'no hole stays behind');

$node->stop;
done_testing();
