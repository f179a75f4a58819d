# Everything that dugong keeps, through each format of pg_dump, into a server whose workers are busy with other databases.
use strict;
use warnings;

use lib 'test/t';
use Copies;
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;
use Things;

my $node = new_server('main', "shared_preload_libraries = 'dugong'", "dugong.poll_interval = '200ms'", 'max_prepared_transactions = 20', 'dugong.max_attempts = 2', "deadlock_timeout = '100ms'",
	"dugong.retry_pause = '10ms'", "log_min_messages = warning");
my $dir = PostgreSQL::Test::Utils::tempdir();

sub sql { my ($db, $sql) = @_; return $node->safe_psql($db, $sql); }
sub run { my ($what, @command) = @_; my ($out, $err) = run_command(\@command); is($err =~ s/^pg_dump: warning: unsupported pg_init_privs.*\n?//mgr, '', $what); return; }
sub dump_of { my ($db, $file, @options) = @_; run("pg_dump $db @options", 'pg_dump', '-d', $node->connstr($db), '-f', "$dir/$file", @options); return; }
sub dump_to { dump_of('everything', @_); return; }
sub load { my ($db, $file, @options) = @_; run("pg_restore $file @options", 'pg_restore', '-e', '-d', $node->connstr($db), @options, "$dir/$file"); return; }

create_everything($node, 'everything');
my $contents = contents($node, 'everything');
sql('postgres', 'CREATE DATABASE busy');
sql('busy', 'CREATE EXTENSION dugong');
create_things($node, 'busy');
my @load = start_load($node, 'busy', 'busy', 2, sized(200, 3000));

my %formats = (
	plain => sub { dump_to('plain'); run('psql', 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', $node->connstr($_[0]), '-f', "$dir/plain"); },
	inserts => sub { dump_to('inserts', '--inserts'); run('psql', 'psql', '-Xq', '-1', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', $node->connstr($_[0]), '-f', "$dir/inserts"); },
	custom => sub { dump_to('custom', '-Fc'); load($_[0], 'custom', '-j4'); },
	directory => sub { dump_to('directory', '-Fd', '-j4'); load($_[0], 'directory', '-j4'); },
	sections => sub { dump_to('sections', '-Fc'); load($_[0], 'sections', "--section=$_") foreach qw(pre-data data post-data); },
	data => sub {
		dump_to('schema', '-Fc', '--schema-only');
		load($_[0], 'schema');
		# Without triggers, nothing makes room for what was altered of the bank
		sql($_[0], "SELECT dugong.drop_projection('bank_account'), dugong.drop_aggregate_type('BankAccount')");
		dump_to('data', '-Fc', '--data-only');
		load($_[0], 'data', '--disable-triggers');
	},
);

# What a client of the subscription would get, were all that is in flight given up.
sub deliverable
{
	my $db = shift;
	return sql($db, "BEGIN; SELECT dugong.release('out', consumer => 'one'); SELECT id FROM dugong.fetch_events('out', 1000); ROLLBACK");
}

my $deliverable = deliverable('everything');
foreach my $format (sort keys %formats)
{
	sql('postgres', "CREATE DATABASE $format");
	$formats{$format}->($format);
	is(difference($contents, contents($node, $format)), '', "$format: all is there, and not touched");
	is(deliverable($format), $deliverable, "$format: the subscription delivers the same");
	sql($format, 'SELECT dugong.start_workers()');
	mend_everything($node, $format, $format);
	is(sql($format, "SELECT count(*), bool_and(holes = 0) FROM dugong.projection_status WHERE projection <> 'paused'"), '5|t', "$format: nobody waits for who is not here");
	sql($format, finish_import());
	is(sql($format, 'SELECT phase, done FROM dugong.import_progress'), 'done|20', "$format: the import goes on");
}

# Once more into the same database
my $before = contents($node, 'custom');
my ($out, $err) = run_command([ 'pg_restore', '-1', '--data-only', '-d', $node->connstr('custom'), "$dir/custom" ]);
like($err, qr/duplicate key.*aggregate_types/, 'again: refused');
($out, $err) = run_command([ 'pg_restore', '--data-only', '-t', 'event_log', '-d', $node->connstr('custom'), "$dir/custom" ]);
like($err, qr/cannot restore an event at position/, 'the log again: refused');
is(difference($before, contents($node, 'custom')), '', 'again: nothing has changed');
(undef, $out, $err) = $node->psql('custom', "SELECT dugong.create_projection('bank_account', 'Thing', 'thing_model')");
like($err, qr/already exists/, 'only a dump replaces what CREATE EXTENSION has made');

# While others append
foreach my $n (1 .. sized(2, 8))
{
	my $db = "copy$n";

	dump_of('busy', $db, $n % 2 ? ('-Fd', '-j3') : '-Fc');
	sql('postgres', "CREATE DATABASE $db");
	load($db, $db, '-j2');
	my @more = start_load($node, $db, $db, 2, 30);
	finish_load(@more);
	wait_for_things($node, $db, $db);
	figure("$db: " . sql($db, 'SELECT count(*) FROM dugong.event_log') . ' events');
}
finish_load(@load);
wait_for_things($node, 'busy', 'the others');
sql('everything', "COMMIT PREPARED 'open.everything'");
mend_everything($node, 'everything', 'the original');

# The extension alone, whose log has got a column that no dump makes
sql('postgres', 'CREATE DATABASE part');
sql('part', 'CREATE EXTENSION dugong');
sql($_, 'ALTER TABLE dugong.event_log ADD region text') foreach 'part', 'busy';
dump_of('busy', 'part', '-Fc', '-e', 'dugong');
load('part', 'part');
is(sql('part', 'SELECT count(*), max(position) FROM dugong.event_log'), sql('busy', 'SELECT count(*), max(position) FROM dugong.event_log'), 'pg_dump -e dugong: the log');

$node->stop;
like(slurp_file($node->logfile), qr/trigger "$_" of the event log is not always enabled/, "$_: the worker says that a restore of data without triggers has weakened it")
  foreach 'event_assign', 'event_mark', 'inline_projections', 'refuse_change';
unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|terminated by signal/, 'no process crashed');
done_testing();
