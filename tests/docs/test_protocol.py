"""docs/protocol.md is true: its tables are those of the code, and its examples are played against a real server.

A comment before a block says what it is. ``X sends`` and ``X gets`` are steps of the play that ``play: ...`` begins;
they may also carry their message themselves, where a reader needs no example. The others are examples of what is not
served yet, frames that are compared with what the encoders make, and a configuration.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from tests.certificates import self_signed

from bester.config import parse
from bester.errors import Fatal, all_kinds
from bester.protocol import frames
from bester.protocol.client import ClientConversation
from bester.protocol.framing import PREFIX, Framer, frame
from bester.protocol.messages import decode_first, decode_message
from bester.protocol.stdio import read_answer
from bester.server.admin.commands import COMMANDS
from bester.server.server import Server
from bester.tls import verifying_context

DOCUMENT = "docs/protocol.md"
PATIENCE_S = 20.0
ROOT = Path(__file__).resolve().parents[2]
DOCUMENTED = (ROOT / DOCUMENT).read_text(encoding="utf-8")

_SAY = re.compile(r"(?P<who>[\w.]+) (?P<verb>sends|gets)(?:, whatever (?P<open>[\w., ]+) is)?(?: (?P<json>\{.*))?\Z")
_ATTACH = re.compile(r"(?P<who>\w+) attaches for (?P<type>\w+)\Z")
_ACT = re.compile(r"(?P<who>[\w.]+) (?P<what>logs in|leaves|is closed)\Z")
_RECORDS = re.compile(r"the recording of (?P<type>\w+) begins\Z")
_ACCOUNT = re.compile(r"(?P<role>handler )?account: (?P<name>\w+), (?P<password>.+)\Z")

ACCEPTING = {"classic": "aSock", "l.example": "l.sock"}
"""Actors to whom the server connects, by their sockets."""
SOCKETS = {"handler": "besterHandlers", "guard": "besterHandlers", "informer": "bInformer", "operator": "besterControl"}
FAR = ("far", "other")
"""Handlers that connect to ``handlers.tls``."""
LISTENER = "listener.sock"


def body_of(whole: bytes) -> Any:
    (size,) = PREFIX.unpack_from(whole)
    assert len(whole) == PREFIX.size + size
    return json.loads(whole[PREFIX.size :])


def blocks(parts: list[Any]) -> list[tuple[str, Any]]:
    """Every JSON block, with the comment right before it."""
    found = []
    for before, part in zip([None, *parts], parts, strict=False):
        if part.mark is None and part.language == "json":
            found.append((before.mark if before is not None and before.mark else "", part))
    return found


# -- plays ----------------------------------------------------------------------------------------------------------


class Actor:
    """One end of one connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.framer = Framer(1 << 20)
        self.bodies: list[bytes] = []

    def send(self, message: Any) -> None:
        self.writer.write(frame(json.dumps(message).encode()))

    async def get(self) -> Any:
        """Returns the next message; None at the end."""
        while not self.bodies:
            async with asyncio.timeout(PATIENCE_S):
                data = await self.reader.read(65536)
            if not data:
                return None
            self.bodies += self.framer.feed(data)
        return json.loads(self.bodies.pop(0))

    async def leave(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


class Stage:
    """A server with its actors."""

    def __init__(self, base: Path, policy: str) -> None:
        self.base = base
        self.papers = self_signed(base, "j.example")
        configuration = {
            "server": {"name": "j.example"},
            "network": {"unix": {"address": LISTENER}},
            "handlers": {
                "guards": [{"guard": "watch", "for": {"types": ["market"]}, "onFailure": "reject"}],
                "typeMap": {
                    "afrikaans": {"unixDomainSocketPath": ACCEPTING["classic"]},
                    "lines": {"handlerBinary": self._program(), "transport": "stdio"},
                    "strict": {"validate": True},
                },
                "tls": {"port": 0, "address": "127.0.0.1", "certificate": "j.example.pem", "key": "j.example.key"},
            },
            "accounts": {"registration": "firstUse"},
            "federation": {"policy": policy, "servers": {"l.example": {"address": "unix:" + ACCEPTING["l.example"]}}},
            "admin": {"info": {"contact": "admin@j.example"}},
        }
        self.server = Server(parse(json.dumps(configuration), base, "json"))
        self.actors: dict[str, Actor] = {}
        self.accepted: dict[str, asyncio.Queue[Actor]] = {}
        self.sockets: list[asyncio.Server] = []

    def _program(self) -> str:
        """Writes a program that answers all lines with the document's example."""
        path = self.base / "lines.sh"
        example = re.search(r"this line is a whole answer:.*?```json\n(.*?)\n```", DOCUMENTED, re.DOTALL)
        assert example is not None
        path.write_text(f"#!/bin/sh\nwhile read -r request; do\n    echo '{example[1]}'\ndone\n")
        path.chmod(0o755)
        return str(path)

    async def open(self) -> None:
        for who, path in ACCEPTING.items():
            queue: asyncio.Queue[Actor] = asyncio.Queue()
            self.accepted[who] = queue

            def accept(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, queue: asyncio.Queue[Actor] = queue
            ) -> None:
                queue.put_nowait(Actor(reader, writer))

            self.sockets.append(await asyncio.start_unix_server(accept, self.base / path))
        await self.server.start()

    async def close(self) -> None:
        for actor in self.actors.values():
            await actor.leave()
        await self.server.stop()
        for socket in self.sockets:
            socket.close()

    async def actor(self, who: str) -> Actor:
        if who not in self.actors:
            if who in ACCEPTING:
                async with asyncio.timeout(PATIENCE_S):
                    self.actors[who] = await self.accepted[who].get()
            elif who in FAR:
                port = int(self.server.runtime.handler_urls[0].rpartition(":")[2])
                trusting = verifying_context(self.papers.certificate)
                pair = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname="j.example")
                self.actors[who] = Actor(*pair)
            else:
                path = self.base / SOCKETS.get(who, LISTENER)
                self.actors[who] = Actor(*await asyncio.open_unix_connection(path))
        return self.actors[who]

    async def play(self, step: str, text: str | None) -> None:
        """Does one step; ``text`` is the block that belongs to it."""
        if say := _SAY.match(step):
            message = json.loads(say["json"] or text or "")
            actor = await self.actor(say["who"])
            if say["verb"] == "sends":
                actor.send(message)
                return
            told = await actor.get()
            if message.get("header", {}).get("messageType") == "request" and "traceparent" not in message["header"]:
                told["header"].pop("traceparent")  # every request has one; the examples do not repeat it
            if say["open"]:
                for place in say["open"].split(", "):
                    same_kind(told, message, place.split("."))
            assert told == message, step
        elif attach := _ATTACH.match(step):
            data = {"types": [attach["type"]]}
            actor = await self.actor(attach["who"])
            actor.send({"header": {"scope": "handler"}, "payload": {"type": "attach", "data": data}})
            assert (await actor.get())["header"]["status"] == "good"
        elif records := _RECORDS.match(step):
            await self.server.runtime.until(lambda: records["type"] in self.server.runtime.exchange.dispatcher.taps)
        elif account := _ACCOUNT.match(step):
            roles = ("handler",) if account["role"] else ()
            await self.server.accounts.add(account["name"], account["password"], roles)
        elif act := _ACT.match(step):
            await self.act(act["who"], act["what"])
        else:
            raise AssertionError(f"not a step: {step}")

    async def act(self, who: str, what: str) -> None:
        actor = await self.actor(who)
        if what == "logs in":
            authentication = {"username": who, "password": f"the password of {who}"}
            actor.send({"header": {"scope": "client", "authentication": authentication}})
            assert (await actor.get())["header"]["status"] == "good"
        elif what == "leaves":
            await self.actors.pop(who).leave()
        else:
            assert await actor.get() is None

    async def nothing_more(self) -> None:
        """Whoever has logged in was told nothing beyond the play."""
        for who, actor in self.actors.items():
            if self.server.runtime.exchange.presence.find(who):
                actor.send({"payload": {"type": "dummy", "id": "the end"}})
                assert await actor.get() == body_of(frames.pong(b'"the end"')), who


