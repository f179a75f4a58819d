# Timeouts, cancellations and terminations at random points in everything that works: a clean error, nothing half done, nothing left behind.
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

my ($tries, $long) = (sized(120, 2000), sized(1000, 3000));
my $seed = $ENV{DUGONG_SEED} || time ^ $$;
note("DUGONG_SEED=$seed");
srand $seed;

# Nobody else works, so that what there is before and after can be compared
my $node = new_server('main', 'dugong.max_workers = 0', "deadlock_timeout = '100ms'", 'fsync = off', 'autovacuum = off');
sub sql { return $node->safe_psql('shop', shift); }

$node->safe_psql('postgres', 'CREATE DATABASE shop');
create_deeds($node, 'shop', $long);
sql('CALL dugong.run_projections()');

my %all = (%atomic, %gradual);

my ($victim, $pid);
sub start_victim
{
	$victim = Sessions->new($node->connstr('shop') . " application_name='victim'", 1);
	$pid = victim('SELECT pg_backend_pid()');
	return;
}

# What the victim answers.  It may be terminated meanwhile.
sub victim
{
	my $answer = '';
	$victim->send_sql(0, "$_[0];", sub { $answer = shift; });
	$victim->wait_for(0, 60) or die "no answer: $_[0]";
	chomp $answer;
	return $answer;
}

# How it is disturbed: what the victim says before and after, and what another session does meanwhile
my %disturbances = (
	statement_timeout => sub { return ("SET statement_timeout = '" . (1 + int 50 * rand() ** 3) . "ms'", 'SET statement_timeout = 0'); },
	lock_timeout => sub {
		my $table = one_of(map { "dugong.$_" } qw(event_log projections checkpoints event_tags aggregate_snapshots parked_aggregates deliveries rebuilds imports aggregate_types tenant_isolation));
		return ("SET lock_timeout = '" . (1 + int rand 20) . "ms'", 'SET lock_timeout = 0', "BEGIN; LOCK TABLE $table IN " . one_of('EXCLUSIVE', 'ACCESS EXCLUSIVE') . ' MODE', 'ROLLBACK');
	},
	cancel => sub { return ('', '', undef, "SELECT pg_sleep(" . 0.02 * rand() * rand . "), pg_cancel_backend($pid)"); },
	terminate => sub { return ('', 'SELECT 1', undef, "SELECT pg_sleep(" . 0.02 * rand() * rand . "), pg_terminate_backend($pid)"); });

# What a disturbed session does may be caught
my %shapes = (
	statement => sub { return shift; },
	block => sub { return shift; },
	caught => sub {
		my $do = shift =~ s/^SELECT/PERFORM/r;
		return "DO \$do\$ DECLARE name text := current_user; path text := current_setting('search_path'); BEGIN BEGIN $do; EXCEPTION WHEN query_canceled OR lock_not_available THEN END; "
		  . "IF current_user <> name OR current_setting('search_path') <> path THEN RAISE WARNING 'left as another'; END IF; END \$do\$";
	});

my $other = Sessions->new($node->connstr('shop'), 2);

# All that is in the tables
sub digest
{
	my $digest;
	$other->send_sql(1, 'SELECT digest();', sub { $digest = shift; });
	$other->wait_for(1, 60);
	return $digest;
}

my ($ended, %errors) = (0);

# The victim is at it: what it answers, or undef if it is terminated
sub disturb
{
	my ($do, $in_block, $begin, $end, $hold, $meanwhile) = @_;
	my $answer = '';

	victim('BEGIN; SAVEPOINT s') if $in_block;
	victim($begin) if $begin;
	if ($hold) { $other->send_sql(0, "$hold;"); $other->wait_for(0, 60); }
	$victim->send_sql(0, "$do;", sub { $answer = shift; });
	# Not everything that waits has a limit
	if ($hold) { $victim->wait_for(0, 1); }
	if ($meanwhile) { $other->send_sql(0, "$meanwhile;"); $other->wait_for(0, 60); }
	$victim->wait_for(0, 60) or die "it does not end: $do";
	# What was set goes with the savepoint; until then each command may be cancelled
	if ($in_block) { 1 while victim('ROLLBACK TO s') ne ''; $answer .= victim('SELECT 1; ROLLBACK'); }
	victim($end) if $end;
	return $answer;
}

