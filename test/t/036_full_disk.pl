# Volumes that are full: what has no room is an error and leaves nothing half done, workers wait, and go on when there is room again; a full
# volume of the WAL stops the server, as it does without dugong.  Nothing that was acknowledged is lost.
use strict;
use warnings;

# In a mount namespace of its own, where everybody may mount a tmpfs; before anything is opened
BEGIN
{
	my @unshare = qw(unshare --mount --map-current-user --keep-caps);
	if (!$ENV{DUGONG_UNSHARED} && system("@unshare true 2>/dev/null") == 0)
	{
		$ENV{DUGONG_UNSHARED} = 1;
		exec @unshare, $^X, map({ "-I$_" } @INC), $0;
	}
}

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Things;
use Time::HiRes qw(time usleep);

my $small = PostgreSQL::Test::Utils::tempdir_short;
foreach my $volume ([ 'data', 40 ], [ 'wal', 40 ])
{
	mkdir "$small/$volume->[0]";
	plan skip_all => 'no tmpfs can be mounted' if system("mount -t tmpfs -o size=$volume->[1]m,mode=700 tmpfs $small/$volume->[0] 2>/dev/null") != 0;
}

my ($rounds, $things) = (sized(1, 10), 8);
my $seed = $ENV{DUGONG_SEED} || time ^ $$;
note("DUGONG_SEED=$seed");
srand $seed;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--wal-segsize=1', "--waldir=$small/wal/pg_wal" ]);
$node->append_conf('postgresql.conf', <<~'CONF');
	max_wal_size = 8MB
	min_wal_size = 2MB
	maintenance_work_mem = 1MB
	restart_after_crash = on
	autovacuum = off
	dugong.max_workers = 1
	CONF
# Where notes are made of what a process is at
mkdir "$small/data/pg_stat", 0700;
unlink glob $node->data_dir . '/pg_stat/*';
rmdir $node->data_dir . '/pg_stat';
symlink "$small/data/pg_stat", $node->data_dir . '/pg_stat' or die;
mkdir "$small/data/tablespace";
$node->start;
sub sql { return $node->safe_psql('shop', shift); }

$node->safe_psql('postgres', "CREATE TABLESPACE small LOCATION '$small/data/tablespace'");
$node->safe_psql('postgres', 'CREATE DATABASE shop TABLESPACE small');
sql('CREATE EXTENSION dugong');
create_things($node, 'shop');
sql(<<~'SQL');
	CREATE TABLE inline_model (id uuid, tenant_id text, n int, total numeric, PRIMARY KEY (id, tenant_id));
	SELECT dugong.create_projection('inline', 'Thing', 'inline_model', mode => 'inline');
	CREATE TABLE old_events AS SELECT gen_random_uuid() AS id, 'Old' AS aggregate_type, gen_random_uuid() AS aggregate_id, 1 AS sequence_number, 'Began' AS type,
	    jsonb_build_object('a', repeat('x', 100)) AS payload, now() AS timestamp FROM generate_series(1, 10000);
	SQL

# Appends an event with that id, if there is room: the SQLSTATE of the error, the empty string if there is none.
my (@acknowledged, $sent);
sub append
{
	my $id = uuid(9, ++$sent);
	my $n = 1 + int rand $things;
	my $code = try_sql("SELECT FROM dugong.append_event('Thing', '" . thing($n) . "', 'Changed', jsonb_build_object('by', 1, 'more', (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 60))), event_id => '$id')");

	push @acknowledged, $id if $code eq '';
	return $code;
}

sub try_sql
{
	my ($sql) = @_;
	my ($rc, $out, $err) = $node->psql('shop', "\\set VERBOSITY sqlstate\n$sql");

	return $err =~ /(?:ERROR|FATAL|PANIC):\s+(\w{5})/ ? $1 : $rc == 2 || $err ne '' ? 'lost' : '';
}

