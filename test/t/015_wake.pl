# Nothing wakes the worker but its appenders: no event waits for the next poll, and whoever listens hears of everything, when it can be seen.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Sessions;
use Test::More;
use Things;
use Time::HiRes qw(time usleep);

my $seconds = $ENV{DUGONG_WAKE_SECONDS} || 10;    # with preload, and without
my $appenders = 4;
my ($node, $listener, %told, @hidden);

sub sql { return $node->safe_psql('shop', shift); }

# Asks the listener, whose answers bring along what it has been told meanwhile.
my @untold;
sub ask
{
	my ($sql) = @_;
	my $answer = '';

	$listener->send_sql(0, $sql, sub { $answer = shift; });
	$listener->wait_for(0, 20) or die 'no answer';
	push @untold, [ $1, $2 ] while $answer =~ s/^Asynchronous notification "([^"]+)" with payload "(\{.*?\})" received.*\n//m;
	return $answer;
}

# Takes what the listener has been told, and looks whether it can be seen.
sub hear
{
	ask('SELECT;');
	while (my $notification = shift @untold)
	{
		my ($channel, $payload) = @$notification;
		my ($position) = $payload =~ /"position": (\d+)/;
		my ($count) = $payload =~ /"count": (\d+)/;
		my $told = $told{$channel} //= { position => 0, count => 0, times => 0 };

		$told->{position} = $position if $position > $told->{position};
		$told->{count} += $count;
		$told->{times}++;
		next if !$count;
		my $answer = ask($channel =~ /^projection/
			? "SELECT coalesce((SELECT m.n >= e.sequence_number FROM dugong.event_log e JOIN thing_model m ON m.id = e.aggregate_id WHERE e.position = $position), false);"
			: "SELECT EXISTS (SELECT FROM dugong.event_log WHERE position = $position);");
		push @hidden, "$channel $payload" if $answer ne "t\n";
	}
	return;
}

sub told { my ($channel, $what) = @_; return $told{$channel} ? $told{$channel}{$what} : 0; }

sub hears_all
{
	my ($channel, $position, $limit) = @_;
	my $deadline = time + $limit;

	hear() while told($channel, 'position') < $position && time < $deadline;
	return told($channel, 'position') >= $position;
}

sub last_position { return sql('SELECT coalesce(max(position), 0) FROM dugong.event_log'); }

sub set_notify
{
	my ($value) = @_;

	# Not preloaded, a session knows the setting once it has loaded the library
	sql("LOAD 'dugong'; ALTER SYSTEM SET dugong.notify = '$value'");
	$node->reload;
	$node->poll_query_until('shop', "SELECT current_setting('dugong.notify') = '$value' FROM dugong.is_preloaded()") or die;
	return;
}

