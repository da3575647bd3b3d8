"""bester.js in Node, against the real server: also through kill -9, with nothing lost."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from tests import forking
from tests.javascript import NODE
from tests.ports import free_port

import bester

TIMEOUT_S = 30.0
PASSWORD = "correct horse"
BESTERD = str(Path(sys.executable).with_name("besterd"))

CLIENT = Path(bester.__file__).parent / "web/static/js/bester.js"


def _node_version() -> tuple[int, ...]:
    if NODE is None:
        return (0, 0)
    told = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in re.findall(r"[0-9]+", told)[:2])


VERSION = _node_version()
pytestmark = pytest.mark.skipif(VERSION < (20, 10), reason="there is no Node that has a WebSocket")
FLAGS = [] if VERSION >= (22, 0) else ["--experimental-websocket"]

HANDLER = '''
"""Sends what it gets to whom it names."""
import asyncio
import sys
from bester import Handler, Hold, Refuse, Reply, SendClients

handler = Handler(sys.argv[1], concurrency=1024, dry_run=True, retry_max_s=0.3)

@handler.on("post")
def post(message):
    return SendClients([message.data["to"]], message.data)

@handler.on("raw")
def raw(message):
    return SendClients([message.data["to"]], message.raw)

@handler.on("echo")
def echo(message):
    if message.data == "refuse":
        raise Refuse("sold out", code="shop.soldOut", temporary=True)
    return Reply(message.data)

@handler.on("slow")
async def slow(message):
    await asyncio.sleep(message.data["seconds"])
    return [SendClients(["nobody"]), Reply(message.data, "slow.answer"), Reply("one more")]

ended = []

@handler.on("count")
async def count(message):
    try:
        for number in range(message.data):
            yield Reply(number)
            await asyncio.sleep(0)
        if message.data == 4:
            raise Refuse("four is too many", code="count.four")
        await asyncio.sleep(message.data == 5 and 60)
    except (asyncio.CancelledError, GeneratorExit):
        ended.append(message.data)
        raise

@handler.on("keeper")
def keep(message):
    return Hold("t")

@handler.on("held")
def held(message):
    return None

@handler.on("ended")
def how_it_ended(message):
    return Reply(ended)

handler.run()
'''


class Daemon:
    """A server in a folder, as a process."""

    def __init__(self, folder: Path, tree: dict[str, Any]) -> None:
        self.folder = folder
        self.config = folder / "server.json"
        self.config.write_text(json.dumps(tree))
        self.port = int(tree["network"]["tcp4"]["port"])
        self.web = f"http://127.0.0.1:{tree['network']['web']['port']}" if "web" in tree["network"] else ""
        self.process: forking.Running | None = None

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = forking.start([BESTERD, self.config.name], self.folder, os.environ, stderr=log)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"is ready\n"):
                return
        pytest.fail(f"no server:\n{(self.folder / 'log').read_text()}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(TIMEOUT_S)
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def command(self, type: str, **args: Any) -> Any:
        """Runs a command on the operator's socket."""
        message = {"payload": {"type": "builtin", "id": "1", "data": {"command": {"type": type, "args": args}}}}
        body = json.dumps(message).encode()
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(TIMEOUT_S)
            control.connect(str(self.folder / "besterControl"))
            control.sendall(struct.pack("<I", len(body)) + body)
            (size,) = struct.unpack("<I", control.recv(4, socket.MSG_WAITALL))
            report = json.loads(control.recv(size, socket.MSG_WAITALL))
        assert report["header"]["status"] == "good", report
        return report["payload"].get("data")


