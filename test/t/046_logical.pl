# Logical replication of the log into another database, where projections run: they make what the publisher's make.
use strict;
use warnings;

use lib 'test/t';
use Copies;
use Dugong;
use List::Util qw(shuffle);
use PostgreSQL::Test::Utils;
use Test::More;
use Things;
use Time::HiRes qw(usleep);

my $seed = $ENV{DUGONG_SEED} || int rand 1_000_000;
srand $seed;
note("DUGONG_SEED=$seed");

my @conf = ("shared_preload_libraries = 'dugong'", "dugong.poll_interval = '200ms'", 'max_prepared_transactions = 20', "deadlock_timeout = '100ms'", 'wal_level = logical', 'max_wal_senders = 10', 'max_replication_slots = 10',
	'restart_after_crash = on', 'wal_retrieve_retry_interval = 100ms', 'log_statement = none', 'log_min_messages = warning');
my $publisher = new_server('publisher', @conf, 'logical_decoding_work_mem = 64kB', 'fsync = on');
my $subscriber = new_server('subscriber', @conf, 'fsync = on');
my $connection = $publisher->connstr('shop') =~ s/'/''/gr;

sub publisher { return $publisher->safe_psql('shop', shift); }
sub subscriber { return $subscriber->safe_psql('shop', shift); }

