# What handlers and the administrators' settings do to a worker; what is planted before CREATE EXTENSION; who may set what; what
# statistics show.  The attempts themselves are in test/pgtap/trespass.sql, tenants.sql and 011_trespass.pl.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', "shared_preload_libraries = 'pg_stat_statements'", "pg_stat_statements.track = 'all'", 'restart_after_crash = on');

sub sql { return $node->safe_psql(@_); }

sub attempt
{
	my ($db, $command) = @_;
	my $err = '';

	$node->psql($db, "\\set VERBOSITY sqlstate\n$command", stderr => \$err, on_error_stop => 1);
	return $err =~ /(?:ERROR|FATAL):  (\w+)/ ? $1 : 'accepted';
}

sub new_database
{
	my ($db) = @_;
	sql('postgres', "CREATE DATABASE $db");
	return $db;
}

sql('postgres', 'CREATE ROLE attacker; CREATE ROLE clerk');
new_database('shop');
sql('shop', <<~'SQL');
	CREATE EXTENSION dugong;
	CREATE SCHEMA a AUTHORIZATION attacker;
	GRANT USAGE ON SCHEMA dugong TO attacker, clerk;
	GRANT USAGE ON TYPE dugong.domain_event TO attacker;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA dugong TO attacker;
	SQL

# A handler whose errors end the process does not keep the worker from others
foreach my $how (q{SET exit_on_error = on; }, q{PERFORM set_config('exit_on_error', 'on', true); })
{
	sql('shop', <<~SQL);
		SET ROLE attacker;
		CREATE OR REPLACE FUNCTION a.on_event(e dugong.domain_event) RETURNS void LANGUAGE plpgsql AS \$\$
		BEGIN
		    IF e.payload ->> 'owner' = 'deadly' THEN
		        $how
		        BEGIN
		            RAISE 'killed';
		        EXCEPTION WHEN OTHERS THEN
		        END;
		    END IF;
		END \$\$;
		SELECT dugong.create_projection('kills', 'BankAccount', event_handler => 'a.on_event(dugong.domain_event)', start_position => NULL);
		RESET ROLE;
		SELECT bank_open_account(CASE i WHEN 3 THEN 'deadly' ELSE 'owner' END) FROM generate_series(1, 5) i;
		SQL
	my $offset = -s $node->logfile;
	ok($node->poll_query_until('shop', q{SELECT string_agg(message, ',') = 'the server process died 3 times while this aggregate was handled' FROM dugong.dead_letters WHERE given_up}),
		"a handler that ends the worker is a dead letter: $how");
	ok($node->poll_query_until('shop', 'SELECT count(*) = 2 AND sum(lag_events) = 0 FROM dugong.projection_status'), 'and all else is handled');
	my $deaths = () = slurp_file($node->logfile, $offset) =~ /FATAL:  killed/g;
	cmp_ok($deaths, '<=', 4, "after $deaths deaths");
	sql('shop', q{SELECT dugong.drop_projection('kills')});
}

