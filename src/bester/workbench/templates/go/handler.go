// A handler of the type mytype: it answers every message with the message's own data.
package main

import (
	"log"
	"os"
)

func typeName() string {
	if name := os.Getenv("BESTER_TYPE"); name != "" {
		return name
	}
	return "mytype"
}

// What people and programs are told of the type: bester handler describe mytype. JSON Schemas of its data can be in it,
// too, as Request and Answer.
var description = Description{
	Description: "Answers with the message's own data.",
	Version:     "1",
	Samples:     []any{map[string]string{"to": "t", "text": "Hello"}},
}

// handle returns what is to be done with one message; it is called in a goroutine of its own. The request's Data is JSON
// as it came, for json.Unmarshal. Of an error the sender is told that there was one, and of a *Refusal what it says.
func handle(request Request) (Answer, error) {
	if request.Scope == "server" {
		return Answer{}, &Refusal{Code: "mytype.noServers", Message: "other servers are not answered"}
	}
	return Answer{Commands: []Command{{Type: "reply"}}, Data: request.Data}, nil
}

func main() {
	log.SetFlags(0)
	Serve(typeName(), description, 64, handle)
}
