// Attaches to a Bester server, and serves its requests (docs/protocol.md, sections 1 and 6).

import net from "node:net";
import { member } from "./json.mjs";

export const MAX_BODY = 1024 * 1024 + 64 * 1024; // bytes; what a server sends with its default limits
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5000;
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

// A text as a frame: its length in bytes, 4 bytes little endian, and then itself.
export function frame(text) {
  const body = Buffer.from(text);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(body.length);
  return Buffer.concat([size, body]);
}

// Thrown by answer: its sender is told why, in the handler's own words; of other errors only that there was one.
export class Refuse extends Error {
  constructor(message, { code, temporary = false } = {}) {
    super(message);
    this.told = { code, message, temporary };
  }
}

// Cuts what comes into the bodies of frames, however the stream was cut.
export class Framer {
  #parts = [];
  #held = 0; // bytes in #parts
  #wanted = 4; // as many are needed before there is anything to do

  // Returns the bodies that are now whole. Throws where the stream cannot be read on.
  feed(chunk) {
    this.#parts.push(chunk);
    this.#held += chunk.length;
    const bodies = [];
    if (this.#held < this.#wanted) return bodies;
    const buffer = this.#parts.length === 1 ? chunk : Buffer.concat(this.#parts);
    let at = 0;
    this.#wanted = 4;
    while (buffer.length - at >= 4) {
      const size = buffer.readUInt32LE(at);
      if (size === 0 || size > MAX_BODY) throw new RangeError(`a frame of ${size} bytes`);
      if (buffer.length - at < 4 + size) {
        this.#wanted = 4 + size;
        break;
      }
      bodies.push(buffer.subarray(at + 4, at + 4 + size));
      at += 4 + size;
    }
    this.#held = buffer.length - at;
    this.#parts = this.#held ? [buffer.subarray(at)] : [];
    return bodies;
  }
}

// Serves until SIGTERM or SIGINT; then takes nothing new, finishes what is outstanding, and returns.
export async function serve({
  types,
  answer,
  describe = {},
  name = types[0],
  concurrency = 64,
  address = process.env.BESTER_HANDLERS || "besterHandlers",
}) {
  let attachment = null;
  let wake = () => {};
  let stopping = false;
  const stop = () => {
    stopping = true;
    attachment?.detach();
    wake();
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  let pause = FIRST_PAUSE_MS;
  while (!stopping) {
    attachment = new Attachment(address, { types, name, concurrency, describe }, answer);
    const why = await attachment.ended;
    if (stopping) break;
    if (attachment.attached) pause = FIRST_PAUSE_MS;
    console.error(`${why}; trying again in ${pause} ms`);
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, pause);
      wake = () => (clearTimeout(timer), resolve());
    });
    pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
  }
  process.off("SIGTERM", stop);
  process.off("SIGINT", stop);
}

// One connection to the server. What was asked on it is never answered on another one.
class Attachment {
  attached = false;
  #framer = new Framer();
  #outstanding = 0;
  #detached = false;
  #why = "the server closed the connection";

  constructor(address, data, answer) {
    this.answer = answer;
    this.socket = net.connect(address);
    this.ended = new Promise((resolve) => this.socket.on("close", () => resolve(this.#why)));
    this.socket.on("error", (error) => (this.#why = error.message));
    // What the server does not read is not added to: reading stops until it has caught up.
    this.socket.on("drain", () => this.socket.resume());
    this.socket.on("data", (chunk) => this.#read(chunk));
    this.#send({ header: { scope: "handler" }, payload: { type: "attach", id: "attach", data } });
  }

  // Asks for no new requests; those that come before the report are still answered.
  detach() {
    if (this.attached) this.#send({ header: {}, payload: { type: "detach", id: "detach" } });
    else this.socket.destroy();
  }

  #read(chunk) {
    try {
      for (const body of this.#framer.feed(chunk)) this.#receive(utf8.decode(body));
    } catch (error) {
      this.#why = `not of the protocol: ${error.message}`;
      this.socket.destroy();
    }
  }

  #receive(text) {
    const { header, payload } = JSON.parse(text);
    if (header.messageType === "request") {
      this.#handle({
        type: payload.type,
        id: payload.id ?? "",
        data: payload.data,
        raw: member(member(text, "payload"), "data") ?? "null",
        from: header.from,
        scope: header.scope,
        requestId: header.id,
      });
    } else if (header.messageType === "fatal") {
      this.#why = `the server ended the connection: ${payload?.error?.message}`;
    } else if (header.messageType === "statusReport" && payload.id === "attach") {
      this.attached = header.status === "good";
      if (this.attached) console.log("attached");
      else this.#why = `not attached: ${payload.error?.message}`;
    } else if (header.messageType === "statusReport" && payload.id === "detach") {
      this.#detached = true;
      this.#finish();
    }
  }

  async #handle(request) {
    this.#outstanding++;
    const id = JSON.stringify(request.requestId);
    let text;
    try {
      const { command, commands, raw } = await this.answer(request);
      const what = commands ? `"commands":${JSON.stringify(commands)}` : `"command":${JSON.stringify(command)}`;
      text = `{"header":{"id":${id},"status":"0",${what}},"payload":{"data":${raw ?? "null"}}}`;
    } catch (error) {
      console.error(`not handled: ${error.message}`);
      const why = error instanceof Refuse ? `,"error":${JSON.stringify(error.told)}` : "";
      text = `{"header":{"id":${id},"status":"1"${why}}}`;
    }
    this.#outstanding--;
    this.#write(frame(text));
    this.#finish();
  }

  #finish() {
    if (this.#detached && this.#outstanding === 0) this.socket.end();
  }

  #send(message) {
    this.#write(frame(JSON.stringify(message)));
  }

  #write(bytes) {
    if (!this.socket.write(bytes)) this.socket.pause();
  }
}
