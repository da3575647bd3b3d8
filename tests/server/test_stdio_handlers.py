"""Handlers that the server speaks to over their standard input and output (docs/protocol.md, section 6.11)."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.server.peers import Wire, hello, refused, result
from tests.waiting import until

from bester.config import parse
from bester.server.server import Server
from bester.testing import PASSWORD

SHELL = """\
#!/bin/sh
echo "at work as $BESTER_TYPE" >&2
while read -r request; do
    case $request in
        *'"crash"'*) exit 3 ;;
        *'"hang"'*) sleep 60 ;;
        *'"rubbish"'*) echo 'Segmentation fault at 0x12' ;;
        *'"wrong"'*) echo '{"header": {"status": "0", "command": 5}}' ;;
        *'"refuse"'*) echo '{"header": {"status": "1", "error": {"code": "shop.soldOut"}}}' ;;
        *'"long"'*) head -c 2000000 /dev/zero | tr '\\0' x ;;
        *) echo '{"header": {"status": "0", "command": {"type": "reply"}}, "data": "from sh"}' ;;
    esac
done
echo "no more input" >&2
"""

PYTHON = """\
import json, os, sys, struct, time
frames = os.environ["BESTER_STDIO"] == "frames"
def get():
    if not frames:
        line = sys.stdin.readline()
        return json.loads(line) if line else None
    head = sys.stdin.buffer.read(4)
    return json.loads(sys.stdin.buffer.read(struct.unpack("<I", head)[0])) if head else None
def put(message):
    body = json.dumps(message).encode()
    sys.stdout.buffer.write(struct.pack("<I", len(body)) + body if frames else body + b"\\n")
    sys.stdout.flush()
def answer(data, **header):
    put({"header": {"status": "0", "command": {"type": "reply"}, **header}, "data": data})
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path, since those of sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="bester-") as name:
        yield Path(name).resolve()


@asynccontextmanager
async def serving(
    folder: Path, program: str, limits: Any = None, features: tuple[str, ...] = (), **more: Any
) -> AsyncIterator[tuple[Server, Wire]]:
    """Runs a server that starts this program for the type ``work``, with a client."""
    if not program.startswith("#!"):
        program = f"#!{sys.executable}\n{PYTHON}{program}"
    (folder / "work").write_text(program)
    (folder / "work").chmod(0o755)
    tree = {
        "network": {"unix": {"address": "clients"}},
        "handlers": {"typeMap": {"work": {"handlerBinary": "./work", "transport": "stdio", **more}}},
        "accounts": {"registration": "firstUse"},
        "limits": limits or {},
    }
    server = Server(await asyncio.to_thread(parse, json.dumps(tree), folder))
    await server.start()
    try:
        wire = Wire(*await asyncio.open_unix_connection(folder / "clients"))
        wire.send(hello("t", PASSWORD, features=features))
        await wire.good("auth_special")
        yield server, wire
        await wire.leave()
    finally:
        await server.stop()


async def reply(wire: Wire) -> Any:
    return (await wire.get())["payload"]["data"]


async def ask(wire: Wire, data: Any, id: str = "1") -> Any:
    """Asks the handler, and returns its reply."""
    wire.ask("work", id, data)
    told = await reply(wire)
    await wire.good(id)
    return told


def pid_of(server: Server) -> Any:
    return (server.supervisor.state("work") or {})["pid"]


async def restarted(server: Server, starts: int = 2) -> None:
    def again() -> bool:
        state = server.supervisor.state("work")
        return state is not None and state["starts"] == starts and bool(state["pid"])

    await until(again)
    await until(lambda: bool(server.runtime.exchange.dispatcher.types["work"].attached))


