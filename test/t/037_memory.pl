# Too little memory, and processes that cannot be had: errors leave nothing half made in a session, an aggregate that needs too much does not
# hold up the others, nothing is given up, and all is handled once when there is memory again.
use strict;
use warnings;

use lib 'test/t';
use Deeds;
use Dugong;
use PostgreSQL::Test::Utils;
use Sessions;
use Test::More;
use Things;
use Time::HiRes qw(time usleep);

my ($tries, $more) = (sized(40, 1000), 24);
my $seed = $ENV{DUGONG_SEED} || time ^ $$;
note("DUGONG_SEED=$seed");
srand $seed;

my $node = new_server('main', 'dugong.max_workers = 0', 'dugong.max_attempts = 2', 'dugong.retry_pause = 50', 'fsync = off', 'autovacuum = off', 'jit = off', 'restart_after_crash = on');
sub sql { return $node->safe_psql('shop', shift); }

# A process may have so many bytes more than it has now; undef = as many as it likes.
sub limit
{
	my ($pid, $bytes) = @_;
	my ($pages) = defined $bytes ? slurp_file("/proc/$pid/statm") =~ /^(\d+)/ : ();
	system('prlimit', "--pid=$pid", '--as=' . (defined $bytes ? $pages * 4096 + $bytes : 'unlimited') . ':') == 0 or die 'prlimit';
	return;
}

$node->safe_psql('postgres', 'CREATE DATABASE shop');
create_deeds($node, 'shop', 300);
sql('CALL dugong.run_projections()');

# -- sessions, at the beginning of their lives and later

my $other = Sessions->new($node->connstr('shop'), 1);
sub digest
{
	my $digest;
	$other->send_sql(0, 'SELECT digest();', sub { $digest = shift; });
	$other->wait_for(0, 60);
	return $digest;
}

