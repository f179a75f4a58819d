# What holes in the log cost: thousands of aborted appends, and one appender with very many events in flight.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Sessions;
use Test::More;
use Things;
use Time::HiRes qw(time usleep);

my ($holes, $bulk) = (10_000, 300_000);
my $node = new_server('main', 'dugong.max_workers = 0', 'full_page_writes = off', 'autovacuum = off', 'max_wal_size = 4GB');

sub sql { return $node->safe_psql('shop', shift); }

sub median { my @sorted = sort { $a <=> $b } @_; return $sorted[ @sorted / 2 ]; }

# 20 polls of one session, each after an append that is aborted and one that is committed: medians of ms and bytes of WAL.
sub measure
{
	my $poll = 'BEGIN; ' . append_thing(1) . "ROLLBACK;\n" . append_thing(2) . <<~'SQL';

		SELECT clock_timestamp() AS start, pg_current_wal_insert_lsn() AS lsn \gset
		CALL dugong.run_projections();
		SELECT 'poll', extract(epoch FROM clock_timestamp() - :'start') * 1000, pg_current_wal_insert_lsn() - :'lsn';
		SQL
	# The first reads what the others remember
	my (undef, @polls) = map { [ split /\|/ ] } grep { /^poll/ } split /\n/, sql($poll x 21);

	return (median(map { $_->[1] } @polls), median(map { $_->[2] } @polls));
}

$node->safe_psql('postgres', 'CREATE DATABASE shop');
sql('CREATE EXTENSION dugong');
create_things($node, 'shop');
sql(join '', map { append_thing($_) } 1 .. 20);
sql('CALL dugong.run_projections()');

# An appender that stays open keeps every hole, for nobody knows whether he will fill it
my ($ms, $bytes) = measure();
note(sprintf 'a poll: %.1f ms, %d bytes of WAL', $ms, $bytes);
my $open = Sessions->new($node->connstr('shop'), 1);
$open->send_sql(0, 'BEGIN; ' . append_thing(21));
$open->wait_for(0, 10) or die;
my $start = time;
sql("DO \$\$ BEGIN FOR i IN 1 .. $holes LOOP\n" . (append_thing(22) =~ s/SELECT/PERFORM/r) . "\nROLLBACK;\n" . (append_thing(23) =~ s/SELECT/PERFORM/r) . "\nCOMMIT;\nEND LOOP; END \$\$");
note(sprintf '%d aborted and %d committed appends: %.1f s', $holes, $holes, time - $start);
$start = time;
sql('CALL dugong.run_projections()');
note(sprintf 'the poll that comes to them: %.1f s', time - $start);
cmp_ok(sql("SELECT count(*) FROM dugong.checkpoint_holes WHERE projection = 'events'"), '>', $holes * 0.9, 'every one is a hole');
my ($ms_holes, $bytes_holes) = measure();
note(sprintf 'a poll with %d holes: %.1f ms, %d bytes of WAL', $holes, $ms_holes, $bytes_holes);
cmp_ok($ms_holes, '<', 5 * $ms + 20, 'with them a poll is not noticeably slower');
cmp_ok($bytes_holes / sql('SELECT count(*) FROM dugong.projections'), '<', 1024, 'and writes less than a kilobyte of WAL for each projection');
$open->send_sql(0, 'COMMIT;');
$open->wait_for(0, 10) or die;
sql('CALL dugong.run_projections()');
is(things_problems($node, 'shop'), '', 'the appender has committed: every event was handled, once, in its order');
sql(append_thing(1) . 'CALL dugong.run_projections(); CALL dugong.run_projections()');
is(sql('SELECT count(*) FROM dugong.checkpoint_holes'), '0', 'no hole stays behind');

# One appender with very many events in flight, while others commit
sql(<<~'SQL');
	SELECT dugong.create_aggregate_type('Bulk');
	CREATE TABLE imported (id uuid PRIMARY KEY, aggregate_id uuid, sequence_number bigint, nth bigserial);
	CREATE FUNCTION import(events dugong.domain_event[]) RETURNS void LANGUAGE sql AS $$
	    INSERT INTO imported (id, aggregate_id, sequence_number)
	    SELECT e.id, e.aggregate_id, e.sequence_number FROM unnest(events) WITH ORDINALITY AS e ORDER BY e.ordinality;
	$$;
	SELECT dugong.create_projection('import', 'Bulk', set_handler => 'import(dugong.domain_event[])');
	SQL
$node->safe_psql('postgres', 'ALTER SYSTEM SET dugong.max_workers = 2');
$node->reload;
$node->poll_query_until('shop', "SELECT current_setting('dugong.max_workers') = '2'") or die;
$start = time;
$open->send_sql(0, "BEGIN; INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type) SELECT 'Bulk', ('00000004-0000-4000-8000-' || lpad((i % 500)::text, 12, '0'))::uuid, 'Imported' FROM generate_series(1, $bulk) i;");
my ($appended, $slowest) = (0, 0);
while ($open->is_busy(0))
{
	sql(append_thing(1 + $appended++ % 20));
	my $committed = time;
	while (sql("SELECT n FROM counters") ne sql("SELECT count(*) FROM dugong.event_log WHERE aggregate_type_id = (SELECT id FROM dugong.aggregate_types WHERE name = 'Thing')"))
	{
		last if time > $committed + 10;
		usleep(10_000);
	}
	$slowest = time - $committed if time - $committed > $slowest;
	$open->listen(0.05);
}
note(sprintf '%d events in one transaction: %.1f s; %d others meanwhile, handled after %.2f s at most', $bulk, time - $start, $appended, $slowest);
cmp_ok($appended, '>', 5, 'others append meanwhile');
cmp_ok($slowest, '<', 3, 'and their events are handled');
$start = time;
$open->send_sql(0, 'COMMIT;');
$open->wait_for(0, 30) or die;
sql(append_thing(1));
my $deadline = time + 40;
usleep(50_000) while sql('SELECT count(*) FROM imported') < $bulk && time < $deadline;
note(sprintf 'they are handled: %.1f s', time - $start);
is(sql('SELECT count(*) FROM imported'), $bulk, 'all that was in flight is handled');
is(sql("SELECT count(*) FROM dugong.event_log e WHERE type = 'Imported' AND NOT EXISTS (SELECT FROM imported i WHERE i.id = e.id)"), '0', 'each event of it');
is(sql('SELECT count(*) FROM (SELECT sequence_number - row_number() OVER (PARTITION BY aggregate_id ORDER BY nth) AS d FROM imported) x WHERE d <> 0'), '0', 'in its order');
wait_for_things($node, 'shop', 'the others');

$open->close_all;
$node->stop;
done_testing();
