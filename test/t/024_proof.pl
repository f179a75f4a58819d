# Query models are verified while workers run, under load: never a false difference; and every true one.
# The past of a query model is what was saved of it.  DUGONG_SEED, DUGONG_STEPS (rounds of the load).
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use Things;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

my $seed = $ENV{DUGONG_SEED} || time % 1_000_000;
my $rounds = $ENV{DUGONG_STEPS} || 4;
srand $seed;
diag("DUGONG_SEED=$seed");

my ($dir, $scripts) = (PostgreSQL::Test::Utils::tempdir(), 0);
my $node = PostgreSQL::Test::Cluster->new('proof');
$node->init(allows_streaming => 1);
$node->append_conf('postgresql.conf', "$_\n") foreach (
	'max_worker_processes = 24', 'max_prepared_transactions = 20', 'dugong.max_workers = 3', 'dugong.max_attempts = 2', 'dugong.retry_pause = 50',
	'dugong.batch_size = 50');
$node->start;
my @models = qw(bank_account model checked inline some);

sub sql { return $node->safe_psql('shop', shift); }

# The differences of all projections; how: arguments, and what comes before.
sub differences
{
	my ($arguments, $before) = @_;
	return sql(($before // '') . 'SELECT p, difference, expected, actual FROM unnest(ARRAY[' . join(', ', map { "'$_'" } @models) . "]) p, dugong.verify_projection(p$arguments);");
}

# Runs a script for psql in the background; commands of it may be refused.
sub start_psql
{
	my ($script) = @_;
	my $file = "$dir/" . ++$scripts;

	append_to_file($file, $script);
	my $pid = fork // die;
	return $pid if $pid;
	open STDOUT, '>', "$file.out";
	open STDERR, '>', "$file.err";
	exec 'psql', '-XAtq', '-f', $file, $node->connstr('shop') or die;
}

sub finish_psql
{
	waitpid $_, 0 foreach @_;
	return;
}

# Accounts that are opened, used and closed, by commands that may be refused.
sub bank_script
{
	my ($n) = @_;
	my $account = sub { return "'" . uuid(9, 1 + int rand 40) . "'"; };
	my $script = '';

	foreach (1 .. $n)
	{
		my $kind = rand;
		my $id = $account->();
		my $other = $account->();

		$script .= $kind < 0.2 ? "SELECT FROM bank_open_account('Owner', 100, $id);\n"
		  : $kind < 0.6 ? "SELECT FROM bank_deposit($id, 5);\n"
		  : $kind < 0.8 ? "SELECT FROM bank_withdraw($id, 3);\n"
		  : $kind < 0.95 ? "SELECT FROM bank_transfer($id, $other, 1);\n" : "SELECT FROM bank_close_account($id);\n";
	}
	return $script;
}

$node->safe_psql('postgres', 'CREATE DATABASE shop');
sql('CREATE EXTENSION dugong');
create_things($node, 'shop');
# One that fails for some aggregates, one within the append, one that does not get all events
sql(<<~'SQL');
	SELECT dugong.drop_projection('copy'), dugong.drop_projection('events');
	CREATE TABLE thing_checked (id uuid PRIMARY KEY, n int CHECK (n % 7 <> 3), total numeric);
	SELECT dugong.create_projection('checked', 'Thing', 'thing_checked');
	CREATE TABLE thing_inline (LIKE thing_model INCLUDING ALL);
	SELECT dugong.create_projection('inline', 'Thing', 'thing_inline', 'inline');
	CREATE TABLE thing_some (LIKE thing_model INCLUDING ALL);
	SELECT dugong.create_projection('some', 'Thing', 'thing_some', types => '{Removed}');
	CREATE TABLE saved_accounts (moment int, at timestamptz, "position" bigint, LIKE bank_account_query_model);
	CREATE TABLE saved_things (moment int, at timestamptz, "position" bigint, LIKE thing_model);
	SQL

my ($looks, $lagging, $parked) = (0, 0, 0);
foreach my $round (1 .. $rounds)
{
	my @load = ((map { start_psql(load_script("p$round.$_", 150, 25)) } 1 .. 2), (map { start_psql(bank_script(300)) } 1 .. 2));
	my $problems = '';

	while ($problems eq '' && @load)
	{
		my $kind = int rand 6;

		@load = grep { waitpid($_, POSIX::WNOHANG) == 0 } @load;
		sql(q{SELECT dugong.pause_projection('model')}) if $kind == 0;
		sql(q{CALL dugong.rebuild_projection('checked')}) if $kind == 1;
		sql(q{SELECT dugong.resume_projection('model')}) if $kind == 2;
		sql(q{SELECT dugong.retry_dead_letters('checked')}) if $kind == 3;
		$lagging += sql(q{SELECT count(*) FROM dugong.projection_status WHERE lag_events > 0});
		$parked += sql(q{SELECT count(*) FROM dugong.dead_letters});
		# Repeatable read: the snapshot is older than what the session learns of the registry
		$problems = $kind == 4 ? differences('', "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM saved_things; SELECT pg_sleep(0.05) \\g /dev/null\n")
		  : $kind == 5 ? differences(', 5') : differences('');
		$looks++;
	}
	finish_psql(@load);
	is($problems, '', "round $round: no difference under load") or last;

	# A moment: all is handled, and nobody writes
	sql(q{SELECT dugong.resume_projection('model')});
	sql("ROLLBACK PREPARED '$_'") foreach split /\n/, sql(q{SELECT gid FROM pg_prepared_xacts});
	sql('CALL dugong.run_projections()');
	sql(<<~SQL);
		INSERT INTO saved_accounts SELECT $round, clock_timestamp(), (SELECT max(position) FROM dugong.domain_events), m.* FROM bank_account_query_model m;
		INSERT INTO saved_things SELECT $round, clock_timestamp(), (SELECT max(position) FROM dugong.domain_events), m.* FROM thing_model m;
		SQL
}
cmp_ok($looks, '>', 10, 'it was looked often');
cmp_ok($lagging, '>', 0, 'while events waited');
cmp_ok($parked, '>', 0, 'and aggregates were set aside');

# The past is what was saved
foreach my $round (1 .. $rounds)
{
	foreach my $of ('as_of', 'to_position')
	{
		my $what = $of eq 'as_of' ? 'at' : '"position"';

		foreach my $pair ([ 'saved_accounts', 'bank_account_query_model', 'id, owner, balance, tenant_id' ], [ 'saved_things', 'thing_model', 'id, n, total' ])
		{
			my ($saved, $model, $columns) = @$pair;
			my $then = "(SELECT min($what) FROM $saved WHERE moment = $round)";

			is(sql("SELECT count(*) > 0, string_agg(a || ' ' || b, ', ') FROM (SELECT s::text a FROM (SELECT $columns FROM $saved WHERE moment = $round) s) a "
				  . "FULL JOIN (SELECT m::text b FROM (SELECT $columns FROM dugong.query_model_as_of(NULL::$model, $of => $then)) m) b ON a = b WHERE a IS NULL OR b IS NULL"),
				'f|', "$model of moment $round, $of");
		}
	}
}

# Damage by hand: each is found, and repaired while the workers go on
sql(q{SELECT FROM generate_series(1, 10) n, bank_open_account('Target', n)});
# Nobody else writes these
sql(join '', map { append_thing(100 + $_) } 1 .. 5);
my $mine = join ', ', map { "'" . thing(100 + $_) . "'" } 1 .. 5;
sql('CALL dugong.run_projections()');
sql(<<~SQL);
	INSERT INTO bank_account_query_model SELECT gen_random_uuid(), 'nobody', n, '' FROM generate_series(1, 30) n;
	UPDATE bank_account_query_model SET balance = balance + 1000000 WHERE id IN (SELECT id FROM bank_account_query_model WHERE owner = 'Target' ORDER BY id LIMIT 3);
	DELETE FROM bank_account_query_model WHERE id IN (SELECT id FROM bank_account_query_model WHERE owner = 'Target' ORDER BY id DESC LIMIT 2);
	UPDATE thing_model SET total = -5;
	DELETE FROM thing_inline WHERE id IN ($mine);
	SQL
my @load = map { start_psql(load_script("d.$_", 100, 25)) } 1 .. 2;
is(sql(q{SELECT difference, count(*), bool_and(repaired) FROM dugong.verify_projection('bank_account') GROUP BY 1 ORDER BY 1}), "different|3|f\nextra|30|f\nmissing|2|f", 'damage is found');
is(sql(q{SELECT difference, count(*), bool_and(repaired) FROM dugong.verify_projection('bank_account', repair => true) GROUP BY 1 ORDER BY 1}),
	"different|3|t\nextra|30|t\nmissing|2|t", 'and repaired');
foreach my $name (qw(model inline))
{
	is(sql("SELECT count(*) FROM dugong.verify_projection('$name', repair => true) WHERE repaired AND aggregate_id IN ($mine)"), '5', "$name: repaired while it goes on");
}
is(differences(''), '', 'nothing is left');
finish_psql(@load);
is(differences(''), '', 'nor later');
sql("ROLLBACK PREPARED '$_'") foreach split /\n/, sql(q{SELECT gid FROM pg_prepared_xacts});
wait_for_equality($node, 'shop', 'the accounts are what the log says, by another proof');

# A cancel leaves nothing behind; a standby can look
my $before = sql('SELECT sum(total) FROM thing_inline');
sql('UPDATE thing_inline SET total = 0');
my ($rc, $out, $err) = $node->psql('shop', q{SET statement_timeout = '1ms'; SELECT count(*) FROM dugong.verify_projection('inline', repair => true), generate_series(1, 10000)});
like($err, qr/statement timeout/, 'cancelled');
is(sql('SELECT sum(total) FROM thing_inline'), '0', 'nothing is half repaired') if sql('SELECT count(*) FROM thing_inline') > 0;
sql(q{SELECT FROM dugong.verify_projection('inline', repair => true)});
is(sql('SELECT sum(total) FROM thing_inline'), $before, 'repaired');
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is($standby->safe_psql('shop', q{SELECT count(*) FROM dugong.verify_projection('model')}), '0', 'a standby can look');
is($standby->safe_psql('shop', q{SELECT count(*) FROM dugong.query_model_as_of(NULL::thing_model)}), sql('SELECT count(*) FROM thing_model'), 'and look back');
($rc, $out, $err) = $standby->psql('shop', q{SELECT * FROM dugong.verify_projection('model', repair => true)});
like($err, qr/read-only transaction/, 'but not repair');
$standby->stop;

# Logical copies: dump and restore
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'bash', '-c', 'pg_dump -Fc -d "' . $node->connstr('shop') . '" | pg_restore -d "' . $node->connstr('copy') . '"' ], 'restored');
is($node->safe_psql('copy', q{SELECT count(*) FROM unnest('{bank_account,model,inline}'::text[]) p, dugong.verify_projection(p)}), '0', 'a restored query model is as its log says');

$node->stop;
done_testing();
