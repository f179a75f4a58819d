# What the TAP tests share.
package Dugong;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

our @EXPORT = qw(new_server worker_pid wait_for_worker wait_for_server wait_for_equality is_equal_to_fold is_caught_up uuid sized is_sanitized figure);

# A started server with these lines in its configuration.
sub new_server
{
	my ($name, @conf) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init;
	# A worker lives on for ten idle seconds; several databases need more than the 8 slots of the default
	$node->append_conf('postgresql.conf', "max_worker_processes = 24\n");
	$node->append_conf('postgresql.conf', "$_\n") foreach @conf;
	$node->start;
	return $node;
}

# How much: less in "make test", more in "make test-long".
sub sized
{
	my ($short, $long) = @_;
	return $ENV{DUGONG_LONG} ? $long : $short;
}

# Does the server run with sanitizers?  What it takes of memory and time means nothing then.
sub is_sanitized { return exists $ENV{ASAN_OPTIONS}; }

# Tells what was measured: it stands in the log of a long run.
sub figure
{
	my ($text) = @_;
	$ENV{DUGONG_LONG} ? diag($text) : note($text);
	return;
}

# The n-th uuid of a kind.
sub uuid
{
	my ($kind, $n) = @_;
	return sprintf('%08x-0000-4000-8000-%012x', $kind, $n);
}

# The database's worker, or the empty string.
sub worker_pid
{
	my ($node, $db) = @_;
	return $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND datname = '$db'");
}

# Waits until a worker, another than this one, has the database.
sub wait_for_worker
{
	my ($node, $db, $other) = @_;

	$node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND datname = '$db'"
		  . ' AND pid <> ' . ($other || 0))
	  or die "no worker in $db";
	return worker_pid($node, $db);
}

# Waits until a server one of whose processes was killed takes connections again.
sub wait_for_server
{
	my ($node, $killed) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	usleep(1000) while $killed && kill 0, $killed;
	while (system('pg_isready', '-q', '-d', $node->connstr('postgres')) != 0)
	{
		die $node->name . ' does not come back' if time > $deadline;
		usleep(20_000);
	}
	return;
}

sub equality
{
	my $schema = shift // 'public';
	my $fold =
	  "SELECT (f.s).id, (f.s).owner, (f.s).balance, f.tenant_id FROM (SELECT $schema.bank_account_fold(e ORDER BY e.sequence_number) AS s, e.tenant_id "
	  . q{FROM dugong.domain_events e WHERE e.aggregate_type = 'BankAccount' GROUP BY e.aggregate_id, e.tenant_id) f WHERE (f.s).id IS NOT NULL};
	my $model = "SELECT id, owner, balance, tenant_id FROM $schema.bank_account_query_model";

	return "SELECT NOT EXISTS (($model) EXCEPT ALL ($fold)) AND NOT EXISTS (($fold) EXCEPT ALL ($model))";
}

# Is the query model equal to the fold of every account, now?
sub is_caught_up
{
	my ($node, $db, $schema) = @_;
	return $node->safe_psql($db, equality($schema)) eq 't';
}

sub wait_for_equality
{
	my ($node, $db, $what, $schema) = @_;
	ok($node->poll_query_until($db, equality($schema)), $what);
	return;
}

sub is_equal_to_fold
{
	my ($node, $db, $what, $schema) = @_;
	ok(is_caught_up($node, $db, $schema), $what);
	return;
}

1;