my (%codes, $died);
foreach my $try (1 .. $tries)
{
	my $session = Sessions->new($node->connstr('shop'), 1);
	my $say = sub {
		my ($sql, $answer) = (shift, '');
		$session->send_sql(0, "$sql;", sub { $answer = shift; });
		$session->wait_for(0, 60) or die "it does not end: $sql";
		chomp $answer;
		return $answer;
	};
	my $pid = $say->('SELECT pg_backend_pid()');
	$say->("LOAD 'dugong'") if rand() < 0.8;
	# Memory comes in pieces: as much is used up before that some of it is in between
	$say->('SELECT count(*) FROM generate_series(1, ' . int(rand 200) . ") i, LATERAL (SELECT set_config('a.b' || i, repeat('x', 1000), false)) x") if rand() < 0.5;
	limit($pid, rand() < 0.3 ? 0 : int 2**(12 + rand 11));
	foreach my $n (1 .. 3)
	{
		my %all = (%atomic, %gradual);
		my $name = one_of(grep { !/^wait/ } sort keys %all);
		my $do = $all{$name}->();
		my $before = digest();
		my $answer = eval { $say->(rand() < 0.7 ? $do : "DO \$do\$ BEGIN " . ($do =~ s/^SELECT/PERFORM/r) . "; EXCEPTION WHEN out_of_memory THEN END \$do\$") };

		# A process may not even have the memory to say so: it ends, alone
		if (!defined $answer) { $died++; last; }
		my ($code) = $answer =~ /(?:ERROR|FATAL):\s+(\w{5})/;
		$codes{ $code // 'none' }++;
		next unless $code;
		# 58P01: no memory for a library; 0A000: nothing is replayed offline within a block
		ok(0, "$name: a clean error") or diag("$do\n$answer") if $code !~ /53200|58P01|0A000/;
		next unless $atomic{$name};
		my $after = digest();
		is($after, $before, "$name: nothing is half done") or diag($do) if $after ne $before;
	}
	# What was left half made would be met now
	limit($pid, undef) if kill(0, $pid) || -e "/proc/$pid/statm";
	my $after = eval { $say->("SELECT dugong.build_aggregate(NULL::thing_state, 'Thing', '" . thing(2) . "') IS NOT NULL, current_user = session_user, (SELECT count(*) FROM pg_locks WHERE pid = $pid AND locktype = 'advisory')") };
	is($after, 't|t|0', "try $try: the session is what it was") if defined $after && $after ne 't|t|0';
	BAIL_OUT('the server has crashed') if slurp_file($node->logfile) =~ /PANIC|was terminated by signal/;
	$session->close_all;
}
figure("seed $seed, $tries sessions with too little memory: " . join(', ', map { "$_ $codes{$_}" } sort keys %codes) . ', ended: ' . ($died // 0));
cmp_ok($codes{53200} // 0, '>', $tries / 20, "$tries sessions with too little memory");
sql($_) foreach "CALL dugong.import_events('old_events', create_aggregate_types => true)", 'CALL dugong.run_projections()', map { "CALL dugong.rebuild_projection('$_')" } qw(model copy events inline);
sql('CALL dugong.run_projections(); SELECT dugong.retry_dead_letters(name) FROM dugong.projections');
sql('CALL dugong.run_projections()');
is(things_problems($node, 'shop'), '', 'in the end every event is handled, once, in its order');
is(sql("SELECT count(*) FROM unnest('{model,inline,secrets}'::text[]) p, dugong.verify_projection(p)"), '0', 'query models are what the log makes them');

# -- a worker

sql(<<~'SQL');
	CREATE TABLE strict_seen (id uuid PRIMARY KEY);
	CREATE FUNCTION big_event(e dugong.domain_event) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
	    PERFORM length(repeat('x', CASE e.type WHEN 'Big' THEN 200000000 ELSE 0 END));
	    INSERT INTO strict_seen VALUES (e.id);
	END $$;
	CREATE FUNCTION big_update(thing uuid, state thing_state) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
	    PERFORM length(repeat('x', CASE WHEN state.total > 1000 THEN 200000000 ELSE 0 END));
	    INSERT INTO big_copy VALUES (thing, state.n) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n;
	END $$;
	CREATE TABLE big_copy (id uuid PRIMARY KEY, n int);
	SELECT dugong.create_aggregate_type('Load', fold => 'thing_fold(dugong.domain_event)');
	SELECT dugong.create_projection('strict', 'Load', event_handler => 'big_event(dugong.domain_event)', on_error => 'stop');
	SELECT dugong.create_projection('big', 'Load', update_handler => 'big_update(uuid, thing_state)', delete_handler => 'thing_delete(uuid)');
	CALL dugong.run_projections();
	ALTER SYSTEM SET dugong.max_workers = 1;
	SELECT pg_reload_conf();
	SQL
$node->poll_query_until('shop', "SELECT current_setting('dugong.max_workers') = '1'");
sql("SELECT dugong.append_event('Load', gen_random_uuid(), 'Changed', '{\"by\": 1}')");
my $worker = wait_for_worker($node, 'shop');
sub handled { return "SELECT (SELECT count(*) FROM strict_seen) || ' ' || (SELECT count(*) FROM big_copy)"; }
ok($node->poll_query_until('shop', handled(), '1 1'), 'a worker handles events');
limit($worker, $more * 1024 * 1024);
my $offset = -s $node->logfile;
sql("SELECT dugong.append_event('Load', gen_random_uuid(), 'Changed', '{\"by\": 1}') FROM generate_series(1, 20)");
ok($node->poll_query_until('shop', handled(), '21 21'), "with $more MB more, too");
sql("SELECT dugong.append_event('Load', '" . thing(1) . "', 'Big', '{\"by\": 2000}')");
sql("SELECT dugong.append_event('Load', gen_random_uuid(), 'Changed', '{\"by\": 1}') FROM generate_series(1, 20)");
ok($node->poll_query_until('shop', "SELECT attempts >= 5 FROM dugong.parked_aggregates WHERE projection = 'big' AND sqlstate = '53200'"), 'what needs too much is set aside, and tried again and again');
is(sql('SELECT count(*) FROM dugong.dead_letters WHERE given_up'), '0', 'it is not given up');
ok($node->poll_query_until('shop', handled(), '21 41'), 'the others go on');
ok($node->poll_query_until('shop', "SELECT attempts >= 5 FROM dugong.projection_failures WHERE projection = 'strict' AND sqlstate = '53200'"), 'a projection that stops on errors tries as well');
is(sql("SELECT state FROM dugong.projections WHERE name = 'strict'"), 'running', 'and does not stop');
is(worker_pid($node, 'shop'), $worker, 'the worker lives on');
limit($worker, undef);
ok($node->poll_query_until('shop', "SELECT handled = '42 42' AND NOT EXISTS (SELECT FROM dugong.parked_aggregates) FROM (" . handled() . ' AS handled) x'), 'with memory all is handled');

# No memory for anything
$offset = -s $node->logfile;
limit($worker, 0);
sql(append_thing(1 + $_ % 10) x 20) foreach 1 .. 10;
sql("SELECT count(*) FROM dugong.append_events('Thing', '" . thing(1) . "', (SELECT jsonb_agg(jsonb_build_object('type', 'Changed', 'payload', jsonb_build_object('by', 1, 'x', (SELECT string_agg(md5(random()::text || j), '') FROM generate_series(1, 300) j)))) FROM generate_series(1, 1000) i))");
my $patience = sized(3, 10);
my $deadline = time + $patience;
usleep(50_000) until time > $deadline || sql('SELECT bool_and(lag_events = 0) FROM dugong.projection_status') eq 't';
figure('a worker without more memory: ' . (() = slurp_file($node->logfile, $offset) =~ /\[$worker\] (?:ERROR|LOG): .*out of memory/g) . ' lines in the log, in ' . sprintf('%.1f s', time + $patience - $deadline));
limit($worker, undef) if -e "/proc/$worker";
wait_for_things($node, 'shop', 'with memory again', 60);
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|was terminated by signal/, 'nothing crashed');

# -- a worker that cannot be started: the postmaster tries until it can be

$node->restart;
$other = Sessions->new($node->connstr('shop'), 1);
$other->send_sql(0, 'SELECT 1;', sub { });
$other->wait_for(0, 10);
my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
$offset = -s $node->logfile;
chomp(my $most = `prlimit --pid=$postmaster --nproc --output=HARD --noheadings`);
system('prlimit', "--pid=$postmaster", '--nproc=1:') == 0 or die 'prlimit';
$other->send_sql(0, append_thing(2), sub { });
$other->wait_for(0, 10);
$deadline = time + 60;
usleep(50_000) until slurp_file($node->logfile, $offset) =~ /could not fork worker process/ || time > $deadline;
like(slurp_file($node->logfile, $offset), qr/could not fork worker process/, 'no process can be had for a worker');
system('prlimit', "--pid=$postmaster", "--nproc=$most:") == 0 or die 'prlimit';
wait_for_things($node, 'shop', 'when there is one', 60);
done_testing();
