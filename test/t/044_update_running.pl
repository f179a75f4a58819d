# The library is newer than the SQL, and then the SQL is updated: while workers run, appenders append, and sessions have plans and caches from before.
use strict;
use warnings;

use lib 'test/t';
use Copies;
use Dugong;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Things;
use Time::HiRes qw(time);

my $old = '0.1.0';
my $node = new_server('main', "shared_preload_libraries = 'dugong'", "dugong.poll_interval = '200ms'", 'max_prepared_transactions = 20', "log_line_prefix = '%m [%p] %q%a %e '",
	'log_statement = none');

sub sql { my ($db, $sql) = @_; return $node->safe_psql($db, $sql); }

sub new_database
{
	my $db = shift;
	sql('postgres', "CREATE DATABASE $db");
	sql($db, "CREATE EXTENSION dugong VERSION '$old'");
	create_things($node, $db);
	return $db;
}

# Every function of the old version, called with the new library
my $calls = <<'SQL';
SELECT dugong.aggregate_type_id('a', 'b'), dugong.is_replaying(), dugong.is_preloaded(), dugong.snapshot_is_valid(1, 1), dugong.projection_is_stale('model', 1), dugong.projection_lock_key('model');
SELECT id AS a FROM bank_open_account('Alice', 500) \gset
SELECT id AS b FROM bank_open_account('Ben', 5) \gset
SELECT bank_deposit(:'a', 1), bank_withdraw(:'a', 1), bank_transfer(:'a', :'b', 1);
SELECT bank_get_account(:'a');
SELECT bank_close_account(:'b');
SELECT dugong.create_aggregate_type('Cart', fold => 'dugong.row_fold(dugong.domain_event)'), dugong.create_aggregate_type('Note'), dugong.create_aggregate_type('There', origin => 'elsewhere');
SELECT dugong.create_event_type('Cart', 'Added'), dugong.alter_aggregate_type('Cart', snapshot_interval => 3);
SELECT dugong.append_event('Cart', :'a', 'Added', '{"x": 1}'), dugong.append_events('Cart', :'a', '[{"type": "Added"}, {"type": "Added"}, {"type": "Added"}]');
INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) VALUES ('Cart', gen_random_uuid(), 'Added');
SELECT dugong.receive_message(jsonb_build_object('origin', 'elsewhere', 'aggregateType', 'There', 'type', 'Made', 'sequenceNumber', 1, 'id', :'a', 'aggregateId', :'a', 'timestamp', '2020-01-01T00:00:00Z'));
SELECT dugong.build_aggregate('Cart', :'a'), dugong.build_aggregate(NULL::bank_account_state, 'BankAccount', :'a'), dugong.load_for_update(NULL::bank_account_state, 'BankAccount', :'a');
SELECT dugong.aggregate_events('Cart', :'a'), dugong.aggregate_history('Cart', :'a'), dugong.aggregate_ids('Cart'), dugong.aggregate_id('Cart', 'a'), dugong.aggregate_types(), dugong.check_event_types();
SELECT dugong.to_message(e), dugong.to_domain_event(d) FROM dugong.domain_events d, dugong.read_events() e, dugong.event(:'a') f, dugong.effects_of(:'a') g;
SELECT dugong.current_payload(aggregate_type_id, type, version, payload), dugong.current_version(aggregate_type_id, type, version) FROM dugong.event_log;
SELECT dugong.take_snapshot('Cart', :'a');
SELECT * FROM dugong.snapshots, dugong.verify_snapshots('Cart');
SELECT dugong.drop_snapshots('Cart');
CREATE FUNCTION handle(dugong.domain_event) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION fail(e dugong.domain_event) RETURNS void LANGUAGE sql AS $$ SELECT 1 / (e.sequence_number - e.sequence_number) $$;
SELECT dugong.create_projection('handled', 'Cart', event_handler => 'handle(dugong.domain_event)'), dugong.create_projection('inline', 'Cart', event_handler => 'handle(dugong.domain_event)', mode => 'inline'),
	dugong.create_projection('failing', 'Cart', event_handler => 'fail(dugong.domain_event)');
SELECT dugong.alter_projection('handled', mode => 'inline');
SELECT dugong.alter_projection('handled', mode => 'async');
SELECT dugong.pause_projection('handled'), dugong.resume_projection('handled');
SELECT dugong.create_subscription('out', '{Cart}'), dugong.alter_subscription('out', types => '{Added}');
SELECT dugong.fetch_events('out', 2, 'me');
SELECT dugong.ack('out', ARRAY(SELECT event_id FROM dugong.outstanding_events LIMIT 1), 'me');
SELECT dugong.attempts('out', event_id), dugong.nack('out', event_id) FROM dugong.outstanding_events LIMIT 1;
SELECT dugong.release('out', consumer => 'me');
CALL dugong.wait_for_events('out', '1s');
CALL dugong.run_projections();
CALL dugong.wait_for_projection('handled', '60s');
CALL dugong.rebuild_projection('bank_account');
SELECT * FROM dugong.projection_status, dugong.subscription_status, dugong.worker_status, dugong.dead_letters, dugong.rebuild_progress, dugong.consumed_messages, dugong.aggregates;
SELECT dugong.retry_dead_letters('failing'), dugong.discard_dead_letter('failing', :'a'), dugong.drop_projection('failing'), dugong.drop_subscription('out');
CREATE TABLE note (id uuid PRIMARY KEY, t text);
CREATE TRIGGER n AFTER INSERT OR UPDATE OR DELETE ON note FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Note', 'id');
INSERT INTO note VALUES (:'a', 't');
UPDATE note SET t = 'u';
DELETE FROM note;
SELECT dugong.drop_event_type('Cart', 'Added'), dugong.row_fold(e) FROM dugong.read_events() e;
SELECT dugong.stop_workers();
SELECT dugong.start_workers();
SELECT dugong.drop_projection('handled'), dugong.drop_projection('inline');
SELECT dugong.create_aggregate_type('Gone');
SELECT dugong.drop_aggregate_type('Gone');
SQL

