#!/usr/bin/env perl
# prove: the functions, and the program as a server uses it.
use strict;
use warnings;
use File::Spec;
use File::Temp ();
use FindBin    ();
use IO::Socket::UNIX;
use Socket ();
use Test::More;

my $program = File::Spec->catfile($FindBin::Bin, '..', 'handler.pl');
require $program;

is response('{"a": 1.50}'), '{"header":{"status":"0","commands":[{"type":"reply"}]},"data":{"a": 1.50}}', 'an answer';
{
    no warnings qw(redefine once);
    local *answer = sub { die "no\n" };
    local $SIG{__WARN__} = sub { };
    is response('null'), '{"header":{"status":"1"}}', 'what cannot be handled is told';
    no warnings qw(redefine);
    local *answer = sub { die { code => 'mytype.no' } };
    is response('null'), '{"header":{"status":"1","error":{"code":"mytype.no"}}}', 'and why';
}

# Writes bytes into a pair of sockets and reads a frame at its other end.
sub framed {
    my ($bytes) = @_;
    socketpair my $here, my $there, Socket::AF_UNIX(), Socket::SOCK_STREAM(), 0 or die $!;
    syswrite $here, $bytes;
    close $here;
    return eval { read_frame($there) };
}

is framed("\x02\0\0\0{}"),         '{}',  'a frame';
is framed("\x02\0\0\0{"),          undef, 'half a frame';
is framed(''),                     undef, 'nothing';
is framed("\0\0\0\0"),             undef, 'a frame without a body';
is framed("\xff\xff\xff\xff{}"),   undef, 'a frame that is too large';

my $folder = File::Temp->newdir;
my $path   = "$folder/s";
local $ENV{BESTER_SOCKET} = $path;
my $pid = open my $output, '-|', $^X, $program or die $!;
like scalar <$output>, qr/listening/, 'it listens';

my @connections = map { IO::Socket::UNIX->new(Peer => $path) or die $! } 1 .. 3;
for my $number (reverse 0 .. $#connections) {    # the last one first: none waits for another
    my $frame = pack 'V/a*', qq({"number":$number});
    $connections[$number]->syswrite($_) for split //, $frame;    # byte by byte
    is read_frame($connections[$number]),
        qq({"header":{"status":"0","commands":[{"type":"reply"}]},"data":{"number":$number}}), "message $number";
}

kill TERM => $pid;
close $output;
is $?, 0, 'it ends in order';
ok !-e $path, 'and its socket is gone';
done_testing;
