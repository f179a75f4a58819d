# A streaming standby: it reads, it does not work, and after its promotion it goes on.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(allows_streaming => 1);
$primary->append_conf('postgresql.conf', $_) foreach "shared_preload_libraries = 'dugong'", "dugong.poll_interval = '100ms'",
  'max_worker_processes = 16';
$primary->start;
$primary->safe_psql('postgres', 'CREATE DATABASE shop');
$primary->safe_psql('shop', q{CREATE EXTENSION dugong; SELECT dugong.create_aggregate_type('Cart', fold => 'dugong.row_fold(dugong.domain_event)')});
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

my ($anna, $cart) = (uuid(1, 1), uuid(2, 1));

# Waits until the standby has what the primary has written.
sub replay { $primary->wait_for_catchup($standby, 'replay', $primary->lsn('flush')); return; }

sub both_say
{
	my ($what, $sql) = @_;
	my $expected = $primary->safe_psql('shop', $sql);

	isnt($expected, '', "$what: there is something to read");
	is($standby->safe_psql('shop', $sql), $expected, "$what: the standby says the same");
	return;
}

$primary->safe_psql('shop', "SELECT bank_open_account('Anna', 500, '$anna'); SELECT bank_deposit('$anna', 5);"
	  . " SELECT dugong.append_event('Cart', '$cart', 'ItemAdded', correlation_id => '$cart', event_id => '$cart')");
wait_for_equality($primary, 'shop', 'the primary projects');
$primary->poll_query_until('shop', 'SELECT position = (SELECT max(position) FROM dugong.event_log) FROM dugong.checkpoints');
replay();
both_say('the log', 'SELECT * FROM dugong.domain_events ORDER BY position');
both_say('read_events', 'SELECT * FROM dugong.read_events()');
both_say('correlation', "SELECT * FROM dugong.read_events(correlation_id => '$cart')");
both_say('aggregate_events', "SELECT * FROM dugong.aggregate_events('BankAccount', '$anna')");
both_say('aggregate_ids', "SELECT * FROM dugong.aggregate_ids('Cart')");
both_say('event', "SELECT dugong.to_message(e) FROM dugong.event('$cart') e");
both_say('aggregates', 'SELECT * FROM dugong.aggregates ORDER BY aggregate_id');
both_say('the fold', "SELECT bank_account_fold(e ORDER BY e.sequence_number) FROM dugong.domain_events e WHERE aggregate_id = '$anna'");
both_say('the account', "SELECT * FROM bank_get_account('$anna')");
both_say('the query model', 'SELECT * FROM bank_account_query_model');

# What writes is refused as everywhere on a standby
foreach my $sql ("SELECT dugong.append_event('Cart', '$cart', 'ItemAdded')", "SELECT bank_deposit('$anna', 1)",
	"SELECT dugong.create_aggregate_type('X')", 'CALL dugong.run_projections()')
{
	my ($out, $err) = ('', '');
	$standby->psql('shop', "\\set VERBOSITY sqlstate\n$sql", stdout => \$out, stderr => \$err);
	like($err, qr/ERROR:  (25006|55000)/, "refused on a standby: $sql");
}
is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'dugong%'"), '0', 'no worker there');

# A hole that may still fill on the primary stops a reader on the standby
my $appender = $primary->background_psql('shop');
$appender->query_safe('BEGIN');
$appender->query_safe("SELECT FROM dugong.append_event('Cart', '$cart', 'Slow')");
my $last = $primary->safe_psql('shop', "SELECT position FROM dugong.append_event('Cart', '" . uuid(2, 2) . "', 'Fast')");
$primary->poll_query_until('shop', "SELECT position = $last FROM dugong.checkpoints");
replay();
my $reading = 'SELECT type FROM dugong.read_events(' . ($last - 2) . ')';
is($standby->safe_psql('shop', $reading), '', 'it waits for the slow one');
is($standby->safe_psql('shop', 'SELECT type FROM dugong.read_events(' . ($last - 2) . ', stop_at_gap => false)'), 'Fast', 'unless it is told not to');
$appender->query_safe('COMMIT');
$appender->quit;
ok($standby->poll_query_until('shop', $reading, "Slow\nFast"), 'then it gets both, in their order');

# Promotion
$primary->safe_psql('shop', "SELECT bank_deposit('$anna', 1)");
replay();
$primary->stop('immediate');
$standby->promote;
$standby->safe_psql('shop', "SELECT bank_deposit('$anna', 10)");
wait_for_equality($standby, 'shop', 'the promoted standby projects');
is($standby->safe_psql('shop', 'SELECT balance FROM bank_account_query_model'), '516', 'nothing lost, nothing twice');
is($standby->safe_psql('shop', <<'SQL'), 't', 'sequence numbers go on');
	SELECT max(sequence_number) = count(*) FROM dugong.domain_events WHERE aggregate_type = 'BankAccount'
SQL

$standby->stop;
done_testing();
