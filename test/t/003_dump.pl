# Dump and restore.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;

my @conf = ("dugong.poll_interval = '100ms'");
my $source = new_server('source', @conf);
my $target = new_server('target', @conf);
my ($anna, $ben, $carl) = map { uuid(1, $_) } 1 .. 3;
my $cart = uuid(2, 1);

sub without_worker
{
	my ($node, $db, $sql) = @_;
	local $ENV{PGOPTIONS} = '-c dugong.max_workers=0';
	return $node->safe_psql($db, $sql);
}

sub stop_worker
{
	my $node = shift;
	$node->restart;
	return;
}

# pg_dump | psql into a database, made if it is not there; no message is allowed.
sub dump_restore
{
	my ($db, $what, @options) = @_;
	my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';

	command_ok([ 'pg_dump', @options, '-f', $dump, '-d', $source->connstr($db) ], "$what: pg_dump");
	$target->safe_psql('postgres', "CREATE DATABASE $db")
	  if $target->safe_psql('postgres', "SELECT count(*) FROM pg_database WHERE datname = '$db'") eq '0';
	my ($out, $err) = run_command([ 'psql', '-Xq', '-f', $dump, '-d', $target->connstr($db) ]);
	is($err, '', "$what: restored without an error");
	return $dump;
}

my $contents = <<'SQL';
SELECT to_jsonb(e) FROM dugong.event_log e ORDER BY e.position;
SELECT to_jsonb(e) FROM dugong.domain_events e ORDER BY e.position;
SELECT to_jsonb(c) FROM dugong.checkpoints c ORDER BY 1;
SELECT to_jsonb(h) FROM dugong.checkpoint_holes h ORDER BY 1;
SELECT to_jsonb(p) FROM dugong.projections p ORDER BY 1;
SELECT to_jsonb(t) FROM dugong.aggregate_types t ORDER BY 1;
SELECT to_jsonb(t) FROM dugong.event_types t ORDER BY 1;
SELECT last_value, is_called FROM dugong.event_log_position_seq;
SQL

sub contents
{
	my ($node, $db, $schema) = @_;
	return $node->safe_psql($db, $contents . "SELECT to_jsonb(q) FROM $schema.bank_account_query_model q ORDER BY 1");
}

# The rows of the query model and who wrote them.
sub versions
{
	my ($node, $db, $schema) = @_;
	return $node->safe_psql($db, "SELECT id, xmin FROM $schema.bank_account_query_model WHERE id <> '$anna' ORDER BY 1");
}

sub fill
{
	my ($db, $schema) = @_;
	$source->safe_psql('postgres', "CREATE DATABASE $db");
	$source->safe_psql($db, 'CREATE SCHEMA bank') if $schema eq 'bank';
	$source->safe_psql($db, "CREATE EXTENSION dugong SCHEMA $schema");
	$source->safe_psql($db, <<~SQL);
		CREATE TABLE note (account uuid, text text);
		INSERT INTO note VALUES ('$anna', 'other things');
		CREATE TYPE item AS (sku text);
		CREATE FUNCTION item_v2(jsonb) RETURNS jsonb LANGUAGE sql RETURN jsonb_build_object('sku', \$1 -> 'name');
		SELECT dugong.create_aggregate_type('Cart', fold => 'dugong.row_fold(dugong.domain_event)', strict => true, origin => 'Shop', external => false);
		SELECT dugong.create_event_type('Cart', 'ItemAdded');
		SELECT dugong.append_event('Cart', '$cart', 'ItemAdded', '{"name": "A"}');
		SELECT dugong.create_event_type('Cart', 'ItemAdded', 2, 'item', 'item_v2(jsonb)');
		SELECT dugong.create_aggregate_type('Note');
		CREATE TRIGGER note_events AFTER INSERT OR UPDATE OR DELETE ON note FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Note', 'account');
		SELECT $schema.bank_open_account('Anna', 500, '$anna');
		SELECT $schema.bank_open_account(E'Ben\\t\\\\ "and" son', 12.50, '$ben');
		SELECT $schema.bank_open_account('Carl', 1, '$carl');
		SELECT $schema.bank_deposit('$anna', 200);
		SELECT $schema.bank_transfer('$anna', '$ben', 300);
		SELECT $schema.bank_close_account('$carl');
		SQL
	wait_for_equality($source, $db, "$db: projected", $schema);
	$source->poll_query_until($db, 'SELECT position = (SELECT max(position) FROM dugong.event_log) FROM dugong.checkpoints');
	return;
}

