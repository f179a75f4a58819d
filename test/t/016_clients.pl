# The example clients: what they do when events come, their handler fails, their connection is lost, and they are to end.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use Cwd qw(getcwd);
use IPC::Run qw(start);
use JSON::PP qw(decode_json);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

# Debian's nodejs finds Debian's node-pg by itself, others do not
$ENV{NODE_PATH} = join ':', grep { $_ } $ENV{NODE_PATH}, '/usr/share/nodejs';
my %command = (node => [ 'node', getcwd() . '/examples/clients/node/consumer.js' ], python => [ '/usr/bin/python3', getcwd() . '/examples/clients/python/consumer.py' ]);
delete $command{node} if system(q{node -e 'require("pg")' >/dev/null 2>&1});
diag('node does not find pg: the client in Node is not tested') unless $command{node};
my @clients = sort keys %command;

my $node = new_server('main', 'dugong.max_attempts = 2');
my %process;

sub sql { return $node->safe_psql('shop', shift); }
sub order { return uuid(0x0de0, shift); }

sub append
{
	my ($n, @types) = @_;
	return join '', map { "SELECT FROM dugong.append_event('Order', '" . order($n) . "', '$_', '{\"n\": $n}', correlation_id => '" . uuid(0xc0, $n) . "');" } @types;
}

sub start_client
{
	my ($client, %env) = @_;
	local %ENV = (%ENV, PGHOST => $node->host, PGPORT => $node->port, PGDATABASE => 'shop', PGUSER => $ENV{PGUSER} || scalar getpwuid($<), PGAPPNAME => "consumer $client", %env);
	my $log = "$PostgreSQL::Test::Utils::log_path/$client";

	$process{$client} = start([ @{ $command{$client} }, "mail_$client", 'shop-Order', "projection-mail_$client" ], '<', \undef, '>>', "$log.out", '2>>', "$log.err");
	return;
}

# The events that a client has handled, in its order
sub handled
{
	my ($client) = @_;
	my $file = "$PostgreSQL::Test::Utils::log_path/$client.out";
	my @lines = -e $file ? slurp_file($file) =~ /^(.+)\n/mg : ();
	return map { decode_json($_) } @lines;
}

sub happens
{
	my ($what, $seconds, $test) = @_;
	my $start = time;
	my $result;

	until ($result = $test->()) { last if time > $start + $seconds; usleep(50_000); }
	ok($result, $what);
	note(sprintf '%s: %.2f s', $what, time - $start);
	return;
}

# All clients handle all events of the log, but for those of an aggregate from a sequence number on.
sub handle_all
{
	my ($what, $seconds, $aggregate, $from) = @_;
	my $but = $aggregate ? "AND NOT (aggregate_id = '$aggregate' AND sequence_number >= $from)" : '';
	my $expected = sql("SELECT count(*) FROM dugong.domain_events WHERE aggregate_type = 'Order' $but");

	foreach my $client (@clients)
	{
		happens("$client: $what", $seconds, sub { my %is_handled = map { $_->{id} => 1 } handled($client); return keys %is_handled == $expected; });
	}
	return;
}

# In order, without gaps; and nothing twice, as what was handled is acknowledged when the connection is back.
sub is_in_order
{
	my ($what) = @_;

	foreach my $client (@clients)
	{
		my %last;
		my @wrong = grep { $_->{sequence_number} != ++$last{ $_->{aggregate_id} } } handled($client);
		is(join(' ', map { "$_->{aggregate_id} $_->{sequence_number}" } @wrong), '', "$client: in order, each once, $what");
	}
	return;
}

sub nothing_is_left
{
	my ($client, $what) = @_;
	happens("$client: all is acknowledged $what", 5,
		sub { sql("SELECT waiting + leased + retrying + dead_letters FROM dugong.subscription_status WHERE subscription = 'mail_$client'") eq '0' });
	return;
}

