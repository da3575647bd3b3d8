#!/usr/bin/env perl
# A handler of the type mytype, in the classic form: it answers every message with the message's own data.
#
# The server starts it, and makes a connection for each message (docs/protocol.md, section 3). Each connection has a
# process of its own, so one that is slow keeps nobody waiting.
use strict;
use warnings;
use IO::Select;
use IO::Socket::UNIX;
use JSON::PP ();
use POSIX    ();

my $MAX_BODY      = 1024 * 1024 + 64 * 1024;    # bytes; what a server sends with its default limits
my $MAX_CHILDREN  = 64;
my $PATIENCE_S    = 30;                         # for a frame to be complete, and an answer to be read

# Returns the answer's commands, and the data that goes with them, as JSON. If it dies, the sender is told that
# the message was not handled, and, of a hash, why: die { code => 'mytype.soldOut', message => 'sold out' }
#
# The data comes as JSON too, byte for byte: JSON::PP->new->utf8->allow_nonref->decode($json) makes a value of it.
sub answer {
    my ($json) = @_;
    return ([ { type => 'reply' } ], $json);
}

# -- the classic form ---------------------------------------------------------------------------------------------

# Returns the whole answer, as JSON.
sub response {
    my ($json) = @_;
    my ($commands, $data) = eval { answer($json) };
    if (!defined $commands) {
        my $error = ref $@ eq 'HASH' ? ',"error":' . JSON::PP->new->utf8->canonical->encode($@) : '';
        warn 'not handled: ', $error || $@, "\n";
        return qq({"header":{"status":"1"$error}});
    }
    $commands = JSON::PP->new->utf8->canonical->encode($commands);
    return qq({"header":{"status":"0","commands":$commands},"data":$data});
}

# Reads exactly so many bytes, however they come; nothing where the other end has gone before.
sub read_bytes {
    my ($from, $size) = @_;
    my $bytes = '';
    while (length $bytes < $size) {
        my $more = sysread $from, $bytes, $size - length $bytes, length $bytes;
        next if !defined $more && $!{EINTR};
        return if !$more;
    }
    return $bytes;
}

# Reads one frame's body; dies where it is none, and returns nothing where the connection just ended.
sub read_frame {
    my ($from) = @_;
    my $prefix = read_bytes($from, 4);
    return if !defined $prefix;
    my $size = unpack 'V', $prefix;
    die "a frame of $size bytes\n" if $size == 0 || $size > $MAX_BODY;
    return read_bytes($from, $size);
}

sub write_frame {
    my ($to, $body) = @_;
    my $frame = pack('V', length $body) . $body;
    my $sent  = 0;
    while ($sent < length $frame) {
        my $more = syswrite $to, $frame, length($frame) - $sent, $sent;
        next if !defined $more && $!{EINTR};
        return if !$more;
        $sent += $more;
    }
    return;
}

# Answers one connection's message.
sub converse {
    my ($connection) = @_;
    my $body = read_frame($connection);
    write_frame($connection, response($body)) if defined $body;
    return;
}

# Listens until SIGTERM or SIGINT; then finishes what is outstanding.
sub serve {
    my ($path) = @_;
    unlink $path if -S $path;
    my $listener = IO::Socket::UNIX->new(Local => $path, Listen => 128) or die "$path: $!\n";
    print "listening on $path\n";
    my $stopping = 0;
    my $children = 0;
    local $SIG{TERM} = local $SIG{INT} = sub { $stopping = 1 };
    my $waiting = IO::Select->new($listener);
    while (!$stopping) {
        # A signal just before it waits is seen after this time at the latest.
        my $ready = $waiting->can_read(0.2);
        $children-- while $children && waitpid(-1, POSIX::WNOHANG()) > 0;
        next if !$ready;
        $children-- if $children >= $MAX_CHILDREN && waitpid(-1, 0) > 0;
        my $connection = $listener->accept or next;
        my $child      = fork;
        if (!defined $child) {
            warn "fork: $!\n";
        }
        elsif ($child == 0) {
            local $SIG{TERM} = local $SIG{INT} = 'IGNORE';    # it finishes
            local $SIG{PIPE} = 'IGNORE';
            alarm $PATIENCE_S;
            close $listener;
            eval { converse($connection); 1 } or warn $@;
            POSIX::_exit(0);
        }
        else {
            $children++;
        }
        close $connection;
    }
    close $listener;
    unlink $path;
    1 while waitpid(-1, 0) > 0;
    return;
}

# Not when the tests load it.
if (!caller) {
    $| = 1;
    serve($ENV{BESTER_SOCKET} || 'handler.sock');
}

1;
