package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/iotest"
)

func TestItAnswersWithTheData(t *testing.T) {
	answer, err := handle(Request{Scope: "client", Data: json.RawMessage(`[ 1.50 ]`)})
	if err != nil || string(answer.Data) != `[ 1.50 ]` || answer.Commands[0].Type != "reply" {
		t.Fatal(answer, err)
	}
}

func TestItRefusesOtherServers(t *testing.T) {
	_, err := handle(Request{Scope: "server"})
	if refusal := (*Refusal)(nil); !errors.As(err, &refusal) {
		t.Fatal(err)
	}
}

func TestFramesAreFoundHoweverTheStreamIsCut(t *testing.T) {
	var stream bytes.Buffer
	texts := []string{`{}`, `{"text":"môre 😀"}`, `null`}
	for _, text := range texts {
		_ = WriteFrame(&stream, []byte(text))
	}
	from := iotest.OneByteReader(&stream)
	for _, text := range texts {
		if body, err := ReadFrame(from); err != nil || string(body) != text {
			t.Fatal(string(body), err)
		}
	}
}

func TestSizesAreBounded(t *testing.T) {
	for _, prefix := range []string{"\x00\x00\x00\x00", "\x01\x00\x11\x00", "\xff\xff\xff\xff"} {
		if body, err := ReadFrame(bytes.NewBufferString(prefix)); err == nil {
			t.Fatal(len(body))
		}
	}
}

func TestItAttachesAnswersAndDetaches(t *testing.T) {
	folder, err := os.MkdirTemp("", "handler-") // t.TempDir() is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("BESTER_HANDLERS", path)
	ended := make(chan struct{})
	go func() {
		Serve("mytype", description, 64, handle)
		close(ended)
	}()
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	expect := func(wanted string) {
		t.Helper()
		if body, err := ReadFrame(conn); err != nil || !bytes.Contains(body, []byte(wanted)) {
			t.Fatal(string(body), err)
		}
	}
	send := func(body string) { _ = WriteFrame(conn, []byte(body)) }
	expect(`"types":["mytype"]`)
	send(`{"header":{"messageType":"statusReport","status":"good"},"payload":{"id":"attach"}}`)
	send(`{"header":{"messageType":"request","id":"1","scope":"client"},"payload":{"type":"mytype","data":[ 1.50 ]}}`)
	expect(`{"header":{"id":"1","status":"0","commands":[{"type":"reply"}]},"payload":{"data":[ 1.50 ]}}`)
	_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
	expect(`"detach"`)
	send(`{"header":{"messageType":"statusReport","status":"good"},"payload":{"id":"detach"}}`)
	<-ended
}
