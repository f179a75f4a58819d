# Holds a record of History.pm against the log: problems() says what cannot have happened, if nothing is wrong.
#
# Each acknowledged command's events are in the log, once, with the state that was returned, and nothing else is; a transaction is there
# as a whole or not at all.  What a read was told is the account after one of the events that it can have seen: all that were
# acknowledged before it was sent, and none that was sent after it was answered.
#
# Then all moments must fit one order.  A node is a commit, or a snapshot (of a statement, of a transaction under REPEATABLE READ); an
# edge says which came first: an account's events in the order of their numbers, a snapshot behind the event that it saw and before the
# next one, and whatever was answered before another was sent.  A cycle is an anomaly: a read of two accounts that shows half of a
# transfer, a commit that an older snapshot sees and a younger does not.  With whole => 1 a transaction is one node, commit and
# snapshot in one: the cycles that SERIALIZABLE forbids, write skew among them.
package HistoryCheck;

use strict;
use warnings;

my $never = 9e15;

sub problems
{
	my ($record, $events, %options) = @_;
	my $self = bless { record => $record, events => $events, problems => [], nodes => [], edges => [], known => {}, accounts => {}, ambiguous => 0, reads => 0, %options }, __PACKAGE__;

	$self->index_steps;
	$self->read_log;
	$self->settle($_) foreach @$record;
	if (!@{ $self->{problems} })
	{
		$self->index_accounts;
		$self->check_transaction($_) foreach grep { $_->{outcome} ne 'replaced' } @$record;
		$self->order_accounts;
		$self->find_cycle;
	}
	return $self;
}

sub problem { my ($self, $what) = @_; push @{ $self->{problems} }, $what; return; }

# Which step an event id belongs to
sub index_steps
{
	my ($self) = @_;

	foreach my $transaction (grep { $_->{outcome} ne 'replaced' } @{ $self->{record} })
	{
		$transaction->{entries} = [];
		$self->{known}{ $_->{id} } = [ $transaction, $_ ] foreach grep { $_->{id} } @{ $transaction->{steps} };
	}
	return;
}

