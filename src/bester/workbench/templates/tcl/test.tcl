#!/usr/bin/env tclsh
# The functions, and the program as a server uses it.
cd [file dirname [info script]]
source handler.tcl

set failed 0
# Compares two texts.
proc same {what got wanted} {
    if {$got eq $wanted} {
        puts "ok   $what"
    } else {
        puts "FAIL $what: got '$got', wanted '$wanted'"
        set ::failed 1
    }
}
set request "{\"header\":{\"messageType\":\"request\",\"id\":\"1\"},\"payload\":{\"type\":\"mytype\",\"id\":\"a\",\"data\":"
set reply "{\"header\":{\"status\":\"0\",\"command\":{\"type\":\"reply\"}},\"payload\":{\"data\":"

same "the data" [dataOf "$request{\"data\": \[1.50\]}}}"] "{\"data\": \[1.50\]}"
same "an answer" [answer "{ }"] "$reply{ }}}"
same "two requests" [exec ./handler.tcl << "${request}1}}\n${request}2}}\n"] "${reply}1}}\n${reply}2}}"
same "another message" [exec ./handler.tcl << "{\"header\":{\"messageType\":\"statusReport\"}}\n"] ""
same "no input" [exec ./handler.tcl << ""] ""
exit $failed
