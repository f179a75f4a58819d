# A random load of commands and reads on bank accounts, from many sessions at once, and the record of it: what each session sent,
# what it was told, and when.  HistoryCheck.pm holds the record against the log.
#
# A record is a list of transactions {session, level, started, committing, acknowledged, outcome, again, steps}.  Its moments are
# counted by the one process that sends and receives everything, so they need no clock.  committing: when what commits it was sent;
# undefined if it never was.  again: an earlier try's outcome is unknown, this one brought the same event ids.
# A step is {kind, accounts, amount, id, sent, received, balances, error}; balances are what the server told, in cents, '-' for no account.
package History;

use strict;
use warnings;

use Dugong;
use List::Util qw(shuffle);
use Sessions;

my %kind_of_event = (open => 'AccountOpened', deposit => 'MoneyDeposited', withdraw => 'MoneyWithdrawn', close => 'AccountClosed');
my @readers = (
	q{dugong.build_aggregate(NULL::bank_account_state, 'BankAccount', u.id)},
	q{dugong.build_aggregate(NULL::bank_account_state, 'BankAccount', u.id, skip_snapshot => true)},
	q{(SELECT b FROM bank_get_account(u.id) b)},
	q{(SELECT bank_account_fold(e ORDER BY e.sequence_number) FROM dugong.domain_events e WHERE e.aggregate_id = u.id)});

