"""``bester handler replay`` with real handlers: what it finds, warns of and refuses."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

from bester.cli.handler import handler as group

HERE = Path(__file__).parent
CLASSIC = f"{sys.executable} -S {HERE / 'faulty_classic.py'}"
SENDER = {"user": "t", "server": "j.example", "verified": True}
HEAD = {"bester": "recording", "version": 1, "server": "j.example", "type": "order", "began": 1.5}
HANDLER = """
import asyncio, os, pathlib
from bester import Done, Handler, Refuse, Reply, Request, SendClients
handler = Handler({options})
count = 0

@handler.on({types!r})
async def order(request):
    global count
    data = request.data
    {body}

handler.run()
"""

Replays = Callable[..., Result]


def reply(data: Any) -> dict[str, Any]:
    return {"commands": [{"type": "reply", "payload": {"type": "order", "data": data}}]}


def line(data: Any, outcome: Any, again: Any = None, **truth: Any) -> dict[str, Any]:
    request = {"scope": "client", "from": SENDER, "hops": 0, "id": "7", "data": data, **truth}
    return {"at": 2.5, "request": request, "outcome": outcome, "ms": 1, **({"again": again} if again else {})}


@pytest.fixture
def replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Replays:
    """Replays lines to a handler whose function has this body."""
    monkeypatch.chdir(tmp_path)

    def run(body: str, *lines: Any, types: str = "order", options: str = "", more: tuple[str, ...] = ()) -> Result:
        text = HANDLER.format(body="\n    ".join(body.splitlines()), types=types, options=options)
        (tmp_path / "handler.py").write_text(text)
        command = shlex.join([sys.executable, "handler.py"])
        return replayed(tmp_path / "r.jsonl", command, *lines, more=("--attached", *more))

    return run


def replayed(path: Path, command: str, *lines: Any, more: tuple[str, ...] = ()) -> Result:
    path.write_text("".join(json.dumps(one) + "\n" for one in (HEAD, *lines)))
    return CliRunner().invoke(group, ["replay", str(path), command, *more], env={"NO_COLOR": "1", "COLUMNS": "200"})


def test_nothing_differs(replays: Replays) -> None:
    lines = [line({"n": number, "user": "t"}, reply([number, "t", True, "client"])) for number in range(30)]
    server = {"scope": "server", "from": {"user": None, "server": "l.example", "verified": True}, "hops": 2}
    lines.append(line({"n": 5, "user": "t"}, reply([5, None, True, "server"]), **server))
    result = replays("return Reply([data['n'], request.sender.user, request.dry_run, request.scope])", *lines)
    assert (result.exit_code, result.stdout) == (0, "31 requests, no difference\n"), result.output
    assert result.stderr == ""


def test_differences_are_grouped(replays: Replays, tmp_path: Path) -> None:
    body = (
        "if data == 3:\n    raise Refuse('no', code='shop.no')\n"
        "return Reply({'price': data + 1, 'id': os.urandom(4).hex()})"
    )
    lines = [
        line(number, reply({"price": number, "id": "a"}), reply({"price": number, "id": "b"})) for number in range(5)
    ]
    junit = tmp_path / "report.xml"
    result = replays(body, *lines, more=("--junit", str(junit), "--json"))
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told | {"handler": "", "recording": ""} == {
        "handler": "",
        "recording": "",
        "same": False,
        "asked": 5,
        "different": 5,
        "groups": [
            {
                "kind": "commands[*].payload.data.price",
                "count": 4,
                "line": 2,
                "example": {"place": "commands[0].payload.data.price", "before": 0, "after": 1},
            },
            {
                "kind": "outcome: answered -> refused shop.no",
                "count": 1,
                "line": 5,
                "example": {"place": "outcome", "before": "answered", "after": "refused shop.no"},
            },
        ],
        "leftOut": {"commands[*].payload.data.id": 4},
        "warnings": [],
    }
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("2", "2")
    result = replays(body, *lines)
    assert result.stdout.splitlines() == [
        "4 x commands[*].payload.data.price",
        "    line 2: commands[0].payload.data.price: 0 -> 1",
        "1 x outcome: answered -> refused shop.no",
        "    line 5: outcome: answered -> refused shop.no",
        "left out, because the recorded handler answers differently itself when it is asked twice:",
        "    4 x commands[*].payload.data.id",
        "5 requests, 5 differ",
    ]


def test_how_an_answer_is_written_does_not_matter(replays: Replays) -> None:
    both = {
        "commands": [
            {"type": "sendClients", "data": ["g"], "payload": {"type": "order", "data": {"b": 1, "a": 2}}},
            {"type": "reply", "payload": {"type": "receipt", "data": 5}},
        ]
    }
    body = "return [SendClients(['g'], {'a': 2, 'b': 1}), Done(), Reply(5, type='receipt')]"
    result = replays(body, line(1, both))
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("body", "warning"),
    [
        ("await handler.push(SendClients(['g'], 1))\nreturn Reply(1)", "it pushed commands 2 times"),
        (
            "pathlib.Path('orders').write_text('x')\nreturn Reply(1)",
            "folder changed meanwhile, though dry runs do nothing: orders",
        ),
        ("count += 1\nreturn Reply(count)", "as if the first had counted: commands[0].payload.data: 1 -> 2"),
        ("count += 1\nif count == 2:\n    raise Refuse()\nreturn Reply(1)", "counted: outcome: answered -> refused"),
    ],
)
def test_a_handler_that_works_in_dry_runs(replays: Replays, body: str, warning: str) -> None:
    result = replays(body, line(1, reply(1)))
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("warning: ")
    assert warning in result.stderr


def test_failures_are_compared_too(replays: Replays) -> None:
    body = "if data:\n    await asyncio.sleep(60)\nreturn Reply(1)"
    timeout = {"failed": {"code": "handlerTimeout", "message": "as the server says it"}}
    result = replays(body, line(1, timeout), line(1, reply(1)), line(0, timeout), more=("--timeout", "0.3"))
    assert result.exit_code == 1
    assert "1 x outcome: answered -> failed handlerTimeout" in result.stdout
    assert "1 x outcome: failed handlerTimeout -> answered" in result.stdout
    assert "3 requests, 2 differ" in result.stdout


def test_a_handler_that_ends(replays: Replays) -> None:
    result = replays("os._exit(3)", line(1, reply(1)), line(1, reply(1)))
    assert result.exit_code == 1
    assert "1 x outcome: answered -> failed handlerUnavailable" in result.stdout
    assert "the replay ended before line 3: its process ended with 3" in result.stderr


@pytest.mark.parametrize(
    ("options", "types", "reason"),
    [
        ("dry_run=False", "order", "takes part in no dry runs of order"),
        ("", "other", "attached for other; the recorded type is order"),
    ],
)
def test_a_handler_that_is_not_asked(replays: Replays, options: str, types: str, reason: str) -> None:
    result = replays("return Reply(request.dry_run)", line(1, reply(False)), options=options, types=types)
    assert (result.exit_code, result.stdout) == (2, "")
    assert reason in result.stderr
    if options:
        result = replays("return Reply(request.dry_run)", line(1, reply(False)), options=options, more=("--really",))
        assert result.exit_code == 0, result.output


def test_a_classic_handler(tmp_path: Path) -> None:
    path, one = tmp_path / "r", line({"a": 1}, reply({"a": 1}))
    result = replayed(path, f"{CLASSIC} none", one)
    assert result.exit_code == 2
    assert "is a classic handler, and takes part in no dry runs" in result.stderr
    result = replayed(path, f"{CLASSIC} none", one, more=("--really", "--classic"))
    assert result.exit_code == 0, result.output


def test_what_cannot_be_replayed(tmp_path: Path) -> None:
    path, command = tmp_path / "r", f"{sys.executable} -c pass"
    assert "there is no request in this recording" in replayed(path, f"{CLASSIC} none", more=("--really",)).stderr
    result = replayed(path, command, {"request": 5})
    assert (result.exit_code, result.exception.__class__) == (2, SystemExit)
    assert "the handler neither attached nor listened" in result.stderr
    result = replayed(path, f"{CLASSIC} none", {"request": 5}, more=("--really", "--classic"))
    assert (result.exit_code, result.exception.__class__) == (2, SystemExit)
    assert f"{path}, line 2: Expected `object`, got `int` - at `$.request`" in result.stderr
    assert "cannot start /nothing" in replayed(path, "/nothing").stderr
    path.unlink()
    result = CliRunner().invoke(group, ["replay", str(path), command])
    assert (result.exit_code, "No such file" in result.stderr) == (2, True)


def test_a_guard_gives_verdicts(replays: Replays) -> None:
    body = """
from bester import Accept, Drop, Hold
assert request.guards == "chat"
if data == "hold":
    return Hold("g")
if data == "refuse":
    raise Refuse("no spam", code="spam")
return Drop() if data == "spam" else Accept()
"""
    lines = [
        line("ham", {"commands": [{"type": "accept"}]}, guards="chat"),
        line("spam", {"commands": [{"type": "drop"}]}, guards="chat"),
        line("hold", {"commands": [{"type": "hold", "data": "g"}]}, guards="chat"),
        line("refuse", {"refused": {"code": "spam", "message": "no spam"}}, guards="chat"),
    ]
    assert replays(body, *lines).exit_code == 0
    differs = replays(body, line("spam", {"commands": [{"type": "accept"}]}, guards="chat"))
    assert differs.exit_code == 1
    assert "drop" in differs.output
