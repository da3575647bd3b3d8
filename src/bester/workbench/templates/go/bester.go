package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// This file attaches to a Bester server, and serves its requests (docs/protocol.md, sections 1 and 6).

// MaxBody is what a server sends with its default limits, in bytes.
const MaxBody = 1024*1024 + 64*1024

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// Description is what a type is for (section 6.9). Request and Answer are JSON Schemas, as of json.RawMessage.
type Description struct {
	Description string `json:"description,omitempty"`
	Version     string `json:"version,omitempty"`
	Request     any    `json:"request,omitempty"`
	Answer      any    `json:"answer,omitempty"`
	Samples     []any  `json:"samples,omitempty"`
}

// Sender is who sent a message, as the server knows it.
type Sender struct {
	User     *string `json:"user"`
	Server   *string `json:"server"`
	Verified bool    `json:"verified"`
}

// Request is one message.
type Request struct {
	Type  string
	ID    string          // the sender's own tag
	Data  json.RawMessage // as it came, byte for byte
	From  Sender
	Scope string // "client", "server" or "handler"
}

// Command is one thing that is to be done with the answer's data (section 3.3).
type Command struct {
	Type      string `json:"type"`
	Data      any    `json:"data,omitempty"`
	Transient bool   `json:"transient,omitempty"`
}

// Answer is what is to be done with a message; without commands, nothing.
type Answer struct {
	Commands []Command
	Data     json.RawMessage // what the commands carry; JSON
}

// Refusal is an error that the sender is told, in the handler's own words; of other errors only that there was one.
type Refusal struct {
	Code      string `json:"code,omitempty"` // for programs, as in mytype.soldOut
	Message   string `json:"message,omitempty"`
	Temporary bool   `json:"temporary,omitempty"` // the same message can succeed later
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Message }

// WriteFrame writes a body with its length before it, in one piece.
func WriteFrame(to io.Writer, body []byte) error {
	frame := make([]byte, 4, 4+len(body))
	binary.LittleEndian.PutUint32(frame, uint32(len(body)))
	_, err := to.Write(append(frame, body...))
	return err
}

// ReadFrame reads one body, however the stream was cut.
func ReadFrame(from io.Reader) ([]byte, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(from, prefix[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(prefix[:])
	if size == 0 || size > MaxBody {
		return nil, fmt.Errorf("a frame of %d bytes", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(from, body); err != nil {
		return nil, err
	}
	return body, nil
}

type message struct {
	Header struct {
		MessageType string `json:"messageType"`
		ID          string `json:"id"`
		Status      string `json:"status"`
		Scope       string `json:"scope"`
		From        Sender `json:"from"`
	} `json:"header"`
	Payload struct {
		Type  string          `json:"type"`
		ID    string          `json:"id"`
		Data  json.RawMessage `json:"data"`
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	} `json:"payload"`
}

// Serve serves a type until SIGTERM or SIGINT; then it takes nothing new, finishes what is outstanding, and returns. When
// the server goes away it tries again until it is back.
func Serve(kind string, description Description, concurrency int, handle func(Request) (Answer, error)) {
	path := os.Getenv("BESTER_HANDLERS")
	if path == "" {
		path = "besterHandlers"
	}
	data := map[string]any{"types": []string{kind}, "concurrency": concurrency,
		"describe": map[string]Description{kind: description}}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	pause := firstPause
	for {
		attached, stopped, err := attach(path, data, handle, stop)
		if stopped {
			return
		}
		if attached {
			pause = firstPause
		}
		log.Printf("%v; trying again in %v", err, pause)
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
		if pause *= 2; pause > longestPause {
			pause = longestPause
		}
	}
}

// One connection to the server. What was asked on it is never answered on another one.
type attachment struct {
	conn    net.Conn
	writing sync.Mutex
	under   sync.WaitGroup // the requests that are not answered yet
	handle  func(Request) (Answer, error)
}

func attach(
	path string, data any, handle func(Request) (Answer, error), stop <-chan os.Signal,
) (attached, stopped bool, err error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return false, false, err
	}
	a := &attachment{conn: conn, handle: handle}
	defer a.under.Wait()
	defer conn.Close()
	a.send(map[string]any{
		"header":  map[string]any{"scope": "handler"},
		"payload": map[string]any{"type": "attach", "id": "attach", "data": data},
	})
	told := make(chan message)
	failed := make(chan error, 1)
	done := make(chan struct{})
	defer close(done)
	go a.read(told, failed, done)
	for {
		select {
		case <-stop:
			stopped = true
			if !attached {
				return
			}
			a.send(map[string]any{"header": map[string]any{}, "payload": map[string]any{"type": "detach", "id": "detach"}})
		case err = <-failed:
			return
		case m := <-told:
			switch {
			case m.Header.MessageType == "request":
				a.under.Add(1)
				go a.answer(m)
			case m.Header.MessageType == "fatal":
				return attached, stopped, fmt.Errorf("the server ended the connection: %s", m.Payload.Error.Message)
			case m.Payload.ID == "attach" && m.Header.Status == "good":
				attached = true
				fmt.Println("attached")
			case m.Payload.ID == "attach":
				return attached, stopped, fmt.Errorf("not attached: %s", m.Payload.Error.Message)
			case m.Payload.ID == "detach":
				a.under.Wait() // no requests come any more
				return
			}
		}
	}
}

func (a *attachment) read(told chan<- message, failed chan<- error, done <-chan struct{}) {
	for {
		body, err := ReadFrame(a.conn)
		var m message
		if err == nil {
			err = json.Unmarshal(body, &m)
		} else if errors.Is(err, io.EOF) {
			err = errors.New("the server closed the connection")
		}
		if err != nil {
			failed <- err
			return
		}
		select {
		case told <- m:
		case <-done:
			return
		}
	}
}

func (a *attachment) answer(m message) {
	defer a.under.Done()
	data := m.Payload.Data
	if data == nil {
		data = json.RawMessage("null")
	}
	answer, err := a.handle(Request{m.Payload.Type, m.Payload.ID, data, m.Header.From, m.Header.Scope})
	// json.Marshal would write the data anew, without its white space: it is put in as it is.
	var body bytes.Buffer
	id, _ := json.Marshal(m.Header.ID)
	fmt.Fprintf(&body, `{"header":{"id":%s,`, id)
	if err != nil {
		log.Printf("not handled: %v", err)
		body.WriteString(`"status":"1"`)
		if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
			told, _ := json.Marshal(refusal)
			fmt.Fprintf(&body, `,"error":%s`, told)
		}
		body.WriteString("}}")
	} else {
		if answer.Commands == nil {
			answer.Commands = []Command{}
		}
		if answer.Data == nil {
			answer.Data = json.RawMessage("null")
		}
		commands, _ := json.Marshal(answer.Commands)
		fmt.Fprintf(&body, `"status":"0","commands":%s},"payload":{"data":%s}}`, commands, answer.Data)
	}
	a.write(body.Bytes())
}

func (a *attachment) send(value any) {
	body, _ := json.Marshal(value)
	a.write(body)
}

// What cannot be written is lost with the connection, which reading it finds out.
func (a *attachment) write(body []byte) {
	a.writing.Lock()
	defer a.writing.Unlock()
	_ = WriteFrame(a.conn, body)
}
