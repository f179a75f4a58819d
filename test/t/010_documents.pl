# Every SQL example of the README and of docs/ runs as it stands there, and the
# reference names everything that a user can call or set.
use strict;
use warnings;

use lib 'test/t';
use Dugong;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = new_server('documents');

sub examples
{
	my $file = shift;
	return slurp_file($file) =~ /^```sql\n(.*?)^```/msg;
}

# Runs a document's examples one after the other, in a database of its own, and
# returns what they print and their messages.
sub run_examples
{
	my ($file, $db, $before) = @_;
	my ($out, $err) = ('', '');

	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, $before) if $before;
	my $rc = $node->psql($db, join("\n", examples($file)),
		stdout => \$out, stderr => \$err, on_error_stop => 1);
	is($rc, 0, "the examples of $file run") or diag($err);
	return ($out, $err);
}

my @readme = examples('README.md');
cmp_ok(scalar(@readme), '>=', 2, 'README has SQL examples');
my ($out, $err) = run_examples('README.md', 'readme');
like($out, qr/\|Alice\|700$/m, 'the deposit shows 700');
like($out, qr/\|Alice\|400$/m, 'the withdrawal shows 400');
like($out, qr/,Alice,700\)$/m, 'the past shows 700');

$node->safe_psql('readme', 'CALL dugong.run_projections()');
is($node->safe_psql('readme', 'SELECT count(*) FROM bank_account_query_model'),
	'0', 'the closed account has left the query model');

# The warning about (f()).* is true.
my $id = $node->safe_psql('readme', q{SELECT id FROM bank_open_account('Bob')});
$node->safe_psql('readme', qq{SELECT (bank_deposit('$id', 10)).*});
is($node->safe_psql('readme', qq{SELECT balance FROM bank_get_account('$id')}),
	'30', 'SELECT (bank_deposit()).* deposits once per column');

# The documents in docs/, in databases that have the extension
my %output;
foreach my $file (sort glob('docs/*.md'))
{
	my ($name) = $file =~ m{([^/]+)\.md$};

	next unless examples($file);
	(my $db = "doc_$name") =~ s/\W/_/g;
	$output{$name} = [ run_examples($file, $db, 'CREATE EXTENSION dugong') ];
}

ok($output{reference}, 'the reference has SQL examples') or BAIL_OUT('no docs/reference.md');
($out, $err) = @{ $output{reference} };
like($out, qr/^1\|1\|\{"sku": "A1", "quantity": 2\}\n1$/m, 'reference: a retry returns the stored event');
like($out, qr/^2\|anna$/m, 'reference: settings give the context');
like($out, qr/^4\|CheckedOut\|\([-0-9a-f]+,"\{""A1"": 2\}",t\)$/m, 'reference: the fold of a cart');
like($out, qr/^2\|OrderUpdated\|\{"new": \{"status": "paid"\}, "old": \{"status": "new"\}\}$/m,
	'reference: an update of a row');
like($out, qr/^[-0-9a-f]+\|\{"number": 1, "status": "paid", "cart_id": "[-0-9a-f]+"\}$/m,
	'reference: the row out of its events');
like($out, qr/^ItemAdded\|1\|2\|4\|0$/m, 'reference: no event fails its upcast');
like($out, qr/^2\|\{"sku": "A1", "price": null, "quantity": 2\}$/m, 'reference: an upcast payload');
like($out, qr/^Billing\|1\|PaymentReceived\|\{"amount": 20\}$/m, 'reference: a message is received');
like($out, qr/^Bob\|150\.25\nAlice\|499\.75$/m, 'reference: the accounts after a transfer');
like($err, qr/the order has changed: aggregate "Order" .* is not at the expected sequence number/,
	'reference: a conflict is handled');
