# Physical copies: a standby that is promoted under load, an old primary that comes back, and a base backup that is brought to a time in the middle.
use strict;
use warnings;

use lib 'test/t';
use Copies;
use Dugong;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Things;
use Time::HiRes qw(time usleep);

my $clients = 8;
my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1, has_archiving => 1);
$primary->append_conf('postgresql.conf', "$_\n") foreach "shared_preload_libraries = 'dugong'", "dugong.poll_interval = '200ms'", 'max_worker_processes = 24',
  'max_prepared_transactions = 20', "deadlock_timeout = '100ms'", 'wal_log_hints = on', 'wal_keep_size = 256MB', 'log_min_messages = warning', 'log_statement = none';
$primary->start;
$primary->safe_psql('postgres', 'CREATE DATABASE shop');
$primary->safe_psql('shop', 'CREATE EXTENSION dugong');
create_things($primary, 'shop');
$primary->safe_psql('shop', "SELECT bank_open_account('Anna', 0, '" . uuid(1, $_) . "')") foreach 1 .. 20;
$primary->backup('base');

sub new_standby
{
	my ($name, $of, $backup) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name);

	$standby->init_from_backup($of, $backup, has_streaming => 1);
	$standby->start;
	return $standby;
}

sub scalar_of { my ($node, $sql) = @_; return $node->safe_psql('shop', $sql); }

# Deposits with ids of their own, each told when it is acknowledged; and all else that an appender can do.
sub start_clients
{
	my ($node, $round) = @_;
	my @bank = map {
		my $client = $_;
		start_script($node, 'shop', "bank$round.$client", join "\n", map { "SELECT 'ack ' || '$_->[0]' FROM bank_deposit('$_->[1]', 1, '$_->[0]');" }
			  map { [ uuid(256 + 16 * $round + $client, $_), uuid(1, 1 + ($client + $_) % 20) ] } 1 .. 20_000);
	} 1 .. $clients - 2;
	return (@bank, start_load($node, 'shop', "things$round", 2, 2000));
}

sub acknowledged
{
	my $round = shift;
	return map { output_of("bank$round.$_") =~ /^\s*ack (\S+)$/mg } 1 .. $clients - 2;
}

# Everything acknowledged is there, everything that is there was handled once.
sub check
{
	my ($node, $what, @acknowledged) = @_;
	my %there = map { $_ => 1 } split /\n/, scalar_of($node, "SELECT id FROM dugong.event_log WHERE type = 'MoneyDeposited'");

	is(scalar(grep { !$there{$_} } @acknowledged), 0, "$what: each of " . @acknowledged . ' acknowledged deposits is there');
	# A transaction that was prepared there keeps its aggregates locked, here as well
	foreach my $gid (split /\n/, scalar_of($node, "SELECT gid FROM pg_prepared_xacts WHERE gid <> 'across'"))
	{
		$node->safe_psql('shop', "COMMIT PREPARED '$gid'");
	}
	wait_for_things($node, 'shop', $what, 60);
	wait_for_equality($node, 'shop', "$what: the bank's query model equals the fold");
	is(scalar_of($node, <<~'SQL'), 0, "$what: sequence numbers are 1 to n, in the order of positions");
		SELECT count(*) FROM (SELECT sequence_number - row_number() OVER (PARTITION BY aggregate_type_id, aggregate_id ORDER BY position) AS d FROM dugong.event_log) e WHERE d <> 0
		SQL
	is(scalar_of($node, q{SELECT count(*) FROM unnest('{bank_account,model}'::text[]) p, dugong.verify_projection(p)}), 0, "$what: and is proven");
	return;
}

# The old primary comes back as a standby of the new one.
sub rewind
{
	my ($old, $new, $round) = @_;
	my $conf = slurp_file($old->data_dir . '/postgresql.conf');

	$new->safe_psql('postgres', 'CHECKPOINT');
	command_ok([ 'pg_rewind', '--no-sync', '-D', $old->data_dir, '--source-server', $new->connstr('postgres'), '-R' ], 'pg_rewind');
	unlink $old->data_dir . '/postgresql.conf';
	PostgreSQL::Test::Utils::append_to_file($old->data_dir . '/postgresql.conf', $conf);
	$old->start;
	$new->safe_psql('shop', append_thing(1));
	ok($old->poll_query_until('shop', 'SELECT count(*) = ' . scalar_of($new, 'SELECT count(*) FROM dugong.event_log') . ' FROM dugong.event_log'), 'the rewound one follows');
	is(scalar_of($old, 'SELECT md5(string_agg(e::text, $$ $$ ORDER BY position)) FROM dugong.event_log e'), scalar_of($new, 'SELECT md5(string_agg(e::text, $$ $$ ORDER BY position)) FROM dugong.event_log e'),
		'its log is the same');
	is(scalar_of($old, q{SELECT count(*) FROM unnest('{bank_account,model}'::text[]) p, dugong.verify_projection(p)}), 0, 'so are the query models');
	return;
}

