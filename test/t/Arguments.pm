# Values that nobody would give, for every type of argument that dugong's functions have, and calls made of them.
package Arguments;

use strict;
use warnings;

use Exporter 'import';
use Dugong;

our @EXPORT = qw(call_of insert_of setting_of quote one_of);

sub one_of { return $_[ int rand @_ ]; }

sub quote
{
	my $text = shift;
	$text =~ s/'/''/g;
	return "'$text'";
}

# Names, and what may stand in the place of one
my @texts = (
	'', ' ', 'BankAccount', 'Thing', 'BankingContext-AccountService', 'bank_account', 'model', 'copy', 'events', 'inline', 'sub', 'Changed', 'Removed', 'AccountOpened', 'New',
	'a', 'async', 'inline', 'park', 'stop', 'skip', 'x' x 63, 'x' x 64, 'é' x 31 . 'x', 'é' x 32, 'x' x 9000, q{a'b"c\\d$$e}, '%s%n%1$s', '$erased', '$1', '{}', '{"a": 1}',
	"\x01\x7f", "line\nbreak", "\N{U+FEFF}\N{U+202E}", "\N{U+1F418}", 'NULL', 'infinity', '00000000-0000-0000-0000-000000000000', 'pg_catalog.now()', 'postgres', '-', '.', '*', '..',
	';', '--', "e\N{U+0301}", '0', '-1', 'thing-1');
my @uuids = (uuid(0, 0), 'ffffffff-ffff-ffff-ffff-ffffffffffff', uuid(2, 1), uuid(2, 2), (map { thing_id($_) } 1 .. 3), uuid(1, 1), uuid(1, 2));
my @ints = (0, 1, -1, 2, 3, 100, 1000000, 2147483647, -2147483647, '(-2147483648)');
my @bigints = (@ints, 4294967296, 9223372036854775807, -9223372036854775807, '(-9223372036854775808)', 9223372036854775806);
my @numerics = (@ints, 0.1, '1.10', 'NaN', 'Infinity', '-Infinity', '1e131071', '-1e131071', '1e-16383', '-0', '999999999999999.9999', '1000000000000000', '0.00001');
my @times = ('infinity', '-infinity', '4714-11-24 00:00:00+00 BC', '294276-12-31 23:59:59.999999+00', 'epoch', 'now', '2020-01-01', '1900-02-28 BC');
my @intervals = ('0', '-1 s', '1 us', '1 ms', '10 ms', '178000000 years', '-178000000 years', '2147483647 days', '-2147483648 days', '2147483647 months', '2562047788 h', '1 month -30 days');
my @functions = (
	'0', '4294967295', '99999999', 'thing_fold(dugong.domain_event)', 'thing_event(dugong.domain_event)', 'thing_reset()', 'thing_update(uuid, thing_state)',
	'thing_delete(uuid)', 'thing_apply(thing_state, dugong.domain_event)', 'bank_account_fold(dugong.domain_event)', 'dugong.row_fold(dugong.domain_event)', 'now()',
	'count(*)', 'jsonb_typeof(jsonb)', 'to_jsonb(anyelement)', 'rank()', 'array_agg(anynonarray)', 'dugong.run_projections()', 'dugong.append_row_event()', 'int4in(cstring)',
	'upper_payload(jsonb)', 'generate_series(int, int)', 'pg_ddl_command_in(cstring)', 'my_events(dugong.domain_event)', 'my_set(uuid[], thing_state[])', 'my_out(int)');
my @relations = ('0', '99999999', 'thing_model', 'thing_copy', 'bank_account_query_model', 'dugong.event_log', 'dugong.domain_events', 'pg_class', 'seen_pkey', 'seen_nth_seq', 'thing_state',
	'pg_toast.pg_toast_1255', 'my_source', 'my_view', 'my_parts', 'my_old', 'pg_stat_activity', 'counters', 'dugong.projections');
my @types = ('0', '99999999', 'int', 'jsonb', 'thing_state', 'my_domain', 'text[]', 'anyelement', 'record', 'void', 'trigger', 'internal', 'cstring', 'dugong.domain_event', 'unknown', 'my_enum', 'int4range', 'my_shell', 'my_nested');
my @roles = ('0', '99999999', 'CURRENT_USER', 'pg_read_all_data', 'fuzzer', 'clerk');
my @states = ('jsonb', 'thing_state', 'int', 'bank_account_state', 'bank_account_query_model', 'thing_model', 'text[]', 'my_domain', 'my_domain_state', 'dugong.domain_event', 'my_enum', 'my_view', 'my_parts');
my @keys = qw(id origin aggregateType aggregate_type aggregateId aggregate_id type payload version sequenceNumber sequence_number timestamp tenantId tenant_id correlationId correlation_id
  triggeredByEventId triggered_by_event_id triggeredByUserId triggered_by_user_id metadata eventId types tags where order_by namespace by owner initialBalance amount position new old key event);

sub thing_id { return uuid(3, shift); }

sub of_json
{
	my $text = shift;
	$text =~ s/(["\\])/\\$1/g;
	$text =~ s/([\x00-\x1f])/sprintf '\\u%04x', ord $1/ge;
	return qq{"$text"};
}

# Any value that jsonb can hold
sub random_jsonb
{
	my ($depth) = @_;
	my $kind = rand;

	return one_of('null', 'true', 'false', '{}', '[]', '""', '[[]]', '{"": {}}') if $kind < 0.2;
	return one_of(grep { /^-?[0-9.e-]+$/ } @numerics) if $kind < 0.3;
	return of_json(one_of(@texts, @uuids, @times, @numerics, @keys)) if $kind < 0.5 || $depth <= 0;
	return '[' . join(', ', map { random_jsonb($depth - 1) } 1 .. int rand 5) . ']' if $kind < 0.65;
	return ('[' x 200) . (']' x 200) if $kind < 0.66;
	return '{' . join(', ', map { of_json(one_of(@keys, @texts)) . ': ' . random_jsonb($depth - 1) } 1 .. int rand 8) . '}';
}

# What the functions expect, with one thing or another that is wrong
sub near_jsonb
{
	my $type = of_json(one_of('Changed', 'Removed', one_of(@texts)));
	my $value = sub { rand() < 0.3 ? random_jsonb(2) : shift };
	my %shapes = (
		message => sub {
			my %field = (id => of_json(one_of(@uuids)), origin => '"elsewhere"', aggregateType => '"Other"', aggregateId => of_json(one_of(@uuids)), sequenceNumber => one_of(1, 2, @bigints[ 0 .. 5 ]),
				type => $type, timestamp => '"2020-01-01T00:00:00Z"', payload => random_jsonb(3), version => 1, tenantId => '"t"', metadata => '{}');
			$field{ one_of(keys %field) } = random_jsonb(1);
			delete $field{ one_of(keys %field) } if rand() < 0.3;
			return '{' . join(', ', map { of_json($_) . ": $field{$_}" } sort keys %field) . '}';
		},
		events => sub {
			return '[' . join(', ', map { "{\"type\": " . $value->($type) . ", \"payload\": " . $value->('{"by": 1}') . ', ' . of_json(one_of(qw(eventId version metadata payload))) . ': ' . random_jsonb(1) . '}' } 0 .. rand 4) . ']';
		},
		query => sub {
			return '{"types": ' . $value->('["Changed"]') . ', "tags": ' . $value->('{"by": ' . random_jsonb(0) . '}') . '}';
		},
		tags => sub { return '{' . of_json(one_of('by', @texts)) . ': ' . $value->('["by"]') . '}'; },
		mapping => sub {
			my @expressions = ('id', 'kind', 'body', 'n', 'at', q{'Thing'}, 'null', 'n + 1', '1 / 0', 'NULL', 'count(*)', 'generate_series(1, 2)', 'my_source', '(SELECT 1)', ') --', '1, 2', '1; DROP TABLE seen', '$1', '',
				'row_number() OVER ()', 'ARRAY[1]', "now()", "true", "body -> 'a'", '*', "'x'::text", 'gen_random_uuid()', 'ROW(1)');
			my %field = (aggregate_type => q{'Thing'}, aggregate_id => 'id', type => 'kind', payload => 'body', order_by => 'n', timestamp => 'at');
			$field{ one_of(qw(id aggregate_type aggregate_id type payload order_by timestamp sequence_number version where namespace tenant_id origin metadata correlation_id triggered_by_user_id)) } = one_of(@expressions);
			return '{' . join(', ', map { of_json($_) . ': ' . (rand() < 0.05 ? random_jsonb(1) : of_json($field{$_})) } sort keys %field) . '}';
		});
	return $shapes{ one_of(sort keys %shapes) }->();
}

sub domain_event
{
	my %field = (id => one_of(@uuids), origin => one_of(@texts), aggregate_type => one_of('Thing', @texts), aggregate_id => one_of(@uuids), tenant_id => one_of('', @texts), sequence_number => one_of(@bigints),
		type => one_of('Changed', 'AccountOpened', 'MoneyDeposited', @texts), version => one_of(1, @ints), payload => rand() < 0.5 ? '{"by": 1, "amount": 5, "owner": "x", "initialBalance": 1}' : random_jsonb(2),
		timestamp => one_of(@times), metadata => random_jsonb(2), position => one_of(@bigints));
	delete $field{ one_of(keys %field) } foreach 0 .. rand 4;
	my %types = (id => 'uuid', aggregate_id => 'uuid', sequence_number => 'bigint', version => 'int', payload => 'jsonb', timestamp => 'timestamptz', metadata => 'jsonb', position => 'bigint');
	my @order = qw(id origin aggregate_type aggregate_id tenant_id sequence_number type version payload timestamp correlation_id triggered_by_event_id triggered_by_user_id metadata position);
	return 'ROW(' . join(', ', map { defined $field{$_} ? ($types{$_} && $types{$_} =~ /int/ ? $field{$_} : quote($field{$_})) : 'NULL' } @order) . ')';
}

my %makers = (
	text => sub { quote(one_of(@texts)) },
	name => sub { quote(one_of(@texts)) },
	uuid => sub { quote(one_of(@uuids)) },
	integer => sub { one_of(@ints) },
	bigint => sub { one_of(@bigints) },
	numeric => sub { quote(one_of(@numerics)) },
	boolean => sub { one_of('true', 'false') },
	'timestamp with time zone' => sub { quote(one_of(@times)) },
	interval => sub { quote(one_of(@intervals)) },
	jsonb => sub { quote(rand() < 0.5 ? near_jsonb() : random_jsonb(4)) },
	regprocedure => sub { quote(one_of(@functions)) },
	regclass => sub { quote(one_of(@relations)) },
	regtype => sub { quote(one_of(@types)) },
	regrole => sub { quote(one_of(@roles)) },
	anyelement => sub { 'NULL::' . one_of(@states) },
	'dugong.domain_event' => \&domain_event,
	'dugong.domain_events' => \&domain_event,
	bank_account_state => sub { 'ROW(' . quote(one_of(@uuids)) . ', ' . quote(one_of(@texts)) . ', ' . quote(one_of(@numerics)) . ')' });

# A value of that type, as SQL.
sub argument_of
{
	my ($type) = @_;

	return $makers{anyelement}->() if $type eq 'anyelement';
	return "NULL::$type" if rand() < 0.08;
	if ($type =~ /^(.*)\[\]$/)
	{
		my $element = $1;
		my $value = sub { rand() < 0.1 ? 'NULL' : $makers{$element}->() };
		return one_of("'{}'", "'{NULL}'", "array_fill(NULL::$element, '{2,2}')", "array_fill(NULL::$element, '{1000}')") . "::$type" if rand() < 0.2;
		return 'ARRAY[' . join(', ', map { $value->() } 0 .. rand 3) . "]::$type";
	}
	die "no values for type $type" unless $makers{$type};
	return $makers{$type}->() . "::$type";
}

# What an argument of that name would be, so that calls come further than to the first check
my $type = sub { quote(one_of('Thing', 'Thing', 'BankAccount', 'Other')) };
my $projection = sub { quote(one_of(qw(model copy events inline bank_account))) };
my %likely = (
	aggregate_type => $type, aggregate_id => sub { quote(thing_id(1 + int rand 3)) }, account_id => sub { quote(uuid(2, 1 + int rand 3)) }, from_account_id => sub { quote(uuid(2, 1)) },
	to_account_id => sub { quote(uuid(2, 2)) }, type => sub { quote(one_of('Changed', 'Tagged', 'Removed')) }, payload => sub { q('{"by": 1}') }, origin => sub { 'NULL' },
	tenant_id => sub { 'NULL' }, expected_sequence_number => sub { 'NULL' }, projection => $projection, subscription => sub { q('sub') }, source => sub { q('my_source') }, reason => sub { q('why') },
	to_sequence_number => sub { 1 + int rand 3 }, if_none_match => sub { q('{"types": ["Tagged"]}') }, query => sub { q('{"types": ["Tagged"]}') }, role => sub { q('fuzzer') }, amount => sub { 1 });

# A call of a function: its name, and name, type and whether it may be left out of each argument.
sub call_of
{
	my ($function) = @_;
	my @given;
	my $named = rand() < 0.7;

	foreach my $argument (@{ $function->{arguments} })
	{
		if ($argument->{optional} && rand() < 0.6)
		{
			last unless $named && $argument->{name};
			next;
		}
		my $likely = $likely{ $argument->{name} // '' };
		my $value = $likely && rand() < 0.6 ? $likely->() . "::$argument->{type}" : argument_of($argument->{type});
		$value = "VARIADIC $value" if $argument->{variadic};
		push @given, $named && $argument->{name} && $argument->{optional} ? "$argument->{name} => $value" : $value;
	}
	my $call = "$function->{name}(" . join(', ', @given) . ')';
	return { p => 'CALL', a => 'SELECT' , f => 'SELECT * FROM'}->{ $function->{kind} } . " $call;";
}

# An append, or a restore, by plain SQL
sub insert_of
{
	my %column = (aggregate_id => 'uuid', type => 'text');
	my %others = (id => 'uuid', tenant_id => 'text', sequence_number => 'bigint', version => 'integer', payload => 'jsonb', '"timestamp"' => 'timestamp with time zone', correlation_id => 'uuid',
		triggered_by_event_id => 'uuid', triggered_by_user_id => 'text', metadata => 'jsonb', position => 'bigint');
	my $view = rand() < 0.5;

	# A restore brings all that is needed
	$column{$_} = $others{$_} foreach $view ? () : ('id', 'tenant_id', 'sequence_number', 'version', '"timestamp"', 'position'), map { one_of(sort keys %others) } 0 .. rand 4;
	my @names = sort keys %column;
	my @values = map { $likely{$_} && rand() < 0.6 ? $likely{$_}->() : argument_of($column{$_}) } @names;
	return $view ? 'INSERT INTO dugong.domain_events (aggregate_type, ' . join(', ', @names) . ') VALUES (' . join(', ', $type->(), @values) . ');'
	  : 'INSERT INTO dugong.event_log (aggregate_type_id, ' . join(', ', @names) . ') SELECT ' . join(', ', 't.id', @values) . " FROM dugong.aggregate_types() t WHERE t.name = 'Thing';";
}

# A setting of the session, until the transaction ends
sub setting_of
{
	my ($name) = @_;
	return "SET LOCAL $name = " . quote(one_of(random_jsonb(2), one_of(@texts, @uuids, @ints, @times))) . '; ';
}

1;
