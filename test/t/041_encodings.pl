# Databases in other encodings and locales: the contracts of test/pgtap hold there, and names are compared byte by byte.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;

my @all = map { m/(\w+)\.sql$/ } glob('test/pgtap/*.sql');
my @files = sized([ grep { /^(append_conditions|append_event|erasure|event_log|messages|payload_types|projections|registry|tenants|tenant_models|import_events)$/ } @all ], \@all)->@*;

# Turkish, where the small letter of I is not i
my $locales = PostgreSQL::Test::Utils::tempdir;
my $turkish = 0 == system("localedef -i tr_TR -f UTF-8 $locales/tr_TR.UTF-8 >/dev/null 2>&1 && localedef -i de_DE -f ISO-8859-1 $locales/de_DE.ISO-8859-1 >/dev/null 2>&1");
$ENV{LOCPATH} = $locales if $turkish;

my $node = new_server('main', 'max_prepared_transactions = 5', 'max_locks_per_transaction = 256', 'dugong.max_workers = 0');
my %database = (
	ascii => "ENCODING 'SQL_ASCII' LOCALE 'C'",
	latin1 => "ENCODING 'LATIN1' LOCALE 'C'",
	icu => "ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'tr-u-ks-level1'",
	$turkish ? (turkish => "ENCODING 'UTF8' LOCALE 'tr_TR.UTF-8'", german => "ENCODING 'LATIN1' LOCALE 'de_DE.ISO-8859-1'") : ());

foreach my $db (sort keys %database)
{
	$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0 $database{$db}");
	$node->safe_psql($db, 'CREATE EXTENSION dugong; CREATE EXTENSION pgtap');
	foreach my $file (@files)
	{
		my ($out, $err) = ('', '');
		IPC::Run::run([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($db), '-f', "test/pgtap/$file.sql" ], '>', \$out, '2>', \$err);
		my @problems = ($out =~ /^(not ok.*(?:\n#.*)*)/mg, $err =~ /(ERROR.*)/g);
		push @problems, 'it does not end' if $out !~ /^1\.\.\d+$/m;
		is(join("\n", @problems), '', "$db: $file");
	}
}
$node->stop;
done_testing();
