# The install scripts of released versions, and the ways from them to the present one.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main');
my $version = $node->safe_psql('postgres', "SELECT default_version FROM pg_available_extensions WHERE name = 'dugong'");
my @released = map { m/dugong--(.*)\.sql$/ } glob('src/sql/released/*.sql');
my $catalog = slurp_file('test/t/catalog.sql');

sub sql
{
	my ($db, $sql) = @_;
	return $node->safe_psql($db, $sql);
}

sub new_database
{
	my ($db, $version) = @_;
	sql('postgres', "CREATE DATABASE $db");
	sql($db, "CREATE EXTENSION dugong VERSION '$version'");
	return $db;
}

# What has the one that the other has not?
sub difference
{
	my ($one, $other) = @_;
	my %there = map { $_ => 1 } split /\n/, $other;
	return join "\n", grep { !$there{$_} } split /\n/, $one;
}

my $fresh = sql(new_database('fresh', $version), $catalog);
cmp_ok(scalar(split /\n/, $fresh), '>', 1000, 'the catalogs say much');
ok(@released > 0, 'there are released versions: ' . join(' ', @released));

# A comparison that sees nothing proves nothing
my @changes = (
	"COMMENT ON FUNCTION bank_deposit(uuid, numeric, uuid) IS 'another'",
	"COMMENT ON COLUMN dugong.event_log.position IS NULL",
	'ALTER FUNCTION bank_deposit(uuid, numeric, uuid) COST 7',
	'ALTER FUNCTION dugong.ack(text, uuid[], text) RESET ALL',
	'GRANT EXECUTE ON FUNCTION bank_deposit(uuid, numeric, uuid) TO PUBLIC',
	'GRANT SELECT ON dugong.event_log TO PUBLIC',
	'ALTER TABLE dugong.deliveries ADD COLUMN more int',
	"ALTER TABLE dugong.deliveries ALTER COLUMN attempts SET DEFAULT 1",
	'ALTER TABLE dugong.deliveries ALTER COLUMN event_id DROP NOT NULL',
	'ALTER TABLE dugong.deliveries SET (fillfactor = 51)',
	'ALTER TABLE dugong.deliveries ADD CHECK (attempts > -1)',
	'DROP INDEX dugong.deliveries_event_idx',
	'ALTER TABLE dugong.event_log ENABLE TRIGGER event_mark',
	'ALTER EVENT TRIGGER dugong_guard_drop ENABLE',
	'ALTER SEQUENCE dugong.event_log_position_seq CACHE 2',
	'ALTER EXTENSION dugong DROP VIEW dugong.worker_status',
	'ALTER VIEW dugong.worker_status SET (security_barrier)',
	"UPDATE pg_extension SET extcondition[2] = 'WHERE false' WHERE extname = 'dugong'",
	"UPDATE dugong.projections SET on_error = 'stop'",
);
foreach my $change (@changes)
{
	isnt(sql('fresh', "BEGIN; $change; $catalog; ROLLBACK"), $fresh, "seen: $change");
}

sub use_old
{
	my $db = shift;
	my $account = sql($db, "SELECT id FROM bank_open_account('Alice', 500)");

	sql($db, "SELECT bank_deposit('$account', 1) FROM generate_series(1, 30)");
	sql($db, "CREATE FUNCTION seen(dugong.domain_event) RETURNS void LANGUAGE sql AS ''");
	sql($db, "SELECT dugong.create_projection('seen', 'BankAccount', event_handler => 'seen(dugong.domain_event)')");
	sql($db, "SELECT dugong.create_subscription('out', '{BankAccount}')");
	sql($db, "SELECT dugong.ack('out', ARRAY(SELECT id FROM dugong.fetch_events('out', 5)))");
	sql($db, 'CALL dugong.run_projections()');
	return $account;
}

foreach my $old (@released)
{
	if ($old eq $version)
	{
		is(slurp_file("src/sql/released/dugong--$old.sql"), slurp_file("dugong--$version.sql"),
			"$old is released: a change of the SQL needs another version and a script in src/sql/upgrade");
		next;
	}
	(my $db = "from_$old") =~ tr/./_/;
	new_database($db, $old);
	my $account = use_old($db);
	my $events = sql($db, 'SELECT md5(string_agg(e::text, $$ $$ ORDER BY position)) FROM dugong.domain_events e');

	sql($db, "ALTER EXTENSION dugong UPDATE");
	my $upgraded = sql($db, $catalog);
	is(difference($upgraded, $fresh), '', "$old upgraded has no more than a fresh installation");
	is(difference($fresh, $upgraded), '', "$old upgraded has no less");
	is(sql($db, 'SELECT md5(string_agg(e::text, $$ $$ ORDER BY position)) FROM dugong.domain_events e'), $events, "$old: the events are the same");
	is(sql($db, "SELECT balance FROM bank_deposit('$account', 5)"), 535, "$old: commands go on");
	sql($db, 'CALL dugong.run_projections()');
	is(sql($db, 'SELECT balance FROM bank_account_query_model'), 535, "$old: so does the query model");
	is(sql($db, "SELECT events FROM dugong.projection_status WHERE projection = 'seen'"), 32, "$old: so does a projection");
	is(sql($db, "SELECT count(*) FROM dugong.fetch_events('out', 100)"), 27, "$old: so does a subscription");
}

is(sql('postgres', q{
	SELECT string_agg(format('%s to %s', source, target), ', ') FROM pg_extension_update_paths('dugong')
	WHERE path IS NOT NULL AND string_to_array(source, '.')::int[] >= string_to_array(target, '.')::int[]}), '', 'no way leads back');
is(sql('postgres', "SELECT string_agg(source, ', ') FROM pg_extension_update_paths('dugong') WHERE target = '$version' AND path IS NULL"), '', 'a way leads here from everywhere');

done_testing();