sub check
{
	my ($title, @conf) = @_;

	%told = ();
	@hidden = ();
	$node = new_server($title =~ s/\W/_/gr, "dugong.poll_interval = '1h'", 'dugong.max_workers = 2', 'fsync = off', @conf);
	$node->safe_psql('postgres', 'CREATE DATABASE shop');
	sql('CREATE EXTENSION dugong');
	create_things($node, 'shop');
	sql(<<~'SQL');
		SELECT dugong.drop_projection(p) FROM unnest('{bank_account,copy,events}'::text[]) p;
		CREATE TABLE late (appender int, took interval, at timestamptz DEFAULT clock_timestamp());
		CREATE TABLE done (appender int, events bigint, slowest interval);

		-- Appends at random intervals; waits each time until that is projected.  If one is not, all stop, so that nobody else wakes the worker
		CREATE PROCEDURE append_and_look(me int, seconds float8) LANGUAGE plpgsql AS $$
		DECLARE
		    the_end timestamptz := clock_timestamp() + seconds * '1 s'::interval;
		    thing uuid := ('00000009-0000-4000-8000-' || lpad(me::text, 12, '0'))::uuid;
		    number bigint;
		    committed timestamptz;
		    took interval;
		    slowest interval := '0';
		    events bigint := 0;
		BEGIN
		    WHILE clock_timestamp() < the_end LOOP
		        committed := clock_timestamp();
		        WHILE (SELECT sum(n) FROM thing_model) <> (SELECT count(*) FROM dugong.event_log) AND clock_timestamp() < committed + '5 s' LOOP
		            PERFORM pg_sleep(0.0005);
		        END LOOP;
		        COMMIT;
		        SELECT e.sequence_number INTO number FROM dugong.append_event('Thing', thing, 'Changed', '{"by": 1}') e;
		        IF random() < 0.1 THEN
		            ROLLBACK;
		            CONTINUE;
		        END IF;
		        IF random() < 0.1 THEN
		            PERFORM pg_sleep(random() * 0.01);
		        END IF;
		        COMMIT;
		        committed := clock_timestamp();
		        events := events + 1;
		        LOOP
		            PERFORM FROM thing_model m WHERE m.id = thing AND m.n >= number;
		            took := clock_timestamp() - committed;
		            EXIT WHEN FOUND;
		            IF took > '1 s' THEN
		                INSERT INTO late VALUES (me, took);
		                EXIT;
		            END IF;
		            PERFORM pg_sleep(0.001);
		        END LOOP;
		        slowest := greatest(slowest, took);
		        COMMIT;
		        PERFORM pg_sleep(CASE WHEN random() < 0.5 THEN random() * 0.002 ELSE random() * 0.03 END);
		        COMMIT;
		    END LOOP;
		    INSERT INTO done VALUES (me, events, slowest);
		END $$;

		-- Holds the worker up
		CREATE PROCEDURE lock_and_let_go(seconds float8) LANGUAGE plpgsql AS $$
		DECLARE
		    the_end timestamptz := clock_timestamp() + seconds * '1 s'::interval;
		BEGIN
		    WHILE clock_timestamp() < the_end LOOP
		        LOCK TABLE thing_model IN EXCLUSIVE MODE;
		        PERFORM pg_sleep(random() * 0.02);
		        COMMIT;
		        PERFORM pg_sleep(random() * 0.1);
		        COMMIT;
		    END LOOP;
		END $$;
		SQL
	my $origin = sql("SELECT origin FROM dugong.aggregate_types WHERE name = 'Thing'");
	my ($of_type, $of_projection) = ("$origin-Thing", 'projection-model');
	sql(append_thing(1));
	ok($node->poll_query_until('shop', 'SELECT count(*) = 1 FROM thing_model'), "$title: the worker works");
	$listener = Sessions->new($node->connstr('shop'), 1);
	$listener->send_sql(0, "LISTEN \"$of_type\"; LISTEN \"$of_projection\";");
	$listener->wait_for(0, 20) or die;
	# What was on its way
	foreach (1 .. 10) { hear(); usleep(20_000); }
	my $before = last_position();
	%told = ();

	my $sessions = Sessions->new($node->connstr('shop'), $appenders + 1);
	$sessions->send_sql($_, "CALL append_and_look($_, $seconds);") foreach 1 .. $appenders;
	$sessions->send_sql(0, "CALL lock_and_let_go($seconds);");
	while ($sessions->is_busy(1))
	{
		hear();
		$sessions->listen(0.005);
	}
	$sessions->wait_for($_, 20) foreach 0 .. $appenders;
	$sessions->close_all;
	my ($events, $slowest) = split /\|/, sql('SELECT sum(events), round(extract(epoch FROM max(slowest)) * 1000) FROM done');
	note("$title: $events events, projected after $slowest ms at most");
	cmp_ok($events, '>', 20 * $seconds, "$title: events were appended");
	is(sql('SELECT count(*) FROM late'), '0', "$title: none is projected late") or diag(sql('SELECT * FROM late ORDER BY at LIMIT 10'));

	my $head = last_position();
	ok(hears_all($of_type, $head, 5), "$title: who listens to the aggregate type hears of the last");
	ok(hears_all($of_projection, $head, 5), "$title: and who listens to the projection");
	my $committed = sql("SELECT count(*) FROM dugong.event_log WHERE position > $before");
	# A position that was a hole may be told of after the last
	my $deadline = time + 5;
	hear() while time < $deadline && (told($of_type, 'count') < $committed || told($of_projection, 'count') < $committed);
	is(told($of_type, 'count'), $committed, "$title: of every event, once");
	is(told($of_projection, 'count'), $committed, "$title: as well there");
	is(join(', ', @hidden), '', "$title: and can see what it is told of");
	note("$title: $committed events, told in " . told($of_type, 'times') . ' and ' . told($of_projection, 'times') . ' notifications');
	cmp_ok(told($of_type, 'times'), '<=', $committed, "$title: in no more notifications than events");

	# One by one, when all is quiet
	my $late = 0;
	foreach my $n (1 .. 20)
	{
		sql(append_thing($n));
		my $position = last_position();
		$late++ if !hears_all($of_type, $position, 1) || !hears_all($of_projection, $position, 1);
		usleep(rand 20_000);
	}
	is($late, 0, "$title: alone, each is told of within a second");

	# Nobody notifies
	set_notify('off');
	foreach (1 .. 10) { hear(); usleep(20_000); }
	%told = ();
	sql(append_thing(1) x 3 . "CALL dugong.wait_for_projection('model');");
	foreach (1 .. 10) { hear(); usleep(20_000); }
	is(join(' ', %told), '', "$title: dugong.notify = off: nobody notifies");
	# The session's own, whatever the worker does
	sql('LOAD \'dugong\'; SET dugong.notify = always; BEGIN; ' . append_thing(1) . append_thing(2) . 'COMMIT; SET dugong.notify = off;' . append_thing(1) . "CALL dugong.wait_for_projection('model');");
	foreach (1 .. 10) { hear(); usleep(20_000); }
	is(join(' ', map { "$_ $told{$_}{times} $told{$_}{count}" } sort keys %told), "$of_type 1 2", "$title: dugong.notify = always: the commit does");
	set_notify('auto');
	%told = ();
	sql(append_thing(1));
	my $position = last_position();
	ok(hears_all($of_type, $position, 2) && hears_all($of_projection, $position, 2), "$title: and the worker again");
	$listener->close_all;
	$node->stop;
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, "$title: no process crashed");
	return;
}