new_database('before');
is(sql('before', q{SELECT string_agg(DISTINCT proname, ' ') FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace
	WHERE nspname = 'dugong' AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) AND proname <> 'row_apply' AND $calls$} . $calls . q{$calls$ !~ (proname || '\(')}),
	'', "every function of $old is called");
my ($rc, $out, $err) = $node->psql('before', $calls, on_error_stop => 1, on_error_die => 0);
is($rc, 0, "each works with the new library") or diag($err);
finish_load(start_load($node, 'before', 'before', 3, sized(60, 500), 200));
wait_for_things($node, 'before', "$old, with the new library");
wait_for_equality($node, 'before', 'the bank, too');

# One that may only call commands
sql('before', 'CREATE ROLE teller LOGIN; GRANT EXECUTE ON FUNCTION bank_deposit, bank_open_account TO teller; GRANT USAGE ON SCHEMA dugong TO teller');
is(sql('before', "SET ROLE teller; SELECT balance FROM bank_deposit((SELECT id FROM bank_open_account('Carl', 1)), 1)"), 2, 'EXECUTE is enough');

# What is in the library only
($rc, $out, $err) = $node->psql('before', "SELECT dugong.receive_message(jsonb_build_object('origin', 'elsewhere', 'aggregateType', 'There', 'type', '\$erased', 'sequenceNumber', 2, 'id', gen_random_uuid(),
	'aggregateId', (SELECT aggregate_id FROM dugong.domain_events WHERE type = 'Made'), 'timestamp', '2020-01-01T00:00:00Z', 'payload', '{\"eventIds\": null}'::jsonb))");
like($err, qr/relation "dugong.erasure_log" does not exist/, 'what only the new SQL has is missed by name');

# Updates under load
foreach my $n (1 .. sized(2, 20))
{
	my $db = new_database("updated$n");
	my @sessions = map { $node->background_psql($db) } 1 .. 3;

	$_->query_safe("PREPARE append AS SELECT sequence_number FROM dugong.append_event('Thing', \$1, 'Changed', '{\"by\": 1}'); PREPARE read AS SELECT count(*) FROM dugong.read_events(); "
		. "PREPARE deposit AS SELECT balance FROM bank_deposit(\$1, 1)") foreach @sessions;
	my $account = sql($db, "SELECT id FROM bank_open_account('Alice', 0)");
	foreach my $session (@sessions) { $session->query_safe("EXECUTE append('" . thing(100) . "'); EXECUTE read; EXECUTE deposit('$account')") foreach 1 .. 6; }
	$sessions[2]->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
	my $seen = $sessions[2]->query_safe('SELECT count(*) FROM dugong.read_events()');
	$sessions[2]->query_safe('COMMIT');

	my @load = start_load($node, $db, $db, 2, 60, 200);
	my @steady = map { start_script($node, $db, "$db.steady$_", "SET application_name = 'steady';\n" . join "\n", map { append_thing(1 + $_ % 200) } 1 .. 30_000) } 1 .. 2;
	$node->poll_query_until($db, 'SELECT count(*) > 100 FROM dugong.event_log') or die 'no load';
	my $begin = time;
	sql($db, 'ALTER EXTENSION dugong UPDATE');
	figure(sprintf '%s: the update took %.1f s', $db, time - $begin);
	is(sql('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'steady'"), 't', "$db: under load");
	is($sessions[0]->query_safe("EXECUTE deposit('$account')"), 19, "$db: a plan from before");
	$_->query_safe("EXECUTE append('" . thing(100) . "'); EXECUTE read; EXECUTE deposit('$account')") foreach @sessions;
	is($sessions[1]->query_safe("SELECT balance FROM bank_get_account('$account')"), 22, "$db: a cache from before");
	sql($db, q{SELECT dugong.declare_tags('Thing', 'Tagged', '{"who": "who"}')});
	$sessions[1]->query_safe(q{SELECT FROM dugong.append_event('Thing', '} . thing(101) . q{', 'Tagged', '{"who": "Anna", "by": 1}')});
	is(sql($db, q{SELECT count(*) FROM dugong.read_events_matching('{"types": ["Tagged"], "tags": {"who": "Anna"}}')}), 1, "$db: a session from before knows of tags");
	$_->quit foreach @sessions;
	$_->kill_kill foreach @steady;
	finish_load(@load);
	wait_for_things($node, $db, $db);
	wait_for_equality($node, $db, "$db: the bank, too");
}

$node->stop;
my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC|TRAP:|terminated by signal/, 'no process crashed');
is(join("\n", grep { / (XX|0A|42|22|2D|25)\w{3} (ERROR|FATAL|WARNING)/ && !/25P0[12]|42704|erasure_log/ } split /\n/, $log), '', 'no error but conflicts');
done_testing();