# node, db, sessions, kind (of the accounts' ids), hot (how many accounts are never closed), mortal (how many are), level (of all
# transactions, or any), models (are query models read?), settings of the sessions
sub new
{
	my ($class, %self) = @_;
	my $self = bless { moment => 0, operations => 0, events => 0, errors => {}, record => [], current => [], plan => [], %self }, $class;

	$self->{levels} = $self->{level} ? [ $self->{level} ] : [ ('READ COMMITTED') x 3, 'REPEATABLE READ', 'SERIALIZABLE' ];
	$self->{accounts} = [ map { uuid($self->{kind}, $_) } 1 .. $self->{hot} ];
	$self->{lives} = [ (0) x $self->{mortal} ];
	$self->{psql} = Sessions->new($self->{node}->connstr($self->{db}) . ' ' . ($self->{settings} // ''), $self->{sessions}, keep => 1);
	return $self;
}

# Opens the accounts that are never closed, each a transaction of the record.
sub open_accounts
{
	my ($self) = @_;

	push @{ $self->{plan}[0] }, map { $self->transaction(0, $self->command('open', [$_], 5_000_000)) } @{ $self->{accounts} };
	while (@{ $self->{plan}[0] } || $self->is_busy) { $self->turn(0.1, 1); }
	return;
}

sub one_of { return $_[ int rand @_ ]; }

# An account: one of those that live for ever, or one that has been opened some time, or is about to be.
sub account
{
	my ($self) = @_;
	return one_of(@{ $self->{accounts} }) if !$self->{mortal} || rand() < 0.9;
	my $n = int rand $self->{mortal};
	return uuid($self->{kind} + 1, 1000 * $self->{lives}[$n] + $n);
}

sub accounts
{
	my ($self, $count) = @_;
	my %accounts;
	$accounts{ $self->account } = 1 while keys %accounts < $count;
	return sort keys %accounts;
}

sub command
{
	my ($self, $kind, $accounts, $amount) = @_;
	my $id = uuid($self->{kind} + 2, ++$self->{events});
	my $list = join ', ', map { "'$_'" } @$accounts;
	my $money = defined $amount ? sprintf('%d.%02d', $amount / 100, $amount % 100) : undef;
	my $call = $kind eq 'open' ? "bank_open_account('Owner', $money, $list, '$id')"
	  : $kind eq 'close' ? "bank_close_account($list, '$id')" : "bank_$kind($list, $money, '$id')";

	return { kind => $kind, accounts => $accounts, amount => $amount, id => $id, sql => "SELECT (balance * 100)::bigint FROM $call;" };
}

sub random_command
{
	my ($self) = @_;
	my $kind = rand;
	my $amount = 1 + int rand 2_000_000;

	return $self->command('transfer', [ shuffle $self->accounts(2) ], $amount) if $kind < 0.5;
	return $self->command('deposit', [ $self->account ], $amount) if $kind < 0.7;
	return $self->command('withdraw', [ $self->account ], $amount) if $kind < 0.9 || !$self->{mortal};
	my $n = int rand $self->{mortal};
	return $self->command('open', [ uuid($self->{kind} + 1, 1000 * $self->{lives}[$n] + $n) ], $amount) if $kind < 0.95;
	# Whoever comes later finds another account in its place, or this one closed
	my $account = uuid($self->{kind} + 1, 1000 * $self->{lives}[$n] + $n);
	$self->{lives}[$n]++ if rand() < 0.7;
	return $self->command('close', [$account]);
}

# One statement that reads so many accounts.
sub read_accounts
{
	my ($self, $count) = @_;
	my @accounts = $self->accounts($count);
	my $reader = one_of(@readers);

	return { kind => 'read', accounts => \@accounts, sql => q{SELECT string_agg(coalesce(((x.s).balance * 100)::bigint::text, '-'), ' ' ORDER BY x.n) FROM }
		  . "(SELECT u.n, $reader AS s FROM unnest('{" . join(',', @accounts) . "}'::uuid[]) WITH ORDINALITY u(id, n) OFFSET 0) x;" };
}

sub read_locked
{
	my ($self) = @_;
	my $account = one_of(@{ $self->{accounts} });
	return { kind => 'locked', accounts => [$account], sql => "SELECT ((l).balance * 100)::bigint FROM dugong.load_for_update(NULL::bank_account_state, 'BankAccount', '$account') l;" };
}

sub read_model
{
	my ($self) = @_;
	my $account = $self->account;
	return { kind => 'model', accounts => [$account], sql => "CALL dugong.wait_for_projection('bank_account', '30 s');\n"
		  . "SELECT coalesce((SELECT (balance * 100)::bigint::text FROM bank_account_query_model WHERE id = '$account'), '-');" };
}

sub transaction
{
	my ($self, $n, @steps) = @_;
	return { session => $n, level => $self->{level} // 'READ COMMITTED', steps => [@steps] };
}

sub random_transaction
{
	my ($self, $n) = @_;
	my $kind = rand;

	return $self->transaction($n, $self->random_command) if $kind < 0.45;
	return $self->transaction($n, $self->read_accounts(1 + int rand 3)) if $kind < 0.65;
	return $self->transaction($n, $self->read_model) if $kind < 0.7 && $self->{models};
	my @steps = map { my $step = rand; $step < 0.5 ? $self->random_command : $step < 0.9 ? $self->read_accounts(1 + int rand 3) : $self->read_locked } 1 .. 2 + int rand 2;
	my $transaction = $self->transaction($n, @steps);
	$transaction->{level} = one_of(@{ $self->{levels} });
	$transaction->{end} = rand() < 0.9 ? 'COMMIT;' : 'ROLLBACK;';
	return $transaction;
}

# The same again, with other event ids unless the last try may have succeeded.
sub again
{
	my ($self, $transaction) = @_;
	my $known = $transaction->{outcome} eq 'aborted';
	my @steps = map { my $step = $_;
		$known && $step->{id} ? $self->command(@$step{qw(kind accounts amount)}) : { map { $_ => $step->{$_} } qw(kind accounts amount id sql) } } @{ $transaction->{steps} };
	my $next = $self->transaction($transaction->{session}, @steps);

	$next->{$_} = $transaction->{$_} foreach qw(level end);
	return $next if $known;
	$transaction->{outcome} = 'replaced';
	$next->{again} = $transaction->{again} // $transaction->{committing};
	return $next;
}

# The next thing that a session is to send, or undef.
sub next_sql
{
	my ($self, $transaction) = @_;

	return $transaction->{steps}[0]{sql} if !$transaction->{end};
	return "BEGIN ISOLATION LEVEL $transaction->{level};" if !$transaction->{begun};
	my ($step) = grep { !$_->{sent} } @{ $transaction->{steps} };
	return 'ROLLBACK;' if $transaction->{failed};
	return $step ? $step->{sql} : $transaction->{end};
}

sub send_next
{
	my ($self, $n) = @_;
	my $transaction = $self->{current}[$n];
	my $sql = $self->next_sql($transaction);
	my $moment = ++$self->{moment};
	my $step;

	if ($transaction->{end} && !$transaction->{begun}) { $transaction->{begun} = 1; }
	elsif (!$transaction->{failed}) { ($step) = grep { !$_->{sent} } @{ $transaction->{steps} }; }
	$transaction->{started} //= $moment if $step;
	$step->{sent} = $moment if $step;
	$transaction->{committing} = $moment if !$transaction->{end} || $sql eq 'COMMIT;';
	$self->{psql}->send_sql($n, $sql, sub { $self->answered($n, $transaction, $step, $sql, $_[0]); });
	return;
}

sub finish
{
	my ($self, $n, $outcome) = @_;
	my $transaction = $self->{current}[$n];

	# The first try's outcome is as unknown as before
	$outcome = 'unknown' if $outcome eq 'aborted' && $transaction->{again};
	$transaction->{outcome} = $outcome;
	$transaction->{acknowledged} = $self->{moment} if $outcome eq 'committed';
	push @{ $self->{record} }, $transaction;
	$self->{current}[$n] = undef;
	# Clients try again, for a while
	push @{ $self->{plan}[$n] }, $self->again($transaction)
	  if $outcome eq 'unknown' ? rand() < 0.5 : $transaction->{failed} && $transaction->{failed} =~ /^40/ && rand() < 0.7;
	return;
}

# A session has got its answer, or lost its server (undef).
sub answered
{
	my ($self, $n, $transaction, $step, $sql, $output) = @_;
	my $error = ($output // '') =~ /(?:ERROR|FATAL): +(\w{5})/ ? $1 : undef;

	$self->{moment}++;
	# The session was ended, and nobody knows before or after what
	$output = undef if $error && $error =~ /^57P/;
	if ($step)
	{
		$self->{operations}++;
		$step->{received} = $self->{moment};
		$step->{error} = $error;
		$step->{balances} = [ split / /, $1 ] if !$error && defined $output && $output =~ /^([-\d ]+)$/;
	}
	$self->{errors}{$error}++ if $error;
	return $self->finish($n, defined $transaction->{committing} ? 'unknown' : 'aborted') if !defined $output;
	$transaction->{failed} = $error if $error;
	return $self->finish($n, 'committed') if !$error && defined $transaction->{committing};
	return $self->finish($n, 'aborted') if !$transaction->{end} || $sql eq 'ROLLBACK;' || $sql eq 'COMMIT;';
	return;
}

# Gives every idle session something to do, and takes answers for so many seconds.  draining: only what has begun is ended.
sub turn
{
	my ($self, $seconds, $draining) = @_;

	foreach my $n ($self->{psql}->idle)
	{
		$self->{current}[$n] //= shift @{ $self->{plan}[$n] // [] };
		$self->{current}[$n] //= $self->random_transaction($n) unless $draining;
		$self->send_next($n) if $self->{current}[$n];
	}
	$self->{psql}->listen($seconds);
	return;
}

sub is_busy
{
	my ($self) = @_;
	return $self->{psql}->idle < $self->{sessions} || grep { $_ } @{ $self->{current} };
}

# Ends all that has begun.
sub drain
{
	my ($self, $seconds) = @_;
	my $deadline = time + ($seconds // 60);

	while ($self->is_busy || grep { $_ && @$_ } @{ $self->{plan} })
	{
		die 'the load does not end' if time > $deadline;
		$self->turn(0.1, 1);
	}
	return;
}

sub close_all { my ($self) = @_; $self->{psql}->close_all; return; }

# The log's part, in its order: [account, sequence number, event id, kind, cents, id of the event that triggered it].
sub events
{
	my ($self) = @_;
	my ($first, $last) = (uuid($self->{kind}, 0), uuid($self->{kind} + 2, 0));
	my %kind = reverse %kind_of_event;

	return map { my @event = split /\|/, $_, -1; $event[3] = $kind{ $event[3] } // $event[3]; \@event }
	  split /\n/, $self->{node}->safe_psql($self->{db}, <<~SQL);
		SELECT aggregate_id, sequence_number, id, type, (coalesce(payload ->> 'amount', payload ->> 'initialBalance')::numeric * 100)::bigint, triggered_by_event_id
		FROM dugong.domain_events WHERE aggregate_type = 'BankAccount' AND aggregate_id BETWEEN '$first' AND '$last' ORDER BY position
		SQL
}

1;