def same_kind(told: Any, documented: Any, path: list[str]) -> None:
    """Takes the value at ``path`` over from what was told, if it is of the documented kind."""
    for key in path[:-1]:
        told, documented = told[key], documented[key]
    assert type(told[path[-1]]) is type(documented[path[-1]])
    documented[path[-1]] = told[path[-1]]


def plays(document: str) -> dict[str, list[tuple[str, str | None]]]:
    """Every play's steps, each with its block."""
    found: dict[str, list[tuple[str, str | None]]] = {}
    steps: list[tuple[str, str | None]] = []
    comment = re.compile(r"^<!--(.*?)-->(?:\n```json\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
    for match in comment.finditer(document):
        mark = " ".join(match[1].split())
        if mark.startswith("play: "):
            steps = found[mark.removeprefix("play: ")] = []
        elif not mark.startswith(("example", "frame: ", "configuration")):
            steps.append((mark, match[2]))
    return found


PLAYS = plays(DOCUMENTED)


@pytest.fixture
async def stage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
    short = Path(os.path.relpath(tmp_path))  # a socket's path is short
    stage = Stage(tmp_path if len(str(tmp_path)) < 80 else short.resolve(), request.param)
    await stage.open()
    yield stage
    await stage.close()


@pytest.mark.parametrize(
    ("stage", "name"),
    [(name.removeprefix("policy ") if name.startswith("policy ") else "local", name) for name in PLAYS],
    indirect=["stage"],
    ids=list(PLAYS),
)
async def test_play(stage: Stage, name: str) -> None:
    for step, text in PLAYS[name]:
        await stage.play(step, text)
    await stage.nothing_more()


# -- blocks that are not played -------------------------------------------------------------------------------------


def test_every_json_block_is_an_object_and_is_checked_somewhere(parts_of: Callable[[str], list[Any]]) -> None:
    for mark, block in blocks(parts_of(DOCUMENT)):
        where = f"line {block.line}"
        assert isinstance(json.loads(block.text), dict), where
        assert _SAY.match(mark) or mark in ("example", "frame: received", "frame: to server", "configuration"), where


def test_documented_frames_are_those_of_the_encoders(parts_of: Callable[[str], list[Any]]) -> None:
    documented = {mark: json.loads(block.text) for mark, block in blocks(parts_of(DOCUMENT))}
    data = Raw(b'{"text":"Hello"}')
    received = frames.received(frames.received_head("chat"), data)
    assert documented["frame: received"] == body_of(received)
    assert documented["frame: to server"] == body_of(frames.to_server("chat", "12", data, 1))


def test_examples_are_understood(parts_of: Callable[[str], list[Any]]) -> None:
    """What is not served yet has the form that the conversations of the client libraries know already."""
    examples = [block.text.encode() for mark, block in blocks(parts_of(DOCUMENT)) if mark == "example"]
    assert len(examples) > 5
    for body in examples:
        message = json.loads(body)
        kind = message["header"].get("messageType")
        if "status" in message["header"] and kind is None:
            read_answer(body)
        elif kind == "ack":
            assert message == body_of(ClientConversation().ack(message["payload"]["ids"]))
        elif kind is not None:
            ClientConversation().receive(body)
        elif "scope" in message["header"]:
            decode_first(body)
        else:
            decode_message(body)


def test_the_configuration_is_right(parts_of: Callable[[str], list[Any]], tmp_path: Path) -> None:
    [text] = [block.text for mark, block in blocks(parts_of(DOCUMENT)) if mark == "configuration"]
    (tmp_path / "afrikaans.py").touch(mode=0o755)
    assert parse(text, tmp_path, "json").warnings == ()


# -- tables ---------------------------------------------------------------------------------------------------------


def test_the_table_of_codes_is_the_codes(table_of: Callable[[str, str], list[list[str]]]) -> None:
    rows = table_of(DOCUMENT, "| Code | Meaning | Temporary |")
    documented = {row[0].strip("`"): row[2] for row in rows}
    assert len(documented) == len(rows)
    assert documented == {code: "yes" if kind.temporary else "no" for code, kind in all_kinds().items()}
    assert list(documented) == sorted(documented)


def test_fatal_codes_are_said_to_be(table_of: Callable[[str, str], list[list[str]]]) -> None:
    told_in = {row[0].strip("`"): row[3] for row in table_of(DOCUMENT, "| Code | Meaning | Temporary |")}
    for code, kind in all_kinds().items():
        if issubclass(kind, Fatal) and code != "slowConsumer":
            assert "fatal" in told_in[code], code
        assert told_in[code], code


def test_the_tables_of_built_in_commands_are_the_commands(table_of: Callable[[str, str], list[list[str]]]) -> None:
    text = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    sections = re.split(r"^### ", text, flags=re.MULTILINE)
    documented: dict[str, list[str]] = {}
    for admin, title in ((False, "5.2 "), (True, "5.3 ")):
        [section] = [section for section in sections if section.startswith(title)]
        for row in re.findall(r"^\| `(\w+)` \|([^|]*)\|", section, flags=re.MULTILINE):
            name = row[0]
            documented[name] = re.findall(r"`(\w+)`", row[1])
            assert COMMANDS[name].admin is admin, name
    assert documented.keys() == COMMANDS.keys()
    for name, command in COMMANDS.items():
        if name not in ("login", "register"):  # their arguments are read before there is a session
            assert documented[name] == list(command.args.__struct_fields__), name


def test_sections_are_those_that_the_code_cites() -> None:
    text = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    numbers = re.findall(r"^## (\d+)\. ", text, flags=re.MULTILINE)
    assert numbers == [str(number) for number in range(1, 13)]
