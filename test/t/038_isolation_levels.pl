# Every command under every isolation level, in savepoints, blocks, triggers and prepared transactions, under every dugong.notify, with
# projections inline and async, before and after somebody else: it does all that it does, or nothing, with a code that is documented.
#
# All combinations run in one session for each mode of projections, in an order that DUGONG_SEED gives: what one leaves behind in the session's
# memory meets the next. DUGONG_STEPS: how many of them.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use IPC::Run;
use List::Util qw(shuffle);
use PostgreSQL::Test::Utils;
use Test::More;

my $seed = $ENV{DUGONG_SEED} || 20261124;
my $steps = $ENV{DUGONG_STEPS} || sized(1600, 1_000_000);
srand $seed;
note("DUGONG_SEED=$seed");

my $node = new_server('main', 'max_prepared_transactions = 300', 'max_locks_per_transaction = 256', 'dugong.max_workers = 0', 'dugong.max_attempts = 100');
my $bank = 'BankingContext-AccountService-BankAccount';

# What a command does to number k: SQL, how many events it appends (undef: some), and what else it may say.
my %command = (
	open => { sql => 'SELECT bank_open_account(\'x\', 5, {opened})', events => 1 },
	open_twice => { sql => 'SELECT bank_open_account(\'x\', 5, {account})', events => 0, must => 'UG001' },
	deposit => { sql => 'SELECT bank_deposit({account}, 1)', events => 1 },
	deposit_by_id => { sql => 'SELECT bank_deposit({account}, 1, {event})', events => 1 },
	withdraw => { sql => 'SELECT bank_withdraw({account}, 1)', events => 1 },
	transfer => { sql => 'SELECT bank_transfer({account}, {other}, 1)', events => 2 },
	close => { sql => 'SELECT bank_close_account({account})', events => 1 },
	append => { sql => 'SELECT dugong.append_event(\'Note\', {note}, \'Noted\', \'{"by": 2}\')', events => 1 },
	append_by_id => { sql => 'SELECT dugong.append_event(\'Note\', {note}, \'Noted\', \'{"by": 2}\', event_id => {event})', events => 1 },
	append_expecting => { sql => 'SELECT dugong.append_event(\'Note\', {note}, \'Noted\', \'{"by": 2}\', expected_sequence_number => 2)', events => 1 },
	append_late => { sql => 'SELECT dugong.append_event(\'Note\', {note}, \'Noted\', \'{"by": 2}\', expected_sequence_number => 1)', events => 0, must => 'UG001' },
	append_many => { sql => 'SELECT count(*) FROM dugong.append_events(\'Note\', {note}, \'[{"type": "Noted", "payload": {"by": 1}}, {"type": "Removed"}, {"type": "Noted", "payload": {"by": 3}}]\')', events => 3 },
	append_if => { sql => 'SELECT dugong.append_event(\'Note\', {note}, \'Marked\', \'{"mark": "new{k}"}\', if_none_match => \'{"tags": {"mark": "new{k}"}}\')', events => 1 },
	append_if_late => { sql => 'SELECT dugong.append_event(\'Note\', {note}, \'Marked\', \'{"mark": "old{k}"}\', if_none_match => \'{"tags": {"mark": "old{k}"}}\')', events => 0, must => 'UG001' },
	insert => { sql => 'INSERT INTO dugong.domain_events (aggregate_type, aggregate_id, type, payload) SELECT \'Note\', {note}, \'Noted\', \'{"by": 1}\' FROM generate_series(1, 2)', events => 2 },
	insert_log => { sql => 'INSERT INTO dugong.event_log (aggregate_type_id, aggregate_id, type, payload) SELECT id, {note}, \'Noted\', \'{"by": 1}\' FROM dugong.aggregate_types() WHERE name = \'Note\'', events => 1 },
	row_event => { sql => 'UPDATE orders SET v = v + 1 WHERE number = {k}', events => 1 },
	receive => { sql => 'SELECT dugong.receive_message(\'{"origin": "Elsewhere", "aggregateType": "Foreign", "type": "Happened", "id": {"event"}, "aggregateId": {"note"}, "sequenceNumber": 1, "correlationId": {"correlation"}}\')', events => 1 },
	load => { sql => 'SELECT add_to({note})', events => 1 },
	erase => { sql => 'SELECT dugong.erase_aggregate(\'Note\', {note}, \'asked for\')', level => '25001' },
	erase_payload => { sql => 'SELECT dugong.erase_payload(id, \'{secret}\', \'asked for\') FROM dugong.event_log WHERE aggregate_id = {note} AND payload ? \'secret\'', level => '25001' },
	take_snapshot => { sql => 'SELECT dugong.take_snapshot(\'Note\', {note}), dugong.take_snapshot(\'BankAccount\', {account})', events => 0 },
	drop_snapshots => { sql => 'SELECT dugong.drop_snapshots(\'Note\')', events => 0 },
	verify_snapshots => { sql => 'SELECT 1 / (1 - count(*)) FROM dugong.verify_snapshots(\'Note\')', events => 0 },
	fetch => { sql => 'SELECT dugong.ack(\'mail\', ARRAY(SELECT id FROM dugong.fetch_events(\'mail\', 10)))', events => 0 },
	nack => { sql => 'SELECT dugong.nack(\'mail\', id, retry_after => \'0\') FROM dugong.fetch_events(\'mail\', 1)', events => 0 },
	release => { sql => 'SELECT dugong.release(\'mail\', ARRAY(SELECT id FROM dugong.fetch_events(\'mail\', 5)))', events => 0, notifies => 1 },
	retry => { sql => 'SELECT dugong.retry_dead_letters(\'seen\'), dugong.discard_dead_letter(\'seen\', {note})', events => 0, notifies => 1 },
	pause => { sql => 'SELECT dugong.pause_projection(\'spare\'), dugong.resume_projection(\'spare\')', events => 0, notifies => 1, other => '55000' },
	switch => { sql => 'SELECT dugong.alter_projection(\'spare\', mode => CASE mode WHEN \'inline\' THEN \'async\' ELSE \'inline\' END) FROM dugong.projections WHERE name = \'spare\'', events => 0, level => '25001', notifies => 1 },
	run => { sql => 'CALL dugong.run_projections()', events => 0, notifies => 1 },
	rebuild_one => { sql => 'CALL dugong.rebuild_projection(\'notes\', {note})', events => 0, level => '25001' },
	repair => { sql => 'SELECT count(*) FROM dugong.verify_projection(\'notes\', sample => 3, repair => true)', events => 0, level => '25001' },
	import => { sql => 'CALL dugong.import_events(\'old{k}\', \'{"aggregate_type": "\'\'Note\'\'", "aggregate_id": "cart", "type": "what", "payload": "details", "order_by": "number"}\')', level => '25001' },
	wait => { sql => 'CALL dugong.wait_for_projection(\'notes\', \'1 ms\')', events => 0, level => '25001', other => 'UG011' },
	create_type => { sql => 'SELECT dugong.create_aggregate_type(\'Type{k}\')', events => 0 },
	create_event_type => { sql => 'SELECT dugong.create_event_type(\'Note\', \'Type{k}\')', events => 0 },
	declare_tags => { sql => 'SELECT dugong.declare_tags(\'Note\', \'Tagged{k}\', \'{"mark": "mark"}\')', events => 0, level => '25001' },
	subscribe => { sql => 'SELECT dugong.create_subscription(\'sub{k}\', \'{Note}\')', events => 0 },
	grant => { sql => 'SELECT dugong.grant_tenant(current_user, \'{k}\')', events => 0 },
	read => { sql => 'SELECT count(*) FROM dugong.read_events(max_rows => 10), dugong.read_events_matching(\'{"tags": {"mark": "old{k}"}}\'), dugong.aggregate_history(\'Note\', {note})', events => 0 },
);
my @levels = ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE');
my @ends = ('COMMIT', 'ROLLBACK', 'COMMIT PREPARED', 'ROLLBACK PREPARED');
my @settings = qw(auto always off);

