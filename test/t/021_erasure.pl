# What is erased is gone: from tables and files, under load, through crashes, a dump and logical replication.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', 'restart_after_crash = on', 'wal_level = logical', 'max_wal_senders = 4', 'autovacuum = off', "dugong.poll_interval = '200ms'");
my $dir = PostgreSQL::Test::Utils::tempdir();

# Readable in files: nothing is compressed
my $setup = <<'SQL';
CREATE EXTENSION dugong;
ALTER TABLE dugong.event_log ALTER payload SET STORAGE EXTERNAL, ALTER metadata SET STORAGE EXTERNAL;
ALTER TABLE dugong.aggregate_snapshots ALTER state SET STORAGE EXTERNAL;
CREATE TYPE person AS (name text, letter text, n int);
CREATE FUNCTION person_apply(state person, event dugong.domain_event) RETURNS person LANGUAGE sql IMMUTABLE
RETURN ROW(coalesce((event).payload ->> 'name', (state).name), coalesce((event).payload ->> 'letter', (state).letter),
	coalesce((state).n, 0) + 1)::person;
CREATE AGGREGATE person_fold(dugong.domain_event) (SFUNC = person_apply, STYPE = person);
SELECT dugong.create_aggregate_type('Person', fold => 'person_fold(dugong.domain_event)', snapshot_interval => 3, origin => 'Office', external => false);
CREATE TABLE persons (id uuid PRIMARY KEY, name text, letter text, n int);
ALTER TABLE persons ALTER letter SET STORAGE EXTERNAL;
SELECT dugong.create_projection('persons', 'Person', 'persons');
CREATE FUNCTION secret(n int) RETURNS text LANGUAGE sql RETURN format('secret-%s-of-', n) || n;
SQL

sub sql
{
	my ($db, $sql) = @_;
	return $node->safe_psql($db, $sql);
}

# The files of the data directory, but for WAL and logs, that have a string.
sub files_with
{
	my ($data, $string) = @_;
	my $files = `cd '$data' && grep -rlaF --exclude-dir=pg_wal --exclude-dir=pg_replslot --exclude-dir=log -- '$string' . 2>/dev/null`;
	return join ' ', sort split /\n/, $files;
}

sub register
{
	my ($db, $n, $size) = @_;
	sql($db, "SELECT FROM dugong.append_event('Person', '" . uuid(1, $n) . "', 'Registered', jsonb_build_object('name', secret($n), "
		  . "'letter', repeat(secret($n) || ' ', $size)), metadata => jsonb_build_object('ip', secret($n)), event_id => '" . uuid(2, $n) . "')");
	sql($db, "SELECT FROM dugong.append_event('Person', '" . uuid(1, $n) . "', 'Noted', event_id => gen_random_uuid())") for 1 .. 3;
	return;
}

# Every living person's row, and no other
my $equal = q{
SELECT NOT EXISTS ((SELECT id, name, letter, n FROM persons) EXCEPT ALL (SELECT id, (f.s).name, (f.s).letter, (f.s).n FROM folded f WHERE f.s IS DISTINCT FROM NULL))
   AND NOT EXISTS ((SELECT id, (f.s).name, (f.s).letter, (f.s).n FROM folded f WHERE f.s IS DISTINCT FROM NULL) EXCEPT ALL (SELECT id, name, letter, n FROM persons))};
my $folded = q{CREATE VIEW folded AS SELECT aggregate_id AS id, person_fold(e ORDER BY e.sequence_number) FILTER (WHERE NOT dugong.is_skeleton(e)) AS s
FROM dugong.domain_events e WHERE aggregate_type = 'Person' GROUP BY aggregate_id};

#
# Files
#
sql('postgres', 'CREATE DATABASE office');
sql('office', $setup . $folded);
register('office', 1, 1000);
register('office', 2, 1);
register('office', 3, 1);
ok($node->poll_query_until('office', 'SELECT count(*) = 3 FROM persons WHERE n = 4'), 'the worker has written the query model');
is(sql('office', 'SELECT count(*) FROM dugong.snapshots'), 3, 'there are snapshots');
sql('office', 'ANALYZE; CHECKPOINT');
foreach my $n (1, 2)
{
	cmp_ok(scalar(split / /, files_with($node->data_dir, "secret-$n-of-$n")), '>=', 3, "secret $n is in files");
}
is(sql('office', "SELECT string_agg(what || ' ' || count, ', ' ORDER BY what) FROM dugong.erase_aggregate('Person', '" . uuid(1, 1) . "', 'why') WHERE what IN ('events', 'snapshot')"),
	'events 4, snapshot 1', 'an aggregate is erased');
