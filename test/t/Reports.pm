# What a server's log must not say: the reports of sanitizers and assertions, processes that died of a fault, and internal errors
# (XX000) that dugong's own source files have raised, which a log with log_error_verbosity = verbose tells.
package Reports;

use strict;
use warnings;

use Exporter 'import';
use File::Basename;

our @EXPORT = qw(reports);

my %ours = map { basename($_) => 1 } glob 'src/*.c src/*/*.c';

# From the logs of these names.
sub reports
{
	my @found;

	foreach my $name (grep { -s } @_)
	{
		open my $log, '<', $name or die "$name: $!";
		my $internal;
		while (my $line = <$log>)
		{
			push @found, $line if $line =~ /runtime error:|ERROR: AddressSanitizer|TRAP: |PANIC: |terminated by signal (4|6|7|8|11)\b/;
			$internal = $line if $line =~ /(ERROR|FATAL): +XX000:/;
			next unless $internal && $line =~ /LOCATION: +\w+, ([\w.]+):\d+/;
			push @found, "$1: $internal" if $ours{$1};
			undef $internal;
		}
	}
	return @found;
}

1;
