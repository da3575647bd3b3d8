#!/bin/sh
# The functions, and the program as a server uses it.
set -u
cd "$(dirname "$0")" || exit 1
. ./handler.sh

failed=0
# Compares two texts.
same() {
    if [ "$2" = "$3" ]; then echo "ok   $1"; else echo "FAIL $1: got '$2', wanted '$3'"; failed=1; fi
}
request='{"header":{"messageType":"request","id":"1"},"payload":{"type":"mytype","id":"a \"data\": b","data":'
reply='{"header":{"status":"0","command":{"type":"reply"}},"payload":{"data":'

same "the data" "$(data_of "$request"'{"data": [1.50, "\n"]}}}')" '{"data": [1.50, "\n"]}'
same "an answer" "$(answer '{ }')" "$reply{ }}}"
same "two requests" "$(printf '%s\n' "${request}1}}" "$request\"\\\\n\"}}" | ./handler.sh)" "${reply}1}}
$reply\"\\\\n\"}}"
same "another message" "$(echo '{"header":{"messageType":"statusReport"}}' | ./handler.sh)" ""
same "no input" "$(./handler.sh </dev/null)" ""
exit "$failed"