is(sql('office', "SELECT count(*) FROM dugong.erase_payload('" . uuid(2, 2) . "', '{name,letter,ip}', 'why') WHERE what = 'key'"), 3, 'keys are erased');
ok($node->poll_query_until('office', "SELECT lag_events = 0 FROM dugong.projection_status WHERE projection = 'persons'"), 'the worker has gone on');
is(sql('office', 'SELECT id, name, letter, n FROM persons WHERE id <> $$' . uuid(1, 3) . '$$'), uuid(1, 2) . '|||4', 'with a state of its own that it had kept');
is(sql('office', $equal), 't', 'the query model is what is left');
sql('office', 'ANALYZE; VACUUM FULL; CHECKPOINT');
is(files_with($node->data_dir, "secret-$_-of-$_"), '', "secret $_ is in no file") foreach 1, 2;
isnt(files_with($node->data_dir, 'secret-3-of-3'), '', 'others are');

#
# A crash in the middle
#
my $holder = $node->background_psql('office', on_error_die => 1);
$holder->query_safe('BEGIN; LOCK TABLE persons');
my $erase = "SELECT pg_backend_pid() FROM dugong.erase_aggregate('Person', '" . uuid(1, 3) . "', 'why') LIMIT 1";
my $pid = fork();
if ($pid == 0)
{
	exec('sh', '-c', "psql -XAt -c \"$erase\" '" . $node->connstr('office') . "' > '$dir/crash.out' 2> '$dir/crash.err'");
}
ok($node->poll_query_until('office', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE '%erase_aggregate%' AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()
	AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = pg_stat_activity.pid AND l.relation = 'persons'::regclass AND NOT l.granted)}), 'an erasure has come to the query model');
kill 'KILL', sql('office', q{SELECT pid FROM pg_stat_activity WHERE query LIKE '%erase_aggregate%' AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()});
waitpid $pid, 0;
eval { $holder->quit };
ok($node->poll_query_until('postgres', 'SELECT true'), 'the server is back');
is(sql('office', "SELECT count(*) FROM dugong.domain_events WHERE aggregate_id = '" . uuid(1, 3) . "' AND (type = '\$erased' OR metadata ? '\$erased')"), 0, 'no event is erased');
is(sql('office', 'SELECT count(*) FROM dugong.erasures'), 2, 'none is recorded');
is(sql('office', "SELECT name FROM persons WHERE id = '" . uuid(1, 3) . "'"), 'secret-3-of-3', 'the query model is as it was');

#
# Under load, with a worker that dies
#
register('office', $_, 1) foreach 10 .. 29;
my @clients;
foreach my $client (1 .. 3)
{
	open my $script, '>', "$dir/load$client.sql" or die;
	foreach my $n (1 .. 300)
	{
		my $person = uuid(1, 10 + ($n * 7 + $client) % 20);
		print $script "SELECT FROM dugong.append_event('Person', '$person', 'Moved', jsonb_build_object('letter', 'at $n of $client'));\n";
	}
	close $script;
	my $child = fork();
	if ($child == 0)
	{
		exec('sh', '-c', "psql -XAtq -f '$dir/load$client.sql' '" . $node->connstr('office') . "' > /dev/null 2> '$dir/load$client.err'");
	}
	push @clients, $child;
}
foreach my $n (10 .. 29)
{
	if ($n % 2)
	{
		sql('office', "SELECT FROM dugong.erase_aggregate('Person', '" . uuid(1, $n) . "', 'why')");
	}
	else
	{
		sql('office', "SELECT FROM dugong.erase_payload('" . uuid(2, $n) . "', '{name,letter,ip}', 'why')");
	}
	sql('office', "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND datname = 'office'") if $n % 5 == 0;
}
waitpid $_, 0 foreach @clients;
my $errors = join '', map { slurp_file("$dir/load$_.err") } 1 .. 3;
is(join('', grep { !/is erased$/ } split /^/, $errors), '', 'appends fail only because of an erasure');
ok($node->poll_query_until('office', "SELECT bool_and(lag_events = 0 AND dead_letters + retrying = 0) FROM dugong.projection_status"), 'the workers have caught up');
is(sql('office', $equal), 't', 'the query model is equal to what the log makes');
is(sql('office', 'SELECT count(*) FROM persons'), 12, 'those who are erased have no row');
is(sql('office', "SELECT count(*) FROM dugong.event_log e WHERE e::text ~ 'secret-[12].-'") + sql('office', "SELECT count(*) FROM persons p WHERE p::text ~ 'secret-[12].-'")
	+ sql('office', "SET bytea_output = escape; SELECT count(*) FROM dugong.aggregate_snapshots s WHERE s::text ~ 'secret-[12].-'"), 0, 'and no secret is left');
is(sql('office', "SELECT count(*) FROM dugong.verify_snapshots('Person')"), 0, 'every snapshot is right');