# How a command is called, and called once more before or after it, which is taken back.
my %shape = (
	plain => sub { return (undef, "$_[0];") },
	released => sub { return (undef, "SAVEPOINT s;\n$_[0];\nRELEASE s;") },
	undone => sub { return ("SAVEPOINT s;\n$_[0];\nROLLBACK TO s;", "$_[0];") },
	undone_again => sub { return (undef, "$_[0];", "SAVEPOINT s;\n$_[0];\nROLLBACK TO s;") },
	caught => sub { return (undef, 'DO ' . quote("BEGIN EXECUTE " . quote($_[0]) . "; EXCEPTION WHEN OTHERS THEN RAISE WARNING USING ERRCODE = SQLSTATE, MESSAGE = SQLERRM; END") . ';') },
	undone_in_block => sub { my $do = 'EXECUTE ' . quote($_[0]) . ';'; return (undef, 'DO ' . quote("BEGIN BEGIN $do RAISE 'undone'; EXCEPTION WHEN OTHERS THEN NULL; END; $do END") . ';') },
	in_trigger => sub { return (undef, 'INSERT INTO jobs VALUES (' . quote($_[0]) . ');') },
);

sub quote { my ($text) = @_; $text =~ s/'/''/g; return "'$text'"; }

# The n-th thing of a kind that a command names
sub fill
{
	my ($sql, $k) = @_;
	my %id = (account => uuid(1, $k), other => uuid(2, $k), note => uuid(3, $k), opened => uuid(4, $k), event => uuid(8, $k), correlation => uuid(9, $k));

	$sql =~ s/\{k\}/$k/g;
	$sql =~ s/\{"(\w+)"\}/"$id{$1}"/g;
	$sql =~ s/\{(\w+)\}/exists $id{$1} ? "'$id{$1}'" : "{$1}"/ge;
	return $sql;
}

sub combinations
{
	my @all;
	foreach my $command (sort keys %command)
	{
		foreach my $level (@levels)
		{
			foreach my $stale (0, 1)
			{
				foreach my $shape (sort keys %shape)
				{
					foreach my $end (@ends)
					{
						push @all, { command => $command, level => $level, stale => $stale, shape => $shape, end => $end, notify => $_ }
						  foreach grep { $_ ne 'always' || defined $command{$command}{events} } @settings;
					}
				}
			}
		}
	}
	return @all;
}

# Whom a command's events are told to
sub channel
{
	my ($db, $c) = @_;
	my %of = (receive => 'Elsewhere-Foreign', row_event => "$db-Order");
	return $of{ $c->{command} } // ($c->{command} =~ /^(open|deposit|withdraw|transfer|close)/ ? $bank : "$db-Note");
}

sub label { my ($c) = @_; return "$c->{k}: $c->{command}, $c->{level}, " . ($c->{stale} ? 'stale' : 'fresh') . ", $c->{shape}, $c->{end}, $c->{notify}"; }

# What is sent for one; what is left prepared is named after it.
sub script
{
	my ($c, $leave) = @_;
	my ($undone, $done, $again) = $shape{ $c->{shape} }->(fill($command{ $c->{command} }{sql}, $c->{k}));
	my $touch = "SELECT FROM dblink('other', 'SELECT touch($c->{k})') AS t (x text);\n";
	my $prepared = $c->{end} =~ /PREPARED/;

	return "\\warn =begun $c->{k}\n" . ($c->{stale} ? '' : $touch)
	  . "SET dugong.notify = $c->{notify};\nBEGIN ISOLATION LEVEL $c->{level};\nSET LOCAL dugong.correlation_id = '" . uuid(9, $c->{k}) . "';\n"
	  . "SELECT count(*) FROM dugong.event_log WHERE position < 0;\n"
	  . ($c->{stale} ? $touch : '')
	  . ($undone ? "\\warn =undone $c->{k}\n$undone\n" : '')
	  . "\\warn =done $c->{k}\n$done\n"
	  . ($again ? "\\warn =again $c->{k}\n$again\n" : '')
	  . "\\warn =ended $c->{k}\n"
	  . ($prepared ? "PREPARE TRANSACTION '$c->{k}';\n" . ($leave ? '' : "$c->{end} '$c->{k}';\n") : "$c->{end};\n")
	  . ($leave ? '' : "\\warn =checked $c->{k}\nSELECT check_number($c->{k});\n");
}

# Has all of the setup for numbers first to last.
sub prepare_numbers
{
	my ($db, $first, $last, @imports) = @_;
	my $olds = join '', map { "CREATE TABLE old$_ AS SELECT 1 AS number, '" . uuid(5, $_) . "'::uuid AS cart, 'Noted' AS what, '{\"by\": 1}'::jsonb AS details;\n" } @imports;
	$node->safe_psql($db, <<~SQL);
		SET dugong.notify = off;
		SELECT count(bank_open_account('x', 100, (lpad(to_hex(kind), 8, '0') || '-0000-4000-8000-' || lpad(to_hex(k), 12, '0'))::uuid))
		FROM generate_series($first, $last) k, generate_series(1, 2) kind;
		SELECT count(dugong.append_event('Note', note(k), 'Noted', '{"by": 1, "secret": "s"}')) FROM generate_series($first, $last) k;
		INSERT INTO orders SELECT k, 0 FROM generate_series($first, $last) k;
		$olds
		SQL
	return;
}

sub create
{
	my ($db, $mode) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, <<~SQL);
		CREATE EXTENSION dugong;
		CREATE EXTENSION dblink;
		CREATE TYPE note_state AS (n int, total numeric);
		CREATE FUNCTION note_apply(state note_state, event dugong.domain_event) RETURNS note_state LANGUAGE sql IMMUTABLE
		BEGIN ATOMIC
		    SELECT CASE WHEN (event).type = 'Removed' THEN NULL
		        ELSE ROW(coalesce((state).n, 0) + 1, coalesce((state).total, 0) + coalesce(((event).payload ->> 'by')::numeric, 0))::note_state END;
		END;
		CREATE AGGREGATE note_fold(dugong.domain_event) (SFUNC = note_apply, STYPE = note_state);
		SELECT dugong.create_aggregate_type('Note', fold => 'note_fold(dugong.domain_event)', snapshot_interval => 2);
		SELECT dugong.create_aggregate_type('Spare');
		SELECT dugong.create_aggregate_type('Order', fold => 'dugong.row_fold(dugong.domain_event)');
		SELECT dugong.create_aggregate_type('Foreign', origin => 'Elsewhere');
		SELECT dugong.declare_tags('Note', 'Marked', '{"mark": "mark"}');
		CREATE TABLE notes (id uuid PRIMARY KEY, n int, total numeric);
		CREATE TABLE seen (id uuid PRIMARY KEY, aggregate_id uuid, sequence_number bigint, nth bigserial);
		CREATE FUNCTION see(e dugong.domain_event) RETURNS void LANGUAGE sql AS 'INSERT INTO seen VALUES (e.id, e.aggregate_id, e.sequence_number)';
		CREATE TABLE spares (LIKE seen INCLUDING ALL);
		CREATE FUNCTION spare(e dugong.domain_event) RETURNS void LANGUAGE sql AS 'INSERT INTO spares VALUES (e.id, e.aggregate_id, e.sequence_number)';
		SELECT dugong.create_projection('notes', 'Note', 'notes', mode => '$mode');
		SELECT dugong.create_projection('seen', '{BankAccount, Note, Order, Foreign}'::text[], event_handler => 'see(dugong.domain_event)', mode => '$mode');
		SELECT dugong.create_projection('spare', 'Spare', event_handler => 'spare(dugong.domain_event)', mode => '$mode');
		SELECT dugong.alter_projection('bank_account', mode => '$mode');
		SELECT dugong.create_subscription('mail', '{Note}', visibility_timeout => '10 ms');
		CREATE TABLE orders (number int PRIMARY KEY, v int);
		CREATE TRIGGER append_row_event AFTER UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION dugong.append_row_event('Order', 'number');
		CREATE TABLE jobs (job text);
		CREATE FUNCTION run_job() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN EXECUTE NEW.job; RETURN NULL; END';
		CREATE TRIGGER run_job AFTER INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION run_job();
		CREATE FUNCTION note(k bigint) RETURNS uuid LANGUAGE sql IMMUTABLE RETURN ('00000003-0000-4000-8000-' || lpad(to_hex(k), 12, '0'))::uuid;
		CREATE FUNCTION account(k bigint) RETURNS uuid LANGUAGE sql IMMUTABLE RETURN ('00000001-0000-4000-8000-' || lpad(to_hex(k), 12, '0'))::uuid;
		CREATE FUNCTION add_to(note uuid) RETURNS void LANGUAGE plpgsql AS \$\$
		DECLARE state note_state := dugong.load_for_update(NULL::note_state, 'Note', note);
		BEGIN
		    PERFORM dugong.append_event('Note', note, 'Noted', jsonb_build_object('by', state.total), expected_sequence_number => state.n);
		END \$\$;
		-- Somebody else
		CREATE FUNCTION touch(k bigint) RETURNS void LANGUAGE plpgsql AS \$\$
		BEGIN
		    PERFORM bank_deposit(account(k), 1);
		    PERFORM dugong.append_event('Note', note(k), 'Marked', jsonb_build_object('by', 1, 'mark', 'old' || k));
		    PERFORM dugong.append_event('Spare', note(k), 'Used');
		    UPDATE orders SET v = v + 1 WHERE number = k;
		END \$\$;
		-- What the session believes, against the log
		CREATE FUNCTION check_number(k bigint) RETURNS void LANGUAGE plpgsql AS \$\$
		DECLARE
		    row record;
		    state note_state := dugong.build_aggregate(NULL::note_state, 'Note', note(k), skip_snapshot => true);
		BEGIN
		    IF (SELECT array_agg(sequence_number ORDER BY position) FROM dugong.event_log WHERE aggregate_id = note(k) AND aggregate_type_id = (SELECT id FROM dugong.aggregate_types() WHERE name = 'Note'))
		        IS DISTINCT FROM (SELECT array_agg(n::bigint) FROM generate_series(1, (SELECT max(sequence_number) FROM dugong.aggregate_events('Note', note(k)))) n) THEN
		        RAISE 'numbers' USING ERRCODE = 'ZZ001';
		    ELSIF state IS DISTINCT FROM dugong.build_aggregate(NULL::note_state, 'Note', note(k)) THEN
		        RAISE 'state of the note' USING ERRCODE = 'ZZ002';
		    ELSIF dugong.build_aggregate('BankAccount', account(k), skip_snapshot => true) IS DISTINCT FROM dugong.build_aggregate('BankAccount', account(k)) THEN
		        RAISE 'state of the account' USING ERRCODE = 'ZZ003';
		    END IF;
		    PERFORM FROM dugong.projections WHERE name = 'notes' AND mode = 'inline';
		    IF FOUND AND state IS DISTINCT FROM (SELECT ROW(n, total)::note_state FROM notes WHERE id = note(k)) THEN
		        RAISE 'query model' USING ERRCODE = 'ZZ004';
		    END IF;
		END \$\$;
		SQL
	return;
}

