# The background worker: when it starts, how fast it follows, when it ends.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = new_server('main', "dugong.poll_interval = '1h'", 'max_prepared_transactions = 5',
	'max_worker_processes = 20', 'restart_after_crash = on');
my ($anna, $ben) = (uuid(1, 1), uuid(1, 2));

sub sql { return $node->safe_psql('shop', shift); }

sub sql_without_worker
{
	local $ENV{PGOPTIONS} = '-c dugong.max_workers=0';
	return sql(@_);
}

sub no_worker
{
	my ($db, $what) = @_;
	ok($node->poll_query_until('postgres',
			"SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND datname = '$db'"),
		$what);
	return;
}

$node->safe_psql('postgres', 'CREATE DATABASE shop');

# Start
sql('CREATE EXTENSION dugong');
my $pid = wait_for_worker($node, 'shop');
ok($pid, 'CREATE EXTENSION starts the worker, which shows in pg_stat_activity');
sql("SELECT bank_open_account('Anna', 500, '$anna')");
wait_for_equality($node, 'shop', 'the first account is projected');

# Speed
sql(<<~'SQL');
	CREATE TABLE latency (ms float8);
	CREATE PROCEDURE follow(account uuid, expected numeric) LANGUAGE plpgsql AS $$
	BEGIN
	    WHILE (SELECT balance FROM bank_account_query_model WHERE id = account) <> expected LOOP
	        IF clock_timestamp() > statement_timestamp() + interval '10 s' THEN
	            RAISE 'the worker does not follow';
	        END IF;
	        PERFORM pg_sleep(0.0005);
	    END LOOP;
	    -- From before the commit, so this is an upper bound.
	    INSERT INTO latency
	    SELECT extract(epoch FROM clock_timestamp() - max("timestamp")) * 1000 FROM dugong.event_log;
	END $$;
	SQL
sql(join('', map { "SELECT bank_deposit('$anna', 1);\nCALL follow('$anna', " . (500 + $_) . ");\n" } 1 .. 20));
my ($best, $median, $worst) = split /\|/,
  sql('SELECT round(min(ms)::numeric, 1), round((percentile_cont(0.5) WITHIN GROUP (ORDER BY ms))::numeric, 1), round(max(ms)::numeric, 1) FROM latency');
note("commit to query model, 20 times: best $best ms, median $median ms, worst $worst ms");
cmp_ok($median, '<', 200, 'the worker follows a commit within 200 ms');

# Terminated, it comes back
$pid = wait_for_worker($node, 'shop');
sql("SELECT pg_terminate_backend($pid)");
my $start = time;
isnt(wait_for_worker($node, 'shop', $pid), $pid, 'a terminated worker comes back');
note(sprintf('after %.1f s', time - $start));
sql("SELECT bank_deposit('$anna', 1)");
wait_for_equality($node, 'shop', 'and works');

# Cancelled, it goes on
$pid = wait_for_worker($node, 'shop');
sql("SELECT pg_cancel_backend($pid)");
sql("SELECT bank_deposit('$anna', 1)");
wait_for_equality($node, 'shop', 'a cancelled worker works on');

# Restart of the server, library not preloaded
$node->restart;
is(worker_pid($node, 'shop'), '', 'no worker after a restart without preload');
sql_without_worker("SELECT bank_deposit('$anna', 10); SELECT bank_open_account('Ben', 5, '$ben')");
is(worker_pid($node, 'shop'), '', 'dugong.max_workers = 0 starts none');
ok(!is_caught_up($node, 'shop'), 'and nothing is projected');
sql("SELECT bank_deposit('$anna', 100)");
wait_for_equality($node, 'shop', 'the first append after a restart starts the worker, which catches up');
is(sql("SELECT balance FROM bank_account_query_model WHERE id = '$ben'"), '5', 'with the account opened meanwhile');

# Idle, it ends; the next append starts it
no_worker('shop', 'an idle worker ends');
sql("SELECT bank_deposit('$anna', 1)");
wait_for_equality($node, 'shop', 'the next append starts it again');

# Preloaded
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'dugong'\n");
$node->stop;
$node->start;
wait_for_worker($node, 'shop');
pass('preloaded, the worker starts with the server');
no_worker('shop', 'it ends, idle');
sql_without_worker("SELECT bank_deposit('$anna', 1000)");
ok(!is_caught_up($node, 'shop'), 'an append is not projected');
$node->restart;
wait_for_equality($node, 'shop', 'preloaded, the worker catches up after a restart, without an append');
note("processes: " . $node->safe_psql('postgres',
		"SELECT string_agg(concat_ws(' ', backend_type, datname, wait_event), ', ') FROM pg_stat_activity WHERE backend_type LIKE 'dugong%'"));