sub backend { my ($client) = @_; return $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE application_name = 'consumer $client'"); }

sub end_client
{
	my ($client, $what) = @_;
	my $start = time;

	$process{$client}->signal('TERM');
	$process{$client}->finish;
	is($process{$client}->full_result(0), 0, "$client: SIGTERM ends it with exit code 0 $what");
	cmp_ok(time - $start, '<', 2, "$client: soon");
	return;
}

$node->safe_psql('postgres', 'CREATE DATABASE shop');
sql(q{CREATE EXTENSION dugong; SELECT dugong.drop_projection('bank_account'); SELECT dugong.create_aggregate_type('Order'), dugong.create_aggregate_type('Mail')});
sql("SELECT dugong.create_subscription('mail_$_', '{Order}', visibility_timeout => '3s')") foreach @clients;

# Events before and after the start
sql(append($_, 'OrderPlaced', ('LineAdded') x 60)) foreach 1 .. 5;
start_client($_, FAIL_ON => 'OrderBroken') foreach @clients;
handle_all('events from before it started', 10);
sql(append($_, 'OrderPlaced', 'LineAdded')) foreach 3 .. 8;
handle_all('events that come while it runs, long before its poll', 2.5);
is_in_order('at first');
nothing_is_left($_, 'at first') foreach @clients;

# Connections and servers that go
sub while_appending
{
	my ($what, $disturb) = @_;

	# In one transaction, so that the clients have much to do, one transaction each, when it comes
	sql('BEGIN;' . join('', map { append($_, ('OrderPlaced') x 30) } 1 .. 10) . 'COMMIT');
	$disturb->();
	sql(append($_, 'LineAdded', 'OrderPlaced')) foreach 1 .. 10;
	handle_all("it goes on after $what", 10);
	is_in_order("after $what");
	nothing_is_left($_, "after $what") foreach @clients;
	return;
}

foreach my $time (1 .. 3)
{
	my %before = map { $_ => backend($_) } @clients;
	while_appending("pg_terminate_backend $time", sub { sql("SELECT pg_terminate_backend($_)") foreach values %before; });
	foreach my $client (@clients)
	{
		happens("$client: with another backend", 5, sub { my $now = backend($client); return $now ne '' && $now ne $before{$client}; });
	}
}
while_appending('a fast restart', sub { $node->restart; });
while_appending('an immediate restart', sub { $node->stop('immediate'); $node->start; });

# A handler that throws
sql(append(1, 'OrderBroken', 'LineAdded') . append(2, 'LineAdded'));
my $broken = sql("SELECT sequence_number FROM dugong.domain_events WHERE type = 'OrderBroken'");
handle_all('other aggregates go on', 2.5, order(1), $broken);
foreach my $client (@clients)
{
	happens("$client: a dead letter, with the reason", 15, sub {
		sql("SELECT aggregate_id, event_type, attempts, given_up, message, last_sequence_number - first_sequence_number FROM dugong.dead_letters WHERE projection = 'mail_$client'")
		  eq order(1) . '|OrderBroken|2|t|cannot handle OrderBroken|1';
	});
}
sql(append(1, 'LineAdded') . append(2, 'LineAdded'));
handle_all('other aggregates go on beside a dead letter', 2.5, order(1), $broken);
is_in_order('beside a dead letter');

# What it appended is linked to its cause
my $placed = sql(q{SELECT id FROM dugong.domain_events WHERE type = 'OrderPlaced' ORDER BY position LIMIT 1});
is(sql("SELECT string_agg(e.type || ' ' || (e.payload ->> 'by') || ' ' || e.correlation_id, ',' ORDER BY e.payload ->> 'by') FROM dugong.effects_of('$placed') e"),
	join(',', map { "ConfirmationSent mail_$_ " . uuid(0xc0, 1) } @clients), 'effects_of shows what the clients appended, with the correlation id');
is(sql(q{SELECT string_agg(DISTINCT n::text, ',') FROM (SELECT count(m.id) AS n FROM dugong.domain_events p LEFT JOIN dugong.domain_events m ON m.triggered_by_event_id = p.id
	WHERE p.type = 'OrderPlaced' GROUP BY p.id) x}), scalar(@clients), 'each event has its effects once, whatever came twice');

# SIGTERM; another that can handle what was set aside
end_client($_, 'while it waits') foreach @clients;
sql("SELECT dugong.retry_dead_letters('mail_$_')") foreach @clients;
start_client($_) foreach @clients;
handle_all('one that can handle it gets the dead letter, and what waited behind it', 5);
nothing_is_left($_, 'at last') foreach @clients;
sql(append($_, ('LineAdded') x 100)) foreach 11 .. 16;
usleep(50_000);
end_client($_, 'while it works') foreach @clients;
is(sql('SELECT sum(leased) FROM dugong.subscription_status'), '0', 'it leaves no lease behind');
start_client($_) foreach @clients;
handle_all('the next one goes on where it ended', 5);
is_in_order('at last');
nothing_is_left($_, 'in the end') foreach @clients;
$node->stop;
happens("$_: it tries to connect again", 5, sub { my @tries = slurp_file("$PostgreSQL::Test::Utils::log_path/$_.err") =~ /again in/g; @tries > 3 }) foreach @clients;
end_client($_, 'while there is no server') foreach @clients;

done_testing();
