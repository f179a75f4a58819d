# Aggregates of type Thing, and projections of each kind that show any event that is lost, handled twice or out of order.
package Things;

use strict;
use warnings;

use Exporter 'import';
use Dugong;
use Test::More;
use Time::HiRes qw(time usleep);

our @EXPORT = qw(create_things things_handlers things_problems wait_for_things thing append_thing load_script);

sub thing { return uuid(3, shift); }

sub append_thing
{
	my ($n, $amount) = @_;
	return "SELECT FROM dugong.append_event('Thing', '" . thing($n) . "', 'Changed', '{\"by\": " . ($amount // 1) . "}');";
}

# The handlers; those of these aggregates raise an error.
sub things_handlers
{
	my $poison = "ARRAY[" . join(', ', map { "'" . thing($_) . "'" } @_) . "]::uuid[]";
	return <<~SQL;
		CREATE OR REPLACE FUNCTION thing_event(e dugong.domain_event) RETURNS void LANGUAGE plpgsql AS \$\$
		BEGIN
		    UPDATE counters SET n = n + 1;
		    INSERT INTO seen (id, aggregate_id, sequence_number) VALUES (e.id, e.aggregate_id, e.sequence_number);
		    IF e.aggregate_id = ANY ($poison) THEN
		        RAISE 'poison';
		    END IF;
		END \$\$;
		CREATE OR REPLACE FUNCTION thing_update(thing uuid, state thing_state) RETURNS void LANGUAGE plpgsql AS \$\$
		BEGIN
		    INSERT INTO thing_copy VALUES (thing, state.n, state.total)
		    ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n, total = EXCLUDED.total;
		    IF thing = ANY ($poison) THEN
		        RAISE 'poison';
		    END IF;
		END \$\$;
		SQL
}

sub create_things
{
	my ($node, $db) = @_;

	$node->safe_psql($db, <<~'SQL' . things_handlers() . <<~'SQL2');
		CREATE TYPE thing_state AS (n int, total numeric);
		CREATE FUNCTION thing_apply(state thing_state, event dugong.domain_event) RETURNS thing_state LANGUAGE sql IMMUTABLE
		BEGIN ATOMIC
		    SELECT CASE WHEN (event).type = 'Removed' THEN NULL
		        ELSE ROW(coalesce((state).n, 0) + 1, coalesce((state).total, 0) + ((event).payload ->> 'by')::numeric)::thing_state END;
		END;
		CREATE AGGREGATE thing_fold(dugong.domain_event) (SFUNC = thing_apply, STYPE = thing_state);
		CREATE TABLE thing_model (id uuid PRIMARY KEY, n int, total numeric);
		CREATE TABLE thing_copy (id uuid PRIMARY KEY, n int, total numeric);
		CREATE TABLE counters (n bigint);
		INSERT INTO counters VALUES (0);
		CREATE TABLE seen (id uuid PRIMARY KEY, aggregate_id uuid, sequence_number bigint, nth bigserial);
		SQL
		CREATE FUNCTION thing_delete(thing uuid) RETURNS void LANGUAGE sql BEGIN ATOMIC DELETE FROM thing_copy WHERE id = thing; END;
		CREATE FUNCTION thing_reset() RETURNS void LANGUAGE plpgsql AS $$
		BEGIN
		    DELETE FROM seen;
		    UPDATE counters SET n = 0;
		END $$;
		SELECT dugong.create_aggregate_type('Thing', fold => 'thing_fold(dugong.domain_event)');
		SELECT dugong.create_projection('model', 'Thing', 'thing_model');
		SELECT dugong.create_projection('copy', 'Thing', update_handler => 'thing_update(uuid, thing_state)', delete_handler => 'thing_delete(uuid)');
		SELECT dugong.create_projection('events', 'Thing', event_handler => 'thing_event(dugong.domain_event)', reset_handler => 'thing_reset()');
		SQL2
	return;
}

# What is wrong: the empty string if every event was handled, once, in its order.
sub things_problems
{
	my ($node, $db) = @_;
	return $node->safe_psql($db, <<~'SQL');
		WITH log AS MATERIALIZED (SELECT e.id, e.aggregate_id, e.sequence_number, e.domain_event FROM
		        (SELECT d.id, d.aggregate_id, d.sequence_number, d AS domain_event FROM dugong.domain_events d WHERE d.aggregate_type = 'Thing') e),
		    fold AS MATERIALIZED (SELECT f.id, (f.state).n, (f.state).total FROM
		        (SELECT aggregate_id AS id, thing_fold(domain_event ORDER BY sequence_number) AS state FROM log GROUP BY aggregate_id) f
		        WHERE f.state IS DISTINCT FROM NULL)
		SELECT concat_ws(', ',
		    (SELECT 'counter ' || n || ' of ' || (SELECT count(*) FROM log) FROM counters WHERE n <> (SELECT count(*) FROM log)),
		    (SELECT 'not seen: ' || count(*) FROM log WHERE NOT EXISTS (SELECT FROM seen WHERE seen.id = log.id) HAVING count(*) > 0),
		    (SELECT 'seen, not in the log: ' || count(*) FROM seen WHERE NOT EXISTS (SELECT FROM log WHERE seen.id = log.id) HAVING count(*) > 0),
		    (SELECT 'out of order: ' || count(*) FROM (SELECT sequence_number - row_number() OVER (PARTITION BY aggregate_id ORDER BY nth) AS d
		        FROM seen) x WHERE d <> 0 HAVING count(*) > 0),
		    (SELECT 'model: ' || count(*) FROM (TABLE thing_model EXCEPT TABLE fold UNION (TABLE fold EXCEPT TABLE thing_model)) x HAVING count(*) > 0),
		    (SELECT 'copy: ' || count(*) FROM (TABLE thing_copy EXCEPT TABLE fold UNION (TABLE fold EXCEPT TABLE thing_copy)) x HAVING count(*) > 0),
		    (SELECT 'set aside: ' || count(*) FROM dugong.parked_aggregates HAVING count(*) > 0))
		SQL
}

# Waits until nothing is wrong.
sub wait_for_things
{
	my ($node, $db, $what, $seconds) = @_;
	my $deadline = time + ($seconds // 20);
	my $problems;

	while (($problems = things_problems($node, $db)) ne '' && time < $deadline) { usleep(30_000); }
	is($problems, '', "$what: every event was handled, once, in its order");
	diag($node->safe_psql($db, 'SELECT projection, state, position, head, holes, failures, last_error FROM dugong.projection_status')) if $problems ne '';
	return $problems eq '';
}

sub one_of { return $_[ int rand @_ ]; }

# A script for psql of so many transactions on so many things: all that an appender can do.
sub load_script
{
	my ($name, $transactions, $things) = @_;
	my $script = "SET application_name = 'load';\n";
	my $append = sub {
		my $id = thing(1 + int rand $things);
		my $shape = rand;

		return append_thing(1 + int rand $things, int rand 9) if $shape < 0.6;
		return "SELECT FROM dugong.append_event('Thing', '$id', 'Removed');" if $shape < 0.7;
		return "SELECT count(*) FROM dugong.append_events('Thing', '$id', (SELECT jsonb_agg(jsonb_build_object('type', 'Changed', 'payload', jsonb_build_object('by', i))) FROM generate_series(1, "
		  . (1 + int rand 20) . ') i));' if $shape < 0.85;
		return "INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload) SELECT 'Thing', '$id', 'Changed', '{\"by\": 2}' FROM generate_series(1, "
		  . (1 + int rand 20) . ');';
	};

	foreach my $n (1 .. $transactions)
	{
		my $kind = rand;

		if ($kind < 0.4) { $script .= $append->() . "\n"; next; }
		$script .= 'BEGIN ISOLATION LEVEL ' . one_of(('READ COMMITTED') x 4, 'REPEATABLE READ', 'SERIALIZABLE') . ";\n" . $append->() . "\n";
		if ($kind < 0.7)
		{
			$script .= "SAVEPOINT s;\n" . $append->() . "\n" . one_of('ROLLBACK TO s;', 'RELEASE s;') . "\n" . $append->() . "\n";
		}
		if ($kind < 0.9) { $script .= one_of('COMMIT;', 'COMMIT;', 'ROLLBACK;') . "\n"; next; }
		# Of a failed one nothing is prepared, and its end is an error
		$script .= "PREPARE TRANSACTION '$name.$n';\n" . one_of('COMMIT', 'COMMIT', 'ROLLBACK') . " PREPARED '$name.$n';\n";
	}
	return $script;
}

1;