# Preloaded, but no workers wanted
$node->append_conf('postgresql.conf', "dugong.max_workers = 0\n");
sql_without_worker("SELECT bank_deposit('$anna', 1)");
wait_for_equality($node, 'shop', 'the running worker follows a session without workers');
$node->restart;
$node->safe_psql('postgres', 'CREATE DATABASE barrier');
$node->poll_query_until('postgres',
	"SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'dugong launcher'");
is(worker_pid($node, 'shop'), '', 'dugong.max_workers = 0: the launcher starts no worker');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\ndugong.max_workers = 1\n");
$node->restart;

# COMMIT PREPARED
$node->safe_psql('postgres', "ALTER SYSTEM SET dugong.poll_interval = '500ms'");
$node->reload;
sql("BEGIN; SELECT bank_deposit('$anna', 7); PREPARE TRANSACTION 'p'");
wait_for_worker($node, 'shop');
pass('PREPARE TRANSACTION starts the worker');
sql("COMMIT PREPARED 'p'");
wait_for_equality($node, 'shop', 'COMMIT PREPARED is projected by the poll');
sql("BEGIN; SELECT bank_deposit('$anna', 7); PREPARE TRANSACTION 'q'");
sql("SELECT bank_deposit('$ben', 1)");
wait_for_equality($node, 'shop', 'a prepared transaction does not hold others up');
$node->stop('immediate');
$node->start;
sql("COMMIT PREPARED 'q'; SELECT bank_deposit('$ben', 1)");
wait_for_equality($node, 'shop', 'COMMIT PREPARED after a crash is projected');
$node->safe_psql('postgres', 'ALTER SYSTEM RESET dugong.poll_interval');
$node->reload;

# A rolled-back CREATE EXTENSION
$node->safe_psql('postgres', "CREATE DATABASE $_") foreach qw(undone done);
$node->safe_psql('undone', 'BEGIN; CREATE EXTENSION dugong; ROLLBACK');
$node->safe_psql('undone', "BEGIN; CREATE EXTENSION dugong; SELECT bank_open_account('Anna'); ROLLBACK");
$node->safe_psql('done', 'CREATE EXTENSION dugong');
wait_for_worker($node, 'done');
is(worker_pid($node, 'undone'), '', 'CREATE EXTENSION rolled back leaves no worker');
$node->safe_psql('undone', 'BEGIN; CREATE EXTENSION dugong; DROP EXTENSION dugong; COMMIT');
no_worker('undone', 'nor does one that is dropped in its transaction');

# DROP DATABASE, and the database as a template
$node->safe_psql('done', "SELECT bank_open_account('Anna')");
wait_for_equality($node, 'done', 'the worker of another database works');
wait_for_worker($node, 'done');
$start = time;
$node->safe_psql('postgres', 'CREATE DATABASE done_copy TEMPLATE done');
note(sprintf('CREATE DATABASE ... TEMPLATE beside an idle worker: %.1f s', time - $start));
cmp_ok(time - $start, '<', 5, 'CREATE DATABASE with this template succeeds beside an idle worker');
$node->safe_psql('done', "SELECT bank_open_account('Ben')");
wait_for_worker($node, 'done');
$start = time;
$node->safe_psql('postgres', 'DROP DATABASE done');
note(sprintf('DROP DATABASE beside an idle worker: %.1f s', time - $start));
cmp_ok(time - $start, '<', 5, 'DROP DATABASE succeeds beside an idle worker');
$node->safe_psql('done_copy', "SELECT bank_open_account('Carl')");
wait_for_equality($node, 'done_copy', 'the copy goes on');
wait_for_worker($node, 'done_copy');
$node->safe_psql('postgres', 'DROP DATABASE done_copy WITH (FORCE)');
no_worker('done_copy', 'DROP DATABASE WITH (FORCE) leaves no worker');

# DROP EXTENSION
sql("SELECT bank_deposit('$anna', 1)");
wait_for_worker($node, 'shop');
sql('SET dugong.allow_drop = on; DROP EXTENSION dugong');
no_worker('shop', 'DROP EXTENSION ends the worker');
sql('CREATE EXTENSION dugong');
sql("SELECT bank_open_account('Anna', 500, '$anna')");
wait_for_equality($node, 'shop', 'created again, it works again');

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'no process crashed');
done_testing();
