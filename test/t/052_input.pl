# Calls of every function with arguments that nobody would give: an error with a code of its own, or an answer; never an
# internal error, and never a crash.
#
# DUGONG_SEED chooses other calls, DUGONG_STEPS another number of them.
use strict;
use warnings;

use lib 'test/t';
use Arguments;
use Dugong;
use PostgreSQL::Test::Utils;
use Reports;
use Test::More;
use Things;

my $seed = $ENV{DUGONG_SEED} || 20261124;
my $steps = $ENV{DUGONG_STEPS} || sized(5000, 100_000);

srand $seed;
note("seed $seed, $steps calls");

my $node = new_server('main', 'max_prepared_transactions = 20', 'log_error_verbosity = verbose', 'dugong.retry_pause = 100', 'jit = off');
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', 'CREATE EXTENSION dugong');
create_things($node, 'shop');
$node->safe_psql('shop', <<~'SQL');
	CREATE ROLE fuzzer;
	CREATE ROLE clerk;
	CREATE FUNCTION my_events(e dugong.domain_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	CREATE FUNCTION upper_payload(jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE RETURN upper($1::text)::jsonb;
	CREATE FUNCTION my_set(uuid[], thing_state[]) RETURNS void LANGUAGE plpgsql AS 'BEGIN END';
	CREATE FUNCTION my_out(int, OUT a int, OUT b int) LANGUAGE sql RETURN ROW(1, 2);
	CREATE DOMAIN my_domain AS int CHECK (VALUE > 0);
	CREATE DOMAIN my_domain_state AS thing_state CHECK ((VALUE).n > 0);
	CREATE TYPE my_enum AS ENUM ('a', 'b');
	CREATE TYPE my_shell;
	CREATE TYPE my_nested AS (by my_domain, list thing_state[], t thing_state);
	CREATE TABLE my_source (id uuid, kind text, body jsonb, n bigserial, at timestamptz);
	INSERT INTO my_source (id, kind, body, at) SELECT gen_random_uuid(), 'Changed', '{"by": 1}', now() FROM generate_series(1, 3);
	CREATE VIEW my_view AS SELECT * FROM my_source;
	CREATE TABLE my_parts (id uuid, n int, total numeric) PARTITION BY HASH (id);
	CREATE TABLE my_old (id uuid PRIMARY KEY, gone int, n int, total numeric);
	ALTER TABLE my_old DROP COLUMN gone;
	SELECT dugong.create_aggregate_type('Other', origin => 'elsewhere');
	SELECT dugong.declare_tags('Thing', 'Tagged', '{"by": "by"}');
	SELECT dugong.create_projection('inline', 'Thing', event_handler => 'my_events(dugong.domain_event)', mode => 'inline');
	SELECT dugong.create_subscription('sub', '{Thing}');
	SQL
$node->safe_psql('shop', join ' ', map { 'SELECT FROM bank_open_account(\'x\', 100, ' . quote(uuid(2, $_)) . ', ' . quote(uuid(1, $_)) . '); ' . append_thing($_) } 1 .. 3);

my @functions = map {
	my ($name, $kind, @arguments) = split /\|/;
	{ name => $name, kind => $kind, arguments => [ map { my ($name, $type, $optional, $variadic) = split /:/; { name => $name, type => $type, optional => $optional, variadic => $variadic } } @arguments ] };
} split /\n/, $node->safe_psql('shop', <<~'SQL');
	SELECT concat_ws('|', p.oid::regproc::text, p.prokind, (SELECT string_agg(concat_ws(':', coalesce(p.proargnames[i], ''), p.proargtypes[i - 1]::regtype,
	        (i > p.pronargs - p.pronargdefaults)::int, (p.provariadic <> 0 AND i = p.pronargs)::int), '|' ORDER BY i)
	    FROM generate_series(1, p.pronargs) i))
	FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
	WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'dugong') AND d.deptype = 'e'
	    AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype, 'internal'::regtype)
	ORDER BY 1
	SQL
cmp_ok(scalar @functions, '>', 60, 'functions are found');

my @settings = split /\n/, $node->safe_psql('shop', "LOAD 'dugong'; SELECT name FROM pg_settings WHERE name LIKE 'dugong.%' AND context IN ('user', 'superuser') ORDER BY 1");

# Most of them are taken back, and always what would leave nothing to call the others on
my $script = "SET client_min_messages = error;\nSET statement_timeout = '400ms';\n";
foreach (1 .. $steps)
{
	my $function = one_of(@functions);
	my $call = rand() < 0.05 ? insert_of() : call_of($function);
	my $setting = rand() < 0.1 ? setting_of(one_of(@settings)) : '';
	my $stays = rand() < 0.15 && !$setting && $call =~ /^(SELECT|CALL)/ && $function->{name} !~ /drop_|erase_|stop_|alter_|discard_|isolation/;
	$script .= $stays ? "$call\n" : "BEGIN; $setting$call ROLLBACK;\n";
}
utf8::encode($script);

my ($status, $out, $err) = $node->psql('shop', "\\o /dev/null\n$script\\o\nSELECT 'alive'", on_error_stop => 0);
is($status, 0, 'the session has outlived it');
is($out, 'alive', 'and is of use');
my %codes;
$codes{$_}++ foreach slurp_file($node->logfile) =~ /ERROR: +(\w{5}):/g;
figure(join ', ', map { "$_: $codes{$_}" } sort { $codes{$b} <=> $codes{$a} } keys %codes);
is($codes{XX000}, undef, 'no internal error');
cmp_ok(scalar keys %codes, '>', 15, 'errors of many kinds');
is(join('', reports($node->logfile)), '', 'nothing to report');

# The workers do what they did
$node->safe_psql('shop', <<~'SQL');
	SELECT dugong.start_workers();
	SELECT dugong.create_aggregate_type('After', fold => 'thing_fold(dugong.domain_event)');
	CREATE TABLE after_model (id uuid PRIMARY KEY, n int, total numeric);
	SELECT dugong.create_projection('after', 'After', 'after_model');
	SELECT dugong.append_event('After', gen_random_uuid(), 'Changed', '{"by": 1}');
	SQL
ok($node->poll_query_until('shop', 'SELECT count(*) = 1 FROM after_model'), 'and so do the workers');

$node->stop;
done_testing();