sub same
{
	my ($what, $sql, $db) = @_;
	my $expected = publisher($sql);

	ok($subscriber->poll_query_until($db // 'shop', $sql, $expected), $what) or diag($expected, $subscriber->safe_psql($db // 'shop', $sql));
	return;
}

# All that was published is there, and the query models of both say the same
sub same_everywhere
{
	my $what = shift;

	same("$what: all events are there, as they are there",
		"SELECT count(*), md5(string_agg((to_jsonb(e) - 'position')::text, ' ' ORDER BY id)) FROM dugong.event_log e");
	wait_for_things($subscriber, 'shop', "$what, the subscriber", 60);
	wait_for_things($publisher, 'shop', "$what, the publisher", 60);
	same("$what: so does the query model $_", "SELECT md5(string_agg(t::text, ' ' ORDER BY id)) FROM $_ t") foreach qw(thing_model thing_copy bank_account_query_model persons);
	return;
}

foreach my $node ($publisher, $subscriber)
{
	$node->safe_psql('postgres', 'CREATE DATABASE shop');
	$node->safe_psql('shop', 'CREATE EXTENSION dugong');
	$node->safe_psql('shop', "ALTER DATABASE shop SET dugong.origin = 'shop'");
	create_things($node, 'shop');
	# On the subscriber it is another service's: nobody but the publisher appends to it
	$node->safe_psql('shop', <<~'SQL' . "SELECT dugong.create_aggregate_type('Person', fold => 'person_fold(dugong.domain_event)', external => " . ($node == $subscriber ? 'true' : 'false') . ')');
		CREATE TYPE person AS (name text, n int);
		CREATE FUNCTION person_apply(state person, event dugong.domain_event) RETURNS person LANGUAGE sql IMMUTABLE
		RETURN ROW(coalesce((event).payload ->> 'name', (state).name), coalesce((state).n, 0) + 1)::person;
		CREATE AGGREGATE person_fold(dugong.domain_event) (sfunc = person_apply, stype = person);
		CREATE TABLE persons (id uuid PRIMARY KEY, name text, n int);
		SQL
	$node->safe_psql('shop', q{SELECT dugong.create_projection('persons', 'Person', 'persons'), dugong.declare_tags('Person', 'Named', '{"name": "name"}')});
}

sub person { my ($n) = @_; return "SELECT FROM dugong.append_event('Person', '" . uuid(4, $n) . "', 'Named', '{\"name\": \"person $n\", \"secret\": \"s\"}');"; }
sub erase
{
	my ($n) = @_;
	return $n % 2 ? "SELECT count(*) FROM dugong.erase_aggregate('Person', '" . uuid(4, $n) . "', 'asked');"
	  : "SELECT count(*) FROM dugong.erase_payload((SELECT id FROM dugong.domain_events WHERE aggregate_id = '" . uuid(4, $n) . "' AND sequence_number = 1), '{secret}', 'asked');";
}

# What there was before comes with its positions; what comes while it is copied comes twice, and counts once
my $columns = publisher(q{SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
	WHERE attrelid = 'dugong.event_log'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'position'});
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump.sql';
subscriber(q{ALTER DATABASE shop SET dugong.metadata = '{"not": "here"}'});
finish_load(start_load($publisher, 'shop', 'first', 2, 50));
publisher(join "\n", map { person($_) x 2 } 1 .. 20);
publisher("CREATE PUBLICATION log FOR TABLE dugong.event_log ($columns)");
subscriber("CREATE SUBSCRIPTION log CONNECTION '$connection' PUBLICATION log WITH (copy_data = false, enabled = false, streaming = on)");
my @load = start_load($publisher, 'shop', 'second', 2, 100);
publisher(join "\n", map { person($_) } 1 .. 30);
publisher(join "\n", map { erase($_) } 1 .. 4, 21 .. 24);
command_ok([ 'pg_dump', '-t', 'dugong.event_log', '-t', 'dugong.event_tags', '-f', $dump, '-d', $publisher->connstr('shop') ], 'what there is: pg_dump');
command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', $dump, '-d', $subscriber->connstr('shop') ], 'psql');
finish_load(@load);
publisher(join "\n", map { erase($_) } 5 .. 8);
subscriber('ALTER SUBSCRIPTION log ENABLE');
same_everywhere('the first copy');


# Under load, with large transactions and some that are rolled back in part, while the subscriber's processes die, or its server
sub is_running { my ($type) = @_; return $subscriber->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = '$type' AND datname = 'shop' LIMIT 1"); }

my @troubles = (
	sub { subscriber("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'logical replication worker'"); },
	sub { subscriber("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND datname = 'shop'"); },
	sub { $subscriber->stop('immediate'); $subscriber->start; },
	sub { my $pid = is_running('logical replication worker'); return unless $pid; kill 'KILL', $pid; wait_for_server($subscriber, $pid); },
	sub { subscriber('ALTER SUBSCRIPTION log DISABLE'); subscriber('ALTER SUBSCRIPTION log ENABLE'); },
);
my $n = 0;
@load = start_load($publisher, 'shop', 'third', 3, sized(80, 2500));
foreach my $round (1 .. sized(1, 12))
{
	foreach my $trouble ((shuffle @troubles)[0 .. sized(2, $#troubles)])
	{
		my @new = map { 100 + 10 * $n + $_ } 1 .. 10;

		publisher(join "\n", (map { person($_) } @new), erase($new[0]), erase($new[1]));
		$trouble->();
		my $thing = thing(200 + $n++);
		publisher("SELECT count(*) FROM dugong.append_events('Thing', '$thing', (SELECT jsonb_agg(jsonb_build_object('type', 'Changed', 'payload', jsonb_build_object('by', i))) FROM generate_series(1, 2000) i))");
		publisher('BEGIN; ' . append_thing(1000 + $n) . " SAVEPOINT s; SELECT count(*) FROM dugong.append_events('Thing', '$thing', (SELECT jsonb_agg(jsonb_build_object('type', 'Changed', 'payload', jsonb_build_object('by', i))) FROM generate_series(1, 1000) i)); ROLLBACK TO s; "
			. append_thing(200 + $n - 1) . 'COMMIT');
	}
}
finish_load(@load);
same_everywhere('troubles');
figure(publisher('SELECT count(*) FROM dugong.event_log') . ' events');
cmp_ok(publisher("SELECT stream_txns FROM pg_stat_replication_slots WHERE slot_name = 'log'"), '>', 0, 'large transactions came while they ran');
is(subscriber(q{SELECT count(*) FROM dugong.read_events_matching('{"types": ["Named"], "tags": {"name": "person 25"}}')}), 1, 'tags are found there');
my ($rc, $out, $err) = $subscriber->psql('shop', person(1));
like($err, qr/belongs to origin/, 'nobody else appends there');

# An aggregate type that the subscriber does not know: nothing is passed over, and nothing lost
publisher("SELECT dugong.create_aggregate_type('Late'); SELECT dugong.append_event('Late', '" . uuid(5, 1) . "', 'Made');" . append_thing(1));
ok($subscriber->poll_query_until('shop', "SELECT apply_error_count > 0 FROM pg_stat_subscription_stats WHERE subname = 'log'"), 'an event that cannot be stored stops the subscription');
subscriber("SELECT dugong.create_aggregate_type('Late', external => true)");
same_everywhere('resumed');

# An event of the subscriber's own, where the publisher's next one belongs
subscriber(append_thing(1));
publisher(append_thing(1));
ok($subscriber->poll_query_until('shop', "SELECT count(*) = 1 FROM pg_stat_subscription_stats WHERE subname = 'log' AND apply_error_count > " . subscriber("SELECT apply_error_count FROM pg_stat_subscription_stats WHERE subname = 'log'")),
	'an event of its own stops the subscription');
like(slurp_file($subscriber->logfile), qr/is not at the expected sequence number/, 'and says why');
subscriber('DROP SUBSCRIPTION log');

# All tables, as they are: a copy in which no worker works, until it stands on its own
publisher('ALTER TABLE counters REPLICA IDENTITY FULL');
publisher('CREATE PUBLICATION everything FOR ALL TABLES');
finish_load(start_load($publisher, 'shop', 'fourth', 2, 20));
wait_for_things($publisher, 'shop', 'FOR ALL TABLES, the publisher');
$subscriber->safe_psql('postgres', 'CREATE DATABASE whole');
command_ok([ 'bash', '-o', 'pipefail', '-c', "pg_dump --schema-only '" . $publisher->connstr('shop') . "' | grep -v 'CREATE PUBLICATION\\|ALTER PUBLICATION' | psql -Xq -v ON_ERROR_STOP=1 -o /dev/null '" . $subscriber->connstr('whole') . "'" ], 'FOR ALL TABLES: the schema');
$subscriber->safe_psql('whole', "CREATE SUBSCRIPTION everything CONNECTION '$connection' PUBLICATION everything");
ok($subscriber->poll_query_until('whole', "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel"), 'FOR ALL TABLES: the first copy') or diag(slurp_file($subscriber->logfile) =~ /^.*(ERROR.*)$/m);
finish_load(start_load($publisher, 'shop', 'fifth', 2, 50));
wait_for_things($publisher, 'shop', 'FOR ALL TABLES, under load, the publisher');
same("FOR ALL TABLES: $_", "SELECT count(*), md5(string_agg(to_jsonb(t)::text, ' ' ORDER BY to_jsonb(t))) FROM $_ t", 'whole')
  foreach qw(dugong.event_log dugong.checkpoints dugong.event_tags thing_model thing_copy seen persons);
$subscriber->safe_psql('whole', 'DROP SUBSCRIPTION everything');
# PostgreSQL replicates no sequence: dugong's goes on by itself, those of others have to be set
my $last = $subscriber->safe_psql('whole', "SELECT setval('seen_nth_seq', 1000000); SELECT max(position) FROM dugong.event_log") =~ s/.*\n//r;
is($subscriber->safe_psql('whole', append_thing(1) =~ s/FROM/position > $last FROM/r), 't', 'FOR ALL TABLES: positions go on');
finish_load(start_load($subscriber, 'whole', 'whole', 2, 20));
wait_for_things($subscriber, 'whole', 'FOR ALL TABLES, on its own');

$publisher->stop;
$subscriber->stop;
done_testing();
