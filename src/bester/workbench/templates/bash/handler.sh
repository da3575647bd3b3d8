#!/usr/bin/env bash
# A handler of the type mytype, in the classic form: it answers every message with the message's own data.
#
# The server starts it, and makes a connection for each message (docs/protocol.md, section 3). bash cannot listen on a
# Unix socket: socat does, and runs this file again for each connection, with that as its input and output.
set -u
export LC_ALL=C # a character is a byte

max_body=$((1024 * 1024 + 64 * 1024)) # bytes; what a server sends with its default limits
max_children=64
patience_s=30 # for a connection to say something

# Sets commands to what is to be done, and outgoing to the data that goes with them, as JSON. Its first argument is the
# message's data, JSON byte for byte; jq can look into it. Anything but 0 refuses the message; its sender is told why, if
# refusal says it: refusal='{"code":"mytype.soldOut","message":"sold out"}'
answer() {
    outgoing=$1
    commands='[{"type":"reply"}]'
}

# -- the classic form ---------------------------------------------------------------------------------------------

# Reads one frame's body into body; fails where there is none.
read_frame() {
    local b0 b1 b2 b3 size
    # Byte by byte, so that nothing of the body is read with it.
    read -r b0 b1 b2 b3 < <(dd bs=1 count=4 2>/dev/null | od -An -tu1) || return 1
    [ -n "$b3" ] || return 1
    size=$((b0 | b1 << 8 | b2 << 16 | b3 << 24))
    if [ "$size" -eq 0 ] || [ "$size" -gt "$max_body" ]; then
        echo "a frame of $size bytes" >&2
        return 1
    fi
    # The mark keeps line ends at the end of the body, which bash would remove.
    body=$(head -c "$size" && printf .)
    body=${body%.}
    [ "${#body}" -eq "$size" ]
}

# Prints a body with its length before it.
write_frame() {
    local size=${#1} prefix
    printf -v prefix '\\x%02x\\x%02x\\x%02x\\x%02x' \
        $((size & 255)) $((size >> 8 & 255)) $((size >> 16 & 255)) $((size >> 24 & 255))
    printf "$prefix"
    printf %s "$1"
}

# Answers one connection's message.
converse() {
    trap '' TERM # it finishes
    local body commands outgoing refusal=
    read_frame || return 0
    if answer "$body"; then
        write_frame "{\"header\":{\"status\":\"0\",\"commands\":$commands},\"data\":$outgoing}"
    else
        write_frame "{\"header\":{\"status\":\"1\"${refusal:+,\"error\":$refusal}}}"
    fi
}

# Listens until SIGTERM or SIGINT; then finishes what is outstanding.
serve() {
    local path=${BESTER_SOCKET:-handler.sock} listener alive stopped=
    command -v socat >/dev/null || { echo "handler.sh needs socat (Debian: apt-get install socat)" >&2; exit 1; }
    # nofork: the process that socat makes for a connection becomes this file, with nothing in between. All of them hold
    # descriptor 3, a pipe which is read here: its end is that of the last one.
    exec {alive}< <(exec socat -T "$patience_s" "UNIX-LISTEN:$path,fork,unlink-early,backlog=128,max-children=$max_children" \
        "EXEC:'$0' converse,nofork" 3>&1 >&2)
    listener=$!
    trap 'stopped=yes; kill "$listener" 2>/dev/null; rm -f "$path"' TERM INT
    read -r -u "$alive"
    [ -n "$stopped" ]
}

# Not where the tests read this file.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    if [ "${1-}" = converse ]; then converse; else serve; fi
fi
