# Every SQL example of the README runs as it stands there.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('documents');
$node->init;
$node->start;

my $text = slurp_file('README.md');
my @examples = $text =~ /^```sql\n(.*?)^```/msg;
cmp_ok(scalar(@examples), '>=', 2, 'README has SQL examples');

my ($out, $err) = ('', '');
my $rc = $node->psql('postgres', join("\n", @examples),
	stdout => \$out, stderr => \$err, on_error_stop => 1);
is($rc, 0, 'the examples run') or diag($err);
like($out, qr/\|Alice\|700$/m, 'the deposit shows 700');
like($out, qr/\|Alice\|400$/m, 'the withdrawal shows 400');
like($out, qr/,Alice,700\)$/m, 'the past shows 700');

$node->safe_psql('postgres', 'CALL dugong.run_projections()');
is($node->safe_psql('postgres', 'SELECT count(*) FROM bank_account_query_model'),
	'0', 'the closed account has left the query model');

# The warning about (f()).* is true.
my $id = $node->safe_psql('postgres', q{SELECT id FROM bank_open_account('Bob')});
$node->safe_psql('postgres', qq{SELECT (bank_deposit('$id', 10)).*});
is($node->safe_psql('postgres', qq{SELECT balance FROM bank_get_account('$id')}),
	'30', 'SELECT (bank_deposit()).* deposits once per column');

$node->stop;
done_testing();
