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

// handle returns what is to be done with one message; it is called in a goroutine of its own. The request's Data is JSON
// as it came, for json.Unmarshal. Of an error the sender is told that there was one, and of a *Refusal what it says.
func handle(request Request) (Answer, error) {
	return Answer{Commands: []Command{{Type: "reply"}}, Data: request.Data}, nil
}

func main() {
	log.SetFlags(0)
	Serve(typeName(), 64, handle)
}
