# Several psql sessions that one script steps, also while some of them wait for a lock.  With keep => 1 those that lose their server
# are opened again; whoever waits for an answer then gets undef.
package Sessions;

use strict;
use warnings;

use IO::Select;
use IPC::Open3;
use Time::HiRes qw(time usleep);

sub new
{
	my ($class, $connstr, $count, %options) = @_;
	my $self = bless { connstr => $connstr, select => IO::Select->new, by_fd => {}, list => [], %options }, $class;

	$self->open_session($_) foreach 0 .. $count - 1;
	return $self;
}

sub open_session
{
	my ($self, $n) = @_;
	my $pid = open3(my $in, my $out, undef, 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-d', $self->{connstr});
	$in->autoflush(1);
	$out->blocking(0);
	my $session = { n => $n, pid => $pid, in => $in, out => $out, buffer => '', sent => 0, busy => 0 };
	$self->{list}[$n] = $session;
	$self->{select}->add($out);
	$self->{by_fd}{ fileno $out } = $session;
	# Who is kept is busy until he is connected
	$self->send_sql($n, 'SELECT pg_backend_pid();', sub { $session->{backend} = $1 if ($_[0] // '') =~ /^(\d+)$/m; }) if $self->{keep};
	return;
}

sub close_session
{
	my ($self, $session) = @_;
	$self->{select}->remove($session->{out});
	delete $self->{by_fd}{ fileno $session->{out} };
	close $session->{in};
	close $session->{out};
	waitpid $session->{pid}, 0;
	return;
}

# The process that serves a session; undef before it is connected.
sub backend { my ($self, $n) = @_; return $self->{list}[$n]{backend}; }

# Takes a session's client away.
sub kill_client { my ($self, $n) = @_; kill 'KILL', $self->{list}[$n]{pid}; return; }

sub lost
{
	my ($self, $session) = @_;

	die "session $session->{n} ended: $session->{buffer}" unless $self->{keep};
	$self->close_session($session);
	usleep(20_000) unless $session->{backend};
	$self->open_session($session->{n});
	$session->{then}->(undef) if $session->{then};
	return;
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
	local $SIG{PIPE} = 'IGNORE';
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

	return $self->lost($session) if defined $got && $got == 0;
	return unless $session->{buffer} =~ s/^(.*?)=done $session->{sent}=\n//s;
	my ($output, $then) = ($1, $session->{then});
	# psql may say so and go on
	return $self->lost($session) if $self->{keep} && $output =~ /^(?:server closed the connection|no connection to the server|could not (?:send|receive) data)/m;
	$session->{busy} = 0;
	$session->{then} = undef;
	$then->($output) if $then;
	return;
}

sub close_all
{
	my ($self) = @_;
	$self->close_session($_) foreach @{ $self->{list} };
	return;
}

1;
