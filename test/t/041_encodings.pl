# Databases in other encodings and locales: the contracts of test/pgtap hold there, and names are compared byte by byte.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my @all = map { m/(\w+)\.sql$/ } glob('test/pgtap/*.sql');
my @files = $ENV{DUGONG_LONG} ? @all : grep { /^(registry|tenants|import_events|messages)$/ } @all;

# Turkish, where the small letter of I is not i
my $locales = PostgreSQL::Test::Utils::tempdir;
my $has_locales = 0 == system("localedef -i tr_TR -f UTF-8 $locales/tr_TR.UTF-8 >/dev/null 2>&1 && localedef -i de_DE -f ISO-8859-1 $locales/de_DE.ISO-8859-1 >/dev/null 2>&1");
$ENV{LOCPATH} = $locales if $has_locales;
$ENV{PGCLIENTENCODING} = 'UTF8';

my %database = (
	ascii => "ENCODING 'SQL_ASCII' LOCALE 'C'",
	$ENV{DUGONG_LONG} ? (latin1 => "ENCODING 'LATIN1' LOCALE 'C'") : (),
	icu => "ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'tr-u-ks-level1'",
	$has_locales ? (turkish => "ENCODING 'UTF8' LOCALE 'tr_TR.UTF-8'", german => "ENCODING 'LATIN1' LOCALE 'de_DE.ISO-8859-1'") : ());
# A character is a byte; upper() of the test's own
my %other = ('ascii bank_commands' => 1, 'icu projection_kinds' => 1, 'turkish projection_kinds' => 1);
my $node = new_server('main', 'max_prepared_transactions = 5', 'max_locks_per_transaction = 256');

