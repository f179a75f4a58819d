# The machine's clock is set back and forward: order, times, workers and waiting do not go by it.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# The server's processes read the clock through this; the offset is in a file that they share
my $directory = PostgreSQL::Test::Utils::tempdir;
append_to_file("$directory/clock.c", <<'C');
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long
offset(void)
{
	static volatile long *shared;

	if (!shared)
	{
		int fd = open(getenv("TEST_CLOCK"), O_RDONLY);

		shared = mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
		close(fd);
	}
	return *shared;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec now;

	syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
	tv->tv_sec = now.tv_sec + offset();
	tv->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *result)
{
	struct timeval now;

	gettimeofday(&now, NULL);
	if (result)
		*result = now.tv_sec;
	return now.tv_sec;
}
C
system_or_bail('gcc', '-shared', '-fPIC', '-o', "$directory/clock.so", "$directory/clock.c");
open my $clock, '+>', "$directory/clock" or die;
sub set_clock { my ($offset) = @_; sysseek $clock, 0, 0; syswrite $clock, pack 'l!', $offset; return; }

set_clock(0);
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init;
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\ndugong.poll_interval = '300ms'\ndugong.retry_pause = '500ms'\n");
{
	local $ENV{LD_PRELOAD} = "$directory/clock.so";
	local $ENV{TEST_CLOCK} = "$directory/clock";
	$node->start;
}
sub sql { return $node->safe_psql('shop', shift); }

my $account = uuid(1, 1);
$node->safe_psql('postgres', 'CREATE DATABASE shop');
sql(<<~SQL);
	CREATE EXTENSION dugong;
	CREATE TABLE broken (n int);
	CREATE FUNCTION handle(e dugong.domain_event) RETURNS void LANGUAGE plpgsql AS \$\$ BEGIN IF EXISTS (SELECT FROM broken) THEN RAISE 'broken'; END IF; END \$\$;
	SELECT dugong.create_projection('fragile', 'BankAccount', event_handler => 'handle(dugong.domain_event)');
	SELECT dugong.create_subscription('mail', '{BankAccount}', start_position => NULL);
	SELECT bank_open_account('Anna', 100, '$account');
	SQL
wait_for_equality($node, 'shop', 'the query model follows');
wait_for_worker($node, 'shop');

# Back by a day
my $before = sql('SELECT extract(epoch FROM clock_timestamp())');
set_clock(-86400);
cmp_ok(sql('SELECT extract(epoch FROM clock_timestamp())'), '<', $before - 80_000, 'the clock was set back');
sql("SELECT bank_deposit('$account', 1) FROM generate_series(1, 10)");
wait_for_equality($node, 'shop', 'the query model follows after the clock was set back');
is(sql("SELECT count(*) FROM (SELECT \"timestamp\" < lag(\"timestamp\") OVER (ORDER BY sequence_number) AS back, position < lag(position) OVER (ORDER BY sequence_number) AS lower FROM dugong.event_log) x WHERE back OR lower"),
	'0', 'neither times nor positions of an aggregate go back');
cmp_ok(sql("SELECT extract(epoch FROM max(\"timestamp\")) FROM dugong.event_log"), '<=', $before, 'they stand still');
is(sql("SELECT sequence_number FROM dugong.append_event('BankAccount', '" . uuid(1, 2) . "', 'AccountOpened', '{\"owner\": \"Bob\", \"initialBalance\": 1}')"), '1', 'another has the time that it is');
cmp_ok(sql("SELECT extract(epoch FROM \"timestamp\") FROM dugong.event_log WHERE aggregate_id = '" . uuid(1, 2) . "'"), '<', $before - 80_000, 'and is before what came earlier');
is(sql("SELECT balance FROM dugong.build_aggregate(NULL::bank_account_state, 'BankAccount', '$account', as_of => 'infinity')"), '110', 'all of time is all events');

# What the worker finds only by polling: it planned that by the clock of before
set_clock(0);
sql("SELECT bank_deposit('$account', 1)");
wait_for_equality($node, 'shop', 'the clock is right again');
set_clock(-86400);
sql("BEGIN; SELECT bank_deposit('$account', 1); PREPARE TRANSACTION 'slow'");
sql("COMMIT PREPARED 'slow'");
wait_for_equality($node, 'shop', 'a prepared transaction is found, although the next poll was due a day later');

# A retry that was planned for the future
set_clock(0);
sql("INSERT INTO broken VALUES (1)");
sql("SELECT bank_deposit('$account', 1)");
ok($node->poll_query_until('shop', "SELECT count(*) > 0 FROM dugong.dead_letters WHERE projection = 'fragile'"), 'an event is set aside');
set_clock(-86400);
sql('DELETE FROM broken');
ok($node->poll_query_until('shop', "SELECT count(*) = 0 FROM dugong.dead_letters WHERE projection = 'fragile'"), 'and tried again, although that was due a day later');

# Waiting
my $start = time;
$node->psql('shop', "SELECT dugong.pause_projection('fragile'); SELECT FROM dugong.fetch_events('mail'); CALL dugong.wait_for_events('mail', '500 ms');");
cmp_ok(time - $start, '<', 20, 'waiting ends');
my $waiter = $node->background_psql('shop', on_error_stop => 0);
set_clock(0);
sql("SELECT dugong.resume_projection('fragile')");
$start = time;
$waiter->query_until(qr/begun/, "\\echo begun\nCALL dugong.wait_for_projection('fragile', '2 s', 1000000);\n\\echo ended\n");
set_clock(-86400);
$waiter->query_until(qr/ended/, '');
cmp_ok(time - $start, '<', 30, 'also if the clock is set back meanwhile');
eval { $waiter->quit };

# Forward by ten years, and back
set_clock(3650 * 86400);
sql("SELECT bank_deposit('$account', 1)");
set_clock(0);
sql("SELECT bank_deposit('$account', 1)");
is(sql("SELECT \"timestamp\" > clock_timestamp() + '9 years' FROM dugong.event_log ORDER BY position DESC LIMIT 1"), 't', 'an aggregate that was in the future stays there');
wait_for_equality($node, 'shop', 'and is projected');
is(sql("SELECT count(*) FROM (SELECT sequence_number - row_number() OVER (PARTITION BY aggregate_id ORDER BY position) AS d FROM dugong.event_log) x WHERE d <> 0"), '0', 'numbers are in the order of positions');
is(sql('SELECT count(*) FROM dugong.read_events(max_rows => NULL)'), sql('SELECT count(*) FROM dugong.event_log'), 'and pages read all');

$node->stop;
done_testing();