# Runs a script in one session; what it is told, by label and number.
sub run
{
	my ($db, $script) = @_;
	my ($out, $err, %codes) = ('', '');
	my $number;

	my $input = "SELECT dblink_connect('other', " . quote($node->connstr($db)) . ");\nSET statement_timeout = '30s';\n" . join('', map { qq{LISTEN "$_";\n} } $bank, "$db-Note", "$db-Order", 'Elsewhere-Foreign') . $script;
	IPC::Run::run([ 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-d', $node->connstr($db) ], '<', \$input, '>', \$out, '2>', \$err);
	foreach my $line (split /\n/, $err)
	{
		if ($line =~ /^=(\w+) (\d+)/) { $number = [ $1, $2 ]; }
		elsif ($number && $line =~ /(?:ERROR|WARNING|FATAL):  (\w{5})/) { push @{ $codes{ $number->[1] }{ $number->[0] } }, $1 if $1 ne '25P02'; }
		else { diag($line) if $line =~ /FATAL|server closed|ERROR/; }
	}
	my %told;
	$told{$1} += $2 while $out =~ /notification "([^"]*)" with payload "[^\n]*"count": (\d+)/g;
	return (\%codes, \%told);
}

# What is wrong with what one was told; sets what it has appended.
sub judge
{
	my ($c, $codes) = @_;
	my $command = $command{ $c->{command} };
	my $snapshot = $c->{level} ne 'READ COMMITTED';
	my ($code) = @{ $codes->{done} // [] };
	my $prepared = $c->{end} =~ /PREPARED/;
	my %allowed = map { $_ => 1 } grep { defined } ($snapshot ? ('40001', $command->{level}) : (), $command->{must}, $command->{other});
	my @ended = @{ $codes->{ended} // [] };

	# What is not prepared cannot be ended
	if ($prepared && !defined $code && $command->{notifies} && @ended && $ended[0] eq '0A000') { $code = shift @ended; }
	elsif (defined $code && !$allowed{$code}) { return "is told $code"; }
	shift @ended if $prepared && defined $code && @ended && $ended[0] eq '42704';
	$c->{appended} = defined $code || $c->{end} =~ /ROLLBACK/ ? 0 : $command->{events};
	return "begins with @{ $codes->{begun} }" if $codes->{begun};
	return 'is not refused' if !defined $code && $command->{must};
	return "ends with @ended" if @ended;
	return "is wrong: @{ $codes->{checked} }" if $codes->{checked};
	my @undone = (grep({ !$allowed{$_} } @{ $codes->{undone} // [] }), grep { /^(XX|ZZ|57)/ } @{ $codes->{again} // [] });
	return "is told @undone by what is undone" if @undone;
	return '';
}

# Are the events that were committed, by correlation, those that each was told of?
sub check_events
{
	my ($db, @combinations) = @_;
	my %there = map { split /\|/ } split /\n/, $node->safe_psql($db, q{SELECT correlation_id, count(*) FROM dugong.event_log WHERE correlation_id::text LIKE '00000009%' GROUP BY 1});
	my @wrong = map { label($_) . ': ' . ($there{ uuid(9, $_->{k}) } // 0) . ' events' } grep { defined $_->{appended} && $_->{appended} != ($there{ uuid(9, $_->{k}) } // 0) } @combinations;

	is(join("\n", @wrong), '', "$db: what was said to be appended, and nothing else");
	return;
}

sub check_all
{
	my ($db) = @_;

	$node->safe_psql($db, 'CALL dugong.run_projections()') foreach 1 .. 2;
	is_equal_to_fold($node, $db, "$db: the query model equals the fold of every account");
	is($node->safe_psql($db, "SELECT * FROM dugong.verify_projection('notes')"), '', "$db: and that of every note");
	is($node->safe_psql($db, "SELECT (SELECT count(*) FROM dugong.verify_snapshots('Note')) + (SELECT count(*) FROM dugong.verify_snapshots('BankAccount'))"), '0', "$db: every snapshot is right");
	is($node->safe_psql($db, <<~'SQL'), '', "$db: every event was handled, once, in its order");
		SELECT 'not handled', e.id FROM dugong.domain_events e
		WHERE NOT EXISTS (SELECT FROM seen WHERE seen.id = e.id UNION ALL SELECT FROM spares WHERE spares.id = e.id) AND (e.type = '$erased' OR NOT dugong.is_skeleton(e))
		UNION ALL SELECT 'not in the log', id FROM (TABLE seen UNION ALL TABLE spares) x WHERE NOT EXISTS (SELECT FROM dugong.event_log WHERE id = x.id)
		UNION ALL SELECT 'order', id FROM (SELECT s.id, s.sequence_number <= lag(s.sequence_number) OVER (PARTITION BY e.aggregate_type_id, s.aggregate_id ORDER BY nth) AS wrong
		    FROM seen s JOIN dugong.event_log e USING (id)) x WHERE wrong
		SQL
	my $outstanding = "FROM dugong.subscription_status WHERE subscription = 'mail' AND lag_events + waiting + leased + retrying + dead_letters";
	ok($node->poll_query_until($db, "SELECT dugong.ack('mail', ARRAY(SELECT id FROM dugong.fetch_events('mail', 100000))) IS NULL OR EXISTS (SELECT $outstanding = 0)"), "$db: a subscriber gets all");
	$node->safe_psql($db, "SELECT count(*) FROM dugong.fetch_events('mail')");
	is($node->safe_psql($db, 'SELECT (SELECT count(*) FROM dugong.checkpoint_holes) + (SELECT count(*) FROM dugong.parked_aggregates)'), '0', "$db: no hole stays behind, nothing is set aside");
	return;
}

foreach my $mode (qw(async inline))
{
	my @all = shuffle combinations();
	splice @all, $steps / 2 if @all > $steps / 2;
	my $k = 0;
	$_->{k} = ++$k foreach @all;
	create($mode, $mode);
	prepare_numbers($mode, 1, $k, map { $_->{k} } grep { $_->{command} eq 'import' } @all);

	my ($codes, $told) = run($mode, join '', map { script($_, 0) } @all);
	my %count;
	foreach my $c (@all) { $count{ $codes->{ $c->{k} }{done}[0] // 'done' }++; }
	note("$mode, $k combinations: " . join(', ', map { "$_: $count{$_}" } sort keys %count));
	my @wrong = grep { $_ } map { my $what = judge($_, $codes->{ $_->{k} }); $what && label($_) . " $what" } @all;
	is(join("\n", @wrong), '', "$mode: success, 40001, or what is documented");
	check_events($mode, @all);
	my %expected;
	$expected{ channel($mode, $_) } += $_->{appended} foreach grep { $_->{notify} eq 'always' && $_->{end} eq 'COMMIT' && $_->{appended} } @all;
	is_deeply($told, \%expected, "$mode: who listens is told of each event under dugong.notify = always");

	# Prepared, then a crash
	my @left = map { { %$_, end => 'COMMIT PREPARED' }, { %$_, end => 'ROLLBACK PREPARED' } } grep { $_->{notify} eq 'off' && $_->{end} eq 'COMMIT' && $_->{shape} eq 'undone' && !$_->{stale} && $command{ $_->{command} }{events} } combinations();
	my $first = $k + 1;
	$_->{k} = ++$k foreach @left;
	prepare_numbers($mode, $first, $k);
	($codes) = run($mode, join '', map { script($_, 1) } @left);
	@wrong = grep { $_ } map { my $what = judge($_, $codes->{ $_->{k} }); $what && label($_) . " $what" } @left;
	is(join("\n", @wrong), '', "$mode: prepared");
	$node->stop('immediate');
	$node->start;
	my $gids = $node->safe_psql($mode, 'SELECT gid FROM pg_prepared_xacts ORDER BY gid::int');
	is($gids, join("\n", map { $_->{k} } grep { !$codes->{ $_->{k} }{done} } @left), "$mode: and there after a crash");
	$node->safe_psql($mode, join '', map { "$_->{end} '$_->{k}';\n" } grep { !$codes->{ $_->{k} }{done} } @left);
	check_events($mode, @all, @left);
	check_all($mode);
}

$node->stop;
done_testing();
