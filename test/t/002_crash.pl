# Crashes of the worker and of the server under load.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my ($clients, $commands, $accounts) = (8, 500, 20);
my $node = new_server('main', 'restart_after_crash = on', 'fsync = on', "dugong.poll_interval = '1h'");
my $dir = PostgreSQL::Test::Utils::tempdir();

# The commands of one client: [event id, amount that comes in, number of events, SQL].
sub make_commands
{
	my ($round, $client) = @_;
	my @made;

	srand($round * 100 + $client);
	foreach my $n (1 .. $commands)
	{
		my $id = uuid(16 * $round + $client, $n);
		my $from = 1 + int rand $accounts;
		my $to = 1 + ($from + int rand($accounts - 1)) % $accounts;

		push @made, $n % 3
		  ? [ $id, 0, 2, "bank_transfer('" . uuid(1, $from) . "', '" . uuid(1, $to) . "', 1.5, '$id')" ]
		  : [ $id, 2, 1, "bank_deposit('" . uuid(1, $to) . "', 2, '$id')" ];
	}
	return @made;
}

# A client: sends its commands until each is acknowledged; returns how often it lost the server.
sub run_client
{
	my ($round, $client) = @_;
	my @todo = make_commands($round, $client);
	my ($lost, $deadline) = (0, time + 120);

	while (@todo && time < $deadline)
	{
		my $input = "$dir/in$round.$client";
		my $output = "$dir/out$round.$client.$lost";
		my %done;

		open my $in, '>', $input or die;
		print $in "SELECT 'ack ' || '$_->[0]' FROM $_->[3];\n" foreach @todo;
		close $in;
		my $status = system("psql -XAtq -v ON_ERROR_STOP=1 -f '$input' '" . $node->connstr('shop')
			  . "' > '$output' 2> '$output.err'");
		foreach my $line (split /\n/, slurp_file($output))
		{
			$done{$1} = 1 if $line =~ /^ack (\S+)$/;
		}
		@todo = grep { !$done{ $_->[0] } } @todo;
		PostgreSQL::Test::Utils::append_to_file("$dir/acknowledged.$client", join('', map { "$_\n" } keys %done));
		# Anything but a lost connection is a failure; psql may also end with 3 when it could not send any more.
		if ($status >> 8 == 3 && slurp_file("$output.err") =~ /ERROR: /)
		{
			diag(slurp_file("$output.err"));
			return 255;
		}
		if ($status) { $lost++; usleep(20_000); }
	}
	return @todo ? 254 : $lost;
}

# 8 clients, and in the middle of their commands $crash.
sub run_round
{
	my ($round, $name, $crash) = @_;
	my $before = $node->safe_psql('shop', 'SELECT count(*) FROM dugong.event_log');
	my @pids;

	foreach my $client (1 .. $clients)
	{
		my $pid = fork // die;
		if (!$pid)
		{
			my $result = eval { run_client($round, $client) } // 253;
			diag($@) if $@;
			require POSIX;
			POSIX::_exit($result);
		}
		push @pids, $pid;
	}
	my $at = $node->safe_psql('shop', <<~SQL);
		DO \$\$ BEGIN
		    WHILE (SELECT count(*) FROM dugong.event_log) < $before + 100 LOOP
		        PERFORM pg_sleep(0.001);
		    END LOOP;
		END \$\$;
		SELECT count(*) - $before FROM dugong.event_log;
		SQL
	$crash->();
	my ($lost, $failed) = (0, 0);
	foreach my $pid (@pids)
	{
		waitpid($pid, 0);
		my $result = $? >> 8;
		$result > 200 ? $failed++ : ($lost += $result);
		diag("a client ended with $result") if $result > 200;
	}
	note("$name after $at events; connections lost: $lost");
	is($failed, 0, "$name: every command was acknowledged in the end");
	cmp_ok($lost, '>', 0, "$name: the crash came in the middle");
	check($round, $name);
	return;
}

sub check
{
	my ($round, $name) = @_;
	my ($money, $events, @acknowledged) = (1000 * $accounts, $accounts);

	wait_for_equality($node, 'shop', "$name: the query model equals the fold of every account");
	foreach my $r (1 .. $round)
	{
		foreach my $client (1 .. $clients)
		{
			foreach my $command (make_commands($r, $client))
			{
				$money += $command->[1];
				$events += $command->[2];
			}
		}
	}
	my %ids = map { $_ => 1 } map { split /\n/, slurp_file($_) } glob "$dir/acknowledged.*";
	is(scalar keys %ids, $round * $clients * $commands, "$name: all commands were recorded");
	$node->safe_psql('shop', "TRUNCATE acknowledged; INSERT INTO acknowledged VALUES " . join(',', map { "('$_')" } keys %ids));
	is($node->safe_psql('shop',
			'SELECT count(*) FROM acknowledged a WHERE NOT EXISTS (SELECT FROM dugong.event_log e WHERE e.id = a.id)'),
		'0', "$name: no acknowledged command is missing");
	is($node->safe_psql('shop', 'SELECT count(*) FROM dugong.event_log'), $events, "$name: no command took effect twice");
	is($node->safe_psql('shop', 'SELECT trim_scale(sum(balance)) FROM bank_account_query_model'), $money,
		"$name: money is conserved");
	is($node->safe_psql('shop', <<~'SQL'), '0', "$name: sequence numbers are 1 to n");
		SELECT count(*) FROM (
		    SELECT FROM dugong.event_log GROUP BY aggregate_id, aggregate_type_id, tenant_id
		    HAVING min(sequence_number) <> 1 OR max(sequence_number) <> count(*) OR count(DISTINCT sequence_number) <> count(*)) x
		SQL
	is($node->safe_psql('shop', <<~'SQL'), '0', "$name: and in the order of positions");
		SELECT count(*) FROM (
		    SELECT sequence_number - row_number() OVER (PARTITION BY aggregate_id ORDER BY position) AS d
		    FROM dugong.event_log) x WHERE d <> 0
		SQL
	ok($node->poll_query_until('shop',
			'SELECT position >= (SELECT max(position) FROM dugong.event_log) FROM dugong.checkpoints'),
		"$name: the checkpoint is at the end of the log");
	return;
}

$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', 'CREATE EXTENSION dugong; CREATE TABLE acknowledged (id uuid PRIMARY KEY)');
$node->safe_psql('shop', join('', map { "SELECT bank_open_account('Owner $_', 1000, '" . uuid(1, $_) . "');" } 1 .. $accounts));
wait_for_equality($node, 'shop', 'accounts opened');

my $worker = wait_for_worker($node, 'shop');
run_round(1, 'worker killed', sub { is(kill('KILL', $worker), 1, 'worker killed'); });
run_round(2, 'server killed', sub {
	$node->stop('immediate');
	$node->start;
});

# The last events before a crash are projected after it, by the first append.
$node->safe_psql('shop', "SELECT bank_deposit('" . uuid(1, 1) . "', 2)");
$node->stop('immediate');
$node->start;
$node->safe_psql('shop', "SELECT bank_deposit('" . uuid(1, 2) . "', 2)");
wait_for_equality($node, 'shop', 'an event just before a crash is projected');

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|signal 11|signal 6/, 'nothing crashed but what was killed');
done_testing();
