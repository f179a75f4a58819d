# A server under valgrind, with workers: no byte is read that was not set, and none beyond what was allocated.
#
# valgrind sees blocks of malloc, not those that PostgreSQL's memory contexts make of them: the sanitizer build of "make
# test-long" has assertions, and sees the stack and arrays.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Reports;
use Test::More;
use Things;

if (system('valgrind --version >/dev/null 2>&1') != 0)
{
	plan skip_all => 'valgrind is not installed';
}

my @files = $ENV{DUGONG_LONG} ? glob('sql/*.sql') : map { "sql/$_.sql" } qw(bank_account row_events);
my $node = PostgreSQL::Test::Cluster->new('main');
my $logs = PostgreSQL::Test::Utils::tempdir();

$node->init;
$node->append_conf('postgresql.conf', "max_worker_processes = 24\nlog_error_verbosity = verbose\nlog_statement = none\nautovacuum = off\njit = off\nmax_prepared_transactions = 10\n");

# pg_ctl starts a server, as it thinks
append_to_file("$logs/postgres", <<~SH);
	#!/bin/sh
	exec valgrind --quiet --trace-children=yes --track-origins=no --num-callers=30 --gen-suppressions=all --suppressions=test/memory/valgrind.supp --log-file='$logs/%p.log' postgres "\$@"
	SH
chmod 0755, "$logs/postgres";
system_or_bail('pg_ctl', '-D', $node->data_dir, '-l', $node->logfile, '-p', "$logs/postgres", '-w', '-t', '180', 'start');
$node->_update_pid(1);

$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', 'CREATE EXTENSION dugong');
create_things($node, 'shop');
my $script = load_script('valgrind', sized(8, 300), 3);
$node->psql('shop', "SET client_min_messages = error;\n$script", on_error_stop => 0);
wait_for_things($node, 'shop', 'workers', 180);
$node->safe_psql('shop', "CALL dugong.rebuild_projection('copy'); CALL dugong.run_projections()");

# One database for all, as pg_regress has it
$node->safe_psql('postgres', 'CREATE DATABASE regress');
$node->safe_psql('regress', 'CREATE EXTENSION dugong');
foreach my $file (@files)
{
	my ($status) = $node->psql('regress', slurp_file($file), on_error_stop => 0);
	is($status, 0, "$file has come to its end");
}
$node->stop;

my @reports = map { slurp_file($_) } grep { -s } glob "$logs/*.log";
is(join('', @reports), '', 'valgrind has nothing to report');
is(join('', reports($node->logfile)), '', 'nor has the server');

done_testing();
