# Users' code that projections run in transactions of their own has no rights but its owner's, and leaves nothing behind.
# What runs in a caller's transaction is in test/pgtap/trespass.sql.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('trespass', 'dugong.retry_pause = 100');

# In a session without a worker, by a role; returns what it prints.
sub by
{
	my ($role, $sql) = @_;
	local $ENV{PGOPTIONS} = '-c dugong.max_workers=0 -c client_min_messages=error';
	my ($status, $out, $err) = $node->psql('shop', "SET SESSION AUTHORIZATION $role;\n$sql", on_error_stop => 0);
	diag($err) if $err =~ /server closed|XX000|PANIC/;
	return $out;
}

sub admin { return by('admin', shift); }
sub attack { return by('attacker', shift); }

{
	local $ENV{PGOPTIONS} = '-c dugong.max_workers=0';
	$node->safe_psql('postgres', 'CREATE ROLE admin SUPERUSER; CREATE ROLE attacker; CREATE ROLE victim; CREATE ROLE clerk; CREATE DATABASE shop');
	$node->safe_psql('shop', <<~'SQL');
		CREATE EXTENSION dugong;
		ALTER ROLE admin IN DATABASE shop SET dugong.max_workers = 0;
		CREATE SCHEMA a AUTHORIZATION attacker;
		CREATE SCHEMA shared;
		GRANT ALL ON SCHEMA shared TO PUBLIC;
		GRANT USAGE ON SCHEMA dugong TO PUBLIC;
		GRANT USAGE ON TYPE dugong.domain_event TO PUBLIC;
		GRANT EXECUTE ON ALL ROUTINES IN SCHEMA dugong TO attacker, victim;
		GRANT EXECUTE ON PROCEDURE dugong.run_projections TO clerk;
		CREATE TABLE seen (place text, who text DEFAULT CURRENT_USER, outcome text, path text DEFAULT current_setting('search_path'));
		CREATE TABLE crown (jewel text);
		GRANT SELECT, INSERT ON seen TO PUBLIC;
		GRANT INSERT ON crown TO admin;
		SET SESSION AUTHORIZATION attacker;
		CREATE FUNCTION a.note(place text, outcome text DEFAULT '') RETURNS void LANGUAGE sql AS 'INSERT INTO public.seen (place, outcome) VALUES ($1, $2)';
		CREATE FUNCTION a.apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"n": 1}'::jsonb $$;
		CREATE AGGREGATE a.fold(dugong.domain_event) (SFUNC = a.apply, STYPE = jsonb);
		SELECT dugong.create_aggregate_type('Trespass', fold => 'a.fold(dugong.domain_event)');
		SELECT dugong.append_event('Trespass', gen_random_uuid(), 'Made') FROM generate_series(1, 3);

		-- At each place he tries what only others may, and what would outlive the call
		CREATE FUNCTION a.attempt(place text) RETURNS boolean LANGUAGE plpgsql AS $$
		DECLARE
		    command text;
		BEGIN
		    PERFORM a.note(place);
		    FOREACH command IN ARRAY ARRAY['INSERT INTO public.crown VALUES (1)', 'SET ROLE admin', 'SET LOCAL ROLE admin', 'RESET ROLE', 'SET ROLE NONE', 'SET SESSION AUTHORIZATION admin',
		        'SET LOCAL SESSION AUTHORIZATION admin', 'RESET SESSION AUTHORIZATION', 'SET SESSION AUTHORIZATION DEFAULT', 'SELECT set_config(''role'', ''admin'', false)', 'SELECT set_config(''session_authorization'', ''admin'', true)',
		        'DO ''BEGIN SET ROLE admin; END''', 'CALL a.in_procedure()', 'SELECT a.with_setting()', 'SELECT a.definer()',
		        'CREATE TEMP TABLE crown (jewel text)', 'CREATE TABLE pg_temp.crown (jewel text)', 'CREATE TEMP VIEW crown AS SELECT 1 AS jewel', 'CREATE TEMP SEQUENCE crown',
		        'CREATE TEMP TABLE crown AS SELECT 1 AS jewel', 'SELECT 1 AS jewel INTO TEMP crown', 'EXPLAIN ANALYZE CREATE TEMP TABLE crown AS SELECT 1 AS jewel',
		        'DO ''BEGIN EXECUTE $x$EXPLAIN (ANALYZE) CREATE TEMP TABLE crown AS SELECT 1 AS jewel$x$; END''', 'CREATE TYPE pg_temp.crown AS (a int)',
		        'DECLARE held CURSOR WITH HOLD FOR SELECT 1', 'PREPARE prepared AS SELECT 1', 'DEALLOCATE ALL', 'LISTEN channel', 'UNLISTEN *', 'DISCARD ALL', 'DISCARD TEMP', 'DISCARD PLANS', 'CLOSE ALL',
		        'CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION a.on_ddl()', 'COPY (SELECT) TO PROGRAM ''true''', 'COPY public.seen FROM PROGRAM ''true''', 'COPY (SELECT) TO ''/dev/null''',
		        'ALTER DEFAULT PRIVILEGES FOR ROLE admin GRANT ALL ON TABLES TO attacker', 'ALTER ROLE attacker SUPERUSER', 'ALTER SYSTEM SET work_mem = 1', 'SET session_replication_role = replica', 'SET dugong.max_workers = 0',
		        'SELECT pg_cancel_backend(pg_backend_pid()) WHERE session_user <> ''attacker''', 'SELECT pg_read_file(''PG_VERSION'')', 'COMMIT', 'ROLLBACK', 'SAVEPOINT s', 'VACUUM', 'CREATE DATABASE x',
		        'UPDATE dugong.projections SET owner = ''admin''', 'DELETE FROM dugong.checkpoints', 'SELECT dugong.drop_projection(''bank_account'')', 'SELECT dugong.alter_projection(''trespass'', owner => ''admin'')'] LOOP
		        BEGIN
		            EXECUTE command;
		            PERFORM a.note(place, command);
		        EXCEPTION WHEN OTHERS THEN
		            IF SQLSTATE NOT IN ('42501', '0A000', '2D000', '25001', '3F000', '55000') THEN
		                PERFORM a.note(place, command || ': ' || SQLSTATE || ' ' || SQLERRM);
		            END IF;
		        END;
		    END LOOP;
		    SET work_mem = '64kB';
		    SET TimeZone = 'Antarctica/Troll';
		    SET search_path = a;
		    PERFORM set_config('dugong.tenant_id', 'attacked', false), set_config('dugong.metadata', '{"attacked": 1}', false), set_config('a.attacked', 'yes', false),
		        set_config('statement_timeout', '1', false), set_config('default_transaction_read_only', 'on', false);
		    RETURN true;
		END $$;
		CREATE PROCEDURE a.in_procedure() LANGUAGE plpgsql AS $$ BEGIN COMMIT; SET ROLE admin; END $$;
		CREATE FUNCTION a.with_setting() RETURNS void LANGUAGE plpgsql SET work_mem = '1MB' AS $$ BEGIN SET ROLE admin; END $$;
		CREATE FUNCTION a.definer() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN CREATE TEMP TABLE crown (jewel text); END $$;
		CREATE FUNCTION a.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
		-- Deferred triggers, which set off others; the second can only be immediate
		CREATE TABLE a.later (n int);
		CREATE FUNCTION a.fire_later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		    PERFORM a.attempt('deferred ' || NEW.n);
		    IF NEW.n < 3 THEN
		        BEGIN
		            SET CONSTRAINTS ALL DEFERRED;
		            INSERT INTO a.later VALUES (NEW.n + 1);
		            PERFORM a.note('deferred by deferred');
		        EXCEPTION WHEN insufficient_privilege THEN
		            NULL;
		        END;
		    END IF;
		    RETURN NULL;
		END $$;
		CREATE CONSTRAINT TRIGGER later AFTER INSERT ON a.later DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION a.fire_later();
		CREATE FUNCTION a.act(place text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
		    PERFORM a.attempt(place);
		    BEGIN
		        INSERT INTO a.later VALUES (1);
		        RAISE division_by_zero;
		    EXCEPTION WHEN division_by_zero THEN
		        INSERT INTO a.later VALUES (2);
		    END;
		    SET CONSTRAINTS ALL IMMEDIATE;
		    SET CONSTRAINTS ALL DEFERRED;
		    INSERT INTO a.later VALUES (3);
		END $$;
		CREATE FUNCTION a.on_event(dugong.domain_event) RETURNS void LANGUAGE sql AS $$ SELECT a.act('event') $$;
		CREATE FUNCTION a.on_events(dugong.domain_event[]) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM a.act('events'); END $$;
		CREATE FUNCTION a.on_update(uuid, jsonb) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM a.act('update'); END $$;
		CREATE FUNCTION a.on_delete(uuid) RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM a.act('delete'); END $$;
		CREATE FUNCTION a.on_states(uuid[], jsonb[]) RETURNS void LANGUAGE sql AS $$ SELECT a.act('states') $$;
		CREATE FUNCTION a.on_reset() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM a.act('reset'); END $$;
		CREATE FUNCTION a.check_model(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM a.attempt('check'); RETURN true; END $$;
		CREATE FUNCTION a.index_model(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END $$;
		CREATE FUNCTION a.on_model() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM a.act('trigger'); RETURN COALESCE(NEW, OLD); END $$;
		CREATE FUNCTION a.on_model_later() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM a.attempt('deferred of model'); RETURN NULL; END $$;
		CREATE TABLE a.model (id uuid PRIMARY KEY, n int CHECK (a.check_model(n)));
		CREATE INDEX ON a.model (a.index_model(n));
		CREATE TRIGGER t BEFORE INSERT OR UPDATE OR DELETE ON a.model FOR EACH ROW EXECUTE FUNCTION a.on_model();
		CREATE CONSTRAINT TRIGGER later AFTER INSERT OR UPDATE ON a.model DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION a.on_model_later();
		SQL
}

# Who was seen, and what of his attempts was not refused.
sub outcome
{
	return admin('SELECT string_agg(DISTINCT place || CASE WHEN outcome = $$$$ THEN $$$$ ELSE $$ did $$ || outcome END || CASE WHEN who = $$attacker$$ THEN $$$$ ELSE $$ as $$ || who END, $$, $$) FROM seen');
}

# What a session has, after it has run something.
my $left_behind = <<~'SQL';
	SELECT 'left: ' || concat_ws(', ', CASE WHEN current_user <> session_user THEN current_user END,
	    (SELECT string_agg('temporary ' || relname, ', ' ORDER BY relname) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
	    (SELECT string_agg('prepared ' || name, ', ') FROM pg_prepared_statements), (SELECT string_agg('channel ' || c, ', ') FROM pg_listening_channels() AS c),
	    (SELECT string_agg('cursor ' || name, ', ') FROM pg_cursors WHERE name <> ''),
	    (SELECT string_agg(name || ' ' || value, ', ') FROM (SELECT name, NULLIF(current_setting(name, true), usual) AS value FROM (VALUES ('work_mem', '4MB'),
	        ('search_path', '"$user", public'), ('dugong.tenant_id', ''), ('dugong.metadata', ''), ('a.attacked', ''), ('statement_timeout', '0'),
	        ('default_transaction_read_only', 'off')) AS v(name, usual)) AS settings WHERE value IS NOT NULL));
	SQL

my @kinds = (
	[ 'a query model', q{query_model => 'a.model'}, 'check, deferred 2, deferred 3, deferred of model, trigger' ],
	[ 'states', q{update_handler => 'a.on_update(uuid,jsonb)', delete_handler => 'a.on_delete(uuid)'}, 'deferred 2, deferred 3, update' ],
	[ 'sets of states', q{set_handler => 'a.on_states(uuid[],jsonb[])'}, 'deferred 2, deferred 3, states' ],
	[ 'events', q{event_handler => 'a.on_event(dugong.domain_event)'}, 'deferred 2, deferred 3, event' ],
	[ 'sets of events', q{set_handler => 'a.on_events(dugong.domain_event[])'}, 'deferred 2, deferred 3, events' ]);

foreach (@kinds)
{
	my ($kind, $how, $places) = @$_;
	my $create = "SELECT dugong.create_projection('trespass', 'Trespass', $how);";
	my $reset = "SELECT dugong.alter_projection('trespass', reset_handler => 'a.on_reset()');";

	foreach my $role ('admin', 'clerk')
	{
		admin('TRUNCATE seen; TRUNCATE a.model');
		attack($create);
		is(by($role, "CALL dugong.run_projections();\n$left_behind"), 'left: ', "$kind, run by $role: nothing stays in the session");
		is(outcome(), $places, "$kind, run by $role: code is its owner's");
		attack(q{SELECT dugong.drop_projection('trespass')});
	}

	admin('TRUNCATE seen; TRUNCATE a.model');
	attack($create);
	is(admin("CALL dugong.rebuild_projection('trespass');\n$left_behind"), 'left: ', "$kind, rebuilt: nothing stays in the session") if $kind !~ /event/;
	is(outcome(), $places, "$kind, rebuilt: code is its owner's") if $kind !~ /event/;
	attack($reset);
	admin('TRUNCATE seen; TRUNCATE a.model');
	is(admin("CALL dugong.rebuild_projection('trespass');\n$left_behind"), 'left: ', "$kind, reset: nothing stays in the session");
	is(outcome(), join(', ', sort('reset', split /, /, $places)), "$kind, reset: code is its owner's");

	# In one's own transaction, what is deferred must not wait for one's own commit
	admin('TRUNCATE seen; TRUNCATE a.model');
	admin("BEGIN; CALL dugong.rebuild_projection('trespass'); COMMIT;");
	unlike(outcome(), qr/ did | as /, "$kind, rebuilt in a transaction block: code is its owner's");

	# The worker
	admin('TRUNCATE seen; TRUNCATE a.model');
	attack(q{SELECT dugong.drop_projection('trespass')});
	$node->safe_psql('shop', "SET ROLE attacker; $create");
	ok($node->poll_query_until('shop', q{SELECT position = (SELECT max(position) FROM dugong.event_log) FROM dugong.checkpoints WHERE projection = 'trespass'}), "$kind: the worker has come");
	is(outcome(), $places, "$kind, by the worker: code is its owner's");
	attack(q{SELECT dugong.drop_projection('trespass')});
}

# In one's own transaction, one's deferred triggers are nobody else's
admin(<<~'SQL');
	TRUNCATE seen;
	CREATE TABLE own (n int);
	CREATE FUNCTION on_own() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.seen (place, outcome) VALUES ('own', ''); RETURN NULL; END $$;
	CREATE CONSTRAINT TRIGGER later AFTER INSERT ON own DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION on_own();
	SQL
attack(<<~'SQL');
	CREATE TABLE a.plain (id uuid PRIMARY KEY, n int);
	SELECT dugong.create_projection('trespass', 'Trespass', query_model => 'a.plain');
	SQL
admin(q{BEGIN; INSERT INTO own VALUES (1); CALL dugong.rebuild_projection('trespass'); COMMIT});
is(outcome(), 'own as admin', q{rebuild in a transaction block: the caller's deferred triggers are his});
attack(q{SELECT dugong.drop_projection('trespass')});
attack(<<~'SQL');
	CREATE FUNCTION a.on_inline(dugong.domain_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN SET CONSTRAINTS ALL IMMEDIATE; EXCEPTION WHEN OTHERS THEN NULL; END $$;
	SELECT dugong.create_projection('trespass', 'Trespass', event_handler => 'a.on_inline(dugong.domain_event)', mode => 'inline');
	SQL
admin(q{TRUNCATE seen; BEGIN; INSERT INTO own VALUES (1); SELECT dugong.append_event('Trespass', gen_random_uuid(), 'Made'); COMMIT});
is(outcome(), 'own as admin', q{an inline handler does not fire the appender's deferred triggers});
attack(q{SELECT dugong.drop_projection('trespass')});

# A table that temporary ones would hide
attack(q{
	CREATE FUNCTION a.on_crown() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM a.note(''shadow''); RETURN NEW; END';
	CREATE FUNCTION a.shadow(dugong.domain_event) RETURNS void LANGUAGE plpgsql AS $$ BEGIN
	    EXECUTE 'EXPLAIN ANALYZE CREATE TEMP TABLE crown AS SELECT NULL::text AS jewel';
	    CREATE TRIGGER t BEFORE INSERT ON pg_temp.crown FOR EACH ROW EXECUTE FUNCTION a.on_crown();
	    GRANT ALL ON pg_temp.crown TO PUBLIC;
	EXCEPTION WHEN OTHERS THEN NULL; END $$;
	SELECT dugong.create_projection('trespass', 'Trespass', event_handler => 'a.shadow(dugong.domain_event)');
});
admin(q{TRUNCATE seen; CALL dugong.run_projections(); INSERT INTO crown VALUES ('x')});
is(outcome(), '', 'no temporary table hides one');
attack(q{SELECT dugong.drop_projection('trespass')});

# The query model's name must not become another's table
attack(q{
	CREATE TABLE shared.orders (id uuid PRIMARY KEY, n int);
	SELECT dugong.create_projection('trespass', 'Trespass', query_model => 'shared.orders', reset_handler => 'a.on_reset()');
	DROP TABLE shared.orders;
});
admin('TRUNCATE seen; CREATE TABLE shared.orders (id uuid PRIMARY KEY, n int)');
attack(q{CALL dugong.run_projections()});
is(admin('SELECT count(*) FROM shared.orders'), '0', q{a projection does not write a table that its owner does not own});
attack(q{CALL dugong.rebuild_projection('trespass')});
unlike(outcome(), qr/ as /, q{a reset handler does not run as the owner of a table that is not the projection owner's});
admin('DROP TABLE shared.orders');
attack(q{SELECT dugong.drop_projection('trespass')});
# ... not while it is being written, either
admin(q{CREATE TABLE a.swapped (id uuid PRIMARY KEY, n int); SELECT dugong.create_projection('trespass', 'Trespass', query_model => 'a.swapped')});
attack(q{CREATE OR REPLACE FUNCTION a.apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN
	    IF (SELECT relowner <> 'attacker'::regrole FROM pg_class WHERE oid = 'a.swapped'::regclass) THEN
	        DROP TABLE a.swapped;
	        CREATE TABLE a.swapped (id uuid PRIMARY KEY, n int);
	        CREATE TRIGGER t BEFORE INSERT ON a.swapped FOR EACH ROW EXECUTE FUNCTION a.on_model();
	    END IF;
	    RETURN '{"n": 1}';
	END $$});
admin('TRUNCATE seen; CALL dugong.run_projections()');
unlike(outcome(), qr/ as /, 'a table that is swapped by the fold has no rights of the former one');
attack(q{CREATE OR REPLACE FUNCTION a.apply(jsonb, dugong.domain_event) RETURNS jsonb LANGUAGE sql AS $$ SELECT '{"n": 1}'::jsonb $$});
admin(q{SELECT dugong.drop_projection('trespass')});

# Temporary objects of whoever runs a handler hide nothing from it, whatever the schemas of its search_path are called
admin(q{
	CREATE SCHEMA not_pg_temp;
	CREATE TABLE public.plain (n int);
	SET search_path = not_pg_temp, public;
	CREATE FUNCTION public.on_plain(dugong.domain_event) RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO plain VALUES (1); END';
	SELECT dugong.create_projection('trespass', 'Trespass', event_handler => 'public.on_plain(dugong.domain_event)');
	TRUNCATE seen;
});
attack(q{
	CREATE TEMP TABLE plain (n int);
	CREATE TRIGGER t BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION a.on_crown();
	GRANT ALL ON plain TO PUBLIC;
	CALL dugong.run_projections();
});
is(outcome(), '', 'temporary tables come last in a search_path');
admin(q{SELECT dugong.drop_projection('trespass')});

# Who waits for a projection's lock must still own it when he gets it
attack(q{SELECT dugong.create_projection('trespass', 'Trespass', event_handler => 'a.on_event(dugong.domain_event)')});
{
	local $ENV{PGOPTIONS} = '-c dugong.max_workers=0';
	my $wait = q{DO 'BEGIN FOR i IN 1..600 LOOP EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = $$advisory$$); PERFORM pg_sleep(0.05); END LOOP; END'};
	my $output;
	my $holder = IPC::Run::start([ 'psql', '-X', '-q', '-d', $node->connstr('shop'), '-c', 'BEGIN', '-c', q{SELECT dugong.alter_projection('trespass', owner => 'admin')},
			'-c', $wait, '-c', 'COMMIT' ], '<', \undef, '>&', \$output);
	$node->poll_query_until('shop', q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'DO %' AND state = 'active'});
	attack(q{SELECT dugong.alter_projection('trespass', reset_handler => 'a.on_reset()')});
	IPC::Run::finish($holder);
}
is(admin(q{SELECT owner, reset_handler IS NULL FROM dugong.projections WHERE name = 'trespass'}), 'admin|t', 'a projection that was given away meanwhile is not altered');
admin(q{SELECT dugong.drop_projection('trespass')});

# A projection that drops itself leaves nothing to one that is created later
attack(q{
	CREATE FUNCTION a.drops_itself(dugong.domain_event) RETURNS void LANGUAGE sql AS $$ SELECT dugong.drop_projection('trespass') $$;
	SELECT dugong.create_projection('trespass', 'Trespass', event_handler => 'a.drops_itself(dugong.domain_event)');
	SET dugong.batch_size = 1;
	CALL dugong.run_projections();
	CALL dugong.run_projections();
});
is(admin(q{SELECT count(*) FROM dugong.checkpoints c WHERE NOT EXISTS (SELECT FROM dugong.projections WHERE name = c.projection)}), '0', 'no checkpoint of a projection that has dropped itself');

is(admin('SELECT count(*) FROM crown WHERE jewel = $$1$$'), '0', 'the crown was not touched');
unlike(slurp_file($node->logfile), qr/PANIC|terminated by signal/, 'the server has not crashed');
$node->stop;
done_testing();