async def test_a_shell_script(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(folder, SHELL) as (server, wire):
        [attached] = server.runtime.exchange.dispatcher.types["work"].attached
        assert (attached.name, attached.concurrency) == ("work", 1)
        for id in range(3):
            assert await ask(wire, {"text": "two\nlines"}, str(id)) == "from sh"
        wire.ask("work", "r", "refuse")
        error = (await wire.report("r"))["error"]
        assert (error["code"], error["reason"]) == ("handlerError", "shop.soldOut")
        pid = pid_of(server)
        assert pid is not None
    assert "at work as work" in caplog.text
    assert not Path(f"/proc/{pid}").exists()


async def test_the_data_stay_on_one_line(folder: Path) -> None:
    program = """
for line in sys.stdin:
    answer(line)
"""
    async with serving(folder, program) as (_, wire):
        wire.send(b'{"payload": {"type": "work", "id": "1", "data": {"a":\r\n [1,\n "\\n"]}}}')
        told = await reply(wire)
        assert told.count("\n") == 1
        assert json.loads(told)["payload"]["data"] == {"a": [1, "\n"]}
        await wire.good("1")


@pytest.mark.parametrize("form", ["lines", "frames"])
async def test_many_at_once_in_any_order(folder: Path, form: str) -> None:
    program = """
requests = [get() for _ in range(10)]
for request in reversed(requests):
    answer(request["payload"]["data"], id=request["header"]["id"])
while request := get():
    answer(request["payload"]["data"])
"""
    async with serving(folder, program, stdio=form, concurrency=10) as (_, wire):
        for number in range(10):
            wire.ask("work", str(number), number)
        told = [await wire.get() for _ in range(20)]
        assert sorted(one["payload"]["data"] for one in told if "data" in one["payload"]) == list(range(10))
        assert await ask(wire, "later") == "later"


CRASHES = {
    "crash": "handlerUnavailable",
    "rubbish": "badResponse",
    "long": "badResponse",
}


@pytest.mark.parametrize("case", CRASHES)
async def test_what_ends_the_process(folder: Path, caplog: pytest.LogCaptureFixture, case: str) -> None:
    async with serving(folder, SHELL) as (server, wire):
        first = pid_of(server)
        wire.ask("work", "1", case)
        assert await wire.bad("1") == CRASHES[case]
        await restarted(server)
        assert pid_of(server) != first
        assert await ask(wire, "again") == "from sh"
    if case == "rubbish":
        assert "Segmentation fault at 0x12" in caplog.text
    assert all(one.exc_info is None for one in caplog.records)


async def test_an_answer_of_a_wrong_form_fails_one_request(folder: Path) -> None:
    async with serving(folder, SHELL) as (server, wire):
        first = pid_of(server)
        wire.ask("work", "1", "wrong")
        assert await wire.bad("1") == "badResponse"
        assert await ask(wire, "again") == "from sh"
        assert pid_of(server) == first


async def test_a_late_answer_goes_to_nobody_else(folder: Path) -> None:
    program = """
while request := get():
    if request["payload"]["data"] == "slow":
        while not os.path.exists("go on"):
            time.sleep(0.01)
    answer(request["payload"]["data"])
"""
    async with serving(folder, program, timeout=0.3) as (server, wire):
        wire.ask("work", "1", "slow")
        assert await wire.bad("1") == "handlerTimeout"
        wire.ask("work", "2", "quick")
        (folder / "go on").touch()
        assert await reply(wire) == "quick"
        await wire.good("2")
        assert (server.supervisor.state("work") or {})["starts"] == 1


async def test_late_parts_go_to_nobody_else(folder: Path) -> None:
    program = """
put({"header": {"scope": "handler", "features": ["parts"]},
     "payload": {"type": "attach", "id": "a", "data": {"types": ["work"]}}})
get()
while request := get():
    if request["payload"]["data"] == "slow":
        while not os.path.exists("go on"):
            time.sleep(0.01)
        for number in (1, 2, 3):
            answer(number, more=True)
    answer(request["payload"]["data"])
"""
    async with serving(folder, program, features=("parts",), timeout=0.3) as (server, wire):
        [attached] = server.runtime.exchange.dispatcher.types["work"].attached
        await until(lambda: attached.parts)
        wire.send({"header": {"parts": 9}, "payload": {"type": "work", "id": "1", "data": "slow"}})
        assert await wire.bad("1") == "handlerTimeout"
        wire.send({"header": {"parts": 9}, "payload": {"type": "work", "id": "2", "data": "quick"}})
        (folder / "go on").touch()
        assert await reply(wire) == "quick"
        await wire.good("2")


async def test_a_process_that_hangs_is_started_again(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(folder, SHELL, timeout=0.2) as (server, wire):
        codes = []
        for id in ("1", "2", "3"):
            wire.ask("work", id, "hang")
            codes.append(await wire.bad(id))
        assert codes == ["handlerTimeout", "handlerTimeout", "handlerUnavailable"]
        assert "hangs" in caplog.text
        await restarted(server)
        assert await ask(wire, "again") == "from sh"


async def test_output_that_nobody_asked_for_is_passed_over(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    program = """
print("Welcome to Work 3.0!", flush=True)
answer("nobody asked")
os.mkfifo("said") if not os.path.exists("said") else None
while request := get():
    answer(request["payload"]["data"])
"""
    async with serving(folder, program) as (server, wire):
        await until(lambda: (folder / "said").exists() and "Welcome" in caplog.text)
        assert await ask(wire, "hello") == "hello"
        assert (server.supervisor.state("work") or {})["starts"] == 1


async def test_features_are_asked_for_with_a_first_attach_message(folder: Path) -> None:
    program = """
put({"header": {"scope": "handler", "features": ["dryRun"]},
     "payload": {"type": "attach", "id": "a", "data": {"types": ["work"]}}})
report = None
while request := get():
    if request["header"]["messageType"] == "statusReport":
        report = request
    else:
        answer([report, request["header"].get("dryRun", False)])
"""
    async with serving(folder, program) as (server, wire):
        [attached] = server.runtime.exchange.dispatcher.types["work"].attached
        await until(lambda: attached.dry_types == {"work"})
        assert await ask(wire, 1) == [
            {"header": {"messageType": "statusReport", "status": "good"}, "payload": {"id": "a"}},
            False,
        ]


async def test_pushes(folder: Path) -> None:
    program = """
put({"header": {"messageType": "push", "id": "p", "command": {"type": "done"}}, "payload": {"data": 1}})
reports = []
while request := get():
    if request["header"]["messageType"] == "statusReport":
        reports.append(request["payload"]["id"])
    else:
        answer(reports)
"""
    async with serving(folder, program) as (_, wire):
        await ask(wire, 1)  # when this is answered, the push has been read
        assert await ask(wire, 2) == ["p"]


async def test_a_process_that_does_not_read_gets_no_more_than_fits(folder: Path) -> None:
    program = """
while not os.path.exists("go on"):
    time.sleep(0.01)
while request := get():
    answer(len(request["payload"]["data"]))
"""
    async with serving(folder, program, concurrency=1000) as (server, wire):
        big = "x" * 100_000
        for id in range(30):
            wire.ask("work", str(id), big)
        route = server.runtime.exchange.dispatcher.types["work"]
        await until(lambda: route.attached[0].blocked)
        assert len(route.attached[0].outstanding) < 30
        (folder / "go on").touch()
        told = [await wire.get() for _ in range(60)]
        assert [one["payload"]["data"] for one in told if "data" in one["payload"]] == [100_000] * 30


async def test_it_is_stopped_and_started_by_operators(folder: Path) -> None:
    async with serving(folder, SHELL) as (server, wire):
        operator = Wire(*await asyncio.open_unix_connection(folder / "besterControl"))
        pid = pid_of(server)
        assert await result(operator, "stopHandler", type="work") == {"attached": 1, "process": True}
        assert not Path(f"/proc/{pid}").exists()
        wire.ask("work", "1")
        assert await wire.bad("1") == "handlerUnavailable"
        [row] = await result(operator, "listHandlers")
        assert row["stopped"]
        assert row["classic"] is None
        await result(operator, "startHandler", type="work")
        assert await ask(wire, 1) == "from sh"
        assert await result(operator, "drainHandler", type="work") == {
            "attached": 1,
            "process": True,
            "outstanding": 0,
        }
        await until(lambda: pid_of(server) is None)
        log = await result(operator, "handlerLog", type="work")
        assert log[0]["line"] == "at work as work"
        assert await refused(operator, "startHandler", type="other") == "badArguments"
        await operator.leave()


async def test_a_program_that_cannot_be_started_is_a_problem(folder: Path) -> None:
    async with serving(folder, "#!/nowhere/at/all\n") as (server, wire):
        wire.ask("work", "1")
        assert await wire.bad("1") == "handlerUnavailable"
        operator = Wire(*await asyncio.open_unix_connection(folder / "besterControl"))
        await until(lambda: server.supervisor.is_down("work"))
        [problem] = [one for one in await result(operator, "problems") if one["what"] == "handler"]
        assert problem["name"] == "work"
        await operator.leave()


async def test_its_input_ends_with_the_server(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    program = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while request := get():
    answer(1)
open("ended", "w").close()
"""
    async with serving(folder, program) as (_, wire):
        assert await ask(wire, 1) == 1
    assert (folder / "ended").exists()


async def test_what_it_was_asked_is_not_lost_silently(folder: Path) -> None:
    async with serving(folder, SHELL, concurrency=3) as (server, wire):
        for id in ("1", "2", "3", "4"):
            wire.ask("work", id, "hang")
        [attached] = server.runtime.exchange.dispatcher.types["work"].attached
        await until(lambda: len(attached.outstanding) == 3)
        import os

        os.killpg(pid_of(server), signal.SIGKILL)
        for _ in range(4):
            assert (await wire.report())["error"]["code"] == "handlerUnavailable"


@pytest.mark.parametrize("seed", range(6))
async def test_random_output_breaks_nothing(folder: Path, seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a process writes, each message has its report, and the server goes on."""
    program = f"""
import random
rng = random.Random({seed} + os.getpid())
good = b'{{"header": {{"status": "0", "command": {{"type": "done"}}}}}}\\n'
while request := get():
    kind = rng.randrange(6)
    text = bytearray(good * rng.randrange(1, 3))
    if kind > 2:
        for _ in range(rng.randrange(1, 4)):
            text[rng.randrange(len(text))] = rng.randrange(256)
    if kind == 5:
        del text[rng.randrange(len(text)):]
    sys.stdout.buffer.write(text)
    sys.stdout.flush()
"""
    rng = random.Random(seed)
    async with serving(folder, program, timeout=0.3, concurrency=rng.choice([1, 4])) as (_, wire):
        for id in range(30):
            wire.ask("work", str(id), "x")
        ids = {(await wire.report())["id"] for _ in range(30)}
        assert ids == {str(id) for id in range(30)}
    assert all(one.exc_info is None for one in caplog.records)
