# A handler that kills the server process: its aggregate is set aside after a few crashes, all others are handled once, and nobody
# is blamed who has nothing to do with it.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);

my ($node, $file);

# The server is down again and again meanwhile
sub ask
{
	my ($sql) = @_;
	my ($out, $err) = ('', '');
	my $code = eval { $node->psql('shop', $sql, stdout => \$out, stderr => \$err, on_error_stop => 1) };

	return defined $code && $code == 0 ? $out : undef;
}

sub insist
{
	my ($sql) = @_;
	my $deadline = time + 30;

	until (defined ask($sql)) { die "cannot: $sql" if time > $deadline; usleep(20_000); }
	return;
}

sub answers
{
	my ($sql, $answer, $what, $seconds) = @_;
	my $deadline = time + ($seconds // 40);
	my $got;

	while (($got = ask($sql) // '') ne $answer && time < $deadline) { usleep(50_000); }
	is($got, $answer, $what);
	return;
}

my $offset;
sub crashes_since
{
	my @crashes = slurp_file($node->logfile, $offset) =~ /was terminated by signal/g;
	return scalar @crashes;
}
sub now { $offset = -s $node->logfile; return; }

# A server whose database shop has handlers that log into "seen", and die over some owners
sub start
{
	my ($name, @conf) = @_;

	$node = new_server($name, 'restart_after_crash = on', 'fsync = off', 'autovacuum = off', @conf);
	$file = $node->data_dir . '/flag';
	$node->safe_psql('postgres', 'CREATE DATABASE shop');
	$node->safe_psql('shop', <<~SQL . <<~'SQL2');
		CREATE FUNCTION die() RETURNS int LANGUAGE plpgsql PARALLEL SAFE AS \$\$
		BEGIN
		    COPY (SELECT 1) TO PROGRAM 'touch $file; kill -9 \$PPID';
		    PERFORM pg_sleep(10);
		    RETURN 1;
		END \$\$;
		SQL
		CREATE EXTENSION dugong;
		SELECT dugong.drop_projection('bank_account');
		CREATE TABLE seen (projection text, owner text, n serial);
		CREATE FUNCTION on_event(e dugong.domain_event, projection text, victim text, pause float8) RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
		    IF e.payload ->> 'owner' LIKE victim THEN
		        PERFORM pg_sleep(pause);
		        PERFORM die();
		    END IF;
		    INSERT INTO seen (projection, owner) VALUES (projection, e.payload ->> 'owner');
		END $$;
		SQL2
	now();
	return;
}

sub create_projection
{
	my ($name, $victim, $more, $pause) = @_;
	$pause //= 0;
	$more //= '';
	return <<~SQL;
		CREATE OR REPLACE FUNCTION handle_$name(e dugong.domain_event) RETURNS void LANGUAGE sql AS \$\$ SELECT on_event(e, '$name', '$victim', $pause) \$\$;
		SELECT dugong.create_projection('$name', 'BankAccount', event_handler => 'handle_$name(dugong.domain_event)'$more);
		SQL
}

sub open_accounts
{
	my ($count, %names) = @_;
	my $name = join ' ', map { "WHEN $_ THEN '$names{$_}'" } sort keys %names;
	$name = $name ? "CASE i $name ELSE 'owner' || i END" : "'owner' || i";
	return "SELECT count(bank_open_account($name, 1)) FROM generate_series(1, $count) i;";
}

my $seen = 'SELECT count(*), count(DISTINCT owner) FROM seen WHERE projection = ';
my $dead = 'SELECT projection, sqlstate, message FROM dugong.dead_letters WHERE given_up ORDER BY 1';
my $died = '57P02|the server process died 3 times while this aggregate was handled';

foreach my $preload (0, 1)
{
	my $what = $preload ? 'preloaded' : 'not preloaded';

	start("main$preload", $preload ? "shared_preload_libraries = 'dugong'" : ());
	$node->safe_psql('shop', open_accounts(40, 20 => 'deadly') . create_projection('other', 'nobody') . create_projection('events', 'deadly'));
	answers("$seen 'events'", '39|39', "$what: all other events are handled, each once");
	answers($dead, "events|$died", "$what: and it is a dead letter");
	my $crashes = crashes_since();
	cmp_ok($crashes, '<=', 4, "$what: after $crashes crashes");
	answers("$seen 'other'", '40|40', "$what: other projections have not noticed");

	insist("CREATE OR REPLACE FUNCTION handle_events(e dugong.domain_event) RETURNS void LANGUAGE sql AS \$\$ SELECT on_event(e, 'events', 'nobody', 0) \$\$; SELECT dugong.retry_dead_letters('events')");
	answers("$seen 'events'", '40|40', "$what: mended, it is handled");

	# Workers that are killed for nothing set nothing aside
	foreach my $n (1 .. 4)
	{
		answers("SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'dugong worker'", 't', "$what: there is a worker");
		kill 'KILL', split /\n/, ask("SELECT pid FROM pg_stat_activity WHERE backend_type = 'dugong worker' LIMIT 1") // '';
		insist("SELECT bank_open_account('later$n', 1)");
	}
	answers("$seen 'events'", '44|44', "$what: workers that are killed for nothing: all is handled, each once");
	answers('SELECT count(*) FROM dugong.dead_letters', '0', "$what: and nothing is set aside");
	$node->stop;
}

# One is suspected, and comes to it late; another dies before, each time
start('two', 'dugong.max_workers = 1');
$node->safe_psql('shop', open_accounts(5, 3 => 'deadly') . create_projection('late', 'deadly', '', 2));
ok(wait_for_file(), 'the first one dies');
insist(create_projection('early', 'deadly'));
answers("$dead", "early|$died\nlate|$died", 'two projections that die, in turn');
answers("$seen 'early'", '4|4', 'the first one has handled the others');
answers("$seen 'late'", '4|4', 'and the second');
cmp_ok(crashes_since(), '<=', 9, 'crashes: ' . crashes_since());

# It is a parallel worker that crashes
now();
insist(<<~'SQL');
	SELECT dugong.drop_projection('early');
	SELECT dugong.drop_projection('late');
	CREATE TABLE big AS SELECT i FROM generate_series(1, 1000) i;
	ALTER TABLE big SET (parallel_workers = 2);
	CREATE OR REPLACE FUNCTION handle_parallel(e dugong.domain_event) RETURNS void LANGUAGE plpgsql
	SET parallel_setup_cost = 0 SET parallel_tuple_cost = 0 SET min_parallel_table_scan_size = 0 SET parallel_leader_participation = off AS $$
	BEGIN
	    IF e.payload ->> 'owner' = 'deadly' THEN
	        PERFORM sum(die()) FROM big;
	    END IF;
	    INSERT INTO seen (projection, owner) VALUES ('parallel', e.payload ->> 'owner');
	END $$;
	SELECT dugong.create_projection('parallel', 'BankAccount', event_handler => 'handle_parallel(dugong.domain_event)');
	SQL
answers($dead, "parallel|$died", 'a handler whose parallel worker dies');
like(slurp_file($node->logfile, $offset), qr/"parallel worker".*was terminated by signal/, 'it was a parallel worker');

# A session that runs the projections
insist("SELECT dugong.drop_projection('parallel'); SELECT dugong.stop_workers()");
answers("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'dugong worker'", '0', 'no worker');
insist(create_projection('session', 'deadly'));
now();
insist('CALL dugong.run_projections()');
answers($dead, "session|$died", 'a session that dies of run_projections()');
cmp_ok(crashes_since(), '<=', 4, 'crashes: ' . crashes_since());
answers("$seen 'session'", '4|4', 'and has handled the others');

# Within a transaction nothing is set aside: it is an error
insist("SELECT dugong.drop_projection('session');" . create_projection('block', 'deadly'));
my $error = '';
my $deadline = time + 30;
while (time < $deadline)
{
	my $err = '';
	eval { $node->psql('shop', 'BEGIN; CALL dugong.run_projections(); COMMIT', stderr => \$err, on_error_stop => 1) };
	$error = $err;
	last if $err =~ /while this aggregate/;
}
like($error, qr/ERROR:  the server process died 3 times while this aggregate was handled/, 'in a transaction block it is an error at last');
answers('SELECT count(*) FROM dugong.dead_letters', '0', 'and nothing is set aside');

# A handler that dies of everything stops, also when it is to stop on errors
insist("SELECT dugong.drop_projection('block');" . create_projection('all', '%') . 'SELECT dugong.start_workers()');
now();
answers("SELECT state FROM dugong.projection_status WHERE projection = 'all'", 'stopped', 'a projection that dies of everything stops');
my $crashes = crashes_since();
cmp_ok($crashes, '<=', 10, "after $crashes crashes");
answers("SELECT count(*) FROM dugong.dead_letters WHERE projection = 'all'", '3', 'with three dead letters');
insist("SELECT dugong.drop_projection('all');" . create_projection('strict', 'deadly', ", on_error => 'stop'"));
now();
answers("SELECT state FROM dugong.projection_status WHERE projection = 'strict'", 'stopped', 'on_error => stop: it stops');
$crashes = crashes_since();
cmp_ok($crashes, '<=', 4, "after $crashes crashes");
answers("$seen 'strict'", '2|2', 'where it is');

# The innocent: it is slow, and the server crashes again and again while it is at work
insist("SELECT dugong.drop_projection('strict'); UPDATE seen SET projection = 'old';" . create_projection('slow', 'nobody'));
insist(<<~'SQL');
	CREATE OR REPLACE FUNCTION handle_slow(e dugong.domain_event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
	    PERFORM pg_sleep(CASE WHEN e.payload ->> 'owner' LIKE 'slow%' THEN 1.5 ELSE 0 END);
	    INSERT INTO seen (projection, owner) VALUES ('slow', e.payload ->> 'owner');
	END $$;
	SQL
answers("$seen 'slow'", '5|5', 'a slow projection');
insist("SELECT bank_open_account('slow', 1)");
now();
foreach my $n (1 .. 5)
{
	answers("SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND wait_event = 'PgSleep'", 't', 'it is at work');
	my $pid = fork // die;
	if (!$pid)
	{
		ask('SELECT die()');
		require POSIX;
		POSIX::_exit(0);
	}
	waitpid $pid, 0;
}
is(crashes_since(), 5, 'another backend has crashed five times meanwhile');
answers("$seen 'slow'", '6|6', 'it is handled all the same');
answers('SELECT count(*) FROM dugong.dead_letters', '0', 'and not set aside');
unlike(slurp_file($node->logfile, $offset), qr/a process has died while it ran/, 'nobody was blamed');

# A worker that is terminated in an orderly way has not died
insist("SELECT bank_open_account('slow', 1)");
now();
foreach my $n (1 .. 4)
{
	answers("SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND wait_event = 'PgSleep'", 't', 'it is at work again');
	insist("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE backend_type = 'dugong worker'");
}
answers("$seen 'slow'", '7|6', 'a worker that was terminated four times: handled');
answers('SELECT count(*) FROM dugong.dead_letters', '0', 'and not set aside');
unlike(slurp_file($node->logfile, $offset), qr/a process has died while it ran/, 'and nobody was blamed');

# Files that are torn, foreign, or cannot be had
my @files = glob($node->data_dir . '/pg_stat/dugong.*');
cmp_ok(scalar @files, '==', 1, 'projections that are dropped leave no file') or diag("@files");
foreach my $content ('', 'x', "\xff" x 1000, "\0" x 1000)
{
	open my $out, '>', $files[0] or die;
	print $out $content;
	close $out;
	insist("SELECT bank_open_account('torn', 1)");
}
answers("$seen 'slow'", '11|7', 'a file that is torn or foreign does no harm');
unlink $files[0];
mkdir $files[0];
insist("SELECT bank_open_account('torn', 1)");
answers("$seen 'slow'", '12|7', 'nor one that cannot be written');
like(slurp_file($node->logfile, $offset), qr/could not open file "pg_stat/, 'which is logged');
$node->stop;
done_testing();

sub wait_for_file
{
	my $deadline = time + 20;
	usleep(20_000) while !-e $file && time < $deadline;
	return -e $file;
}
