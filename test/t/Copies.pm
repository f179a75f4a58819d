# A database with everything in it that dugong keeps, and all that must be the same in a copy of it.
package Copies;

use strict;
use warnings;

use Exporter 'import';
use Dugong;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Things;

our @EXPORT = qw(create_everything contents difference mend_everything finish_import start_script output_of start_load finish_load);

my $directory;
my $poisoned = 7;
my ($erased, $shortened, $cart, $blocked) = map { uuid(2, $_) } 1 .. 4;

# A script for psql in the background.
sub start_script
{
	my ($node, $db, $name, $script) = @_;
	$directory //= PostgreSQL::Test::Utils::tempdir();
	my $file = "$directory/$name";

	PostgreSQL::Test::Utils::append_to_file($file, $script);
	return IPC::Run::start([ 'psql', '-Xq', '-d', $node->connstr($db), '-f', $file ], '>', "$file.out", '2>', "$file.err");
}

# What such a script has said so far.
sub output_of { my $name = shift; return slurp_file("$directory/$name.out"); }

# Appenders, each with a script of so many transactions; returns the sessions.
sub start_load
{
	my ($node, $db, $name, $clients, $transactions, $things) = @_;
	return map { start_script($node, $db, "$name.$_", load_script("$name.$_", $transactions, $things // 20)) } 1 .. $clients;
}

sub finish_load { $_->finish foreach @_; return; }

sub finish_import { return "CALL dugong.import_events('old_events', '{\"aggregate_type\": \"''Cart''\"}', batch_size => 5);"; }

# An import that ends at an aggregate that another session has locked.
sub break_import
{
	my ($node, $db) = @_;
	my $session = $node->background_psql($db);

	$session->query_safe('BEGIN');
	$session->query_safe("SELECT FROM dugong.append_event('Cart', '$blocked', 'Begun')");
	my ($rc, $out, $err) = $node->psql($db, "SET lock_timeout = '100ms';" . finish_import());
	like($err, qr/lock timeout/, "$db: the import is broken off");
	$session->query_safe('ROLLBACK');
	$session->quit;
	is($node->safe_psql($db, 'SELECT phase, done < total FROM dugong.import_progress'), 'import|t', "$db: in the middle");
	return;
}

# Projections of each kind, one of which has set an aggregate aside; tags, tenants, erasures, an import that is broken off, a
# subscription with events in flight, and a prepared transaction, "open", that may still fill a hole.
sub create_everything
{
	my ($node, $db) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION dugong');
	create_things($node, $db);
	$node->safe_psql($db, things_handlers($poisoned) . <<~SQL);
		CREATE TABLE note (account uuid, text text);
		CREATE TABLE sets (n bigint);
		INSERT INTO sets VALUES (0);
		CREATE FUNCTION thing_set(dugong.domain_event[]) RETURNS void LANGUAGE sql BEGIN ATOMIC UPDATE sets SET n = n + cardinality(\$1); END;
		CREATE FUNCTION cart_v2(jsonb) RETURNS jsonb LANGUAGE sql RETURN \$1 || '{"v": 2}';
		CREATE TABLE old_events (id uuid, aggregate_id uuid, sequence_number int, type text, payload jsonb, "timestamp" timestamptz);
		INSERT INTO old_events SELECT ('00000009-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, CASE WHEN n > 15 THEN '$blocked'::uuid ELSE ('00000008-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid END,
			CASE WHEN n > 15 THEN n - 15 ELSE 1 END, 'Added', jsonb_build_object('n', n), '2024-01-01'::timestamptz + n * interval '1 h' FROM generate_series(1, 20) n;
		SELECT dugong.create_projection('sets', 'Thing', set_handler => 'thing_set(dugong.domain_event[])');
		SELECT dugong.create_projection('paused', 'Thing', set_handler => 'thing_set(dugong.domain_event[])', start_position => 5);
		SELECT dugong.pause_projection('paused');
		CREATE TABLE cart_model (id uuid PRIMARY KEY, n int);
		SELECT dugong.create_aggregate_type('Cart', fold => 'dugong.row_fold(dugong.domain_event)', snapshot_interval => 3);
		SELECT dugong.create_event_type('Cart', 'Added');
		SELECT dugong.create_event_type('Cart', 'Added', 2, upcast => 'cart_v2(jsonb)');
		SELECT dugong.declare_tags('Cart', 'Tagged', '{"who": "who"}');
		SELECT dugong.create_aggregate_type('Note');
		CREATE TRIGGER note_events AFTER INSERT OR UPDATE OR DELETE ON note FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Note', 'account');
		INSERT INTO note VALUES ('$cart', 'a note');
		SELECT dugong.create_subscription('out', '{Thing,Cart}', visibility_timeout => '1h');
		SELECT dugong.alter_projection('bank_account', mode => 'inline', on_error => 'stop');
		SELECT dugong.alter_aggregate_type('BankAccount', snapshot_interval => 7);
		SELECT dugong.append_event('Cart', id, 'Tagged', '{"who": "Anna", "secret": "x"}') FROM unnest('{$erased,$shortened,$cart}'::uuid[]) id;
		SELECT dugong.append_event('Cart', '$cart', 'Added', '{"n": 1}', tenant_id => t, version => 1) FROM unnest('{a,b}'::text[]) t, generate_series(1, 5);
		SELECT count(*) FROM dugong.erase_aggregate('Cart', '$erased', 'asked');
		SELECT count(*) FROM dugong.erase_payload((SELECT id FROM dugong.domain_events WHERE aggregate_id = '$shortened'), '{secret}', 'asked');
		SELECT bank_open_account('Anna', 5);
		SQL
	break_import($node, $db);
	$node->safe_psql($db, join "\n", map { append_thing($_) } 1 .. 30, $poisoned, 2);
	$node->safe_psql($db, 'BEGIN; ' . append_thing(40) . " PREPARE TRANSACTION 'open.$db'");
	$node->safe_psql($db, join "\n", map { append_thing($_) } 31 .. 35);
	$node->safe_psql($db, <<~'SQL');
		SELECT count(*) FROM dugong.fetch_events('out', 14, 'one');
		SELECT dugong.ack('out', ARRAY(SELECT event_id FROM dugong.outstanding_events WHERE subscription = 'out' LIMIT 3), 'one');
		SELECT dugong.nack('out', (SELECT event_id FROM dugong.outstanding_events WHERE subscription = 'out' LIMIT 1), 'no', '1h', 'one');
		SQL
	ok($node->poll_query_until($db, q{SELECT (SELECT count(*) FROM dugong.dead_letters WHERE retry_at IS NULL) = 2
		AND (SELECT bool_and(position = (SELECT max(position) FROM dugong.event_log)) FROM dugong.checkpoints WHERE projection IN ('model', 'copy', 'events', 'sets'))}),
		"$db: the worker has come to the end, and set aside what it cannot handle") or diag($node->safe_psql($db, 'TABLE dugong.projection_status; TABLE dugong.dead_letters'));
	is($node->safe_psql($db, 'SELECT count(DISTINCT projection) FROM dugong.checkpoint_holes'), '4', "$db: a hole may still fill");
	return;
}

# Every table that a dump has to carry, and what projections wrote.
sub contents
{
	my ($node, $db) = @_;
	return $node->safe_psql($db, <<~'SQL');
		SELECT format('SELECT %L, to_jsonb(t) - ''log_cnt'' FROM (SELECT * FROM %s) t ORDER BY 2', c.oid::regclass, c.oid::regclass)
		FROM (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'dugong'
			UNION SELECT relid FROM pg_stat_user_tables WHERE schemaname = 'public') AS o (oid) JOIN pg_class c USING (oid) ORDER BY c.oid::regclass::text \gexec
		SQL
}

# What one has that the other has not, both ways.
sub difference
{
	my ($one, $other) = map { my %lines = map { $_ => 1 } split /\n/, $_; \%lines } @_;
	return join "\n", (map { "- $_" } grep { !$other->{$_} } sort keys %$one), (map { "+ $_" } grep { !$one->{$_} } sort keys %$other);
}

# Mends what fails in a copy and tries it again: then nothing may be missing, or have happened twice.
sub mend_everything
{
	my ($node, $db, $what) = @_;

	$node->safe_psql($db, things_handlers() . "SELECT dugong.retry_dead_letters(p) FROM unnest('{events,copy}'::text[]) p");
	wait_for_things($node, $db, $what);
	ok($node->poll_query_until($db, "SELECT n = (SELECT count(*) FROM dugong.domain_events WHERE aggregate_type = 'Thing') FROM sets"), "$what: the whole batches, too");
	return;
}

1;
