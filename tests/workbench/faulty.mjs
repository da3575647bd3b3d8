// An attached handler that echoes, with the one fault that its argument names; all of them round numbers.

import net from "node:net";

const FAULT = process.argv[2];
const MAX_BODY = 2_000_000;
let stopping = false;
let socket;

function send(message) {
  const text = JSON.stringify(message);
  const body = Buffer.from(text);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(FAULT === "counts-characters" ? text.length : body.length);
  socket.write(Buffer.concat([size, body]));
}

function connect() {
  let input = Buffer.alloc(0);
  socket = net.connect(process.env.BESTER_HANDLERS);
  socket.on("error", () => {});
  socket.on("close", () => stopping || setTimeout(connect, 50));
  socket.on("data", (data) => {
    // Half a character becomes another one.
    input = Buffer.concat([input, FAULT === "text-chunks" ? Buffer.from(data.toString()) : data]);
    while (input.length >= 4) {
      const size = FAULT === "short-size" ? input.readUInt16LE() : input.readUInt32LE();
      if (size === 0 || size > MAX_BODY) return socket.destroy();
      if (input.length < 4 + size) return;
      const text = input.subarray(4, 4 + size).toString();
      input = input.subarray(4 + size);
      let message;
      try {
        message = JSON.parse(text);
      } catch {
        return socket.destroy();
      }
      const { header, payload } = message;
      if (header.messageType === "request") {
        send({ header: { id: header.id, status: "0", command: { type: "reply" } }, payload: { data: payload.data } });
      } else if (payload?.id === "d") socket.end();
    }
  });
  const types = FAULT === "no-types" ? [] : [process.env.BESTER_TYPE];
  const scope = FAULT === "another-scope" ? "client" : "handler";
  send({ header: { scope }, payload: { type: "attach", id: "a", data: { types } } });
}

process.on("SIGTERM", () => {
  stopping = true;
  send({ header: {}, payload: { type: "detach", id: "d" } });
});
connect();
