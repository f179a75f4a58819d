# Importing a large table: killed in the middle and called again, beside appends, with the worker behind it.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my ($accounts, $events) = (3000, 20);
my $total = $accounts * $events;
my $node = new_server('main', 'restart_after_crash = on', "log_min_messages = warning");
my $import = "CALL dugong.import_events('domain_events', batch_size => 1000)";

sub sql
{
	my $sql = shift;
	return $node->safe_psql('shop', $sql);
}

# The import in a session of its own, with too little memory for what it keeps; returns it and its process id.
sub start_import
{
	my $out = '';
	my $session = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('shop'), '-c', q{SET maintenance_work_mem = '1MB'}, '-c', 'SELECT pg_backend_pid()', '-c', $import ],
		'<', \undef, '>', \$out, '2>', \my $err);
	$session->pump until $out =~ /^(\d+)\n/;
	return ($session, $1);
}

# Waits until the import has written so many events.
sub wait_for_events
{
	my $count = shift;
	ok($node->poll_query_until('shop', "SELECT done >= $count AND phase = 'import' FROM dugong.import_progress"), "$count events are there");
	return;
}

$node->safe_psql('postgres', 'CREATE DATABASE shop');
sql('CREATE EXTENSION dugong');
my $table = slurp_file('bench/sql/dugongjs_typeorm.sql');
$table =~ s/^-- The same events.*//ms;
sql($table);
sql(qq{
	INSERT INTO domain_events (id, origin, "aggregateType", type, version, "aggregateId", payload, "sequenceNumber", "timestamp", "tenantId")
	SELECT gen_random_uuid(), 'BankingContext-AccountService', 'BankAccount', CASE n WHEN 1 THEN 'AccountOpened' ELSE 'MoneyDeposited' END, 1,
		('00000000-0000-4000-8000-' || lpad(a::text, 12, '0'))::uuid,
		CASE n WHEN 1 THEN jsonb_build_object('owner', 'Owner ' || a, 'initialBalance', a) ELSE '{"amount": 1}' END, n,
		'2024-01-01'::timestamptz + (n * interval '1 day' + a * interval '1 s'), CASE WHEN a % 10 = 0 THEN 'T' END
	FROM generate_series(1, $accounts) a, generate_series(1, $events) n});

# Killed in the middle, more than once
sql('SELECT dugong.stop_workers()');
foreach my $part (1, 3)
{
	my ($session, $pid) = start_import();

	wait_for_events($part * $total / 5);
	is(sql('SELECT pid FROM dugong.import_progress'), $pid, 'its process is shown') if sql('SELECT phase FROM dugong.import_progress') eq 'import';
	kill 'KILL', $pid;
	$session->finish;
	$node->poll_query_until('postgres', 'SELECT true') or die;
	is(sql('SELECT pid FROM dugong.import_progress'), '', 'a broken one has no process');
	cmp_ok(sql('SELECT count(*) FROM dugong.domain_events'), '<', $total, 'it was in the middle');
	is(sql('SELECT done FROM dugong.import_progress'), sql('SELECT count(*) FROM dugong.domain_events'), 'what is recorded is what is there');
}

# Cancelled; a second one meanwhile is refused
my ($session, $pid) = start_import();
$node->poll_query_until('shop', "SELECT pid = $pid FROM dugong.import_progress") or die;
my ($rc, $out, $err) = $node->psql('shop', $import);
like($err, qr/public\.domain_events is being imported by another session/, 'one session imports a table');
sql("SELECT pg_cancel_backend($pid)");
$session->finish;
is(sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = -10742"), 0, 'a cancelled one holds nothing');

# To its end, while others append
my $appends = 0;
my $longest = 0;
($session, $pid) = start_import();
while (sql('SELECT phase FROM dugong.import_progress') ne 'done')
{
	my $begin = Time::HiRes::time();
	sql("SELECT id FROM bank_open_account('Alice', 1)");
	my $took = Time::HiRes::time() - $begin;

	$longest = $took if $took > $longest;
	$appends++;
	die 'it does not end' if $appends > 5000;
}
$session->finish;
note(sprintf('%d appends meanwhile, the longest took %.3f s', $appends, $longest));
cmp_ok($longest, '<', 5, 'appends to other aggregates go on');
is(sql('SELECT done, total, phase FROM dugong.import_progress'), "$total|$total|done", 'it is done');
is(sql(q{
	SELECT count(*), bool_and(e."timestamp" = d."timestamp" AND e.payload = d.payload AND e.sequence_number = d."sequenceNumber" AND e.aggregate_id = d."aggregateId")
	FROM dugong.domain_events e JOIN domain_events d USING (id)}), "$total|t", 'each event is there, as it was');
is(sql('SELECT count(*) FROM dugong.domain_events') - $total, $appends, 'and once');
is(sql(q{SELECT count(*) FROM (SELECT "timestamp" < lag("timestamp") OVER (ORDER BY position) AS back FROM dugong.domain_events
	WHERE aggregate_id < '00000001-0000-4000-8000-000000000000') e WHERE back}), 0, 'in the order of time, over all the interruptions');

# The query model follows by itself
sql('SELECT dugong.start_workers()');
wait_for_equality($node, 'shop', 'the worker brings the query model up');
is(sql('SELECT balance FROM bank_account_query_model WHERE id = $$00000000-0000-4000-8000-000000000123$$'), 123 + $events - 1, 'with what was imported');
is(sql('SELECT balance FROM bank_deposit($$00000000-0000-4000-8000-000000000123$$, 1)'), 123 + $events, 'commands go on');

# The source grows, the worker being there
sql(qq{
	INSERT INTO domain_events (id, origin, "aggregateType", type, version, "aggregateId", payload, "sequenceNumber", "timestamp")
	SELECT gen_random_uuid(), 'BankingContext-AccountService', 'BankAccount', 'MoneyDeposited', 1,
		('00000000-0000-4000-8000-' || lpad(a::text, 12, '0'))::uuid, '{"amount": 100}', $events + 1, now()
	FROM generate_series(1, $accounts) a WHERE a % 10 <> 0 AND a <> 123});
sql($import);
sql('CALL dugong.wait_for_projection($$bank_account$$)');
is_equal_to_fold($node, 'shop', 'what has come since is handled, too');
is(sql("SELECT balance FROM bank_account_query_model WHERE id = '00000000-0000-4000-8000-000000000124'"), 124 + $events - 1 + 100, 'with its amounts');
unlike($node->safe_psql('shop', 'SELECT last_error FROM dugong.projection_status'), qr/\S/, 'no projection has failed') if sql(q{
	SELECT count(*) FROM pg_attribute WHERE attrelid = 'dugong.projection_status'::regclass AND attname = 'last_error'}) eq '1';

# What an import keeps on disk goes with it
is(sql("SELECT count(*) FROM pg_ls_tmpdir()"), 0, 'no temporary file is left');
($rc, $out, $err) = $node->psql('shop', "SET maintenance_work_mem = '1MB'; $import; UPDATE domain_events SET payload = '[]' WHERE \"sequenceNumber\" = 1; $import; SELECT count(*) FROM pg_ls_tmpdir()");
like($err, qr/With an id that is in the log for another event: $accounts of/, 'a source that was changed is refused');
is($node->safe_psql('shop', 'SELECT count(*) FROM pg_ls_tmpdir()'), 0, 'nor one of an import that was refused');

$node->stop;
done_testing();