#
# Dump and restore
#
my $what = q{
SELECT to_jsonb(e) FROM dugong.domain_events e ORDER BY position;
SELECT to_jsonb(x) FROM dugong.erasures x ORDER BY id};
my $before = sql('office', $what);
command_ok([ 'pg_dump', '-f', "$dir/dump.sql", '-d', $node->connstr('office') ], 'pg_dump');
sql('postgres', 'CREATE DATABASE restored');
my ($out, $err) = run_command([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/dump.sql", '-d', $node->connstr('restored') ]);
is($err, '', 'restored');
is(sql('restored', $what), $before, 'erased events, what tells of them and the record are there');
my ($rc, $stdout, $stderr) = $node->psql('restored', "SELECT FROM dugong.append_event('Person', '" . uuid(1, 11) . "', 'Noted')");
like($stderr, qr/is erased/, 'an erased aggregate stays erased');
is(sql('restored', "SELECT n FROM dugong.build_aggregate(NULL::person, 'Person', '" . uuid(1, 1) . "') AS p WHERE p IS NOT NULL"), '', 'and has no state');

#
# A subscriber: positions are its own, and an erasure's update passes its guard
#
sql('postgres', 'CREATE DATABASE publisher');
sql('postgres', 'CREATE DATABASE subscriber');
sql($_, $setup . $folded) foreach 'publisher', 'subscriber';
my $columns = sql('publisher', q{SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
	WHERE attrelid = 'dugong.event_log'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'position'});
sql('publisher', "CREATE PUBLICATION log FOR TABLE dugong.event_log ($columns)");
sql('publisher', "SELECT pg_create_logical_replication_slot('log', 'pgoutput')");
sql('subscriber', "CREATE SUBSCRIPTION log CONNECTION '" . ($node->connstr('publisher') =~ s/'/''/gr) . "' PUBLICATION log WITH (copy_data = false, create_slot = false, slot_name = 'log')");
register('publisher', $_, 1) foreach 1, 2;
ok($node->poll_query_until('subscriber', 'SELECT count(*) = 8 FROM dugong.event_log'), 'the events have come');
ok($node->poll_query_until('subscriber', 'SELECT count(*) = 2 FROM persons WHERE n = 4'), 'the subscriber has a query model of its own');
is(sql('publisher', "SELECT name FROM dugong.erase_aggregate('Person', '" . uuid(1, 1) . "', 'why') WHERE name ~ '^(publication|replication)' ORDER BY 1"),
	"publication log\nreplication slot log", 'the report names publication and slot');
sql('publisher', "SELECT FROM dugong.erase_payload('" . uuid(2, 2) . "', '{name,letter,ip}', 'why')");
ok($node->poll_query_until('subscriber', 'SELECT count(*) = 10 FROM dugong.event_log'), 'what tells of the erasures has come');
is(sql('subscriber', "SELECT count(*) FROM dugong.event_log e WHERE e::text ~ 'secret'"), 0, 'so have they');
ok($node->poll_query_until('subscriber', 'SELECT count(*) = 1 FROM persons'), 'its query model follows');
is(sql('subscriber', $equal), 't', 'and does not begin with states that were kept');
is(sql('subscriber', "SELECT count(*) FROM persons p WHERE p::text ~ 'secret'"), 0, 'no secret is left there');
($rc, $stdout, $stderr) = $node->psql('subscriber', 'UPDATE dugong.event_log SET payload = NULL');
like($stderr, qr/append-only/, 'the guard stands there, too');
sql('subscriber', 'DROP SUBSCRIPTION log');

# The tags of many events take no memory each: what a session of its own has taken at most, in kB.
sub peak
{
	my $command = shift;
	my $peak = q{SELECT substring(pg_read_file('/proc/' || pg_backend_pid() || '/status') from 'VmHWM:\s+(\d+)')};
	return (split /\n/, sql('publisher', "SELECT 1 FROM dugong.aggregates; $command; $peak"))[-1];
}
my $many = q{(SELECT jsonb_agg('{"type": "Taken", "payload": {"who": "Ann", "course": "c1"}}'::jsonb) FROM generate_series(1, 5000))};
sql('publisher', "SELECT dugong.create_aggregate_type('$_')") foreach 'Seat', 'Chair';
sql('publisher', q{SELECT dugong.declare_tags('Seat', 'Taken', '{"who": "who", "course": "course"}')});
my %append = map { $_ => peak("SELECT count(*) FROM dugong.append_events('$_', '" . uuid(7, 1) . "', $many)") } 'Seat', 'Chair';
my %erase = map { $_ => peak("SELECT count(*) FROM dugong.erase_aggregate('$_', '" . uuid(7, 1) . "', 'why')") } 'Seat', 'Chair';
SKIP:
{
	skip 'sanitizers keep memory', 2 if is_sanitized();
	cmp_ok($append{Seat} - $append{Chair}, '<', 10000, 'appended');
	cmp_ok($erase{Seat} - $erase{Chair}, '<', 10000, 'and erased');
}

$node->stop;
done_testing();
