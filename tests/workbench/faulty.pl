#!/usr/bin/env perl
# A classic handler that echoes, one connection at a time, with the one fault that its argument names; "none" is right.
use strict;
use warnings;
use IO::Socket::UNIX;

my ($FAULT) = @ARGV;
my $MAX_BODY = 2_000_000;
my %UNPACK = ('big-endian' => 'N', 'short-size' => 'v');
$SIG{PIPE} = 'IGNORE' if $FAULT ne 'dies-of-sigpipe';
my $listener = IO::Socket::UNIX->new(Local => $ENV{BESTER_SOCKET}, Listen => 128) or die "$!\n";
my @kept;
while (my $connection = $listener->accept) {
    read $connection, my $size, 4;
    next if length $size < 4;
    $size = unpack $UNPACK{$FAULT} // 'V', $size;
    next if $size == 0 || $size > $MAX_BODY;
    read $connection, my $body, $size;
    $body =~ s/\s+//g if $FAULT eq 'strips-space';
    my $answer = qq({"header":{"status":0,"commands":[{"type":"reply"}]},"data":$body});
    my $length = length $answer;
    if ($FAULT eq 'counts-characters') {
        utf8::decode(my $text = $answer);
        $length = length $text;
    }
    push @kept, $connection if $FAULT eq 'keeps-connections';
    syswrite $connection, pack('V', $length) . $answer;
}
