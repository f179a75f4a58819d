# Functions that somebody has put into the extension's schema before it was created, or updated: what fits better than PostgreSQL's own
# must not get into what is the owner's, nor be called by the scripts.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use Test::More;

my $node = new_server('main');
my $version = $node->safe_psql('postgres', "SELECT default_version FROM pg_available_extensions WHERE name = 'dugong'");
my @released = grep { $_ ne $version } map { m/dugong--(.*)\.sql$/ } glob('src/sql/released/*.sql');

# Each refuses to be called
my $plants = join ";\n", map { "CREATE FUNCTION $_ LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RAISE ''planted''; END'" } (
	'convert_to(text, text) RETURNS bytea', 'cardinality(int[]) RETURNS int', 'cardinality(text[]) RETURNS int',
	'jsonb_build_object(text, text) RETURNS jsonb', 'jsonb_build_object(text, uuid) RETURNS jsonb', 'jsonb_build_object(text, jsonb) RETURNS jsonb',
	'array_position(text[], text) RETURNS int', 'array_length(text[], int) RETURNS int', 'max(bigint) RETURNS bigint', 'min(text) RETURNS text');
my $used = q{SELECT string_agg(DISTINCT refobjid::regprocedure::text, ' ') FROM pg_depend WHERE refclassid = 'pg_proc'::regclass
	AND refobjid IN (SELECT oid FROM pg_proc WHERE proowner = 'planter'::regrole)};

sub sql
{
	my ($db, $sql) = @_;
	return $node->safe_psql($db, $sql);
}

sub plant
{
	sql(shift, "SET ROLE planter; SET search_path = ground;\n$plants");
}

sub new_database
{
	my $db = shift;
	sql('postgres', "CREATE DATABASE $db");
	sql($db, 'CREATE SCHEMA ground; GRANT ALL ON SCHEMA ground TO planter');
}

sql('postgres', 'CREATE ROLE planter');
new_database('fresh');
plant('fresh');
sql('fresh', 'CREATE EXTENSION dugong SCHEMA ground');
is(sql('fresh', $used), '', 'a fresh installation calls nothing that was planted');
isnt(sql('fresh', "SET dugong.tenant_id = 't'; SELECT ground.bank_open_account('Alice', 500); SELECT dugong.to_message(e) FROM dugong.domain_events e"), '', 'and works');

foreach my $old (@released)
{
	(my $db = "from_$old") =~ tr/./_/;
	new_database($db);
	sql($db, "CREATE EXTENSION dugong SCHEMA ground VERSION '$old'");
	plant($db);
	sql($db, 'ALTER EXTENSION dugong UPDATE');
	is(sql($db, $used), '', "nor does an update from $old");
}

# The first version's script was not careful: an update rids it of what it took in
SKIP:
{
	skip('it is not there', 2) unless grep { $_ eq '0.1.0' } @released;
	(my $harmless = $plants) =~ s/'BEGIN RAISE.*?END'/'BEGIN RETURN NULL; END'/g;
	$harmless =~ s/(convert_to.*?)BEGIN RETURN NULL/$1BEGIN RETURN convert_to(\$1, \$2::name)/;
	new_database('planted');
	sql('planted', "SET ROLE planter; SET search_path = ground;\n$harmless");
	sql('planted', "CREATE EXTENSION dugong SCHEMA ground VERSION '0.1.0'");
	like(sql('planted', $used), qr/convert_to/, '0.1.0 does');
	sql('planted', 'ALTER EXTENSION dugong UPDATE');
	is(sql('planted', $used), '', 'until it is updated');
}

done_testing();
