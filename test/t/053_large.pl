# Events, states and numbers of events at the limits of PostgreSQL, and text in the wrong encoding, on every path: they get
# through, or an error with a code of its own tells whom it concerns; session and workers go on.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Reports;
use Test::More;

my $size = sized(10_000_000, 200_000_000);    # bytes of a payload's string; 268,435,455 are the most
my $many = sized(20_000, 100_000);
my $limit = 268_435_455;

my $node = new_server('main', 'log_error_verbosity = verbose', 'dugong.retry_pause = 50', 'dugong.max_attempts = 2', 'max_wal_size = 8GB');
$node->safe_psql('postgres', 'CREATE DATABASE shop');
$node->safe_psql('shop', <<~'SQL');
	CREATE EXTENSION dugong;
	CREATE TYPE text_state AS (n int, body text);
	CREATE FUNCTION text_apply(state text_state, event dugong.domain_event) RETURNS text_state LANGUAGE sql IMMUTABLE
	RETURN ROW(coalesce((state).n, 0) + 1, coalesce((state).body, '') || ((event).payload ->> 'body'))::text_state;
	CREATE AGGREGATE text_fold(dugong.domain_event) (SFUNC = text_apply, STYPE = text_state);
	CREATE TABLE text_model (id uuid PRIMARY KEY, n int, body text);
	CREATE TABLE short_model (id uuid PRIMARY KEY, n int, body text UNIQUE);
	CREATE TABLE seen (id uuid, bytes bigint);
	CREATE FUNCTION on_event(e dugong.domain_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO seen VALUES (e.id, length(e.payload ->> ''body'')); END';
	CREATE TABLE source (id uuid, body jsonb);
	CREATE TABLE rows (id uuid, doc jsonb);
	CREATE TRIGGER record AFTER INSERT ON rows FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Text', 'id');
	SELECT dugong.create_aggregate_type('Text', fold => 'text_fold(dugong.domain_event)', snapshot_interval => 1),
		dugong.create_aggregate_type('Short', fold => 'text_fold(dugong.domain_event)'), dugong.create_aggregate_type('Other', origin => 'elsewhere');
	SELECT dugong.declare_tags('Text', 'Put', '{"body": "body"}');
	SELECT dugong.create_projection('texts', 'Text', 'text_model'), dugong.create_projection('shorts', 'Short', 'short_model'),
		dugong.create_projection('seen', ARRAY['Text', 'Other'], event_handler => 'on_event(dugong.domain_event)');
	SELECT dugong.create_subscription('sub', '{Text}');
	SQL

# The answers of one session, which goes on after errors: what was the first code, if one of a list of statements fails
sub answers
{
	my ($db, @lists) = @_;
	my $script = join '', map { join('', map { "\\o /dev/null\n$_;\n\\o\n\\echo -n :SQLSTATE ''\n" } split /; /) . "\\echo\n" } @lists;
	my ($status, $out, $err) = $node->psql($db, $script, on_error_stop => 0);

	is($status, 0, 'the session goes on');
	return map { (grep { $_ ne '00000' } split / /)[0] // '00000' } split /\n/, $out;
}

sub payload { my $bytes = shift; return "jsonb_build_object('body', repeat('x', $bytes))"; }

# Every way in
my %ways = (
	payload => "SELECT dugong.append_event('Text', '%1\$s', 'Put', %2\$s)",
	metadata => "SELECT dugong.append_event('Text', '%1\$s', 'Put', '{\"body\": \"\"}', metadata => %2\$s)",
	events => "SELECT dugong.append_events('Text', '%1\$s', jsonb_build_array(jsonb_build_object('type', 'Put', 'payload', %2\$s)))",
	insert => "INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload) VALUES ('Text', '%1\$s', 'Put', %2\$s)",
	message => "SELECT dugong.receive_message(jsonb_build_object('origin', 'elsewhere', 'aggregateType', 'Other', 'aggregateId', '%1\$s', 'id', gen_random_uuid(), 'type', 'Put', 'sequenceNumber', 1, 'payload', %2\$s))",
	import => "INSERT INTO source VALUES ('%1\$s', %2\$s); CALL dugong.import_events('source', '{\"aggregate_type\": \"''Text''\", \"aggregate_id\": \"id\", \"type\": \"''Put''\", \"payload\": \"body\", \"order_by\": \"id\"}'); TRUNCATE source",
	row => "INSERT INTO rows VALUES ('%1\$s', %2\$s)",
	notified => "SET dugong.notify = always; SET dugong.notify_payload = message; SELECT dugong.append_event('Text', '%1\$s', 'Put', %2\$s); RESET dugong.notify; RESET dugong.notify_payload");
my @ways = sort keys %ways;
my @sql = map { sprintf $ways{ $ways[$_] }, uuid(1, $_), payload($size) } 0 .. $#ways;
my @codes = answers('shop', @sql);
is($codes[$_], '00000', "$size bytes: $ways[$_]") foreach 0 .. $#ways;

# Every way out
my $first = uuid(1, (grep { $ways[$_] eq 'payload' } 0 .. $#ways)[0]);
is(join(' ', answers('shop',
	"SELECT dugong.build_aggregate(NULL::text_state, 'Text', '$first')",
	"SELECT dugong.build_aggregate(NULL::text_state, 'Text', '$first', skip_snapshot => true)",
	"SELECT dugong.aggregate_history('Text', '$first')",
	"SELECT dugong.take_snapshot('Text', '$first')",
	"SELECT * FROM dugong.verify_snapshots('Text')",
	"SELECT count(*), max(length(payload ->> 'body')) FROM dugong.fetch_events('sub', 100)",
	"SELECT length(dugong.to_message(e)::text) FROM dugong.aggregate_events('Text', '$first') e",
	"SELECT count(*) FROM dugong.read_events_matching(jsonb_build_object('tags', jsonb_build_object('body', repeat('x', $size))))",
	"SELECT * FROM dugong.query_model_as_of(NULL::text_model) WHERE id = '$first'",
	"CALL dugong.wait_for_projection('texts', '500 s')",
	"CALL dugong.wait_for_projection('seen', '500 s')",
	"SELECT * FROM dugong.verify_projection('texts')")), join(' ', ('00000') x 12), 'and every way out');
is($node->safe_psql('shop', "SELECT count(*) FROM seen WHERE bytes = $size"), 6, 'handlers have seen them');
is($node->safe_psql('shop', "SELECT length(body) FROM text_model WHERE id = '$first'"), $size, 'the query model has it');
is($node->safe_psql('shop', 'SELECT count(*) FROM dugong.dead_letters'), 0, 'nothing was set aside');
is(join(' ', answers('shop', "SELECT * FROM dugong.erase_aggregate('Text', '$first', 'large')")), '00000', 'and it can be erased');

# Larger than jsonb can be
if ($ENV{DUGONG_LONG})
{
	@codes = answers('shop', map { sprintf $ways{$_}, uuid(2, 1), payload($limit + 1) } @ways);
	is($codes[$_], '54000', "too large: $ways[$_]") foreach 0 .. $#ways;
	# As large as can be: no room is left for a message around it
	is(join(' ', answers('shop',
		(map { sprintf $ways{$_}, uuid(2, 2), payload($limit - 100) } qw(payload insert notified)),
		"SELECT dugong.to_message(e) FROM dugong.aggregate_events('Text', '" . uuid(2, 2) . "', to_sequence_number => 1) e")), '00000 00000 00000 54000', 'as large as can be');
	# More than a text can be: the log has the events, nobody the state.  The code is that of PostgreSQL's operator ||
	is(join(' ', answers('shop', (map { sprintf $ways{payload}, uuid(2, 3), payload($size) } 1 .. 6), "SELECT dugong.build_aggregate(NULL::text_state, 'Text', '" . uuid(2, 3) . "')")),
		join(' ', ('00000') x 6, 'XX000'), 'a state that is too large');
	ok($node->poll_query_until('shop', "SELECT count(*) = 1 FROM dugong.dead_letters WHERE aggregate_id = '" . uuid(2, 3) . "' AND sqlstate = 'XX000'"), 'is a dead letter');
}

# A state that a query model cannot hold is a dead letter, and the others go on
my $incompressible = "(SELECT jsonb_build_object('body', string_agg(md5(i::text), '')) FROM generate_series(1, 300) i)";
is(join(' ', answers('shop', "SELECT dugong.append_event('Short', '" . uuid(3, 1) . "', 'Put', $incompressible)", "SELECT dugong.append_event('Short', '" . uuid(3, 2) . "', 'Put', '{\"body\": \"x\"}')")), '00000 00000', 'appended');
ok($node->poll_query_until('shop', "SELECT count(*) = 1 FROM dugong.dead_letters WHERE aggregate_id = '" . uuid(3, 1) . "' AND sqlstate = '54000'"), 'what cannot be stored is set aside, with a code');
ok($node->poll_query_until('shop', 'SELECT count(*) = 1 FROM short_model'), 'the next one is not');

# The deepest payload that an append takes: whoever has more on his stack may not get through, and says so
my $deepest = $node->safe_psql('shop', <<~'SQL');
	CREATE TABLE depth (n int);
	DO $$
	DECLARE
		low int := 1000;
		high int := 100000;
	BEGIN
		WHILE high - low > 1 LOOP
			BEGIN
				PERFORM dugong.append_event('Text', '00000004-0000-4000-8000-000000000001', 'Put', (repeat('[', (low + high) / 2) || repeat(']', (low + high) / 2))::jsonb);
				RAISE SQLSTATE 'ZZZZZ';
			EXCEPTION
				WHEN SQLSTATE 'ZZZZZ' THEN low := (low + high) / 2;
				WHEN statement_too_complex THEN high := (low + high) / 2;
			END;
		END LOOP;
		INSERT INTO depth VALUES (low);
	END $$;
	SELECT n FROM depth
	SQL
figure("the deepest payload: $deepest");
is(join(' ', answers('shop', (map { "SELECT dugong.append_event('Text', '" . uuid(4, $_) . "', 'Put', (repeat('[', $deepest - 100 * $_) || repeat(']', $deepest - 100 * $_))::jsonb)" } 1 .. 3),
	'SELECT dugong.append_event(\'Text\', \'' . uuid(4, 4) . '\', \'Put\', \'{"body": "after"}\')')), '00000 00000 00000 00000', 'deep payloads');
foreach my $projection ('texts', 'seen')
{
	ok($node->poll_query_until('shop', "SELECT position = head FROM dugong.projection_status WHERE projection = '$projection'"), "$projection: gets past them");
}
my $codes = $node->safe_psql('shop', "SELECT string_agg(DISTINCT sqlstate, ' ') FROM dugong.dead_letters WHERE aggregate_id::text LIKE '00000004%'");
like($codes, qr/^(54001)?$/, 'what was too deep for a handler has a code');

# Many events at once, and an append of many that is cancelled
my $events = "(SELECT jsonb_agg(jsonb_build_object('type', 'Put', 'payload', jsonb_build_object('body', 'x'))) FROM generate_series(1, $many))";
is(join(' ', answers('shop', "SELECT dugong.append_events('Text', '" . uuid(5, 1) . "', $events)", 'SET statement_timeout = 300',
	"SELECT dugong.append_events('Text', '" . uuid(5, 2) . "', $events) FROM generate_series(1, 100)")), '00000 00000 57014', "$many events in one append");
is($node->safe_psql('shop', "SELECT count(*) FROM dugong.domain_events WHERE aggregate_id = '" . uuid(5, 2) . "'"), 0, 'of a cancelled append there is nothing');
ok($node->poll_query_until('shop', "SELECT n = $many AND length(body) = $many FROM text_model WHERE id = '" . uuid(5, 1) . "'"), 'they are projected');

# Bytes that are no text: refused where the database knows, kept where it does not
my $bad = "\xff\xfe\xc3";
my @bad = ("SELECT dugong.append_event('Text', '" . uuid(6, 1) . "', 'P$bad', '{\"body\": \"x\"}')", "SELECT dugong.append_event('Text', '" . uuid(6, 2) . "', 'Put', '{\"body\": \"$bad\"}')",
	"SELECT dugong.append_event('Text', '" . uuid(6, 3) . "', 'Put', '{\"body\": \"x\"}', tenant_id => '$bad')", "SELECT bank_open_account('$bad', 1, '" . uuid(6, 4) . "')",
	"SELECT dugong.create_aggregate_type('T$bad', fold => 'text_fold(dugong.domain_event)')", "SELECT dugong.append_event('T$bad', '" . uuid(6, 5) . "', 'P$bad', '{\"body\": \"$bad\"}')");
is(join(' ', (answers('shop', @bad))), join(' ', ('22021') x 6), 'UTF8: refused');
$node->safe_psql('postgres', q{CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'});
$node->safe_psql('bytes', <<~'SQL');
	CREATE EXTENSION dugong;
	CREATE TYPE text_state AS (n int, body text);
	CREATE FUNCTION text_apply(state text_state, event dugong.domain_event) RETURNS text_state LANGUAGE sql IMMUTABLE
	RETURN ROW(coalesce((state).n, 0) + 1, coalesce((state).body, '') || ((event).payload ->> 'body'))::text_state;
	CREATE AGGREGATE text_fold(dugong.domain_event) (SFUNC = text_apply, STYPE = text_state);
	CREATE TABLE text_model (id uuid, n int, body text, tenant_id text, PRIMARY KEY (id, tenant_id));
	SELECT dugong.create_aggregate_type('Text', fold => 'text_fold(dugong.domain_event)');
	SELECT dugong.create_projection('texts', 'Text', 'text_model');
	SELECT dugong.create_subscription('sub', '{Text}');
	SQL
is(join(' ', (answers('bytes', 'SET dugong.notify = always', 'SET dugong.notify_payload = message', @bad, "SELECT count(dugong.to_message(e)) FROM dugong.read_events() e", "SELECT * FROM dugong.fetch_events('sub')"))),
	join(' ', ('00000') x 6, '22021', '42704', ('00000') x 2), 'SQL_ASCII: kept, but for the name of an aggregate type, whose id is made of it as UTF-8');
ok($node->poll_query_until('bytes', 'SELECT count(*) = 3 FROM text_model'), 'and projected');
wait_for_equality($node, 'bytes', 'and the bank too');

# A client that cannot show what there is
is(join(' ', answers('shop', "SELECT dugong.append_event('Text', '" . uuid(7, 1) . "', 'Put', '{\"body\": \"\\u0416\"}')", "SET client_encoding = 'LATIN1'", "SELECT payload ->> 'body' FROM dugong.aggregate_events('Text', '" . uuid(7, 1) . "')",
	"SELECT sequence_number FROM dugong.append_event('Text', '" . uuid(7, 1) . "', 'Put', '{\"body\": \"\xe9\"}')")), '00000 00000 22P05 00000', 'LATIN1');
is($node->safe_psql('shop', "SELECT string_agg(payload ->> 'body', '' ORDER BY sequence_number) = U&'\\0416\\00e9' FROM dugong.domain_events WHERE aggregate_id = '" . uuid(7, 1) . "'"), 't', 'is converted');

is(join('', reports($node->logfile)), '', 'nothing to report');
unlike(slurp_file($node->logfile), qr/(ERROR|FATAL): +XX000(?!: invalid memory alloc request size)/, 'no internal error but that one');

$node->stop;
done_testing();