# Nobody is blamed for an end that somebody else has ordered
sql('shop', <<~'SQL');
	SET ROLE attacker;
	CREATE OR REPLACE FUNCTION a.on_event(e dugong.domain_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(600) WHERE e.payload ->> 'owner' = 'slow'; END $$;
	SELECT dugong.create_projection('slow', 'BankAccount', event_handler => 'a.on_event(dugong.domain_event)', start_position => NULL);
	RESET ROLE;
	SELECT bank_open_account('slow');
	SQL
my $sleeping = q{SELECT pid FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND wait_event = 'PgSleep'};
foreach (1 .. 3)
{
	$node->poll_query_until('shop', "SELECT count(*) = 1 FROM ($sleeping) s") or die 'no worker in the handler';
	my $pid = sql('shop', $sleeping);
	sql('shop', "SELECT pg_terminate_backend($pid)");
	$node->poll_query_until('shop', "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid");
}
is(sql('shop', 'SELECT count(*) FROM dugong.dead_letters'), '0', 'a terminated worker sets nothing aside');
sql('shop', $_) foreach 'SELECT dugong.stop_workers()', q{SELECT dugong.drop_projection('slow')};

# What the administrator sets for those who log in is not for workers
new_database('given');
sql('given', 'CREATE EXTENSION dugong; SELECT dugong.stop_workers()');
sql('postgres', "ALTER DATABASE given SET $_") foreach 'role = clerk', 'exit_on_error = on', 'row_security = off', 'default_transaction_read_only = on', "search_path = a, pg_temp",
  'default_transaction_isolation = serializable', 'statement_timeout = 1', 'session_replication_role = replica';
{
	local $ENV{PGOPTIONS} = '-c default_transaction_read_only=off -c statement_timeout=0 -c search_path=public -c session_replication_role=origin -c role=none';
	sql('given', q{CREATE FUNCTION public.fail(dugong.domain_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE ''failed''; END';
		SELECT dugong.create_projection('fails', 'BankAccount', event_handler => 'public.fail(dugong.domain_event)');
		SELECT bank_open_account('Anna', 5), dugong.start_workers()});
	ok($node->poll_query_until('given', 'SELECT count(*) = 1 FROM bank_account_query_model'), 'ALTER DATABASE ... SET role, and more: the worker is who it was');
	ok($node->poll_query_until('given', q{SELECT count(*) = 1 FROM dugong.dead_letters WHERE sqlstate = 'P0001'}), 'and outlives an error');
}

# Objects that somebody has planted: CREATE EXTENSION takes none of them for its own
new_database('ground');
sql('ground', 'CREATE SCHEMA ground; GRANT ALL ON SCHEMA ground TO attacker; GRANT CREATE ON DATABASE ground TO attacker');
foreach (
	[ 'CREATE SCHEMA dugong', 'DROP SCHEMA dugong', '42P06' ],
	[ 'CREATE TABLE ground.bank_account_query_model (id int)', 'DROP TABLE ground.bank_account_query_model', '42P07' ],
	[ 'CREATE VIEW ground.bank_account_query_model AS SELECT 1', 'DROP VIEW ground.bank_account_query_model', '42P07' ],
	[ 'CREATE TYPE ground.bank_account_state AS (id uuid, owner text, balance numeric)', 'DROP TYPE ground.bank_account_state', '42710' ],
	[ 'CREATE DOMAIN ground.bank_account_state AS int', 'DROP DOMAIN ground.bank_account_state', '42710' ],
	[ q{CREATE FUNCTION ground.bank_deposit(uuid, numeric, uuid) RETURNS int LANGUAGE sql AS 'SELECT 1'}, 'DROP FUNCTION ground.bank_deposit', '42723' ])
{
	my ($plant, $dig, $code) = @$_;

	sql('ground', "SET ROLE attacker; $plant");
	is(attempt('ground', 'CREATE EXTENSION dugong SCHEMA ground'), $code, "planted: $plant");
	sql('ground', "SET ROLE attacker; $dig");
}
is(attempt('ground', 'CREATE EXTENSION dugong SCHEMA ground'), 'accepted', 'without them it is created');
is(attempt('ground', 'SET ROLE attacker; ' . $_), '42501', "then nobody plants: $_")
  foreach q{CREATE FUNCTION dugong.x() RETURNS int LANGUAGE sql AS 'SELECT 1'}, 'CREATE TYPE dugong.x AS (a int)', 'CREATE VIEW dugong.x AS SELECT 1';

# Whom a command is for: who is the current user.  A wrapper is its owner's, with what he sees
sql('shop', <<~'SQL');
	SELECT dugong.grant_tenant('attacker', 'a'), dugong.grant_tenant('clerk', 'c'), dugong.enable_tenant_isolation();
	GRANT EXECUTE ON FUNCTION bank_open_account TO attacker, clerk;
	SET ROLE attacker;
	GRANT USAGE ON SCHEMA a TO clerk;
	CREATE FUNCTION a.wrapped(tenant text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	BEGIN
	    PERFORM set_config('dugong.tenant_id', tenant, true), public.bank_open_account('wrapped');
	    RETURN current_user;
	END $$;
	SQL
is(attempt('shop', "SET ROLE clerk; SELECT a.wrapped('a')"), 'accepted', 'a SECURITY DEFINER wrapper sees the tenants of its owner');
is(attempt('shop', "SET ROLE clerk; SELECT a.wrapped('c')"), '42501', 'not those of its caller');
is(attempt('shop', "SET ROLE clerk; SET dugong.tenant_id = 'a'; SELECT bank_open_account('x')"), '42501', 'who calls the command himself sees his own');
sql('shop', 'SELECT dugong.disable_tenant_isolation()');

# The name of a type with another origin is no way into its commands
is(attempt('shop', q{SET ROLE attacker; SELECT dugong.create_aggregate_type('BankAccount', origin => 'elsewhere', external => false)}), 'accepted', 'a type of the same name, with another origin');
is(attempt('shop', q{SELECT bank_open_account('Anna', 5)}), 'accepted', 'the commands go on with their own');
is(attempt('shop', q{SELECT dugong.append_event('BankAccount', gen_random_uuid(), 'Noted')}), '42P08', 'whoever does not name the origin is told, not guessed for');

# Who may set what.  A new setting is to be put here, and in docs/security.md, with what harm a user can do with it.
is(sql('shop', q{LOAD 'dugong'; SELECT string_agg(substr(name, 8), ' ' ORDER BY name) FROM pg_settings WHERE name LIKE 'dugong.%' AND context = 'user'}),
	'allow_drop batch_size correlation_id metadata notify notify_payload origin tenant_id triggered_by_event_id triggered_by_user_id', 'everybody may set these');
is(sql('shop', q{LOAD 'dugong'; SELECT string_agg(name || ' ' || context, ', ' ORDER BY name) FROM pg_settings WHERE name LIKE 'dugong.%' AND context <> 'user'}),
	'dugong.max_attempts sighup, dugong.max_workers superuser, dugong.poll_interval sighup, dugong.retry_pause sighup', 'these only administrators');
my $security = slurp_file('docs/security.md');
like($security, qr/`$_`/, "docs/security.md has $_") foreach split /\n/, sql('shop', q{LOAD 'dugong'; SELECT name FROM pg_settings WHERE name LIKE 'dugong.%'});

# Statistics of statements keep no payloads, not even of those that dugong runs itself
sql('shop', q{CREATE EXTENSION pg_stat_statements; SELECT dugong.start_workers(); SELECT pg_stat_statements_reset()});
sql('shop', <<~'SQL');
	SELECT bank_open_account('a secret', 5, 'a0000000-0000-4000-8000-00000000000a');
	SELECT dugong.append_event('BankAccount', 'a0000000-0000-4000-8000-00000000000a', 'Noted', '{"a": "a secret"}', origin => 'BankingContext-AccountService');
	INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type, payload) VALUES (dugong.aggregate_type_id('BankingContext-AccountService', 'BankAccount'),
	    'a0000000-0000-4000-8000-00000000000a', 'Noted', '{"b": "a secret"}');
	SELECT count(*) FROM dugong.read_events();
	CALL dugong.rebuild_projection('bank_account');
	SELECT FROM dugong.erase_aggregate('BankAccount', 'a0000000-0000-4000-8000-00000000000a', 'a secret', origin => 'BankingContext-AccountService');
	SQL
cmp_ok(sql('shop', q{SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%dugong.%'}), '>', 10, 'statements are seen');
is(sql('shop', q{SELECT string_agg(query, ';') FROM pg_stat_statements WHERE query LIKE '%a secret%'}), '', 'none has a payload');

$node->stop;
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'no process crashed');
done_testing();