# Promotion under load, the clients waiting for what is replicated
my $base = 'base';
my $rounds = sized(1, 10);
foreach my $round (1 .. $rounds)
{
	my $standby = new_standby("standby$round", $primary, $base);

	$primary->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = '*'");
	$primary->reload;
	$primary->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_replication WHERE sync_state = 'sync'") or die 'no synchronous standby';
	my $begin = scalar_of($primary, 'SELECT count(*) FROM dugong.event_log');
	my @load = start_clients($primary, $round);
	$primary->poll_query_until('shop', "SELECT count(*) > $begin + 300 FROM dugong.event_log") or die 'no load';

	# Reads of all kinds meanwhile
	is($standby->safe_psql('shop', 'SELECT count(*) FROM dugong.projection_status, dugong.worker_status, dugong.subscription_status, dugong.aggregates OFFSET 1000000 LIMIT 1;'
		. 'SELECT sequence_number = cardinality(ARRAY(SELECT dugong.aggregate_events($$BankAccount$$, id))) FROM (SELECT aggregate_id AS id, max(sequence_number) AS sequence_number FROM dugong.domain_events WHERE aggregate_type = $$BankAccount$$ GROUP BY 1 LIMIT 1) a;'
		. "SELECT count(*) FROM unnest('{bank_account,model}'::text[]) p, dugong.verify_projection(p); SELECT count(*) FROM dugong.read_events(max_rows => 10)"),
		"t\n0\n10", "round $round: the standby reads") if $round == 1;
	is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dugong%'"), '0', "round $round: no worker there");

	$primary->stop('immediate');
	$standby->promote;
	$_->finish foreach @load;
	my @acknowledged = acknowledged($round);
	check($standby, "promotion $round", @acknowledged);
	figure("promotion $round: " . @acknowledged . ' deposits, ' . scalar_of($standby, 'SELECT count(*) FROM dugong.event_log') . ' events');
	$standby->safe_psql('postgres', 'ALTER SYSTEM RESET synchronous_standby_names');
	$standby->reload;
	rewind($primary, $standby, $round) if $round == 1;
	$primary->teardown_node;
	$primary = $standby;
	$base = "base$round";
	$primary->backup($base) if $round < $rounds;
}

# Back to a point in the middle, with a transaction that was prepared before and committed after
$primary->safe_psql('shop', 'BEGIN; ' . append_thing(1000, 7) . "PREPARE TRANSACTION 'across'");
$primary->enable_archiving;
$primary->reload;
$primary->backup('middle');
my @load = start_clients($primary, 0);
my $events = scalar_of($primary, 'SELECT count(*) FROM dugong.event_log');
$primary->poll_query_until('shop', "SELECT count(*) > $events + 300 FROM dugong.event_log") or die 'no load';
my @acknowledged = acknowledged(0);
my %targets = (name => 'middle');
# A transaction of its own, and then a moment: what is acknowledged is before them
($targets{xid}, $targets{time}) = split /\|/, scalar_of($primary, "SELECT pg_create_restore_point('middle'); SELECT (SELECT txid_current()), clock_timestamp() FROM pg_sleep(0.01)") =~ s/^.*\n//r;
$primary->poll_query_until('shop', "SELECT count(*) > $events + 600 FROM dugong.event_log") or die 'no load';
$primary->safe_psql('shop', "COMMIT PREPARED 'across'; SELECT pg_switch_wal()");
$_->kill_kill foreach @load;
$primary->poll_query_until('postgres', "SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 16777216) FROM pg_stat_archiver") or die 'not archived';

foreach my $target ($ENV{DUGONG_LONG} ? sort keys %targets : 'name')
{
	my $copy = PostgreSQL::Test::Cluster->new("pitr_$target");

	# Its timeline is nobody else's
	$copy->init_from_backup($primary, 'middle', has_restoring => 1, standby => 0);
	$copy->append_conf('postgresql.conf', "recovery_target_$target = '$targets{$target}'\nrecovery_target_action = promote\nrecovery_target_timeline = current\narchive_mode = off\n");
	$copy->start;
	$copy->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()') or die 'no recovery';
	cmp_ok(scalar_of($copy, 'SELECT count(*) FROM dugong.event_log'), '<', scalar_of($primary, 'SELECT count(*) FROM dugong.event_log'), "$target: in the middle");
	check($copy, "to a $target", @acknowledged);
	is(scalar_of($copy, q{SELECT string_agg(gid, ' ') FROM pg_prepared_xacts}), 'across', "to a $target: what was prepared is so still");
	$copy->safe_psql('shop', "COMMIT PREPARED 'across'");
	check($copy, "to a $target, and on");
	is(scalar_of($copy, "SELECT total FROM thing_model WHERE id = '" . thing(1000) . "'"), 7, "to a $target: and may be committed there");
	finish_load(start_load($copy, 'shop', "after_$target", 2, 50));
	check($copy, "to a $target, with appends", @acknowledged);
	$copy->stop;
	unlike(slurp_file($copy->logfile), qr/PANIC|TRAP:|terminated by signal/, "to a $target: no process crashed");
}
$primary->stop;
done_testing();