($out, $err) = @{ $output{projections} };
like($out, qr/^Ann\|3\|290\nBea\|1\|100$/m, 'projections: the query model');
like($out, qr/^Ann\|290\nBea\|100$/m, 'projections: the sums that a handler makes');
like($out, qr/^4$/m, 'projections: what a set handler counts');
like($out, qr/^bookings\|8000c000-0000-4000-8000-000000000003\|1\|\d\|f\|23514\n1\n0\nCid\|365$/m, 'projections: a dead letter, retried');
like($out, qr/^nights\|t$/m, 'projections: a changed handler makes it stale');
like($out, qr/^Ann\|290\nBea\|100\nCid\|1$/m, 'projections: rebuilt');
like($out, qr/^Bea\|2$/m, 'projections: one reads what one wrote');
like($out, qr/^Ann\nBea\nCid$/m, 'projections: an inline one is there at once');
is($err, '', 'projections: no warning');
# Its handlers stand an erasure.
$node->safe_psql('doc_projections', q{SELECT dugong.erase_aggregate('Booking', min(aggregate_id::text)::uuid, 'test') FROM dugong.aggregates
	WHERE aggregate_type = 'Booking'; CALL dugong.run_projections()});
is($node->safe_psql('doc_projections', 'SELECT string_agg(projection, $$ $$) FROM dugong.dead_letters'), '', 'projections: an erasure fails no handler');
isnt($node->safe_psql('doc_projections', 'SELECT nights FROM nights_sold'), '', 'projections: and counts on');
($out, $err) = @{ $output{broker} };
like($out, qr/^OrderPlaced\|\{"total": 20\}\n1\n0$/m, 'broker: an event is fetched, and acknowledged once');
like($out, qr/^t\n0\n1\|1\|0\|0$/m, 'broker: one is given back, and does not come soon');
like($out, qr/^t\|t\n1\nt\nMail\|ConfirmationSent$/m, 'broker: an append is linked, and acknowledged with its cause');
like($out, qr/^2\|leased\|2\|worker-1\|sooner\n1\|leased\|1\|\|\n0\n2\n1$/m, 'broker: a consumer with a name, which releases what it has');
like($out, qr/^mail\|running\|\d+\|0\|1\|0\|0$/m, 'broker: the status');
is($err, '', 'broker: no warning');
($out, $err) = @{ $output{proof} };
like($out, qr/^0\n1\|different\|100\|1000000\n2\|missing\|50\|\n9\|extra\|\|1\nt\n/m, 'proof: each difference');
like($out, qr/^1\|different\|t\n2\|missing\|t\n9\|extra\|t\nAnn\|100\nBea\|50\nCid\|10$/m, 'proof: repaired');
like($out, qr/^Ann\|100\nBea\|50\nCid\|10\nAnn\|300\n0\nAnn\|100\|300\nCid\|10\|$/m, 'proof: the past');
is($err, '', 'proof: no warning');
($out, $err) = @{ $output{erasure} };
like($out, qr/^events\|Patient\|2\nevent\|\$erased\|1\nprojection\|patients\|1\n1\|Registered\|\|\{"\$erased": "aggregate"\}\n/m, 'erasure: an aggregate');
like($out, qr/^Ben\|0\n/m, 'erasure: the query model');
like($out, qr/^\{"name": "Ben"\}\|\{"\$erased": "keys"\}\nBen\|$/m, 'erasure: keys');
like($out, qr/^1\|\(Ben,,0\)\n.*^3\|$/ms, 'erasure: a fold in a query');
like($out, qr/^old row versions\|.*^backups\|/ms, 'erasure: what is not reached');
like($out, qr/^Patient\|t\|\|request 17 of 3 May\|t\|2\nPatient\|f\|\{phone\}\|request 18 of 3 May\|t\|1\n/m, 'erasure: the record');
($out, $err) = @{ $output{import} };
like($out, qr/^Alice\|700$/m, 'import: the query model of what DugongJS has stored');
like($out, qr/^public\.domain_events\|done\|2\|2$/m, 'import: progress');
like($out, qr/^1\|Opened\|bb37ff80-51e1-5a11-bac0-866bf9977883\|\{"sourceAggregateId": "123"\}$/m, 'import: from Message DB');
like($out, qr/^1\|OrderPlaced\|\{"total": 7\}\|\{"sourceEventId": "18", "sourceAggregateId": "K-101"\}\n2\|OrderPaid\|\|/m, 'import: a table of one\'s own');
like($err, qr/Without a value that is needed: 2 of 5 events/, 'import: what is wrong is counted');
($out, $err) = @{ $output{consistency} };
like($out, qr/^2\|1\|0\n1$/m, 'consistency: a decision, and an append on it');
like($out, qr/^A-17$/m, 'consistency: the last one');
like($err, qr/the course has changed: append condition does not hold/, 'consistency: a conflict is handled');
($out, $err) = @{ $output{tenants} };
like($out, qr/^Bert\|blue\nblue\|AccountOpened$/m, 'tenants: each sees its own');
like($out, qr/^bank_account\|running\|0\|0\|0$/m, 'tenants: the status');
like($err, qr/NOTICE:  permission denied for tenant "red"/, 'tenants: whatever it sets');
($out, $err) = @{ $output{security} };
like($out, qr/^Alice\|700$/m, 'security: a teller may do what was granted');
like($err, qr/NOTICE:  permission denied for function bank_withdraw/, 'security: and nothing else');
like($out, qr/^1\ndesk\|append_event, create_aggregate_type\nteller\|bank_deposit, bank_get_account\n/m, 'security: a command of one\'s own; who may do what');
is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_roles WHERE rolname !~ '^pg_' AND NOT rolsuper}),
	'0', 'reference: its roles are dropped');

