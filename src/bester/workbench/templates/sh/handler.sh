#!/bin/sh
# A handler of the type mytype: it answers every message with the message's own data.
#
# The server starts it, writes each request to its standard input as one line of JSON, and reads the answer from its
# standard output, one line too (docs/protocol.md, section 6.11). What goes to standard error is in the server's log.
set -u
LC_ALL=C # a character is a byte
export LC_ALL

# Prints the answer to a message, on one line. Its argument is the message's data, JSON byte for byte; jq can look into
# it. This refuses a message: printf '%s\n' '{"header":{"status":"1","error":{"code":"mytype.soldOut"}}}'
answer() {
    printf '{"header":{"status":"0","command":{"type":"reply"}},"payload":{"data":%s}}\n' "$1"
}

# Prints the data of a request: they are its last member, and no string of JSON has "data": in it, unescaped.
data_of() {
    set -- "${1#*\"data\":}"
    printf '%s' "${1%\}\}}"
}

# Answers each line of the standard input, to its end.
serve() {
    while IFS= read -r line; do
        case $line in
            *'"messageType":"request"'*) answer "$(data_of "$line")" ;;
        esac
    done
}

# Not where the tests read this file.
case ${0##*/} in
    handler.sh) serve ;;
esac
