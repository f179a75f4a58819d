# pg_upgrade: from the major version whose programs are in DUGONG_OLD_BINDIR, with dugong installed, or from this one to itself.
use strict;
use warnings;

use lib 'test/t';
use Copies;
use Dugong;
use File::Basename qw(dirname);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Things;

my @conf = ("shared_preload_libraries = 'dugong'", 'max_worker_processes = 24', 'max_prepared_transactions = 20', 'dugong.max_attempts = 2', "dugong.retry_pause = '10ms'",
	"dugong.poll_interval = '200ms'");
my $old_bindir = $ENV{DUGONG_OLD_BINDIR} || '';
my ($new_bindir) = run_command([ 'pg_config', '--bindir' ]);
my $old = PostgreSQL::Test::Cluster->new('old', $old_bindir ? (install_path => dirname($old_bindir)) : ());
my $new = PostgreSQL::Test::Cluster->new('new');

# Locale and encoding must be the same in both; and checksums, which are the default since 18
foreach my $node ($old, $new)
{
	$node->init(extra => [ '--locale=C', '--encoding=UTF8', $node->pg_version >= 18 ? '--no-data-checksums' : () ]);
	$node->append_conf('postgresql.conf', "$_\n") foreach @conf;
}
$old->start;
note('from ' . $old->safe_psql('postgres', 'SHOW server_version'));

# A hole of the old cluster's that has been filled, and nobody has looked
create_everything($old, 'everything');
$old->safe_psql('everything', "SELECT dugong.stop_workers()");
$old->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND datname = 'everything'") or die 'the workers go on';
$old->safe_psql('everything', "COMMIT PREPARED 'open.everything'");
$old->safe_psql('everything', join "\n", map { append_thing($_) } 1 .. 5);

# A busy database that is stopped with a backlog
$old->safe_psql('postgres', 'CREATE DATABASE busy');
$old->safe_psql('busy', 'CREATE EXTENSION dugong');
create_things($old, 'busy');
finish_load(start_load($old, 'busy', 'busy', 3, sized(100, 1000)));
wait_for_things($old, 'busy', 'before');
{
	local $ENV{PGOPTIONS} = '-c dugong.max_workers=0';
	$old->safe_psql('busy', 'SELECT dugong.pause_projection(p) FROM unnest($${model,events}$$::text[]) p;' . join "\n", map { append_thing($_) } 1 .. 20);
	$old->safe_psql('busy', 'SELECT dugong.resume_projection(p) FROM unnest($${model,events}$$::text[]) p');
}
$old->stop;
my $contents = do { $old->start; contents($old, 'everything') };
$old->stop;

# Where pg_upgrade writes its files
chdir PostgreSQL::Test::Utils::tempdir() or die;
command_ok([ 'pg_upgrade', '--no-sync', '--retain', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $old_bindir || $new_bindir, '-B', $new_bindir,
	'-s', $new->host, '-p', $old->port, '-P', $new->port ], 'pg_upgrade');
my @logs = glob($new->data_dir . '/pg_upgrade_output.d/*/log/*server*.log');
cmp_ok(scalar @logs, '>', 0, 'its servers have left their logs');
unlike(join('', map { slurp_file($_) } @logs), qr/background worker "dugong/, 'no worker meanwhile');
$new->start;
is(difference($contents, contents($new, 'everything')), '', 'all is there');

is($new->safe_psql('everything', "SELECT count(*) FROM dugong.projection_status WHERE stale"), '0', 'no projection is said to be stale');

# Nothing happens there while the workers are stopped; then all that was left, once
$new->safe_psql('everything', 'SELECT dugong.start_workers()');
mend_everything($new, 'everything', 'everything');
is($new->safe_psql('everything', "SELECT projection FROM dugong.projection_status WHERE holes > 0 AND state = 'running'"), '', 'no hole stays behind');
$new->safe_psql('everything', finish_import());
is($new->safe_psql('everything', 'SELECT phase, done FROM dugong.import_progress'), 'done|20', 'the import goes on');
is($new->safe_psql('everything', "SELECT count(*) FROM dugong.verify_snapshots('Cart')"), '0', 'no snapshot is wrong');

my $last = $new->safe_psql('busy', 'SELECT last_value FROM dugong.event_log_position_seq');
is($new->safe_psql('busy', append_thing(1) =~ s/FROM/position FROM/r), $last + 1, 'positions go on');
wait_for_things($new, 'busy', 'the backlog');
finish_load(start_load($new, 'busy', 'again', 2, sized(50, 500)));
wait_for_things($new, 'busy', 'after');

$new->stop;
unlike(slurp_file($_->logfile), qr/PANIC|TRAP:|terminated by signal/, 'no process crashed: ' . $_->name) foreach $old, $new;
done_testing();
