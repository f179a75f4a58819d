# A long life: many events through worker, projections and subscriptions, with snapshots and autovacuum. Nothing grows that need not, nothing is
# held back, nothing is lost.
#
# DUGONG_STEPS: how many events.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use List::Util qw(max min sum0);
use PostgreSQL::Test::Utils;
use Sessions;
use Test::More;
use Time::HiRes qw(time usleep);

my $events = $ENV{DUGONG_STEPS} || sized(100_000, 20_000_000);
my ($batch, $accounts, $appenders, $pause) = (100, sized(300, 10_000), 2, sized(0.2, 5));
my $row_bytes = 200;          # of a table with its indexes
my $slack = 512 * 1024;       # a table of few rows has its pages, and so have its indexes
my $megabytes = 8 * 1024;     # that a process may take in the second half of its life
my $node = new_server('main', 'autovacuum = on', "autovacuum_naptime = '" . sized('1s', '10s') . "'", "max_wal_size = '8GB'", "shared_buffers = '512MB'", 'log_statement = none');

sub sql { return $node->safe_psql('bank', shift); }

$node->safe_psql('postgres', 'CREATE DATABASE bank');
sql(<<~SQL);
	CREATE EXTENSION dugong;
	CREATE EXTENSION pgstattuple;
	CREATE FUNCTION account(n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE RETURN ('00000001-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid;
	SELECT count(bank_open_account('x', 0, account(n))) FROM generate_series(0, $accounts - 1) n;
	CREATE TABLE appended (events bigint, amount bigint);
	CREATE TABLE taken (subscription text PRIMARY KEY, events bigint, amount bigint) WITH (fillfactor = 10);
	CREATE TABLE counted (n bigint, amount bigint) WITH (fillfactor = 10);
	INSERT INTO counted VALUES (0, 0);
	CREATE FUNCTION count_events(events dugong.domain_event[]) RETURNS void LANGUAGE sql AS \$\$
	    UPDATE counted SET n = n + cardinality(events), amount = amount + (SELECT coalesce(sum((e.payload ->> 'amount')::bigint), 0) FROM unnest(events) e) \$\$;
	SELECT dugong.create_projection('counted', 'BankAccount', set_handler => 'count_events(dugong.domain_event[])', start_position => NULL);
	SELECT dugong.create_subscription('all', '{BankAccount}', start_position => NULL), dugong.create_subscription('some', '{BankAccount}', types => '{AccountClosed}', start_position => NULL);
	INSERT INTO taken VALUES ('all', 0, 0), ('some', 0, 0);

	-- Batches, each a transaction; some are rolled back
	CREATE PROCEDURE append_batches(batches int) LANGUAGE plpgsql AS \$\$
	BEGIN
	    FOR i IN 1 .. batches LOOP
	        PERFORM count(*) FROM dugong.append_events('BankAccount', account((random() * 1e9)::int % $accounts),
	            (SELECT jsonb_agg(jsonb_build_object('type', 'MoneyDeposited', 'payload', jsonb_build_object('amount', n))) FROM generate_series(1, $batch) n));
	        IF i % 20 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
	    END LOOP;
	    INSERT INTO appended VALUES ((batches - batches / 20) * $batch, (batches - batches / 20) * $batch * ($batch + 1) / 2);
	END \$\$;
	CREATE FUNCTION consume(name text) RETURNS bigint LANGUAGE plpgsql AS \$\$
	DECLARE
	    ids uuid[];
	    money bigint;
	    acknowledged bigint;
	BEGIN
	    SELECT array_agg(id), sum((payload ->> 'amount')::bigint) INTO ids, money FROM dugong.fetch_events(name, 1000);
	    acknowledged := dugong.ack(name, coalesce(ids, '{}'));
	    UPDATE taken SET events = events + acknowledged, amount = amount + coalesce(money, 0) WHERE subscription = name AND acknowledged > 0;
	    RETURN acknowledged;
	END \$\$;
	SQL

# Private memory of a process, kB
sub memory
{
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/smaps_rollup" or return 0;
	return sum0 map { /^Private_\w+: +(\d+)/ ? $1 : 0 } <$file>;
}

my %memory;     # samples by process
my %live;       # bytes of the rows of a table, at most
my ($queue, $oldest, $round, $vacuumed) = (0, 0, sized(0, 30), 0);

my $tables = q{SELECT objid::regclass FROM pg_depend JOIN pg_class c ON c.oid = objid WHERE deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'dugong')
	AND classid = 'pg_class'::regclass AND relkind = 'r' AND relname <> 'event_log'};

sub sample
{
	my $row = sql(<<~SQL);
		SELECT (SELECT pg_notification_queue_usage()), (SELECT coalesce(max(age(backend_xmin)), 0) FROM pg_stat_activity WHERE backend_type = 'dugong worker'),
		    (SELECT string_agg(pid || ' ' || CASE backend_type WHEN 'client backend' THEN application_name ELSE backend_type END, ',') FROM pg_stat_activity
		     WHERE datname = 'bank' AND (backend_type = 'dugong worker' OR application_name LIKE 'life%')),
		    (SELECT string_agg(t || ' ' || tuple_len, ',') FROM ($tables) AS x (t), pgstattuple(t))
		SQL
	my ($usage, $age, $processes, $lengths) = split /\|/, $row;

	$queue = max($queue, $usage);
	$oldest = max($oldest, $age);
	foreach (split /,/, $processes) { my ($pid, $name) = split / /, $_, 2; push @{ $memory{"$name $pid"} }, memory($pid); }
	foreach (split /,/, $lengths) { my ($table, $length) = split / /; $live{$table} = max($live{$table} // 0, $length); }
	return;
}

# A short run has no time for autovacuum
sub vacuum
{
	my $now = time;

	$round = max($round, $now - $vacuumed) if $vacuumed;
	$vacuumed = $now;
	sql(join '', map { "VACUUM (TRUNCATE off) $_;\n" } split /\n/, sql($tables));
	return;
}

my $start = time;
my $sessions = Sessions->new($node->connstr('bank') . " application_name='life'", $appenders + 3);
my ($all, $some, $listener) = ($appenders, $appenders + 1, $appenders + 2);
my $left = int($events / $batch / 100);      # times a hundred batches
my $done = 0;

# A statement of its own each time: a session tells autovacuum what it has done when it is idle
sub append_more
{
	my ($n) = @_;

	if ($left-- <= 0) { $done++; return; }
	$sessions->send_sql($n, 'CALL append_batches(100);', sub { append_more($n) });
	return;
}

sub consume_more
{
	my ($n, $name) = @_;

	$sessions->send_sql($n, "SELECT consume('$name') > 0;", sub {
		my $found = $_[0] =~ /t/;

		return if !$found && $done == $appenders && sql("SELECT lag_events + leased + waiting + retrying FROM dugong.subscription_status WHERE subscription = '$name'") eq '0';
		usleep(20_000) if !$found;
		consume_more($n, $name);
	});
	return;
}

append_more($_) foreach 0 .. $appenders - 1;
consume_more($all, 'all');
consume_more($some, 'some');
$sessions->send_sql($listener, 'LISTEN "projection-bank_account";');
while ($done < $appenders || $sessions->is_busy($all) || $sessions->is_busy($some))
{
	sample();
	vacuum() if !$ENV{DUGONG_LONG};
	# psql takes what it is told with a statement
	$sessions->send_sql($listener, 'SELECT 1;') if !$sessions->is_busy($listener);
	my $until = time + $pause;
	$sessions->listen($until - time) while time < $until;
}
my $seconds = time - $start;
figure(sprintf '%d events in %.0f s, %d a second', $events, $seconds, $events / $seconds);

my $appended = sql('SELECT sum(events), sum(amount) FROM appended');
ok($node->poll_query_until('bank', "SELECT n || '|' || amount = '$appended' FROM counted"), 'a projection of events gets each, once') or diag("$appended: " . sql('TABLE counted'));
is(sql("SELECT events, amount FROM taken WHERE subscription = 'all'"), $appended, 'so does a subscriber');
is(sql("SELECT events FROM taken WHERE subscription = 'some'"), '0', 'and what it has not asked for it does not get');
ok($node->poll_query_until('bank', "SELECT sum(balance) = $1 FROM bank_account_query_model"), 'the query model has all of the money') if $appended =~ /\|(\d+)/;
is(sql("SELECT count(*) FROM dugong.verify_projection('bank_account', sample => 300)"), '0', 'and shows what the log says');
cmp_ok(sql("SELECT count(*) FROM dugong.snapshots"), '>', $accounts / 2, 'accounts have snapshots');
is(sql("SELECT sequence_number FROM dugong.verify_snapshots('BankAccount')"), '', 'which is right') if $events <= 1_000_000;

# Nothing is held
sql("SELECT bank_deposit(account(1), 1)");
ok($node->poll_query_until('bank', <<~'SQL'), 'idle workers hold no snapshot and no transaction');
	SELECT count(*) > 0 AND bool_and(state = 'idle' AND backend_xmin IS NULL AND backend_xid IS NULL) FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND datname = 'bank'
	SQL
$sessions->close_all;
ok($node->poll_query_until('bank', 'SELECT pg_notification_queue_usage() = 0'), 'the notify queue is empty');
cmp_ok($queue, '<', 0.001, 'and was all the time');
# A look sees that whoever might have filled it has ended, the next one drops it
foreach my $look (1 .. 3)
{
	sql("SELECT count(*) FROM dugong.fetch_events('$_')") foreach qw(all some);
}
is(sql('SELECT count(*) FROM dugong.checkpoint_holes'), '0', 'no hole stays behind') or diag(sql('TABLE dugong.checkpoint_holes'));
figure("transactions that a worker's snapshot was behind, at most: $oldest");

# Memory
foreach my $process (sort keys %memory)
{
	my @samples = @{ $memory{$process} };

	next if @samples < 6;
	my ($middle, $last) = (max(@samples[ 0 .. @samples / 2 ]), max(@samples[ @samples / 2 .. $#samples ]));
	figure("$process: " . join(' ', map { $samples[ $_ * $#samples / 5 ] } 0 .. 5) . ' kB');
	cmp_ok($last, '<', $middle + $megabytes, "$process does not grow");
}

# Room: of a table and its indexes, against twice a copy of it, and twice the rows that came and went between two rounds of VACUUM
my $passing = $row_bytes * $round * $events / $seconds;
figure(sprintf 'between two rounds of VACUUM: %.1f s', $round);
foreach my $table (split /\n/, sql($tables))
{
	my $size = sql("SELECT pg_total_relation_size('$table')");
	my $copy = sql("BEGIN; CREATE TABLE copy (LIKE $table INCLUDING ALL); INSERT INTO copy SELECT * FROM $table; SELECT pg_total_relation_size('copy'); ROLLBACK");

	next if $size <= $slack;
	figure("$table: $size bytes, a copy $copy, rows at most $live{$table}");
	cmp_ok($size, '<=', 2 * (max($copy, $live{$table}) + $passing) + $slack, "$table is not bloated");
}

$node->stop;
done_testing();
