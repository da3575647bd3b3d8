import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Framer, MAX_BODY, Refuse, frame } from "./bester.mjs";
import { TYPE, answer } from "./handler.mjs";
import { member } from "./json.mjs";

test("it answers with the data", () => {
  const answered = answer({ raw: '{"a": 1}', scope: "client" });
  assert.deepEqual(answered, { command: { type: "reply" }, raw: '{"a": 1}' });
});

test("it refuses other servers", () => {
  assert.throws(() => answer({ raw: "1", scope: "server" }), Refuse);
});

test("frames are found however the stream is cut", () => {
  const texts = ["{}", '{"text":"môre 😀"}', "null"];
  const stream = Buffer.concat(texts.map(frame));
  for (let size = 1; size <= stream.length; size++) {
    const framer = new Framer();
    const found = [];
    for (let at = 0; at < stream.length; at += size) found.push(...framer.feed(stream.subarray(at, at + size)));
    assert.deepEqual(found.map(String), texts);
  }
});

test("sizes are bounded", () => {
  for (const size of [0, MAX_BODY + 1, 0xffffffff]) {
    const prefix = Buffer.alloc(4);
    prefix.writeUInt32LE(size);
    assert.throws(() => new Framer().feed(prefix), RangeError);
  }
});

test("a member's text is found as it stands", () => {
  const text = '{"x": {"data": 1}, "d\\u0061ta": [1, "}\\"\\\\", {"data": 2}], "n": 12345678901234567890 }';
  assert.equal(member(text, "data"), '[1, "}\\"\\\\", {"data": 2}]');
  assert.equal(member(text, "n"), "12345678901234567890");
  assert.equal(member(text, "none"), undefined);
  assert.equal(member('{"a":1,"a":2}', "a"), "2");
});

test("it attaches, answers, and detaches", async () => {
  const folder = mkdtempSync(join(tmpdir(), "handler-"));
  const path = join(folder, "s");
  const server = net.createServer().listen(path);
  await once(server, "listening");
  const environment = { ...process.env, BESTER_HANDLERS: path };
  const program = fileURLToPath(new URL("handler.mjs", import.meta.url));
  const child = spawn(process.execPath, [program], { env: environment, stdio: "ignore" });
  try {
    const [socket] = await once(server, "connection");
    const framer = new Framer();
    const bodies = [];
    const next = async () => {
      while (bodies.length === 0) bodies.push(...framer.feed((await once(socket, "data"))[0]));
      return JSON.parse(bodies.shift());
    };
    const report = (id) => frame(JSON.stringify({ header: { messageType: "statusReport", status: "good" }, payload: { id } }));
    const { data } = (await next()).payload;
    assert.deepEqual([data.types, Object.keys(data.describe)], [[TYPE], [TYPE]]);
    socket.write(report("attach"));
    socket.write(frame(`{"header":{"messageType":"request","id":"1","scope":"client"},"payload":{"type":"${TYPE}","data":"Hello"}}`));
    const got = await next();
    assert.deepEqual([got.header.id, got.header.status, got.payload.data], ["1", "0", "Hello"]);
    child.kill("SIGTERM");
    assert.equal((await next()).payload.type, "detach");
    socket.write(report("detach"));
    const [status] = await once(child, "exit");
    assert.equal(status, 0);
  } finally {
    child.kill("SIGKILL");
    server.close();
    rmSync(folder, { recursive: true });
  }
});
