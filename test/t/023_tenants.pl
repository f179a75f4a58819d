# Tenants that are kept apart stay so in a dump, with workers, and in a parallel query.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('main', "dugong.poll_interval = '100ms'");
my $account = uuid(1, 1);

sub sql
{
	my ($db, $sql) = @_;
	return $node->safe_psql($db, $sql);
}

# What a bound role sees, in every way that there is.
sub seen
{
	my $db = shift;
	return sql($db, <<~SQL);
		SET ROLE bound;
		SELECT string_agg(DISTINCT tenant_id, ' ') FROM dugong.domain_events;
		SELECT string_agg(DISTINCT tenant_id, ' ') FROM dugong.read_events();
		SELECT string_agg(DISTINCT tenant_id, ' ') FROM dugong.event_log;
		SELECT string_agg(DISTINCT tenant_id, ' ') FROM bank_account_query_model;
		SELECT string_agg(DISTINCT tenant_id, ' ') FROM mine;
		SELECT owner FROM bank_get_account('$account');
		SQL
}

my $only_a = join("\n", ('a') x 5, 'Anna');

sql('postgres', 'CREATE ROLE bound');
sql('postgres', 'CREATE DATABASE db');
sql('db', <<~SQL);
	CREATE EXTENSION dugong;
	GRANT USAGE ON SCHEMA dugong TO bound;
	GRANT EXECUTE ON ALL ROUTINES IN SCHEMA dugong, public TO bound;
	GRANT SELECT ON ALL TABLES IN SCHEMA dugong, public TO bound;
	CREATE TABLE mine (id uuid, owner text, balance numeric, tenant_id text, PRIMARY KEY (id, tenant_id));
	GRANT ALL ON mine TO bound;
	SELECT dugong.create_projection('mine', 'BankAccount', 'mine');
	SELECT dugong.grant_tenant('bound', 'a');
	SELECT dugong.enable_tenant_isolation();
	SET dugong.tenant_id = 'a';
	SELECT bank_open_account('Anna', 1, '$account');
	SET dugong.tenant_id = 'b';
	SELECT bank_open_account('Ben', 2, '$account');
	SQL
$node->poll_query_until('db', "SELECT (SELECT count(*) FROM mine) = 2 AND (SELECT count(*) FROM bank_account_query_model) = 2")
  or die 'the worker has not written';
is(seen('db'), $only_a, 'the worker writes all, the role sees its own');

# A dump carries the isolation, the grants and the policies; the views are barriers again
my $dump = PostgreSQL::Test::Utils::tempdir() . '/dump';
foreach my $how ('text', 'parallel')
{
	my $to = "to_$how";
	sql('postgres', "CREATE DATABASE $to");
	if ($how eq 'text')
	{
		command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('db') ], 'pg_dump');
		command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr($to) ], 'psql');
	}
	else
	{
		command_ok([ 'pg_dump', '-Fd', '-f', "$dump.d", '-d', $node->connstr('db') ], 'pg_dump -Fd');
		command_ok([ 'pg_restore', '-j', 2, '-e', '-d', $node->connstr($to), "$dump.d" ], 'pg_restore -j 2');
	}
	is(seen($to), $only_a, "$how: isolated at once");
	is(sql($to, q{SELECT count(*) FROM pg_class WHERE relnamespace = 'dugong'::regnamespace AND relkind = 'v' AND NOT 'security_barrier=true' = ANY (COALESCE(reloptions, '{}'))}),
		0, "$how: the views are barriers");
	is(sql($to, 'SELECT dugong.enable_tenant_isolation()'), 'f', "$how: nothing is left to be done");
	is(sql($to, "SET dugong.tenant_id = 'b'; SELECT balance FROM bank_deposit('$account', 1)"), 3, "$how: appends go on");
	is(seen($to), $only_a, "$how: and are not seen");
	is(sql($to, 'SELECT dugong.disable_tenant_isolation()'), 't', "$how: it can be taken back");
	is(sql($to, 'SET ROLE bound; SELECT count(DISTINCT tenant_id) FROM dugong.domain_events'), 2, "$how: then all is seen");
}

# Parallel workers ask for themselves
my $parallel = $node->pg_version >= 16 ? 'debug_parallel_query' : 'force_parallel_mode';
is(sql('db', <<~SQL), "1\n1", 'in a parallel query');
	SET $parallel = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
	SET ROLE bound;
	SELECT count(*) FROM dugong.domain_events;
	SELECT count(*) FROM dugong.event_log;
	SQL

# A dropped role's tenants are nobody's, until a role of that name comes
sql($_, 'DROP OWNED BY bound') foreach ('db', 'to_text', 'to_parallel', 'postgres');
sql('postgres', 'DROP ROLE bound');
is(sql('db', "SELECT dugong.revoke_tenant('bound', 'a')"), 't', 'a tenant is taken from a role that is gone');

done_testing();