# Leaves no room on a volume.
sub fill
{
	my ($volume) = @_;
	open my $out, '>>', "$small/$volume/filler" or die;
	binmode $out;
	foreach my $size (1 << 20, 4096) { 1 while syswrite($out, "\0" x $size) // 0; }
	close $out;
	return;
}

sub make_room { unlink "$small/$_[0]/filler" or die; return; }

# All that was acknowledged is there, and of the others all or nothing.
sub check_log
{
	my ($what) = @_;
	my $ids = join ',', map { "'$_'" } @acknowledged;

	is(sql("SELECT count(*) FROM unnest(ARRAY[$ids]::uuid[]) id WHERE id NOT IN (SELECT id FROM dugong.event_log)"), '0', "$what: all " . scalar @acknowledged . ' events that were acknowledged are there');
	is(sql(<<~'SQL'), '0', "$what: sequence numbers are 1 to n");
		SELECT count(*) FROM (SELECT FROM dugong.event_log GROUP BY aggregate_id, aggregate_type_id
		    HAVING min(sequence_number) <> 1 OR max(sequence_number) <> count(*) OR count(DISTINCT sequence_number) <> count(*)) x
		SQL
	is(sql("SELECT count(*) FROM dugong.verify_projection('inline')"), '0', "$what: the inline projection has what the log has");
	return;
}

my $begun = time;
foreach my $round (1 .. $rounds)
{
	# -- data

	append() foreach 1 .. 20;
	wait_for_things($node, 'shop', "round $round", 60);
	my ($offset, $failed) = (-s $node->logfile, 0);
	# There is work for the worker, and no room for what it writes
	sql('SELECT dugong.stop_workers()');
	sql("SELECT count(*) FROM dugong.append_events('Thing', '" . thing(1) . "', (SELECT jsonb_agg(jsonb_build_object('type', 'Changed', 'payload', '{\"by\": 1}'::jsonb)) FROM generate_series(1, 1000)))");
	fill('data');
	sql('SELECT dugong.start_workers()');
	while ($failed < 10)
	{
		my $code = append();
		next if $code eq '';
		$failed++;
		is($code, '53100', "round $round: an append without room is an error") if $code ne '53100';
	}
	my $worker = wait_for_worker($node, 'shop');
	my $events = sql('SELECT count(*) FROM dugong.event_log');
	my %codes = map { $_ => try_sql($_) } "CALL dugong.import_events('old_events', create_aggregate_types => true, batch_size => 10000)",
	  "SELECT count(*) FROM dugong.append_events('Thing', '" . thing(1) . "', (SELECT jsonb_agg(jsonb_build_object('type', 'Changed', 'payload', jsonb_build_object('by', 1, 'x', repeat(i::text, 100)))) FROM generate_series(1, 500) i))",
	  'CREATE TABLE much AS SELECT repeat(i::text, 100) FROM generate_series(1, 100000) i';
	is(join(' ', values %codes), '53100 53100 53100', "round $round: an import, many events, a table: no room");
	ok($codes{$_} =~ /^(53100|)$/, "round $round: $_") or diag($codes{$_})
	  foreach grep { $codes{$_} = try_sql($_); 1 } "CALL dugong.rebuild_projection('copy')", "CALL dugong.rebuild_projection('events')", "SELECT dugong.take_snapshot('Thing', '" . thing(1) . "')",
	  "SELECT count(*) FROM dugong.verify_projection('model', repair => true)", "SELECT dugong.drop_snapshots('Thing')";
	is(sql('SELECT count(*) FROM dugong.event_log'), $events, "round $round: and no event");
	# Pauses grow: so many lines in so many seconds, not more
	my $start = time;
	usleep(100_000) while time - $start < sized(3, 20);
	my @lines = slurp_file($node->logfile, $offset) =~ /LOG:  projection "\w+" has failed: .*No space left|ERROR:  .*worker/g;
	cmp_ok(scalar @lines, '>', 0, "round $round: the worker has no room either");
	cmp_ok(scalar @lines, '<', 3 * (8 + (time - $start) / 8), "round $round: and says so seldom: " . @lines . ' times');
	is(worker_pid($node, 'shop'), $worker, "round $round: it has not ended") if $worker !~ /\n/;
	make_room('data');
	$start = time;
	wait_for_things($node, 'shop', "round $round, when there is room", 60);
	figure(sprintf('round %d: %d lines in the log, handled %.1f s after there was room', $round, scalar @lines, time - $start));
	unlike(slurp_file($node->logfile, $offset), qr/a process has died while it ran|WARNING: /, "round $round: nobody is blamed");
	check_log("round $round");
	is(append(), '', "round $round: appends go on");

	# -- WAL

	$offset = -s $node->logfile;
	fill('wal');
	my $code = '';
	my $deadline = time + 120;
	until ($code eq 'lost' || time > $deadline) { $code = try_sql("SELECT pg_logical_emit_message(true, '', repeat('x', 300000))") || append(); }
	is($code, 'lost', "round $round: without room for the WAL the server stops");
	like(slurp_file($node->logfile, $offset), qr/PANIC:  .*No space left/, "round $round: as it does without us");
	# Recovery needs room as well: the postmaster gives up, or tries again
	make_room('wal');
	$deadline = time + 60;
	while (time < $deadline && try_sql('SELECT 1') ne '')
	{
		system_log('pg_ctl', '-D', $node->data_dir, '-l', $node->logfile, '-w', 'start') if !-e $node->data_dir . '/postmaster.pid' || !kill 0, (slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/)[0];
		usleep(200_000);
	}
	is(append(), '', "round $round: with room it starts, and appends go on");
	wait_for_things($node, 'shop', "round $round, after the WAL was full", 60);
	check_log("round $round, after the WAL was full");
}
figure(sprintf('seed %d: %d rounds in %.0f s, %d of %d appends acknowledged', $seed, $rounds, time - $begun, scalar @acknowledged, $sent));

# It is imported when there is room
sql("CALL dugong.import_events('old_events', create_aggregate_types => true)");
is(sql("SELECT count(*) FROM dugong.domain_events WHERE aggregate_type = 'Old'"), '10000', 'what had no room is imported when there is');
$node->_update_pid(1);
$node->stop;
done_testing();