# A deposit after a restore: projected, and nothing else touched.
sub goes_on
{
	my ($db, $schema, $what) = @_;
	my $last = $target->safe_psql($db, 'SELECT last_value FROM dugong.event_log_position_seq');
	my $before = versions($target, $db, $schema);

	$target->safe_psql($db, "SELECT $schema.bank_deposit('$anna', 1)");
	is($target->safe_psql($db, 'SELECT max(position) FROM dugong.event_log'), $last + 1, "$what: positions continue");
	is($target->safe_psql($db, "SELECT max(sequence_number) = count(*) FROM dugong.event_log WHERE aggregate_id = '$anna'"),
		't', "$what: sequence numbers continue");
	wait_for_equality($target, $db, "$what: a deposit is projected", $schema);
	ok($target->poll_query_until($db,
			'SELECT position = (SELECT max(position) FROM dugong.event_log) FROM dugong.checkpoints'),
		"$what: the checkpoint moves");
	is(versions($target, $db, $schema), $before, "$what: nothing is consumed twice");
	is($target->safe_psql($db, <<~SQL), '2|ItemAdded|2|{"sku": "B"}', "$what: aggregate types and event types work");
		SELECT sequence_number, type, version, payload FROM dugong.append_event('Cart', '$cart', 'ItemAdded', '{"name": "B"}', version => 1);
		SQL
	my ($out, $err) = ('', '');
	$target->psql($db, "\\set VERBOSITY sqlstate\nSELECT dugong.append_event('Cart', '$cart', 'Other'); SELECT dugong.append_event('Cart', '$cart', 'ItemAdded', '{}');",
		stdout => \$out, stderr => \$err, on_error_stop => 0);
	is(scalar(() = $err =~ /UG008/g), 2, "$what: and their declarations hold");
	$target->safe_psql($db, "INSERT INTO note VALUES ('$ben', 'after')");
	is($target->safe_psql($db, 'SELECT type FROM dugong.read_events(backward => true, max_rows => 1)'), 'NoteInserted', "$what: triggers append");
	is($target->safe_psql($db, <<~'SQL'), 't', "$what: the checkpoint belongs to this cluster");
		SELECT c.system_identifier = s.system_identifier AND c.database_oid = d.oid
		FROM dugong.checkpoints c, pg_control_system() s, pg_database d WHERE d.datname = current_database()
		SQL
	return;
}

# The plain round trip, in both schemas
foreach my $schema (qw(public bank))
{
	my $db = "plain_$schema";

	fill($db, $schema);
	dump_restore($db, $db);
	is(contents($target, $db, $schema), contents($source, $db, $schema),
		"$db: events, checkpoint, query model and sequence are equal");
	is_equal_to_fold($target, $db, "$db: the query model equals the fold", $schema);
	goes_on($db, $schema, $db);
	is($target->safe_psql($db, "SELECT count(*) FROM $schema.bank_get_account('$carl')"), '0', "$db: closed stays closed");
}

# Inserts instead of COPY, several objects a transaction
fill('inserts', 'public');
dump_restore('inserts', 'inserts', '--inserts', '--rows-per-insert=2');
is(contents($target, 'inserts', 'public'), contents($source, 'inserts', 'public'), 'inserts: equal');
goes_on('inserts', 'public', 'inserts');

# Events that nobody has consumed yet
foreach my $how (qw(append start_workers))
{
	my $db = "late_$how";
	my $before;

	fill($db, 'public');
	stop_worker($source);
	without_worker($source, $db, "SELECT bank_deposit('$ben', 1000); SELECT bank_open_account('Carl again', 3, '" . uuid(1, 4) . "')");
	ok(!is_caught_up($source, $db), "$db: two events are not consumed");
	dump_restore($db, $db);
	is(contents($target, $db, 'public'), contents($source, $db, 'public'), "$db: equal");

	# The worker that CREATE EXTENSION started is there, polls and leaves them alone.
	wait_for_worker($target, $db);
	$target->safe_psql($db, 'SELECT pg_sleep(0.5)');
	is(contents($target, $db, 'public'), contents($source, $db, 'public'), "$db: not consumed by itself");
	$target->safe_psql($db,
		$how eq 'append' ? "SELECT bank_deposit('$anna', 1)" : 'SELECT dugong.start_workers()');
	wait_for_equality($target, $db, "$db: caught up");
	is($target->safe_psql($db, "SELECT balance FROM bank_account_query_model WHERE id = '$ben'"), '1312.50',
		"$db: each event counted once");
}

# Into a database whose extension, and worker, are there already
fill('running', 'public');
$target->safe_psql('postgres', 'CREATE DATABASE running');
$target->safe_psql('running', 'CREATE EXTENSION dugong');
wait_for_worker($target, 'running');
dump_restore('running', 'running');
is(contents($target, 'running', 'public'), contents($source, 'running', 'public'), 'running: equal');
goes_on('running', 'public', 'running');

# Unconsumed events beside a running worker
fill('running_late', 'public');
stop_worker($source);
without_worker($source, 'running_late', "SELECT bank_deposit('$ben', 1000)");
$target->safe_psql('postgres', 'CREATE DATABASE running_late');
$target->safe_psql('running_late', 'CREATE EXTENSION dugong');
wait_for_worker($target, 'running_late');
dump_restore('running_late', 'running_late');
is(contents($target, 'running_late', 'public'), contents($source, 'running_late', 'public'), 'running_late: equal');
$target->safe_psql('running_late', 'SELECT dugong.start_workers()');
wait_for_equality($target, 'running_late', 'running_late: caught up');

# The archive format, with jobs: they load the tables in any order
{
	my $file = PostgreSQL::Test::Utils::tempdir() . '/dump';

	fill('archive', 'public');
	command_ok([ 'pg_dump', '-Fd', '-f', $file, '-d', $source->connstr('archive') ], 'archive: pg_dump -Fd');
	$target->safe_psql('postgres', 'CREATE DATABASE archive');
	command_ok([ 'pg_restore', '-j2', '-e', '-d', $target->connstr('archive'), $file ], 'archive: pg_restore -j2');
	is(contents($target, 'archive', 'public'), contents($source, 'archive', 'public'), 'archive: equal')
	  and goes_on('archive', 'public', 'archive');
}

$_->stop foreach $source, $target;
unlike(slurp_file($_->logfile), qr/PANIC|TRAP:|terminated by signal/, 'no process crashed: ' . $_->name)
  foreach $source, $target;
done_testing();
