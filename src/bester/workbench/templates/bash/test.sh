#!/usr/bin/env bash
# The functions, and, where there is socat, the program as a server uses it.
set -u
export LC_ALL=C
cd "$(dirname "$0")" || exit 1
. ./handler.sh

failed=0
# Compares two texts.
same() {
    if [ "$2" = "$3" ]; then echo "ok   $1"; else echo "FAIL $1: got '$2', wanted '$3'"; failed=1; fi
}
bytes() { od -An -v -tx1 | tr -d ' \n'; }
body_of() { local body=; read_frame && printf '%s.' "$body"; }

same "a length is 4 bytes, little endian" "$(write_frame '{}' | bytes)" 020000007b7d
same "a length is in bytes" "$(write_frame 'ô' | bytes)" 02000000c3b4
same "a long body" "$(write_frame "$(printf %70000d 1)" | head -c 4 | bytes)" 70110100
same "a frame" "$(printf '\2\0\0\0{}rest' | body_of)" "{}."
same "a frame that ends with a line end" "$(printf '\3\0\0\0{}\n' | body_of)" $'{}\n.'
same "a frame in pieces" "$({ printf '\2\0'; sleep 0.05; printf '\0\0{'; sleep 0.05; printf '}'; } | body_of)" "{}."
same "half a frame" "$(printf '\2\0\0\0{' | body_of)" ""
same "half a length" "$(printf '\2\0' | body_of)" ""
same "no body" "$(printf '\0\0\0\0' | body_of 2>/dev/null)" ""
same "too large" "$(printf '\377\377\377\377' | body_of 2>/dev/null)" ""
same "an answer" "$(printf '\6\0\0\0[1.50]' | converse | tail -c +5)" \
    '{"header":{"status":"0","commands":[{"type":"reply"}]},"data":[1.50]}'
answer() { refusal='{"code":"mytype.no"}'; return 1; }
same "a refusal" "$(printf '\2\0\0\0{}' | converse | tail -c +5)" '{"header":{"status":"1","error":{"code":"mytype.no"}}}'
answer() { return 1; }
same "a failure" "$(printf '\2\0\0\0{}' | converse | tail -c +5)" '{"header":{"status":"1"}}'

if command -v socat >/dev/null; then
    folder=$(mktemp -d)
    BESTER_SOCKET=$folder/s ./handler.sh &
    handler=$!
    while kill -0 "$handler" 2>/dev/null && [ ! -S "$folder/s" ]; do sleep 0.05; done
    same "the program" "$(printf '\4\0\0\0null' | socat -t 60 - "UNIX-CONNECT:$folder/s" | tail -c +5)" \
        '{"header":{"status":"0","commands":[{"type":"reply"}]},"data":null}'
    kill "$handler"
    wait "$handler"
    same "its socket is gone" "$(ls "$folder")" ""
    rm -r "$folder"
else
    echo "skip the program: there is no socat"
fi
exit "$failed"