sub try_one
{
	my $name = one_of(@_);
	my $how = one_of('statement_timeout', 'statement_timeout', 'cancel', 'cancel', 'lock_timeout', 'terminate');
	my $shape = $gradual{$name} ? 'statement' : one_of(sort keys %shapes);
	my $do = $shapes{$shape}->($all{$name}->());
	my $what = "$name ($shape), $how";
	my $before = digest();
	my $answer = eval { disturb($do, $shape eq 'block', $disturbances{$how}->()) };
	my $is_ended = !defined $answer && $how eq 'terminate' && $@ =~ /session 0 ended/;

	BAIL_OUT($@) unless defined $answer || $is_ended;
	if ($is_ended) { $ended++; start_victim(); }
	my @codes = ($answer // '') =~ /(?:ERROR|FATAL|WARNING):\s+(\w{5})/g;
	$errors{$name}{ $codes[0] }++ if @codes;
	# Nothing but what was asked for; what was changed meanwhile; what has waited too long
	my @unexpected = grep { !/57014|55P03|UG011/ } @codes;
	is("@unexpected", '', "$what: a clean error") or diag("$do\n$answer") if @unexpected;
	# What was terminated may have committed
	if ($shape eq 'block' || ($atomic{$name} && $codes[0]))
	{
		my $after = digest();
		is(difference($before, $after), '', "$what: nothing is half done") or diag($do) if $after ne $before;
	}
	check_session($what, $do);
	return;
}

sub difference
{
	my %before = map { $_ => 1 } split /\n/, shift;
	return join ', ', grep { !$before{$_} } split /\n/, shift;
}

sub check_session
{
	my ($what, $do) = @_;
	my $left = victim("SELECT string_agg(concat_ws(' ', locktype, mode, relation::regclass, objsubid), ', ') FROM pg_locks WHERE pid = $pid AND NOT (fastpath AND mode = 'AccessShareLock') AND locktype <> 'virtualxid'");
	is($left, '', "$what: no lock is left") or diag($do) if $left ne '';
	$left = victim("SELECT concat_ws(' ', current_user = session_user, current_setting('search_path'), dugong.is_replaying())");
	is($left, 't "$user", public f', "$what: the session is what it was") or diag($do) if $left ne 't "$user", public f';
	return;
}

start_victim();
try_one(sort keys %all) foreach 1 .. $tries;
pass("$tries tries");

# Undisturbed, all of it works
sql("SELECT dugong.alter_projection('inline', mode => 'inline')");
sql($_) foreach "CALL dugong.import_events('old_events', create_aggregate_types => true)", 'CALL dugong.run_projections()', map { "CALL dugong.rebuild_projection('$_')" } qw(model copy events inline);
sql('CALL dugong.run_projections()');
is(things_problems($node, 'shop'), '', 'in the end every event is handled, once, in its order');
is(sql("SELECT count(*) FROM unnest('{model,inline,secrets}'::text[]) p, dugong.verify_projection(p)"), '0', 'query models are what the log makes them');
is(sql("SELECT count(*) FROM dugong.verify_snapshots('Thing')"), '0', 'and snapshots');
is(sql("SELECT count(*) FROM dugong.domain_events WHERE aggregate_type = 'Old'"), '300', 'the import is complete');

# Tenants are isolated only if every query model has them
sql("SELECT dugong.drop_projection('model')");
delete @all{qw(as_of verify rebuild wait)};
$all{isolate} = $atomic{isolate} = sub { return 'SELECT dugong.enable_tenant_isolation(), dugong.disable_tenant_isolation()'; };
try_one('isolate', 'fetch', 'deposit', 'isolate') foreach 1 .. $tries / 10;

# One session that is cancelled again and again keeps nothing of it
sub memory { return victim("SELECT sum(total_bytes) FROM pg_backend_memory_contexts"); }
my @quick = grep { !/^(wait_for_events|import|offline|run|mode|create|isolate)$/ } sort keys %all;
my ($cancelled, $warm) = (0);
my $rounds = sized(150, 3000);
foreach my $n (1 .. $rounds)
{
	my $name = one_of(@quick);
	victim('SET statement_timeout = 1');
	$cancelled++ if victim($all{$name}->()) =~ /57014/;
	victim('SET statement_timeout = 0');
	$warm = memory() if $n == int $rounds / 3;
}
check_session("$rounds calls", 'a millisecond each');
my $grown = memory() - $warm;
figure("seed $seed: $tries tries, $ended sessions terminated, errors: " . join(', ', map { my $name = $_; map { "$name $_ $errors{$name}{$_}" } sort keys %{ $errors{$name} } } sort keys %errors)
	  . "; $cancelled of $rounds calls cancelled in one session, whose memory has grown by $grown of $warm bytes meanwhile");
cmp_ok($grown, '<', 500_000, 'nor does its memory grow') or diag(victim('SELECT name, ident, total_bytes FROM pg_backend_memory_contexts ORDER BY 3 DESC LIMIT 12'));

# Errors that are caught in between must not take a cancellation for one
sql(<<~'SQL');
	CREATE FUNCTION slow_apply(state jsonb, event dugong.domain_event) RETURNS jsonb LANGUAGE plpgsql AS $$
	BEGIN
	    IF event.type = 'Slow' THEN
	        PERFORM pg_sleep(1);
	    ELSIF event.type = 'Wrong' THEN
	        RAISE 'wrong';
	    END IF;
	    RETURN '{"n": 1}';
	END $$;
	CREATE AGGREGATE slow_fold(dugong.domain_event) (SFUNC = slow_apply, STYPE = jsonb);
	CREATE TABLE slow_model (id uuid PRIMARY KEY, n int);
	CREATE FUNCTION slow_update(id uuid, state jsonb) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
	    PERFORM pg_sleep(CASE WHEN dugong.is_replaying() THEN 0 ELSE 2 END);
	END $$;
	SELECT dugong.create_aggregate_type('Slow', fold => 'slow_fold(dugong.domain_event)', snapshot_interval => 0);
	SELECT dugong.create_aggregate_type('Plain', fold => 'thing_fold(dugong.domain_event)', snapshot_interval => 0);
	SELECT dugong.create_projection('slow', 'Slow', 'slow_model');
	SELECT dugong.append_event('Slow', '00000001-0000-4000-8000-000000000001', 'Slow'),
	    dugong.append_event('Slow', '00000001-0000-4000-8000-000000000002', 'Fine');
	CALL dugong.run_projections();
	SELECT dugong.append_event('Slow', '00000001-0000-4000-8000-000000000002', 'Wrong');
	CALL dugong.run_projections();
	SQL
like(victim("SET statement_timeout = '1500ms'; SELECT count(*) FROM dugong.verify_projection('slow')"), qr/57014/, 'verify_projection that looks at aggregates one by one is cancelled');
victim('SET statement_timeout = 0');
sql(<<~'SQL');
	CREATE FUNCTION handle_slow(id uuid, state thing_state) RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
	    PERFORM pg_sleep(CASE WHEN dugong.is_replaying() THEN 0 ELSE 2 END);
	END $$;
	SELECT dugong.create_projection('handled', 'Plain', update_handler => 'handle_slow(uuid, thing_state)', delete_handler => 'thing_delete(uuid)');
	CALL dugong.run_projections();
	SELECT dugong.append_event('Plain', gen_random_uuid(), 'Changed', '{"by": 1}');
	SQL
like(victim("SET statement_timeout = '1s'; CALL dugong.rebuild_projection('handled')"), qr/57014/, 'a rebuild is cancelled while it runs a batch in between');
victim('SET statement_timeout = 0');

# Open transactions that nobody ends
sql("ALTER SYSTEM SET dugong.max_workers = 1; SELECT pg_reload_conf(); SELECT dugong.drop_projection(p) FROM unnest('{slow,handled}'::text[]) p");
my $events = sql('SELECT count(*) FROM dugong.event_log');
eval { victim("SET idle_in_transaction_session_timeout = '50ms'; BEGIN; " . append_thing(2)); };
ok($node->poll_query_until('shop', "SELECT count(*) = 0 FROM pg_locks WHERE pid = $pid"), 'idle_in_transaction_session_timeout ends a session that has appended');
is(sql('SELECT count(*) FROM dugong.event_log'), $events, 'and its event is gone');
start_victim();

# A cancellation ends what a worker does, not the worker
$node->poll_query_until('shop', "SELECT current_setting('dugong.max_workers') = '1'");
sql(append_thing(3));
my $worker = wait_for_worker($node, 'shop');
foreach my $n (1 .. sized(40, 400))
{
	sql("SELECT pg_cancel_backend($worker); " . append_thing(2 + int rand 10) x (1 + int rand 5) . "SELECT pg_sleep(" . 0.02 * rand() ** 2 . "); SELECT pg_cancel_backend($worker)");
}
ok($node->poll_query_until('shop', "SELECT bool_and(lag_events = 0) FROM dugong.projection_status WHERE projection IN ('copy', 'events', 'inline')"), 'workers that are cancelled catch up');
is(worker_pid($node, 'shop') =~ /\b$worker\b/, 1, 'and have not ended');
is(sql("SELECT count(*) FROM (SELECT id FROM dugong.domain_events WHERE aggregate_type = 'Thing' EXCEPT SELECT id FROM seen) x") . sql('SELECT count(*) FROM dugong.parked_aggregates'), '00', 'every event is handled, and nothing is set aside');
my @warnings = grep { /WARNING: |PANIC|TRAP|leak|was terminated by signal/ && !/projection "slow" has set aggregate/ } split /\n/, slurp_file($node->logfile);
is("@warnings", '', 'the log of the server warns of nothing');
done_testing();