# What a step's event in an account is to be: [kind, cents].
sub expected
{
	my ($step, $account) = @_;

	return [ $step->{kind}, $step->{amount} // '' ] if $step->{kind} ne 'transfer';
	return [ $step->{accounts}[0] eq $account ? 'withdraw' : 'deposit', $step->{amount} ];
}

# The accounts' events: who made them, and the balance after each.
sub read_log
{
	my ($self) = @_;
	my %seen;

	foreach my $event (@{ $self->{events} })
	{
		my ($account, $number, $id, $kind, $amount, $cause) = @$event;
		my ($transaction, $step) = @{ $self->{known}{$id} // ($cause && $self->{known}{$cause}) // [] };
		my $states = $self->{accounts}{$account}{states} //= ['-'];
		my $last = $states->[-1];

		if (!$step || $seen{$id}++ || !grep({ $_ eq $account } @{ $step->{accounts} }) || "@{ expected($step, $account) }" ne "$kind $amount")
		{
			$self->problem("an event that nobody has sent, or twice: @$event");
			next;
		}
		$self->problem("event $number of $account is its " . @$states . 'th') if $number != @$states;
		$self->problem("the account has no balance for it: @$event") if ($last eq '-') != ($kind eq 'open') || $kind eq 'withdraw' && $last < $amount;
		push @$states, $kind eq 'open' ? $amount : $kind eq 'close' ? '-' : $last + ($kind eq 'withdraw' ? -$amount : $amount);
		push @{ $self->{accounts}{$account}{writers} }, $transaction;
		push @{ $transaction->{entries} }, [ $account, $number, $step ];
		$step->{number}{$account} = $number;
	}
	return;
}

# A transaction is in the log as a whole, or not; so an unknown outcome becomes known.
sub settle
{
	my ($self, $transaction) = @_;
	my $outcome = $transaction->{outcome};
	return if $outcome eq 'replaced';
	my $wanted = 0;
	$wanted += $_->{kind} eq 'transfer' ? 2 : $_->{id} ? 1 : 0 foreach @{ $transaction->{steps} };
	my $found = @{ $transaction->{entries} };
	my $who = "session $transaction->{session}, $outcome at " . ($transaction->{committing} // '-') . ': ' . join(', ', map { $_->{id} // $_->{kind} } @{ $transaction->{steps} });

	$self->problem("$found of $wanted events are there ($who)") if $outcome eq 'committed' ? $found != $wanted : $outcome eq 'aborted' ? $found : $found && $found != $wanted;
	$transaction->{done} = $found > 0;
	$transaction->{sure} = $transaction->{acknowledged} // $never;
	$transaction->{possible} = $transaction->{again} // $transaction->{committing};
	return;
}

# An account's balances and who made them; it may have no event.
sub account
{
	my ($self, $account) = @_;
	return $self->{accounts}{$account} // { states => ['-'], writers => [], sure => [-1], possible => [-1] };
}

# By account: the least moment at which event k and all before must have been visible, the first at which one of k and before can have been.
sub index_accounts
{
	my ($self) = @_;

	foreach my $account (values %{ $self->{accounts} })
	{
		my @writers = @{ $account->{writers} };
		my (@sure, @possible);
		$sure[ @writers + 1 ] = $never;
		foreach my $k (reverse 1 .. @writers)
		{
			my $sure = $writers[ $k - 1 ]{sure};
			$sure[$k] = $sure < $sure[ $k + 1 ] ? $sure : $sure[ $k + 1 ];
		}
		$sure[0] = $possible[0] = -1;
		foreach my $k (1 .. @writers)
		{
			my $possible = $writers[ $k - 1 ]{possible};
			$possible[$k] = $possible > $possible[ $k - 1 ] ? $possible : $possible[ $k - 1 ];
		}
		@$account{qw(sure possible)} = (\@sure, \@possible);
	}
	return;
}

# The last index below $end whose value is less than $moment, in a list that does not fall; the first is.
sub last_before
{
	my ($list, $end, $moment) = @_;
	my $low = 0;

	while ($end - $low > 1)
	{
		my $middle = int(($low + $end) / 2);
		if ($list->[$middle] < $moment) { $low = $middle; }
		else { $end = $middle; }
	}
	return $low;
}

# Which events an account may have ended with, for who looked between two moments and found what $fits
sub candidates
{
	my ($self, $account, $from, $to, $fits) = @_;
	my $of = $self->account($account);
	my $count = @{ $of->{states} };

	return grep { $fits->($of->{states}[$_]) } last_before($of->{sure}, $count, $from) .. last_before($of->{possible}, $count, $to);
}

sub node { my ($self, $from, $to, $name) = @_; push @{ $self->{nodes} }, [ $from, $to, $name ]; return $#{ $self->{nodes} }; }
sub edge { my ($self, $before, $after) = @_; push @{ $self->{edges}[$before] }, $after; return; }

sub commit_of
{
	my ($self, $writer) = @_;
	my $from = !$self->{whole} ? $writer->{possible} : $writer->{again} ? 0 : $writer->{started};

	return $writer->{node} //= $self->node($from, $writer->{sure}, "commit of session $writer->{session} at $writer->{possible}");
}

# A snapshot saw an account's k-th event as the last.
sub saw
{
	my ($self, $node, $account, $k) = @_;
	my $writers = $self->account($account)->{writers};
	my ($last, $next) = (map { $self->commit_of($_) } ($k > 0 ? $writers->[ $k - 1 ] : ()))[0];

	$self->edge($last, $node) if defined $last && $last != $node;
	$next = $self->commit_of($writers->[$k]) if $k < @$writers;
	$self->edge($node, $next) if defined $next && $next != $node;
	return;
}

# Who has locked an account commits before its next event.
sub held
{
	my ($self, $transaction, $account, $k) = @_;
	my $next = $self->account($account)->{writers}[$k];

	$self->edge($self->commit_of($transaction), $self->commit_of($next)) if $next && $next != $transaction;
	return;
}

# The node of the snapshot under which a step looked, and between which moments that was taken.
sub snapshot_of
{
	my ($self, $transaction, $step) = @_;
	my $is_own = $transaction->{level} eq 'READ COMMITTED' && !$self->{whole};
	my ($first) = $is_own ? $step : $transaction->{steps}[0];
	my @moments = ($first->{sent}, $first->{received} // $never);
	my $of = $is_own ? $step : $transaction;

	return (@moments, $self->commit_of($transaction)) if $self->{whole} && $transaction->{done};
	$of->{snapshot} //= $self->node($moments[0], $self->{whole} ? $transaction->{sure} : $moments[1], "$first->{kind} of session $transaction->{session} at $first->{sent}");
	return (@moments, $of->{snapshot});
}

sub check_transaction
{
	my ($self, $transaction) = @_;
	my %own;

	foreach my $step (grep { $_->{sent} && defined $_->{received} } @{ $transaction->{steps} })
	{
		$self->check_command($transaction, $step, \%own) if $step->{id} && $step->{balances} && $transaction->{done};
		$self->check_refusal($transaction, $step) if $step->{id} && $step->{error} && !%own && !$transaction->{again};
		$self->check_read($transaction, $step, \%own) if !$step->{id} && $step->{balances};
		if ($step->{id}) { $own{$_} = $step foreach @{ $step->{accounts} }; }
	}
	# What a transaction looked at was there before it committed
	if ($transaction->{done} && !$transaction->{again})
	{
		$self->edge($_, $self->commit_of($transaction))
		  foreach grep { defined $_ && $_ != $self->commit_of($transaction) } $transaction->{snapshot}, map { $_->{snapshot} } @{ $transaction->{steps} };
	}
	return;
}

# What a command returned is the account after its event, or, if it is another try, as it was later.
sub check_command
{
	my ($self, $transaction, $step, $own) = @_;
	my $account = $step->{accounts}[0];
	my $number = $step->{number}{$account};
	my $states = $self->{accounts}{$account}{states};
	# Who closes an account is told what it was
	my $balance = $states->[ $step->{kind} eq 'close' ? $number - 1 : $number ];

	if ($transaction->{again})
	{
		$self->problem("session $transaction->{session} at $step->{sent}: $step->{kind} $step->{id} returned $step->{balances}[0], which the account never was from then on")
		  unless grep { $_ eq $step->{balances}[0] } @$states[ $number - 1 .. $#$states ];
		return;
	}
	$self->problem("session $transaction->{session} at $step->{sent}: $step->{kind} $step->{id} returned $step->{balances}[0], not $balance") if $step->{balances}[0] ne $balance;
	# A command under REPEATABLE READ is refused if its snapshot does not see the account's last event
	return if $transaction->{level} eq 'READ COMMITTED';
	foreach my $touched (@{ $step->{accounts} })
	{
		my $before = $self->{accounts}{$touched}{writers}[ $step->{number}{$touched} - 2 ];

		next if $step->{number}{$touched} < 2 || $before == $transaction;
		my (undef, undef, $node) = $self->snapshot_of($transaction, $step);
		$self->edge($self->commit_of($before), $node) if $self->commit_of($before) != $node;
	}
	return;
}

# A refusal is right if the account was ever, meanwhile, as it says.
sub check_refusal
{
	my ($self, $transaction, $step) = @_;
	my ($from) = $self->snapshot_of($transaction, $step);
	my $error = $step->{error};
	my $fits = $error eq 'UG004' ? sub { $_[0] ne '-' && $_[0] < $step->{amount} } : sub { $_[0] eq '-' };

	return unless $error eq 'UG004' || $error =~ /^UG00[23]$/;
	return if grep { $self->candidates($_, $from, $step->{received}, $fits) } @{ $step->{accounts} };
	$self->problem("session $transaction->{session} at $step->{sent}: $step->{kind} of @{ $step->{accounts} } was refused ($error) without a reason");
	return;
}

sub check_read
{
	my ($self, $transaction, $step, $own) = @_;
	my ($from, $to, $node) = $self->snapshot_of($transaction, $step);
	foreach my $n (0 .. $#{ $step->{accounts} })
	{
		my ($account, $balance) = ($step->{accounts}[$n], $step->{balances}[$n]);

		if (my $mine = $own->{$account})
		{
			next if $transaction->{again} || !$transaction->{done};
			my $expected = $self->{accounts}{$account}{states}[ $mine->{number}{$account} ];
			$self->problem("session $transaction->{session} at $step->{sent} read $balance of $account, which it had made $expected itself") if $balance ne $expected;
			next;
		}
		my @fitting = $self->candidates($account, $from, $to, sub { $_[0] eq $balance });
		$self->{reads}++;
		$self->problem("session $transaction->{session} at $step->{sent}: $step->{kind} read $balance of $account, which it was not between $from and $to") if !@fitting;
		$self->{ambiguous}++ if @fitting > 1;
		# Under SERIALIZABLE only who commits has seen what fits
		next if @fitting != 1 || $transaction->{again} || $self->{whole} && $transaction->{outcome} ne 'committed';
		$self->saw($node, $account, $fitting[0]);
		$self->held($transaction, $account, $fitting[0]) if $step->{kind} eq 'locked' && $transaction->{done};
	}
	return;
}

# The events of an account, in their order
sub order_accounts
{
	my ($self) = @_;

	foreach my $account (values %{ $self->{accounts} })
	{
		my @commits = map { $self->commit_of($_) } @{ $account->{writers} };
		foreach my $k (1 .. $#commits) { $self->edge(@commits[ $k - 1, $k ]) if $commits[ $k - 1 ] != $commits[$k]; }
	}
	return;
}

# Answered before another was sent: a chain of moments, each behind what had ended by then.
sub add_moments
{
	my ($self) = @_;
	my @nodes = 0 .. $#{ $self->{nodes} };
	my @ends = sort { $a <=> $b } keys %{ { map { $self->{nodes}[$_][1] => 1 } @nodes } };
	my %moment = map { $ends[$_] => $_ + @nodes } 0 .. $#ends;

	foreach my $k (0 .. $#ends) { $self->node($ends[$k], $ends[$k], "moment $ends[$k]"); $self->edge(@nodes + $k - 1, @nodes + $k) if $k; }
	foreach my $n (@nodes)
	{
		my ($from, $to) = @{ $self->{nodes}[$n] };
		$self->edge($n, $moment{$to});
		next if !@ends || $ends[0] >= $from;
		$self->edge(@nodes + last_before(\@ends, scalar @ends, $from), $n);
	}
	return;
}

sub find_cycle
{
	my ($self) = @_;
	$self->add_moments;
	my $edges = $self->{edges};
	my @before = (0) x @{ $self->{nodes} };

	foreach my $list (@$edges) { $before[$_]++ foreach @{ $list // [] }; }
	my @free = grep { !$before[$_] } 0 .. $#before;
	my $done = 0;
	while (defined(my $n = pop @free))
	{
		$done++;
		foreach (@{ $edges->[$n] // [] }) { push @free, $_ if !--$before[$_]; }
	}
	return if $done == @before;
	# Backward from any that is left one comes to a cycle
	my %came_from;
	foreach my $n (grep { $before[$_] } 0 .. $#before) { $came_from{$_} = $n foreach grep { $before[$_] } @{ $edges->[$n] // [] }; }
	my ($n) = grep { $before[$_] && defined $came_from{$_} } 0 .. $#before;
	my (%seen, @path);
	until ($seen{$n}++) { push @path, $n; $n = $came_from{$n}; }
	shift @path while $path[0] != $n;
	$self->problem('no order: ' . join(' before ', map { $self->{nodes}[$_][2] } reverse(@path), $path[-1]));
	return;
}

1;
