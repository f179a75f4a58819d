# An aggregate of a million events: a command on it costs what it costs on a young one.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;

my $events = 1_000_000;
my ($old, $young) = map { uuid(1, $_) } 1 .. 2;
my $node = new_server('main', 'dugong.max_workers = 0', "max_wal_size = '4GB'", 'autovacuum = off');

$node->safe_psql('postgres', 'CREATE DATABASE bank');
$node->safe_psql('bank', 'CREATE EXTENSION dugong');

# Restored rows: as they come out of a dump
$node->safe_psql('bank', <<~SQL);
	INSERT INTO dugong.event_log (position, sequence_number, "timestamp", id, aggregate_id, aggregate_type_id, version, tenant_id, type, payload)
	SELECT n, n, '2026-01-01', gen_random_uuid(), '$old', dugong.aggregate_type_id('BankingContext-AccountService', 'BankAccount'), 1, '',
	       CASE n WHEN 1 THEN 'AccountOpened' ELSE 'MoneyDeposited' END, '{"owner": "Old", "initialBalance": 1, "amount": 1}'
	FROM generate_series(1, $events) n;
	ANALYZE dugong.event_log;
	SELECT FROM bank_open_account('Young', 1, '$young');
	SQL
is($node->safe_psql('bank', "SELECT balance FROM bank_get_account('$old')"), $events, 'folded from the first event');
is($node->safe_psql('bank', 'SELECT count(*) FROM dugong.snapshots'), '0', 'without a snapshot');

# The first appends take one; then the old account is as quick as the young.
$node->safe_psql('bank', "SELECT dugong.take_snapshot('BankAccount', '$old'); SELECT bank_deposit('$young', 1) FROM generate_series(1, 40)");

sub deposits
{
	my ($account) = @_;
	return $node->safe_psql('bank', <<~SQL);
		DO \$\$
		DECLARE start timestamptz := clock_timestamp();
		BEGIN
		    FOR i IN 1 .. 300 LOOP PERFORM bank_deposit('$account', 1); END LOOP;
		    PERFORM set_config('test.us', round(extract(epoch FROM clock_timestamp() - start) * 1e6 / 300)::text, false);
		END \$\$;
		SELECT current_setting('test.us');
		SQL
}

my @ratios;
foreach my $round (1 .. 5)
{
	my ($of_young, $of_old) = (deposits($young), deposits($old));
	note("young: $of_young us, old: $of_old us");
	push @ratios, $of_old / $of_young;
}
@ratios = sort { $a <=> $b } @ratios;
note("ratios: @ratios");
cmp_ok($ratios[2], '<', 2, 'a deposit on the old account costs no more than on the young');
is($node->safe_psql('bank', "SELECT dugong.build_aggregate('BankAccount', '$old') = dugong.build_aggregate('BankAccount', '$old', skip_snapshot => true)"),
	't', 'its state is that of its events');
is($node->safe_psql('bank', "SELECT count(*) FROM dugong.verify_snapshots('BankAccount')"), '0', 'its snapshot is right');

$node->safe_psql('bank', 'CALL dugong.run_projections()');
is($node->safe_psql('bank', "SELECT balance FROM bank_account_query_model WHERE id = '$old'"), $events + 1500, 'it is projected');

$node->stop;
done_testing();
