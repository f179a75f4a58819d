# Several psql sessions that one script steps, also while some of them wait for a lock.
package Sessions;

use strict;
use warnings;

use IO::Select;
use IPC::Open3;
use Time::HiRes qw(time);

sub new
{
	my ($class, $connstr, $count) = @_;
	my $self = bless { select => IO::Select->new, by_fd => {}, list => [] }, $class;

	foreach my $n (0 .. $count - 1)
	{
		my $pid = open3(my $in, my $out, undef, 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-d', $connstr);
		$in->autoflush(1);
		$out->blocking(0);
		my $session = { n => $n, pid => $pid, in => $in, out => $out, buffer => '', sent => 0, busy => 0 };
		push @{ $self->{list} }, $session;
		$self->{select}->add($out);
		$self->{by_fd}{ fileno $out } = $session;
	}
	return $self;
}

# Sends a statement; $then gets its output once it has ended.
sub send_sql
{
	my ($self, $n, $sql, $then) = @_;
	my $session = $self->{list}[$n];

	die "session $n is busy" if $session->{busy};
	$session->{busy} = 1;
	$session->{then} = $then;
	$session->{sent}++;
	print { $session->{in} } "$sql\n\\echo =done $session->{sent}=\n";
	return;
}

sub is_busy { my ($self, $n) = @_; return $self->{list}[$n]{busy}; }

sub idle { my ($self) = @_; return grep { !$self->{list}[$_]{busy} } 0 .. $#{ $self->{list} }; }

# Takes what the sessions say, for so many seconds or until session $n is idle (any, if undefined).
sub wait_for
{
	my ($self, $n, $seconds) = @_;
	my $deadline = time + $seconds;

	while (defined $n ? $self->is_busy($n) : !$self->idle)
	{
		my $left = $deadline - time;
		return 0 if $left <= 0;
		$self->take($_) foreach $self->{select}->can_read($left);
	}
	return 1;
}

# Takes what there is to take, waiting for so many seconds.
sub listen
{
	my ($self, $seconds) = @_;
	$self->take($_) foreach $self->{select}->can_read($seconds);
	return;
}

sub take
{
	my ($self, $out) = @_;
	my $session = $self->{by_fd}{ fileno $out };
	my $got = sysread $out, $session->{buffer}, 65536, length $session->{buffer};

	die "session $session->{n} ended: $session->{buffer}" if defined $got && $got == 0;
	return unless $session->{buffer} =~ s/^(.*?)=done $session->{sent}=\n//s;
	my ($output, $then) = ($1, $session->{then});
	$session->{busy} = 0;
	$session->{then} = undef;
	$then->($output) if $then;
	return;
}

sub close_all
{
	my ($self) = @_;
	foreach my $session (@{ $self->{list} })
	{
		close $session->{in};
		waitpid $session->{pid}, 0;
	}
	return;
}

1;
