# Several workers: who delays whom, how they start, stop and give way, and what handlers cannot do to them.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Sessions;
use Test::More;
use Things;
use Time::HiRes qw(time usleep);

# Nothing is found by polling, so a wakeup that is lost shows
my $node = new_server('main', 'dugong.max_workers = 3', "dugong.poll_interval = '1h'", 'max_prepared_transactions = 5',
	'dugong.max_attempts = 2', "dugong.retry_pause = '100ms'", 'restart_after_crash = on');

sub sql { return $node->safe_psql('shop', shift); }

sub sql_without_worker
{
	local $ENV{PGOPTIONS} = '-c dugong.max_workers=0';
	return sql(@_);
}

# Waits for so many seconds until a query says t; how long it took, or undef.
sub wait_until
{
	my ($db, $query, $seconds) = @_;
	my $start = time;

	while ($node->safe_psql($db, $query) ne 't')
	{
		return undef if time > $start + $seconds;
		usleep(20_000);
	}
	return time - $start;
}

sub happens
{
	my ($query, $seconds, $what, $db) = @_;
	my $took = wait_until($db // 'shop', $query, $seconds);

	ok(defined $took, $what) or diag("not within $seconds s: $query");
	note(sprintf '%s: %.2f s', $what, $took) if defined $took;
	return;
}

sub no_worker
{
	my ($db, $what, $seconds) = @_;
	happens("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND datname = '$db'", $seconds // 5, $what, 'postgres');
	return;
}

sub append { return append_thing(@_); }

# Have the projections p1 to p5, without these, handled the whole log?
sub all_done
{
	my %without = map { $_ => 1 } @_;
	return 'SELECT ' . join ' AND ', map { "(SELECT count(*) FROM done_$_) = (SELECT count(*) FROM dugong.event_log)" } grep { !$without{$_} } 1 .. 5;
}

# Five projections, each with a table of its own; an event with "slow" holds the fourth up, for so many seconds.
sub create_projections
{
	my ($db) = @_;

	$node->safe_psql($db, q{CREATE EXTENSION dugong; SELECT dugong.drop_projection('bank_account'); SELECT dugong.create_aggregate_type('Thing')});
	foreach my $n (1 .. 5)
	{
		my $sleep = $n == 4 ? "PERFORM pg_sleep(coalesce((e.payload ->> 'slow')::float8, 0));" : '';

		$node->safe_psql($db, <<~SQL);
			CREATE TABLE done_$n (id uuid PRIMARY KEY, at timestamptz DEFAULT clock_timestamp());
			CREATE FUNCTION handle_$n(e dugong.domain_event) RETURNS void LANGUAGE plpgsql AS \$\$
			BEGIN
			    $sleep
			    INSERT INTO done_$n (id) VALUES (e.id);
			END \$\$;
			SELECT dugong.create_projection('p$n', 'Thing', event_handler => 'handle_$n(dugong.domain_event)');
			SQL
	}
	return;
}

sub slow { my ($seconds) = @_; return "SELECT FROM dugong.append_event('Thing', '" . thing(9) . qq{', 'Slow', '{"slow": $seconds}');}; }

$node->safe_psql('postgres', "CREATE DATABASE $_") foreach qw(shop other);

# Restarted without preload: who waits starts the worker
create_projections('shop');
sql(append(1));
happens(all_done(), 5, 'the first event is handled');
$node->restart;
sql_without_worker(append(1) x 3);
is(sql("CALL dugong.wait_for_projection('p1'); " . all_done(2 .. 5)), 't', 'wait_for_projection starts a worker where none is');
happens(all_done(), 5, 'which handles all');
$node->restart;
sql(append(1));
happens(all_done(), 5, 'the first append after a restart starts the worker');

# From here on, transactions that have nothing to do with the log stay open
my $foreign = Sessions->new($node->connstr('shop'), 1);
my $stranger = Sessions->new($node->connstr('postgres'), 1);
foreach ($foreign, $stranger)
{
	$_->send_sql(0, 'BEGIN; SELECT txid_current();');
	$_->wait_for(0, 10) or die;
}
sql("BEGIN; CREATE TABLE forgotten (i int); PREPARE TRANSACTION 'forgotten'");

# A slow handler delays nobody else
sql(slow(2));
happens('SELECT count(DISTINCT number) = 3 FROM dugong.worker_status WHERE pid IS NOT NULL', 3, 'worker_status shows three workers');
foreach (1 .. 12) { sql(append($_)); usleep(50_000); }
sql(slow(2));
foreach (1 .. 12) { sql(append($_)); usleep(50_000); }
happens(all_done(4), 2, 'all but the slow projection are done');
my $delay = sql('SELECT round(max(extract(epoch FROM d.at - e."timestamp"))::numeric * 1000) FROM (' . join(' UNION ALL ', map { "TABLE done_$_" } 1, 2, 3, 5)
	  . ") d JOIN (SELECT * FROM dugong.event_log WHERE type <> 'Slow' ORDER BY position DESC LIMIT 24) e USING (id)");
note("the longest delay of another projection: $delay ms");
cmp_ok($delay, '<', 1000, 'no other projection is delayed by a handler that sleeps');
happens(all_done(), 10, 'the slow one follows');

# A projection that comes while the workers sleep
sql(<<~'SQL');
	CREATE TABLE late (id uuid PRIMARY KEY);
	CREATE FUNCTION handle_late(e dugong.domain_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO late VALUES (e.id) $$;
	SELECT dugong.create_projection('late', 'Thing', event_handler => 'handle_late(dugong.domain_event)');
	SQL
happens('SELECT count(*) = (SELECT count(*) FROM dugong.event_log) FROM late', 2, 'a projection that is created while the workers sleep is served at once');
sql("SELECT dugong.drop_projection('late')");

# Fewer and more workers by a reload
$node->safe_psql('postgres', 'ALTER SYSTEM SET dugong.max_workers = 1');
$node->reload;
happens("SELECT current_setting('dugong.max_workers') = '1'", 5, 'reloaded');
sql(append(1));
happens('SELECT count(pid) = 1 FROM dugong.worker_status', 5, 'dugong.max_workers = 1 leaves one worker');
happens(all_done(), 5, 'which does it all');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET dugong.max_workers');
$node->reload;
happens("SELECT current_setting('dugong.max_workers') = '3'", 5, 'reloaded');
sql(append(1));
happens('SELECT count(pid) = 3 FROM dugong.worker_status', 5, 'and three are three again');
happens(all_done(), 5, 'and do it all');

# A lock on what one projection writes
my $locker = Sessions->new($node->connstr('shop'), 1);
my $locker_pid;
$locker->send_sql(0, 'SELECT pg_backend_pid(); BEGIN; LOCK TABLE done_2;', sub { ($locker_pid) = split /\n/, shift; });
$locker->wait_for(0, 10) or die;
sql(append(1));
happens(all_done(2), 3, 'a lock on a query model holds no other projection up');
happens("SELECT bool_or(blocking_pid = $locker_pid) AND count(blocking_pid) = 1 FROM dugong.projection_status WHERE projection = 'p2'", 10,
	'projection_status shows who holds it up');
$locker->send_sql(0, 'COMMIT;');
$locker->wait_for(0, 10) or die;
happens(all_done(), 5, 'it goes on when the lock is gone');

# Stopped
my $pids = sql('SELECT count(pid) FROM dugong.worker_status');
cmp_ok($pids, '>', 0, 'workers run');
sql('SELECT dugong.stop_workers()');
no_worker('shop', 'stop_workers ends them');
my $transient = 0;
foreach (1 .. 10)
{
	sql(append($_));
	$transient += sql("SELECT count(*) FROM dugong.worker_status WHERE state = 'active'");
}
note("workers seen while stopped: $transient");
is(sql('SELECT (SELECT count(*) FROM dugong.event_log) - (SELECT count(*) FROM done_1)'), '10', 'nothing is handled while they are stopped');
like(sql("SELECT note FROM dugong.worker_status WHERE kind = 'installation'"), qr/stop_workers/, 'worker_status tells why');
foreach ($foreign, $locker) { $_->close_all; }
sql("ROLLBACK PREPARED 'forgotten'");
is($node->psql('postgres', 'ALTER DATABASE shop RENAME TO market'), 0, 'the database can be renamed');
is($node->psql('postgres', 'ALTER DATABASE market RENAME TO shop'), 0, 'and back');
sql('SELECT dugong.start_workers()');
happens(all_done(), 5, 'start_workers lets them go on');
sql('SELECT dugong.stop_workers()');
no_worker('shop', 'stopped again');
sql(append(1) . 'SELECT dugong.start_workers()');
happens(all_done(), 5, 'stopped, appended, started in one session: they go on');
sql('SELECT dugong.stop_workers()');
no_worker('shop', 'and stopped again');
$node->safe_psql('shop', append(1) . "DO 'BEGIN PERFORM pg_sleep(0.3); END'; SELECT dugong.start_workers();");
happens(all_done(), 5, 'also when a worker was asked for a moment before');
sql(append(1));
happens(all_done(), 5, 'and with another append');

# A deferred foreign key
sql(<<~'SQL');
	CREATE TABLE allowed (id uuid PRIMARY KEY);
	CREATE TABLE referring (id uuid REFERENCES allowed DEFERRABLE INITIALLY DEFERRED, event uuid PRIMARY KEY);
	CREATE FUNCTION refer(e dugong.domain_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO referring VALUES (e.aggregate_id, e.id) $$;
	SQL
sql("INSERT INTO allowed SELECT DISTINCT aggregate_id FROM dugong.event_log WHERE aggregate_id <> '" . thing(1) . "'");
sql("SELECT dugong.create_projection('referring', 'Thing', event_handler => 'refer(dugong.domain_event)')");
happens('SELECT count(*) = 1 FROM dugong.dead_letters WHERE given_up', 10, 'a deferred foreign key sets one aggregate aside');
happens("SELECT count(*) = (SELECT count(*) FROM dugong.event_log WHERE aggregate_id <> '" . thing(1) . "') FROM referring", 5, 'and only that one');
sql("INSERT INTO allowed VALUES ('" . thing(1) . "'); SELECT dugong.retry_dead_letters('referring')");
happens('SELECT count(*) = (SELECT count(*) FROM dugong.event_log) FROM referring', 5, 'mended, it follows');
sql("SELECT dugong.drop_projection('referring')");

# Handlers that try to act as the worker, or to take its locks away
sql(<<~'SQL');
	CREATE ROLE clerk;
	GRANT USAGE ON SCHEMA dugong TO clerk;
	CREATE TABLE tries (what text, result text);
	CREATE TABLE trap (i int);
	GRANT ALL ON tries, trap TO clerk;
	CREATE FUNCTION spring() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
	    INSERT INTO tries VALUES ('deferred', current_user);
	    RETURN NULL;
	END $$;
	CREATE CONSTRAINT TRIGGER spring AFTER INSERT ON trap DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION spring();
	CREATE FUNCTION escape(e dugong.domain_event) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
	    attempt text;
	BEGIN
	    FOREACH attempt IN ARRAY ARRAY['RESET ROLE', 'SET ROLE NONE', 'RESET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION DEFAULT',
	        'SET LOCAL ROLE NONE', 'SELECT set_config(''role'', ''none'', false)', 'SELECT set_config(''session_authorization'', ''default'', false)',
	        'SET session_replication_role = replica', 'CREATE TEMP TABLE t (i int)', 'ALTER ROLE clerk SUPERUSER', 'COPY tries TO ''/dev/null''',
	        'DELETE FROM dugong.projections', 'DECLARE c CURSOR WITH HOLD FOR SELECT 1', 'DISCARD ALL', 'LISTEN x', 'UPDATE dugong.checkpoints SET position = 0'] LOOP
	        BEGIN
	            EXECUTE attempt;
	            INSERT INTO tries VALUES (attempt, current_user);
	        EXCEPTION WHEN OTHERS THEN
	            INSERT INTO tries VALUES (attempt, 'refused');
	        END;
	    END LOOP;
	    INSERT INTO trap VALUES (1);
	    INSERT INTO tries VALUES ('end', current_user);
	END $$;
	SELECT dugong.create_projection('escape', 'Thing', event_handler => 'escape(dugong.domain_event)', start_position => NULL);
	SELECT dugong.alter_projection('escape', owner => 'clerk');
	SQL
sql('TRUNCATE tries; ' . append(1));
happens("SELECT count(*) = 1 FROM tries WHERE what = 'end'", 5, 'a handler tries to act as the worker');
is(sql("SELECT string_agg(what || ': ' || result, ', ') FROM tries WHERE result <> 'refused' AND what NOT IN ('end', 'deferred')"), '', 'and is refused everything');
is(sql("SELECT string_agg(DISTINCT result, ', ') FROM tries WHERE what IN ('end', 'deferred')"), 'clerk', 'it stays who it is, as its deferred triggers do');
sql("SELECT dugong.drop_projection('escape')");
sql(<<~'SQL' . append(1) x 5);
	CREATE FUNCTION unlock(e dugong.domain_event) RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_unlock_all() $$;
	SELECT dugong.create_projection('unlock', 'Thing', event_handler => 'unlock(dugong.domain_event)');
	SQL
foreach (1 .. 10) { sql(append(1)); usleep(20_000); }
happens(all_done(), 5, 'pg_advisory_unlock_all in a handler stops nothing');
is(sql('SELECT count(*) FROM (SELECT number FROM dugong.worker_status WHERE pid IS NOT NULL AND number IS NOT NULL GROUP BY 1 HAVING count(*) > 1) x'), '0',
	'and no two workers are the same');
happens('SELECT count(pid) <= 3 AND count(pid) = count(number) FROM dugong.worker_status WHERE pid IS NOT NULL', 5, 'the workers have their locks');
sql("SELECT dugong.drop_projection('unlock')");

# Two databases at once
create_projections('other');
foreach my $n (1 .. 20) { sql(append($n)); $node->safe_psql('other', append($n)); }
happens(all_done(), 5, 'two databases at once: the one');
happens(all_done(), 5, 'and the other', 'other');

# Commands that want the database for themselves, while its workers are busy
sub make_backlog
{
	my ($db, $events) = @_;

	$node->safe_psql($db, "SELECT FROM dugong.append_events('Thing', '" . thing(9) . q{', (SELECT jsonb_agg('{"type": "Slow", "payload": {"slow": 0.02}}'::jsonb) FROM generate_series(1, } . "$events)));");
	happens('SELECT count(*) > 0 FROM done_4', 10, "the workers of $db are busy", $db);
	return;
}
foreach (qw(crowded emptied))
{
	$node->safe_psql('postgres', "CREATE DATABASE $_");
	$node->safe_psql('postgres', "ALTER DATABASE $_ SET dugong.batch_size = 10");
	create_projections($_);
}
make_backlog('crowded', 200);
my $start = time;
is($node->psql('postgres', 'CREATE DATABASE copy TEMPLATE crowded'), 0, 'CREATE DATABASE ... TEMPLATE beside busy workers');
note(sprintf 'after %.1f s', time - $start);
happens(all_done(), 20, 'then they go on by themselves', 'crowded');
make_backlog('crowded', 500);
$start = time;
is($node->psql('postgres', 'DROP DATABASE crowded'), 0, 'DROP DATABASE beside busy workers');
note(sprintf 'after %.1f s', time - $start);
foreach my $round (1 .. 3)
{
	make_backlog('emptied', 300);
	$start = time;
	is($node->psql('emptied', 'SET dugong.allow_drop = on; SET client_min_messages = error; DROP EXTENSION dugong CASCADE'), 0, 'DROP EXTENSION beside busy workers');
	note(sprintf 'after %.1f s', time - $start);
	$node->safe_psql('emptied', join ' ', map { "DROP TABLE done_$_;" } 1 .. 5);
	create_projections('emptied');
	$node->safe_psql('emptied', append($round));
	happens(all_done(), 5, 'created again, it works again', 'emptied');
}

# Preloaded: a new database's extension is served at once
$stranger->close_all;
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dugong'\n");
$node->restart;
$node->safe_psql('postgres', 'CREATE DATABASE late');
create_projections('late');
$node->safe_psql('late', append(1));
happens(all_done(), 1, 'preloaded: the extension of a new database is served within a second', 'late');

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'no process crashed');
done_testing();
