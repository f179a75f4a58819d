# Processes that are killed at a named point, where a crash could do the most harm.  In the middle of an erasure: 021_erasure.pl; of an import: 022_import.pl.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Sessions;
use Test::More;
use Things;
use Time::HiRes qw(time usleep);

my $node = new_server('main', 'restart_after_crash = on', 'fsync = on', "dugong.poll_interval = '100ms'", 'autovacuum = off', 'log_statement = none');
my ($holder, $victim) = (0, 1);

sub sql { return $node->safe_psql('shop', shift); }

$node->safe_psql('postgres', 'CREATE DATABASE shop');
sql('CREATE EXTENSION dugong');
create_things($node, 'shop');
sql("SELECT dugong.drop_projection('bank_account')");
my $sessions = Sessions->new($node->connstr('shop'), 2, keep => 1);

sub send_sql
{
	my ($n, $sql) = @_;
	my $answer;
	$sessions->wait_for($n, 20) or die 'a session is busy';
	$sessions->send_sql($n, $sql, sub { $answer = shift; });
	return sub { $sessions->wait_for($n, 20) or die "no answer: $sql"; return $answer; };
}

# Kills whoever comes to the point after this.
sub die_at
{
	my ($point, $sql) = @_;
	my $deadline = time + 20;
	my $pid = '';

	send_sql($holder, "SELECT pg_advisory_lock(hashtext('$point'));")->();
	my $answer = send_sql($victim, $sql);
	until ($pid ne '')
	{
		die "nobody comes to $point" if time > $deadline;
		usleep(10_000);
		$pid = sql("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND NOT granted UNION SELECT pid FROM pg_stat_activity WHERE query = 'fault point $point' LIMIT 1");
	}
	kill 'KILL', $pid or die;
	# Both are told
	send_sql($_, 'SELECT pg_sleep(1);')->() foreach $holder, $victim;
	wait_for_server($node);
	return $answer;
}

sub is_fine
{
	my ($what) = @_;

	sql(append_thing(1));
	wait_for_things($node, 'shop', $what);
	is(sql("SELECT count(*) FROM dugong.verify_snapshots('Thing')"), '0', "$what: every snapshot is the fold of its events");
	is(sql('SELECT count(*) FROM (SELECT sequence_number - row_number() OVER (PARTITION BY aggregate_id ORDER BY position) AS d FROM dugong.event_log) x WHERE d <> 0'),
		'0', "$what: sequence numbers are 1 to n");
	return;
}

sub append { my ($id) = @_; return "SELECT sequence_number FROM dugong.append_event('Thing', '" . thing(2) . "', 'Changed', '{\"by\": 1}', event_id => '" . uuid(7, $id) . "');"; }
sub is_there { my ($id) = @_; return sql("SELECT count(*) FROM dugong.event_log WHERE id = '" . uuid(7, $id) . "'"); }

sql(append_thing($_)) foreach 1 .. 5;
is_fine('before');

# An append, before it commits
my $answer = die_at('append-commits', append(1));
is($answer->(), undef, 'killed before the commit: nobody was told that it succeeded');
is(is_there(1), '0', 'and it has not');
is(sql(append(1)), '2', 'the next try takes the number');
is_fine('killed before the commit');

# Committed, and nobody has been told: no worker, no client
$answer = die_at('append-committed', append(2));
is($answer->(), undef, 'killed after the commit: nobody was told');
is(is_there(2), '1', 'but it is there');
is(sql(append(2)), '3', 'another try answers as if it had been the first');
is(sql('SELECT count(*) FROM dugong.event_log WHERE aggregate_id = \'' . thing(2) . "'"), '3', 'and appends nothing');
is_fine('killed after the commit');

# The handlers have written, the checkpoint has not moved
my $before = sql('SELECT n FROM counters');
die_at('projection-before-checkpoint', append(3));
is(is_there(3), '1', 'killed before the checkpoint moves: the event is there');
is_fine('killed before the checkpoint moves');
is(sql('SELECT n FROM counters'), $before + 2, 'and was handled once');

# A snapshot's row is written, with the append that made it due
sql(append_thing(3)) foreach 1 .. 38;
is(sql('SELECT sequence_number FROM dugong.aggregate_snapshots WHERE aggregate_id = \'' . thing(3) . "'"), '20', 'there is a snapshot');
$answer = die_at('snapshot-row-is-written', append_thing(3));
is($answer->(), undef, 'killed while a snapshot is written');
is(sql('SELECT s.sequence_number, b.n FROM dugong.aggregate_snapshots s, dugong.build_aggregate(NULL::thing_state, \'Thing\', s.aggregate_id) b WHERE s.aggregate_id = \'' . thing(3) . "'"),
	'20|39', 'the old one is there, and good');
is_fine('killed while a snapshot is written');
sql(append_thing(3));
is(sql('SELECT sequence_number FROM dugong.aggregate_snapshots WHERE aggregate_id = \'' . thing(3) . "'"), '40', 'the next append takes it');

# A rebuild between two of its transactions
sql(join '', map { append_thing($_) } 6 .. 2500);
wait_for_things($node, 'shop', 'many things');
sql('UPDATE thing_model SET total = -1');
die_at('rebuild-step-is-done', "CALL dugong.rebuild_projection('model');");
my $done = sql("SELECT done FROM dugong.rebuild_progress WHERE projection = 'model'");
cmp_ok($done, '>', 0, "killed within a rebuild: $done are done");
is(sql('SELECT count(*) FROM thing_model WHERE total <> -1'), $done, 'they are rebuilt, others serve as they were');
sql("UPDATE thing_model SET total = -2 WHERE total <> -1; CALL dugong.rebuild_projection('model')");
is(sql('SELECT count(*) FROM thing_model WHERE total = -2'), $done, 'called again, it goes on where it was');
is(sql('SELECT count(*) FROM thing_model WHERE total = -1'), '0', 'to its end');
sql("CALL dugong.rebuild_projection('model')");
is_fine('killed within a rebuild');

$sessions->close_all;
$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|signal 11|signal 6|XX000/, 'nothing crashed but what was killed');
done_testing();