class Place:
    """A server with a handler, and Node programs beside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemon = Daemon(
            folder,
            {
                "server": {"name": "j.example"},
                "network": {
                    "types": ["tcp4", "web"],
                    "tcp4": {"port": free_port(), "address": "127.0.0.1"},
                    "web": {"port": free_port(), "address": "127.0.0.1"},
                },
                "handlers": {
                    "availableTypes": ["post", "echo", "slow"],
                    "typeMap": {"post": {}, "echo": {}, "slow": {}},
                    "guards": [{"guard": "keeper", "for": {"types": ["held"]}, "onFailure": "reject"}],
                },
                "accounts": {"registration": "firstUse"},
            },
        )
        self.url = self.daemon.web.replace("http", "ws") + "/ws"
        script = folder / "handler.py"
        script.write_text(HANDLER)
        self.daemon.start()
        with open(os.devnull, "wb") as nowhere:
            command = ["python", script.name, "besterHandlers"]
            self._handler = forking.start(command, folder, os.environ, stdout=nowhere)
        self._programs: list[subprocess.Popen[str]] = []
        deadline = time.monotonic() + TIMEOUT_S
        while not any(row["attached"] for row in self.daemon.command("listHandlers")):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def program(self, body: str) -> subprocess.Popen[str]:
        """Starts a Node program that has ``Client``, ``BesterError``, ``url`` and ``say``."""
        head = (
            f"import {{ Client, BesterError }} from {json.dumps(CLIENT.as_uri())};\n"
            f"const url = {json.dumps(self.url)}, password = {json.dumps(PASSWORD)};\n"
            "const say = (value) => process.stdout.write(JSON.stringify(value) + '\\n');\n"
            "const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));\n"
        )
        path = self.folder / f"program{len(self._programs)}.mjs"
        path.write_text(head + body)
        assert NODE is not None
        program = subprocess.Popen([NODE, *FLAGS, "--no-warnings", str(path)], stdout=subprocess.PIPE, text=True)
        self._programs.append(program)
        return program

    def run(self, body: str) -> Any:
        """Runs a program to its end, and returns what it said last."""
        told, _ = self.program(body).communicate(timeout=TIMEOUT_S)
        return json.loads(told.splitlines()[-1])

    def close(self) -> None:
        for program in self._programs:
            program.kill()
            program.wait()
            assert program.stdout is not None
            program.stdout.close()
        self._handler.terminate()
        self._handler.wait(TIMEOUT_S)
        self.daemon.stop()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    try:
        yield place
    finally:
        place.close()


def test_sends_and_receives(place: Place) -> None:
    told = place.run("""
        const client = await Client.connect(url, { username: "t", password });
        const report = await client.send("echo", { text: "hello" }, { route: true });
        const message = await client.receive();
        const plan = await client.send("post", { to: "t" }, { dryRun: true });
        const seconds = await client.ping();
        const types = await client.builtin("listTypes");
        client.close();
        say({ server: client.server, good: report.good, steps: report.route.map((step) => step.name), message,
              plan: plan.route.map((step) => step.status), quick: seconds < 5, types,
              rest: (await client.receive()) ?? null });
    """)
    assert told["server"] == "j.example"
    assert told["good"]
    assert told["steps"][0] == "echo"
    assert (told["message"]["type"], told["message"]["data"]) == ("echo", {"text": "hello"})
    assert told["plan"]
    assert told["quick"]
    assert told["types"] == ["count", "echo", "ended", "held", "keeper", "post", "raw", "slow"]
    assert told["rest"] is None


def test_errors_have_stable_codes(place: Place) -> None:
    told = place.run("""
        const code = (promise) => promise.then(() => "none", (error) => error instanceof BesterError && error.code);
        const codes = {};
        const client = await Client.connect(url, { username: "t", password });
        codes.wrong = await code(Client.connect(url, { username: "t", password: "wrong" }));
        codes.away = await code(Client.connect("ws://127.0.0.1:9/ws", { username: "t", password }));
        codes.type = await code(client.send("nobody").then((report) => report.orThrow()));
        codes.refused = await client.ask("echo", "refuse").catch(({ code, reason, message, temporary }) => (
            [code, reason, message, temporary]));
        codes.large = await code(client.send("echo", "x".repeat(2_000_000)));
        codes.id = await code(client.send("echo", 1, { id: "auth_special" }));
        codes.command = await code(client.builtin("noSuchCommand"));
        client.close();
        codes.closed = await code(client.send("echo"));
        say(codes);
    """)
    assert told == {
        "wrong": "authenticationFailed",
        "away": "connectFailed",
        "type": "noHandler",
        "refused": ["handlerError", "shop.soldOut", "sold out", True],
        "large": "tooLarge",
        "id": "badId",
        "command": "unknownCommand",
        "closed": "connectionClosed",
    }


def test_answers_in_parts(place: Place) -> None:
    told = place.run("""
        const client = await Client.connect(url, { username: "t", password, mail: false });
        const data = [];
        for await (const part of client.stream("count", 300, { window: 7 })) data.push(part.data);
        const twice = await Promise.all([10, 20].map(async (many) => {
            let count = 0;
            for await (const part of client.stream("count", many, { window: 1 })) count += part.data === count;
            return count;
        }));
        const parts = client.stream("count", 1);
        const raw = [(await parts.next()).value.raw, (await parts.next()).value.good, (await parts.next()).done];
        const refused = [];
        try {
            for await (const part of client.stream("count", 4)) refused.push(part.data);
        } catch ({ code, reason, report }) {
            refused.push(code, reason, report.good);
        }
        client.close();
        say({ data, twice, raw, refused });
    """)
    assert told["data"] == list(range(300))
    assert told["twice"] == [10, 20]
    assert told["raw"] == ["0", True, True]
    assert told["refused"] == [0, 1, 2, 3, "handlerError", "count.four", False]


def test_what_is_held(place: Place) -> None:
    told = place.run("""
        const t = await Client.connect(url, { username: "t", password });
        const told = { status: (await t.send("held", 1)).results[0].status };
        await t.send("held", 2);
        const { held, trusted } = await t.held.list();
        told.list = held.map(({ data, from }) => [data, from.user]);
        told.trusted = trusted;
        told.released = await t.held.release({ ids: [held[0].id] });
        told.refused = await t.held.refuse({ user: "t" });
        told.left = (await t.held.list({ limit: 1 })).held;
        told.wrong = await t.held.release({ ids: [] , user: "t" }).catch(({ code }) => code);
        t.close();
        say(told);
    """)
    assert told == {
        "status": "held",
        "list": [["1", "t"], ["2", "t"]],
        "trusted": [],
        "released": 1,
        "refused": 1,
        "left": [],
        "wrong": "badArguments",
    }


def test_what_is_left_is_cancelled(place: Place) -> None:
    told = place.run("""
        const client = await Client.connect(url, { username: "t", password });
        const why = (promise) => promise.then(() => "none", (error) => error.code ?? error);
        const collect = async (stream) => { for await (const part of stream) if (part.data === 4) await pause(20); };
        const told = {};
        for await (const part of client.stream("count", 1_000_001)) if (part.data === 100) break;
        const abort = new AbortController();
        setTimeout(() => abort.abort("enough"), 50);
        told.aborted = await why(collect(client.stream("count", 5, { signal: abort.signal })));
        told.late = await why(collect(client.stream("count", 5, { timeout: 0.05 })));
        told.before = await why(collect(client.stream("count", 5, { signal: abort.signal })));
        told.ask = await why(client.ask("slow", { seconds: 60 }, { signal: AbortSignal.timeout(50) }).catch(
            (error) => { throw error.name; }));
        told.asked = await why(client.ask("slow", { seconds: 60 }, { timeout: 0.05 }));
        const sending = client.send("slow", { seconds: 60 }, { id: "mine" });
        told.asks = client.cancel("mine");
        told.report = (await sending).error.code;
        told.again = client.cancel("mine");
        // a reply is there: the signal has nothing to cancel any more
        const later = new AbortController();
        told.reply = (await client.ask("slow", { seconds: 0 }, { signal: later.signal, timeout: 10 })).data;
        later.abort();
        client.stream("count", 5).next();
        await pause(50);
        client.close();
        const other = await Client.connect(url, { username: "t", password });
        for (let tries = 0; tries < 100; tries += 1) {
            told.ended = (await other.ask("ended")).data;
            if (told.ended.length === 4) break;
            await pause(20);
        }
        await pause(50);
        other.close();
        say(told);
    """)
    assert told == {
        "aborted": "enough",
        "late": "timeout",
        "before": "enough",
        "ask": "TimeoutError",
        "asked": "timeout",
        "asks": True,
        "report": "cancelled",
        "again": False,
        "reply": {"seconds": 0},
        "ended": [1_000_001, 5, 5, 5],
    }


def test_answers_come_to_those_who_asked(place: Place) -> None:
    told = place.run("""
        const code = (promise) => promise.then(() => "none", (error) => error instanceof BesterError && error.code);
        const client = await Client.connect(url, { username: "t", password });
        const other = await Client.connect(url, { username: "t", password, mail: false, features: [] });
        const received = [];
        client.onmessage = (message) => received.push(message);
        const order = [];
        const ask = async (who, seconds) => {
          const answer = await who.ask("slow", { seconds });
          order.push(seconds);
          return answer;
        };
        const answers = await Promise.all([ask(client, 0.3), ask(other, 0.05), ask(client, 0.15)]);
        const codes = {
          late: await code(client.ask("slow", { seconds: 0.2 }, { timeout: 0.05 })),
          next: (await client.ask("slow", { seconds: 0.3 })).data.seconds,
          quiet: await code(client.ask("post", { to: "t" })),
          bad: await code(client.ask("nobody")),
          large: await code(client.ask("echo", "x".repeat(2_000_000))),
        };
        await client.send("echo", "as a message", { id: "mine" });
        const lost = code(client.ask("slow", { seconds: 1.5 }));
        client.close();
        codes.lost = await lost;
        codes.closed = await code(client.ask("echo"));
        other.close();
        const again = await Client.connect(url, { username: "t", password });
        const rest = await Promise.race([again.receive(), pause(100)]);
        again.close();
        say({ answers: answers.map(({ type, data }) => [type, data.seconds]), order, codes, rest: rest ?? null,
              received: received.map(({ type, data, replyTo }) => [type, data, replyTo ?? null]) });
    """)
    assert told == {
        "answers": [["slow.answer", 0.3], ["slow.answer", 0.05], ["slow.answer", 0.15]],
        "order": [0.05, 0.15, 0.3],
        "codes": {
            "late": "timeout",
            "next": 0.3,
            "quiet": "noReply",
            "bad": "noHandler",
            "large": "tooLarge",
            "lost": "connectionClosed",
            "closed": "connectionClosed",
        },
        "received": [["post", {"to": "t"}, None], ["echo", "as a message", "mine"]],
        "rest": None,
    }


def test_mail_that_is_not_wanted_stays_where_it_is(place: Place) -> None:
    told = place.run("""
        await (await Client.connect(url, { username: "g", password })).logout();
        const sender = await Client.connect(url, { username: "t", password, mail: false });
        const kept = async () => (await sender.send("post", { to: "g" })).results[0].status;
        await kept();
        const asking = await Client.connect(url, { username: "g", password, mail: false });
        const answer = (await asking.ask("echo", 1)).data;
        const while_there = await kept();
        const picky = await Client.connect(url, { username: "g", password, mail: ["echo"] });
        await picky.send("echo", 2);
        const picked = await picky.receive();
        const features = asking.features;
        asking.close();
        picky.close();
        const g = await Client.connect(url, { username: "g", password });
        const got = [await g.receive(), await g.receive()].map(({ type }) => type);
        g.close();
        sender.close();
        say({ answer, while_there, picked: [picked.type, picked.data], got, features });
    """)
    assert told == {
        "answer": 1,
        "while_there": "stored",
        "picked": ["echo", 2],
        "got": ["post", "post"],
        "features": ["route", "token", "replyTo", "parts"],
    }


def test_comes_back_with_its_token(place: Place) -> None:
    told = place.run("""
        const first = await Client.connect(url, { username: "t", password });
        first.close();
        const second = await Client.connect(url, { username: "t", token: first.token });
        const good = (await second.send("echo", 1)).good;
        const { token } = second;
        await second.logout();
        const third = await Client.connect(url, { username: "t", token }).catch((error) => error.code);
        say({ good, third });
    """)
    assert told == {"good": True, "third": "authenticationFailed"}


def test_what_was_not_done_with_comes_again_and_what_was_does_not(place: Place) -> None:
    told = place.run("""
        const kept = new Map();
        const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value) };
        const sender = await Client.connect(url, { username: "t", password });
        let client = await Client.connect(url, { username: "g", password, storage });
        const got = [];
        let failed = false;
        client.onerror = () => (failed = true);
        client.onmessage = async ({ data }) => {
          if (data.number === 2) throw new Error("not now");
          got.push(data.number);
        };
        for (const number of [1, 2, 3]) sender.send("post", { to: "g", number }).catch(() => {});
        while (got.length < 2 || !failed) await pause(10);
        await pause(100);
        client.close();
        client = await Client.connect(url, { username: "g", password, storage });
        const again = (await client.receive()).data.number;
        client.close();
        sender.close();
        say({ got, again });
    """)
    assert told == {"got": [1, 3], "again": 2}


NUMBERS = [
    ('{"to":"g","n":9007199254740993}', False),
    ('{"to":"g","n":9007199254740991}', True),
    ('{"n":' + "9" * 5000 + ',"to":"g"}', False),
    ('{"to":"g", "n":[1e400]}', False),
    ('{"to":"g","n":1e-400}', False),
    ('{"to":"g","n":0.12345678901234567890}', False),
    ('{"to":"g","n":-0.5e-7}', True),
    (r'{"to":"g","a\"data\":":"9007199254740993 \\"}', True),
]


def test_numbers_that_javascript_rounds_are_told(place: Place) -> None:
    receiver = place.program(f"""
        const client = new Client(url, {{ username: "g", password }});
        await client.open();
        say({{ open: true }});
        for (let left = {len(NUMBERS)}; left; left -= 1) {{
          const message = await client.receive();
          say({{ raw: message.raw, exact: message.exact, keys: Object.keys(message.data).length }});
        }}
        const code = await client.send("echo", [NaN]).catch((error) => error.code);
        const {{ exact, raw }} = await client.send("echo", 1);
        client.close();
        say({{ code, exact, raw: raw ?? null }});
        process.exit();
    """)
    assert receiver.stdout is not None
    assert json.loads(receiver.stdout.readline()) == {"open": True}

    async def send() -> None:
        url = f"bester://t@127.0.0.1:{place.daemon.port}"
        async with bester.Client(url, password=PASSWORD, on_message=lambda message: None) as client:
            for text, _ in NUMBERS:
                assert (await client.send("raw", Raw(text.encode()))).good

    asyncio.run(send())
    for text, exact in NUMBERS:
        assert json.loads(receiver.stdout.readline()) == {"raw": text, "exact": exact, "keys": 2}
    assert json.loads(receiver.stdout.readline()) == {"code": "badNumber", "exact": True, "raw": None}


def test_nothing_is_lost_through_a_kill(place: Place) -> None:
    """A hundred ``once`` messages to a client that acknowledges; the server is killed between them, twice."""
    receiver = place.program("""
        const client = new Client(url, { username: "g", password });
        const got = [];
        client.onstate = (state) => say({ state });
        await client.open();
        for await (const { data } of client) {
          got.push(data.number);
          if (new Set(got).size === 100) break;
        }
        client.close();
        await pause(100);
        say({ got });
        process.exit();
    """)
    assert receiver.stdout is not None
    while json.loads(receiver.stdout.readline()).get("state") != "open":
        pass
    sender = place.program("""
        const client = await Client.connect(url, { username: "t", password });
        let reported = 0;
        const send = async (number) => {
          for (;;) {
            const report = await client.send("post", { to: "g", number }, { once: true, id: `m${number}` });
            if (report.good) break;
            if (!report.error.temporary) throw new Error(report.error.code);
            await pause(100);
          }
          reported += 1;
          if (reported === 20 || reported === 60) say({ reported });
        };
        const all = [];
        for (let number = 0; number < 100; number += 1) {
          all.push(send(number));
          await pause(15);
        }
        await Promise.all(all);
        say({ reported });
        client.close();
        process.exit();
    """)
    assert sender.stdout is not None
    for _ in range(2):
        assert json.loads(sender.stdout.readline())
        place.daemon.stop(signal.SIGKILL)
        place.daemon.start()
    assert json.loads(sender.stdout.readline()) == {"reported": 100}
    got = json.loads(receiver.communicate(timeout=TIMEOUT_S)[0].splitlines()[-1])["got"]
    assert sorted(got) == list(range(100))


def test_the_package_is_of_this_version() -> None:
    package = json.loads(CLIENT.with_name("package.json").read_text())
    assert package["version"] == bester.__version__
    assert all(CLIENT.with_name(name).exists() for name in package["files"])
