# Students fight for seats: never one too many, in a course or for a student, while server processes are killed; and the
# index of tags goes with a dump.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my ($clients, $courses, $seats, $students, $each) = (8, 6, 10, 25, 3);
my $node = new_server('main', 'restart_after_crash = on', 'fsync = on');
my $dir = PostgreSQL::Test::Utils::tempdir();

$node->safe_psql('postgres', 'CREATE EXTENSION dugong');
$node->safe_psql('postgres', slurp_file('examples/courses.sql'));
$node->safe_psql('postgres', "SELECT school.offer_course('" . uuid(1, $_) . "', $seats)") foreach 1 .. $courses;

# What a client does: everybody tries every course, in an order of the client's own; some leave.
sub commands
{
	my $client = shift;
	my @commands;

	srand($client);
	foreach my $student (1 .. $students)
	{
		foreach my $course (1 .. $courses)
		{
			my $arguments = "'" . uuid(1, $course) . "', '" . uuid(2, $student) . "'";

			push @commands, [ rand, "SELECT school.enrol($arguments, $each)" ];
			push @commands, [ rand, "SELECT school.leave($arguments)" ] if rand() < 0.2;
		}
	}
	return map { $_->[1] } sort { $a->[0] <=> $b->[0] } @commands;
}

# Runs them to the end, over lost connections; returns how often one was lost.  Its errors go into a file.
sub run_client
{
	my $client = shift;
	my @todo = commands($client);
	my ($lost, $deadline) = (0, time + 120);

	while (@todo && time < $deadline)
	{
		my $file = "$dir/$client.$lost";

		open my $in, '>', "$file.in" or die;
		print $in "$todo[$_];\n\\echo done $_\n" foreach 0 .. $#todo;
		close $in;
		system("psql -XAtq -v VERBOSITY=sqlstate -f '$file.in' -d '" . $node->connstr('postgres') . "' >'$file.out' 2>'$file.err'");
		my @done = slurp_file("$file.out") =~ /^done (\d+)$/mg;
		splice @todo, 0, $done[-1] + 1 if @done;
		if (@todo) { $lost++; usleep(50_000); }
	}
	return @todo ? 255 : $lost;
}

my @pids = map {
	my $client = $_;
	my $pid = fork // die;
	if (!$pid)
	{
		my $result = eval { run_client($client) } // 254;
		require POSIX;
		POSIX::_exit($result);
	}
	$pid;
} 1 .. $clients;

# A server process is killed in the middle
$node->poll_query_until('postgres', "SELECT count(*) > 5 FROM dugong.domain_events WHERE type = 'StudentEnrolled'");
my $victim = '';
$victim = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() LIMIT 1")
	while $victim eq '';
kill 'KILL', $victim;
my ($lost, $failed) = (0, 0);
foreach my $pid (@pids)
{
	waitpid($pid, 0);
	my $result = $? >> 8;
	$result > 200 ? $failed++ : ($lost += $result);
}
is($failed, 0, 'every client has come to its end');
cmp_ok($lost, '>', 0, "the crash came in the middle: $lost connections were lost");
$node->poll_query_until('postgres', 'SELECT true');

# What clients were told
my %codes;
foreach my $file (glob "$dir/*.err")
{
	$codes{$_}++ foreach slurp_file($file) =~ /ERROR:  (\w+)/g;
}
note(join ', ', map { "$_: $codes{$_}" } sort keys %codes);
ok($codes{UG004}, 'some were refused by the rules');
is_deeply([ grep { $_ ne 'UG004' && $_ ne 'UG001' } keys %codes ], [], 'nobody met a deadlock, or any other error');

# After each event, by the log alone
my $changes = q{(SELECT position, payload ->> 'course' AS course, payload ->> 'student' AS student, CASE type WHEN 'StudentEnrolled' THEN 1 ELSE -1 END AS change
	FROM dugong.domain_events WHERE type IN ('StudentEnrolled', 'StudentLeft')) c};
is($node->safe_psql('postgres', "SELECT max(n) FROM (SELECT sum(change) OVER (PARTITION BY course ORDER BY position) AS n FROM $changes) s"),
	$seats, 'courses were full, and never more');
is($node->safe_psql('postgres', "SELECT max(n) FROM (SELECT sum(change) OVER (PARTITION BY student ORDER BY position) AS n FROM $changes) s"),
	$each, 'students had as many courses as they may, and never more');
is($node->safe_psql('postgres', "SELECT min(n) || ' ' || max(n) FROM (SELECT sum(change) OVER (PARTITION BY course, student ORDER BY position) AS n FROM $changes) s"),
	'0 1', 'nobody had two seats in a course');

# Every event has its entries, and no other has
my $index = q{SELECT count(*), md5(string_agg(tag || ' ' || position, ',' ORDER BY tag, position)) FROM dugong.event_tags};
my $before = $node->safe_psql('postgres', $index);
$node->safe_psql('postgres', q{SELECT dugong.declare_tags(aggregate_type, type, tags) FROM dugong.declared_tags});
is($node->safe_psql('postgres', $index), $before, 'the index is what declaring again makes of the log');

# A dump
$node->safe_psql('postgres', 'CREATE DATABASE restored');
command_ok([ 'pg_dump', '-f', "$dir/dump.sql", '-d', $node->connstr('postgres') ], 'pg_dump');
my ($out, $err) = run_command([ 'psql', '-Xq', '-f', "$dir/dump.sql", '-d', $node->connstr('restored') ]);
is($err, '', 'restored without an error');
is($node->safe_psql('restored', $index), $before, 'the index goes with the dump');
my $query = "'{\"tags\": {\"course\": \"" . uuid(1, 1) . "\"}}'";
foreach my $what ('count(*)', 'max(position)')
{
	is($node->safe_psql('restored', "SELECT $what FROM dugong.read_events_matching($query)"),
		$node->safe_psql('postgres', "SELECT $what FROM dugong.read_events_matching($query)"), "$what of what is found");
}
$node->psql('restored', "SELECT dugong.append_event('Course', gen_random_uuid(), 'CourseOffered', if_none_match => $query)", stderr => \$err);
like($err, qr/append condition does not hold/, 'a condition on what was restored');
$node->safe_psql('restored', q{SELECT dugong.append_event('Enrolment', gen_random_uuid(), 'StudentEnrolled', '{"course": "new"}', if_none_match => '{"tags": {"course": "new"}}')});
$node->psql('restored', q{SELECT dugong.append_event('Enrolment', gen_random_uuid(), 'StudentEnrolled', '{"course": "new"}', if_none_match => '{"tags": {"course": "new"}}')}, stderr => \$err);
like($err, qr/append condition does not hold/, 'and on what came after');

$node->stop;
done_testing();