# Who has begun to commit before the worker was there, and ends after it has looked, and an appender after a handler that gave up the worker's locks
sub check_markers
{
	my ($appender, $took);

	$node = new_server('markers', "dugong.poll_interval = '1h'", 'dugong.max_workers = 1', 'fsync = off', 'wal_level = replica', 'max_wal_senders = 2', 'synchronous_commit = local');
	$node->safe_psql('postgres', 'CREATE DATABASE shop');
	sql('CREATE EXTENSION dugong');
	create_things($node, 'shop');
	sql("SELECT dugong.drop_projection(p) FROM unnest('{bank_account,copy,events}'::text[]) p; ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
	$node->restart;
	$appender = Sessions->new($node->connstr('shop'), 1);
	$appender->send_sql(0, 'SET synchronous_commit = on;' . append_thing(1));
	$node->poll_query_until('shop', "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'") or die;
	{
		local $ENV{PGOPTIONS} = '-c dugong.max_workers=0';
		sql(append_thing(2));
	}
	is(sql("CALL dugong.wait_for_projection('model'); SELECT count(*) FROM thing_model"), '1', 'an appender is in the midst of its commit when the worker starts');
	$node->poll_query_until('shop', "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'dugong worker' AND state = 'idle'") or die;
	sql('ALTER SYSTEM RESET synchronous_standby_names');
	$node->reload;
	$appender->wait_for(0, 10) or die;
	is(projected_within(2, 3), 1, 'its event does not wait for the next poll');
	$appender->close_all;

	sql(<<~'SQL');
		CREATE FUNCTION unlock(e dugong.domain_event) RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_unlock_all() $$;
		SELECT dugong.create_projection('unlock', 'Thing', event_handler => 'unlock(dugong.domain_event)');
		CALL dugong.wait_for_projection('unlock');
		SQL
	my $late = 0;
	foreach my $n (3 .. 5)
	{
		usleep(200_000);
		sql(append_thing($n));
		$late++ if !projected_within($n, 2);
	}
	is($late, 0, 'after pg_advisory_unlock_all in a handler the worker is woken all the same');
	$node->stop;
	return;
}

# Does the query model have so many things soon?
sub projected_within
{
	my ($things, $limit) = @_;
	my $deadline = time + $limit;

	usleep(20_000) while sql('SELECT count(*) FROM thing_model') ne $things && time < $deadline;
	return sql('SELECT count(*) FROM thing_model') eq $things ? 1 : 0;
}

check_markers();
check('plain');
check('preloaded', "shared_preload_libraries = 'dugong'");
done_testing();