# The reference is complete.
my $reference = slurp_file('docs/reference.md');
my %is_internal =
  map { $_ => 1 } qw(aggregate_type_id bank_account_apply current_payload snapshot_is_valid current_version row_apply to_domain_event
	is_preloaded projection_is_stale projection_lock_key sees_tenant_support);

# name(argument ... argument ...), with the arguments' names in their order
sub signature
{
	my ($name, @arguments) = @_;
	my $inner = join('', map { "[^()]*\\b$_\\b" } @arguments);
	return qr/(?<!\w)\Q$name\E\($inner/;
}

my @functions = split /\n/, $node->safe_psql('doc_reference', <<'SQL');
SELECT CASE WHEN n.nspname = 'dugong' THEN 'dugong.' ELSE '' END || p.proname, array_to_string(p.proargnames[:p.pronargs], ',')
FROM pg_depend d
JOIN pg_proc p ON p.oid = d.objid
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
  AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'dugong')
  AND (p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) OR p.proname = 'append_row_event')
ORDER BY 1
SQL
cmp_ok(scalar(@functions), '>', 20, 'the extension has functions');
foreach my $function (@functions)
{
	my ($name, $arguments) = split /\|/, $function, 2;
	my ($short) = $name =~ /(\w+)$/;

	if ($is_internal{$short})
	{
		ok($reference =~ /`$short`/, "the reference names $name");
		delete $is_internal{$short};
	}
	else
	{
		ok($reference =~ signature($name, split /,/, $arguments), "the reference has $name($arguments)");
	}
}
is_deeply(\%is_internal, {}, 'every internal function exists');

my @names = split /\n/, $node->safe_psql('doc_reference', <<'SQL');
LOAD 'dugong';
SELECT name FROM pg_settings WHERE name LIKE 'dugong.%'
UNION ALL
SELECT 'dugong.' || relname FROM pg_class WHERE relnamespace = 'dugong'::regnamespace AND relkind = 'v'
ORDER BY 1
SQL
push @names,
  map { s/\W//gr } slurp_file('src/errors.h') =~ /MAKE_SQLSTATE\(([^)]*)\)/g;
cmp_ok(scalar(@names), '>', 20, 'there are settings, views and errors');
ok($reference =~ /(?<![\w.])\Q$_\E(?![\w(])/, "the reference has $_") foreach @names;

$node->stop;
done_testing();
