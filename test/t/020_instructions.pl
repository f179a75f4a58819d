# What a deposit and an append cost, in instructions of one process, beside what one would write instead.  Counts repeat, times do
# not.  bench/ measures times.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;

if (system('valgrind --version >/dev/null 2>&1') != 0)
{
	plan skip_all => 'valgrind is not installed';
}

my $ACCOUNTS = 2000;
my $node = new_server('main', 'dugong.max_workers = 0');
my $ids = "(uuid_in(format('00000000-0000-4000-8000-%s', lpad(n::text, 12, '0'))::cstring))";

# Accounts of 20 events; a balance with a history, and a table with the keys of the log
$node->safe_psql('postgres', qq{
	CREATE EXTENSION dugong;
	SELECT count(bank_open_account('Alice', 100, $ids)) FROM generate_series(1, $ACCOUNTS) n;
	SELECT count(e) FROM generate_series(1, $ACCOUNTS) n, LATERAL dugong.append_events('BankAccount', $ids,
		(SELECT jsonb_agg('{"type": "MoneyDeposited", "payload": {"amount": 1}}'::jsonb) FROM generate_series(1, 19))) e;
	CREATE TABLE account (id uuid PRIMARY KEY, balance numeric NOT NULL);
	CREATE TABLE history (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account_id uuid NOT NULL, kind text NOT NULL,
		amount numeric NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp());
	CREATE INDEX ON history (account_id, id);
	INSERT INTO account SELECT $ids, 100 FROM generate_series(1, $ACCOUNTS) n;
	INSERT INTO history (account_id, kind, amount) SELECT a.id, 'deposit', 1 FROM account a, generate_series(1, 20);
	CREATE FUNCTION deposit(account uuid, amount numeric) RETURNS numeric LANGUAGE plpgsql AS \$\$
	DECLARE
		now numeric;
	BEGIN
		IF amount IS NULL OR amount <= 0 THEN
			RAISE 'amount must be greater than zero';
		END IF;
		UPDATE account a SET balance = balance + amount WHERE a.id = account RETURNING balance INTO now;
		IF NOT FOUND THEN
			RAISE 'no such account';
		END IF;
		INSERT INTO history (account_id, kind, amount) VALUES (account, 'deposit', amount);
		RETURN now;
	END \$\$;
	CREATE TABLE plain (position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sequence_number bigint NOT NULL,
		"timestamp" timestamptz NOT NULL DEFAULT clock_timestamp(), id uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(), aggregate_id uuid NOT NULL,
		aggregate_type text NOT NULL, version int NOT NULL DEFAULT 1, tenant_id text NOT NULL DEFAULT '', type text NOT NULL, payload jsonb,
		correlation_id uuid, triggered_by_event_id uuid, triggered_by_user_id text, metadata jsonb,
		UNIQUE (aggregate_id, sequence_number, aggregate_type, tenant_id));
	INSERT INTO plain (sequence_number, aggregate_id, aggregate_type, type, payload)
		SELECT sequence_number, aggregate_id, aggregate_type, type, payload FROM dugong.domain_events ORDER BY position;
});
$node->safe_psql('postgres', 'VACUUM ANALYZE');
$node->safe_psql('postgres', 'CHECKPOINT');
$node->stop;

# Instructions of a single-user server that executes these lines
sub count_instructions
{
	my @lines = @_;
	my $input = PostgreSQL::Test::Utils::tempdir() . '/input.sql';
	my $log = PostgreSQL::Test::Utils::tempdir() . '/valgrind.log';

	append_to_file($input, join("\n", @lines) . "\n");
	system("valgrind --tool=callgrind --callgrind-out-file='$log.callgrind' --log-file='$log' postgres --single -D '"
		  . $node->data_dir . "' postgres <'$input' >'$log.out' 2>&1") == 0 or die "valgrind: $?";
	my $output = slurp_file("$log.out");
	my $collected = slurp_file($log) =~ /Collected : (\d+)/ ? $1 : die 'nothing was collected';
	unlink $input, $log, "$log.out", "$log.callgrind";
	die $output if $output =~ /ERROR/;
	return $collected;
}

# Of one execution: what 100 and 400 of them differ in.  Each is for another account.
my $next = 0;
sub each_costs
{
	my ($title, $statement) = @_;
	my @counts = map {
		my @executions = map { sprintf("EXECUTE s('00000000-0000-4000-8000-%012d');", 1 + $next++ % $ACCOUNTS) } 1 .. $_;
		count_instructions("PREPARE s AS $statement;", @executions)
	} 100, 400;
	my $each = int(($counts[1] - $counts[0]) / 300);
	note("$title: $each instructions");
	return $each;
}

my $deposit = each_costs('bank_deposit', 'SELECT bank_deposit($1::uuid, 1)');
my $function = each_costs('PL/pgSQL function', 'SELECT deposit($1::uuid, 1)');
cmp_ok($deposit, '<', 1.25 * $function, 'a deposit costs what a balance with a history costs, and little more')
  or diag("$deposit, $function");

$next = 0;
my $append = each_costs('append_event', q{SELECT position FROM dugong.append_event('BankAccount', $1::uuid, 'MoneyDeposited', '{"amount": 1}')});
$next = 0;
my $insert = each_costs('INSERT', q{INSERT INTO plain (sequence_number, aggregate_id, aggregate_type, type, payload)
	VALUES (21, $1::uuid, 'BankAccount', 'MoneyDeposited', '{"amount": 1}')} =~ s/\s+/ /gr);
cmp_ok($append, '<', 1.6 * $insert, 'an append costs half as much again as an INSERT with the same keys')
  or diag("$append, $insert");

done_testing();
