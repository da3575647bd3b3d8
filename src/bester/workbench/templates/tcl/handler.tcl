#!/usr/bin/env tclsh
# A handler of the type mytype: it answers every message with the message's own data.
#
# The server starts it, writes each request to its standard input as one line of JSON, and reads the answer from its
# standard output, one line too (docs/protocol.md, section 6.11). What goes to standard error is in the server's log.

# Returns the answer to a message, as JSON on one line. Its argument is the message's data, JSON byte for byte, in UTF-8;
# the package json of tcllib can look into it. An error refuses the message; its sender is told that it was not handled.
proc answer {data} {
    return "{\"header\":{\"status\":\"0\",\"command\":{\"type\":\"reply\"}},\"payload\":{\"data\":$data}}"
}

# Returns the data of a request: they are its last member, and no string of JSON has "data": in it, unescaped.
proc dataOf {request} {
    set start [expr {[string first "\"data\":" $request] + 7}]
    return [string range $request $start end-2]
}

# Answers each line of the standard input, to its end.
proc serve {} {
    fconfigure stdin -translation binary
    fconfigure stdout -translation binary
    while {[gets stdin line] >= 0} {
        if {[string first "\"messageType\":\"request\"" $line] < 0} continue
        if {[catch {answer [dataOf $line]} told]} {
            puts stderr "not handled: $told"
            set told "{\"header\":{\"status\":\"1\"}}"
        }
        puts stdout $told
        flush stdout
    }
}

# Not where the tests read this file.
if {[info exists argv0] && [file tail $argv0] eq "handler.tcl"} serve
