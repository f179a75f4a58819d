# Each moment at which a worker could miss an appender, held open by a fault point.  Nothing but the appender wakes the worker: the
# poll is an hour away, workers notify nobody (nor themselves), and what is asked for must happen sooner than the 10 seconds after which an idle worker looks once more.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Sessions;
use Test::More;
use Things;
use Time::HiRes qw(time usleep);

my $node = new_server('main', "dugong.poll_interval = '1h'", 'dugong.max_workers = 1', 'dugong.notify = off', 'fsync = off', 'autovacuum = off');
my ($holder, $things);

sub sql { return $node->safe_psql('shop', shift); }

# In a session that neither wakes nor launches
sub unseen
{
	local $ENV{PGOPTIONS} = '-c dugong.max_workers=0';
	return sql(shift);
}

sub hold { $holder->query_safe(join '', map { "SELECT pg_advisory_lock(hashtext('$_'));" } @_); return; }
sub release { $holder->query_safe('SELECT pg_advisory_unlock_all()'); return; }

sub until_true
{
	my ($query, $seconds) = @_;
	my $deadline = time + ($seconds // 20);
	my $is;

	usleep(10_000) while !($is = $node->safe_psql('shop', "SELECT ($query)") eq 't') && time < $deadline;
	return $is;
}

sub happens { my ($query, $what) = @_; until_true($query) or die "not so: $what"; return; }

sub worker_is_at { my $point = shift; happens("SELECT count(*) > 0 FROM pg_stat_activity WHERE query = 'fault point $point' AND state = 'active'", "the worker is at $point"); return; }
sub session_is_held { my $n = shift // 1; happens("SELECT count(*) = $n FROM pg_locks WHERE locktype = 'advisory' AND NOT granted", 'a session is held'); return; }

# Until it sleeps, and has done so for a moment
sub worker_sleeps
{
	happens("SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND datname = 'shop' AND state = 'idle' AND wait_event = 'Extension' AND clock_timestamp() - state_change > '300 ms'", 'the worker sleeps');
	return;
}
sub no_worker { happens("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND datname = 'shop'", 'there is no worker'); return; }

# Every event is of another thing
sub append { return append_thing(++$things); }

# Without an event
sub wake { unseen("SELECT dugong.alter_projection('model', on_error => 'park')"); return; }

sub projected
{
	my ($what) = @_;
	ok(until_true("(SELECT count(*) FROM thing_model) = $things", 4), $what) or diag(sql('SELECT backend_type, state, wait_event, query FROM pg_stat_activity WHERE datname IS NOT NULL'));
	# What it missed must not disturb what follows
	sql("CALL dugong.run_projections()");
	return;
}

sub stop_worker
{
	sql('SELECT dugong.stop_workers()');
	no_worker();
	unseen('SET dugong.max_workers = 0; SELECT dugong.start_workers()');
	return;
}

sub session { return $node->background_psql('shop'); }
my $sessions;
sub send_append { my $n = shift; $sessions->send_sql($n, append()); return; }
sub ends { my $n = shift; $sessions->wait_for($n, 20) or die 'the appender does not end'; return; }

$node->safe_psql('postgres', 'CREATE DATABASE shop');
sql('CREATE EXTENSION dugong');
create_things($node, 'shop');
sql("SELECT dugong.drop_projection(p) FROM unnest('{bank_account,copy,events}'::text[]) p");
$holder = session();
$sessions = Sessions->new($node->connstr('shop'), 2);

# Both sessions know where the worker is
foreach my $n (0, 1) { send_append($n); ends($n); }
projected('it works');

worker_sleeps();
hold('worker-has-polled');
wake();
worker_is_at('worker-has-polled');
send_append(0);
ends(0);
release();
projected('appended after a poll, before the latch is reset');

worker_sleeps();
hold('worker-has-looked');
wake();
worker_is_at('worker-has-looked');
send_append(0);
ends(0);
release();
projected('appended after the last look, before it sleeps');

# In flight while the worker polls: it commits after the poll, before the look
worker_sleeps();
hold('append-commits');
send_append(0);
session_is_held();
{
	my $other = session();

	$other->query_safe("SELECT pg_advisory_lock(hashtext('worker-has-polled'))");
	wake();
	worker_is_at('worker-has-polled');
	release();
	ends(0);
	$other->quit;
}
projected('in flight during a poll, committed before the latch is reset');

# In flight while the worker polls and falls asleep
worker_sleeps();
hold('append-commits');
send_append(0);
session_is_held();
wake();
usleep(300_000);
worker_sleeps();
release();
ends(0);
projected('in flight while the worker polls and falls asleep');

# The first round of a worker: the appender comes when it has looked
stop_worker();
hold('worker-has-looked');
sql('SELECT dugong.start_workers()');
worker_is_at('worker-has-looked');
send_append(0);
ends(0);
release();
projected('appended when a new worker has looked for the first time');

# Has seen no worker, commits after it has looked
stop_worker();
unseen(append());
hold('append-commits');
send_append(0);
session_is_held();
unseen('SET dugong.max_workers = 1; CALL dugong.wait_for_projection(\'model\')');
usleep(300_000);
release();
ends(0);
projected('an appender that had seen no worker commits when one has looked');

# Somebody looks for the marker at the moment when it is put up
stop_worker();
hold('worker-has-no-marker');
sql(append());
worker_is_at('worker-has-no-marker');
my $looker = session();
$holder->query_safe("SELECT pg_advisory_lock(hashtext('marker-is-looked-for'))");
send_append(0);
session_is_held();
$holder->query_safe("SELECT pg_advisory_unlock(hashtext('worker-has-no-marker'))");
usleep(500_000);
release();
ends(0);
projected('someone looks for the marker while it is put up: his own event');
worker_sleeps();
sql(append());
projected('and what is appended later');
$looker->quit;

# The next worker is elsewhere than the one that a session knows
worker_sleeps();
send_append(0);
ends(0);
my $place = "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = " . (0xD607 - 0x10000) . " AND database = (SELECT oid FROM pg_database WHERE datname = 'shop')";
my $before = sql($place);
$node->safe_psql('postgres', 'CREATE DATABASE other');
sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND datname = 'shop'");
no_worker();
$node->safe_psql('other', 'CREATE EXTENSION dugong');
wait_for_worker($node, 'other');
happens("SELECT count(*) = 1 FROM ($place) p", 'it is back');
isnt(sql($place), $before, 'the next worker has another place');
worker_sleeps();
send_append(0);
ends(0);
projected('a session wakes a worker that has another place than the last it knew');
$node->safe_psql('other', 'SELECT dugong.stop_workers()');

# A worker that ends, after 10 idle seconds
sub hold_idle
{
	my ($point, @others) = @_;

	send_append(0);
	ends(0);
	hold($point, @others);
	worker_is_at($point);
	return;
}

hold_idle('worker-is-idle');
send_append(0);
ends(0);
release();
projected('appended before an idle worker gives its lock up');

hold_idle('worker-is-idle', 'append-commits');
send_append(0);
session_is_held();
$holder->query_safe("SELECT pg_advisory_unlock(hashtext('worker-is-idle'))");
usleep(300_000);
release();
ends(0);
projected('in flight when an idle worker gives its lock up');

send_append(0);
ends(0);
hold('worker-has-given-up');
my $open = append();
$sessions->send_sql(1, "BEGIN; $open");
ends(1);
worker_is_at('worker-has-given-up');
hold('append-commits');
$sessions->send_sql(1, 'COMMIT;');
session_is_held();
$holder->query_safe("SELECT pg_advisory_unlock(hashtext('worker-has-given-up'))");
usleep(500_000);
release();
ends(1);
projected('in flight, and looks for the worker when that has given its lock up but goes on');

hold_idle('worker-ends');
send_append(0);
ends(0);
release();
projected('appended after the last look of a worker that ends');

# Each of several workers is woken
$node->append_conf('postgresql.conf', 'dugong.max_workers = 2');
$node->reload;
sql(<<~'SQL');
	CREATE TABLE second_model (LIKE thing_model INCLUDING ALL);
	SELECT dugong.create_projection('second', 'Thing', 'second_model');
	CALL dugong.wait_for_projection('second');
	SQL
happens("SELECT count(*) = 2 FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND datname = 'shop' AND state = 'idle' AND clock_timestamp() - state_change > '300 ms'", 'two workers sleep');
sql(append());
ok(until_true("(SELECT count(*) FROM second_model) = $things AND (SELECT count(*) FROM thing_model) = $things", 4), 'two workers: both are woken');

$sessions->close_all;
$holder->quit;
$node->stop;
done_testing();
