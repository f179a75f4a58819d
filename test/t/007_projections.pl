# Workers and projections: retries that are given up, the stop policy, several workers.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('projections', 'dugong.max_attempts = 3', 'dugong.retry_pause = 20', 'dugong.max_workers = 3');

$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', <<'SQL');
CREATE EXTENSION dugong;
SELECT dugong.create_aggregate_type('Job');
CREATE TABLE broken (what text);
CREATE TABLE done (number bigint GENERATED ALWAYS AS IDENTITY, projection text, what text, pid int DEFAULT pg_backend_pid());
CREATE FUNCTION do_lax(event dugong.domain_event) RETURNS void LANGUAGE sql AS $$
    INSERT INTO done (projection, what) SELECT 'lax', 1 / (count(*) = 0)::int || (event).type FROM broken WHERE what = (event).type $$;
CREATE FUNCTION do_strict(event dugong.domain_event) RETURNS void LANGUAGE sql AS $$
    INSERT INTO done (projection, what) SELECT 'strict', 1 / (count(*) = 0)::int || (event).type FROM broken WHERE what = (event).type $$;
CREATE FUNCTION do_other(event dugong.domain_event) RETURNS void LANGUAGE sql AS $$ INSERT INTO done (projection, what) VALUES ('other', (event).type) $$;
CREATE FUNCTION job(what text, number int) RETURNS void LANGUAGE sql AS
$$ SELECT dugong.append_event('Job', ('a0000000-0000-4000-8000-00000000000' || number)::uuid, what) $$;
SELECT dugong.create_projection('lax', 'Job', event_handler => 'do_lax(dugong.domain_event)');
SELECT dugong.create_projection('other', 'Job', event_handler => 'do_other(dugong.domain_event)');
SELECT dugong.create_projection('strict', 'Job', event_handler => 'do_strict(dugong.domain_event)', on_error => 'stop');
INSERT INTO broken VALUES ('Bad');
SQL

sub done
{
	my $projection = shift;
	return $node->safe_psql('shop', "SELECT string_agg(what, ' ' ORDER BY number) FROM done WHERE projection = '$projection'");
}

# An event that fails: given up after dugong.max_attempts; the strict projection stops
$node->safe_psql('shop', q{SELECT job('Good', 1), job('Bad', 2), job('Better', 1), job('Next', 2)});
ok($node->poll_query_until('shop', q{SELECT given_up AND attempts = 3 FROM dugong.dead_letters WHERE projection = 'lax'}), 'given up after dugong.max_attempts');
ok($node->poll_query_until('shop', q{SELECT state = 'stopped' FROM dugong.projection_status WHERE projection = 'strict'}), 'the strict one stops');
$node->safe_psql('shop', q{CALL dugong.wait_for_projection('other', '60s')});
is(done('other'), 'Good Bad Better Next', 'another projection goes on');
is(done('lax'), '1Good 1Better', 'the lax one has passed it over, with what waits behind it');
is(done('strict'), '1Good', 'the strict one has not');
is($node->safe_psql('shop', q{SELECT first_sequence_number, last_sequence_number, sqlstate FROM dugong.dead_letters}), '1|2|22012', 'one dead letter');
is($node->safe_psql('shop', q{SELECT failures, last_error_code FROM dugong.projection_status WHERE projection = 'strict'}), '3|22012', 'its status says why');
my ($rc, $out, $err) = $node->psql('shop', '\set VERBOSITY sqlstate' . "\n" . q{CALL dugong.wait_for_projection('strict')});
like($err, qr/55000/, 'it is not waited for');

# It stays stopped while others work
$node->safe_psql('shop', q{SELECT job('More', 3)});
$node->safe_psql('shop', q{CALL dugong.wait_for_projection('lax', '60s')});
is(done('lax'), '1Good 1Better 1More', 'the lax one goes on');
is(done('strict'), '1Good', 'the strict one waits');

# Mended
$node->safe_psql('shop', 'TRUNCATE broken');
is($node->safe_psql('shop', q{SELECT dugong.retry_dead_letters('lax')}), '1', 'asked for');
ok($node->poll_query_until('shop', 'SELECT count(*) = 0 FROM dugong.dead_letters'), 'the dead letter is handled');
is(done('lax'), '1Good 1Better 1More 1Bad 1Next', 'in its order');
$node->safe_psql('shop', q{SELECT dugong.resume_projection('strict')});
$node->safe_psql('shop', q{CALL dugong.wait_for_projection('strict', '60s')});
is(done('strict'), '1Good 1Bad 1Better 1Next 1More', 'the strict one goes on where it was');
ok($node->poll_query_until('shop', q{SELECT failures = 0 FROM dugong.projection_status WHERE projection = 'strict'}), 'and has no failures in a row any more');

# Retried by itself, once it is mended
$node->safe_psql('shop', q{INSERT INTO broken VALUES ('Slow'); UPDATE dugong.projections SET state = 'paused' WHERE name = 'strict'});
$node->append_conf('postgresql.conf', "dugong.max_attempts = 100\n");
$node->reload;
$node->safe_psql('shop', q{SELECT job('Slow', 4)});
ok($node->poll_query_until('shop', q{SELECT attempts > 1 FROM dugong.dead_letters}), 'tried again by itself');
$node->safe_psql('shop', 'TRUNCATE broken');
ok($node->poll_query_until('shop', 'SELECT count(*) = 0 FROM dugong.dead_letters'), 'until it succeeds');
is($node->safe_psql('shop', q{SELECT count(*) FROM done WHERE projection = 'lax' AND what = '1Slow'}), '1', 'once');

# Each has its worker; a long transaction of one does not keep the others back
is($node->safe_psql('shop', q{SELECT count(*) <= 3 FROM dugong.worker_status WHERE kind = 'dugong worker'}), 't', 'no more workers than dugong.max_workers');
$node->safe_psql('shop', 'CREATE OR REPLACE FUNCTION do_other(event dugong.domain_event) RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_xact_lock(1) $$');
my $holder = $node->background_psql('shop');
$holder->query_safe('SELECT pg_advisory_lock(1)');
$node->safe_psql('shop', q{SELECT job('While', 5)});
$node->safe_psql('shop', q{CALL dugong.wait_for_projection('lax', '60s')});
is($node->safe_psql('shop', q{SELECT count(*) FROM done WHERE what = '1While'}), '1', 'another projection waits for a lock, this one goes on');
ok($node->poll_query_until('shop', q{SELECT blocking_pid IS NOT NULL FROM dugong.projection_status WHERE projection = 'other'}), 'the status says who blocks');
$holder->quit;
$node->safe_psql('shop', q{CALL dugong.wait_for_projection('other', '60s')});

$node->stop;
done_testing();