sub run_file
{
	my ($db, $file) = @_;
	my ($out, $err) = ('', '');

	IPC::Run::run([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr($db), '-f', "test/pgtap/$file.sql" ], '>', \$out, '2>', \$err);
	my @problems = $out =~ /^(not ok.*(?:\n#.*)*)/mg;
	push @problems, "it does not end: $err" if $out !~ /^1\.\.\d+$/m;
	is(join("\n", @problems), '', "$db: $file");
	return;
}

# Names that a locale takes for one another, or puts into another order than their bytes
my @names = ('I', 'i', "\xc4\xb1", "\xc4\xb0", 'a', 'B', 'A', 'b', '_', 'a b', "\xc3\xa4", "\xc3\x84", 'z', "a\xcc\x88");

sub check_names
{
	my ($db) = @_;
	my @mine = grep { $db !~ /latin1|german/ || /^(?:[\x00-\x7f]|\xc3.)*$/ } @names;
	my $list = 'ARRAY[' . join(', ', map { "'$_'" } @mine) . ']';
	my $count = @mine;

	# One aggregate type, tenant, event type, projection and tag for each
	$node->safe_psql($db, <<~SQL);
		SET dugong.origin = 'here';
		CREATE TABLE seen (projection text COLLATE "C", type text COLLATE "C", tenant_id text COLLATE "C");
		CREATE FUNCTION see(e dugong.domain_event) RETURNS void LANGUAGE sql AS 'INSERT INTO seen VALUES (e.aggregate_type, e.type, e.tenant_id)';
		SELECT dugong.create_aggregate_type(n, fold => 'dugong.row_fold(dugong.domain_event)', origin => 'here') FROM unnest($list) n;
		SELECT dugong.create_event_type(n, t, origin => 'here') FROM unnest($list) n, unnest($list) t WHERE t <> 'z' COLLATE "C";
		SELECT dugong.declare_tags(n, t, jsonb_build_object('tag', 'tag'), origin => 'here') FROM unnest($list) n, unnest($list) t;
		SELECT dugong.create_projection(n, n, event_handler => 'see(dugong.domain_event)', types => ARRAY[n], origin => 'here') FROM unnest($list) n;
		SELECT dugong.append_event(n, ('00000001-0000-4000-8000-' || lpad(k::text, 12, '0'))::uuid, n, jsonb_build_object('tag', n), tenant_id => n, origin => 'here',
		    triggered_by_user_id => n) FROM unnest($list) WITH ORDINALITY AS x (n, k);
		CALL dugong.run_projections();
		SQL
	is($node->safe_psql($db, 'SELECT count(*), count(DISTINCT projection), bool_and(projection = type AND type = tenant_id) FROM seen'), "$count|$count|t", "$db: each of $count names is its own");
	is($node->safe_psql($db, "SELECT count(*) FROM unnest($list) n, dugong.read_events_matching(jsonb_build_object('types', ARRAY[n], 'tags', jsonb_build_object('tag', n)), tenant_id => n) e WHERE (e.payload ->> 'tag') COLLATE \"C\" = n"),
		$count, "$db: so is each tag");
	is($node->safe_psql($db, "SELECT count(*) FROM unnest($list) n, dugong.read_events(aggregate_types => ARRAY[n], types => ARRAY[n], tenant_id => n, origin => 'here')"), $count, "$db: and each is found");
	is($node->safe_psql($db, <<~SQL), $count, "$db: a role sees the tenant that it was granted");
		CREATE ROLE ${db}_app;
		GRANT USAGE ON SCHEMA dugong TO ${db}_app;
		GRANT EXECUTE ON FUNCTION dugong.read_events TO ${db}_app;
		SELECT FROM dugong.enable_tenant_isolation();
		CREATE FUNCTION seen_by_one(n text) RETURNS bigint LANGUAGE plpgsql AS \$\$
		DECLARE result bigint;
		BEGIN
		    PERFORM dugong.grant_tenant('${db}_app', n);
		    SET LOCAL ROLE ${db}_app;
		    SELECT count(*) INTO result FROM dugong.read_events(max_rows => NULL);
		    RESET ROLE;
		    PERFORM dugong.revoke_tenant('${db}_app', n);
		    RETURN result;
		END \$\$;
		SELECT sum(seen_by_one(n)) FROM unnest($list) n;
		SQL
	$node->safe_psql($db, 'SELECT dugong.disable_tenant_isolation()');

	# What is sent is in the database's encoding, whole
	my $payload = "\xc3\xa4" x 3000;
	my $out = $node->safe_psql($db, <<~SQL);
		SET dugong.notify = always;
		SET dugong.notify_payload = message;
		LISTEN "here-\xc3\xa4";
		SELECT FROM dugong.append_event('\xc3\xa4', gen_random_uuid(), 'z', jsonb_build_object('text', '$payload'), origin => 'here');
		SELECT FROM dugong.append_event('\xc3\xa4', gen_random_uuid(), 'z', jsonb_build_object('text', repeat('$payload', 3)), origin => 'here');
		SELECT FROM dugong.append_event('\xc3\xa4', gen_random_uuid(), 'z', '{"text": "quote '' \\" \\\\\\\\ end"}', origin => 'here');
		SQL
	like($out, qr/notification "here-\xc3\xa4" with payload "\{.*$payload/, "$db: a message comes whole");
	like($out, qr/payload "\{"aggregateType": "\xc3\xa4", "position": \d+, "count": 1\}"/, "$db: one that is too long is told of");
	like($out, qr/quote ' \\" /, "$db: quotes");
	return;
}

foreach my $db (sort keys %database)
{
	$node->safe_psql('postgres', "CREATE DATABASE $db TEMPLATE template0 $database{$db}");
	$node->safe_psql($db, 'CREATE EXTENSION dugong; CREATE EXTENSION pgtap');
	run_file($db, $_) foreach grep { !$other{"$db $_"} } @files;
	check_names($db);
}

# A collation that takes a name for another cannot tell tenants apart
$node->safe_psql('icu', <<~'SQL');
	CREATE COLLATION without_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
	CREATE TABLE tenant_without_case (id uuid, tenant_id text COLLATE without_case, PRIMARY KEY (id, tenant_id));
	CREATE TABLE key_without_case (id uuid, tenant_id text);
	CREATE UNIQUE INDEX ON key_without_case (id, tenant_id COLLATE without_case);
	SELECT dugong.create_aggregate_type('Row', fold => 'dugong.row_fold(dugong.domain_event)');
	SQL
foreach (['tenant_without_case', '42809'], ['key_without_case', '42P10'])
{
	my ($table, $code) = @$_;
	my $err = '';

	$node->psql('icu', "\\set VERBOSITY sqlstate\nSELECT dugong.create_projection('$table', 'Row', '$table')", stderr => \$err);
	like($err, qr/ERROR:  $code/, "$table is refused");
}
$node->stop;
done_testing();
