"""Both stories, by the installed command."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.system.conftest import BIN

from bester.demo.phrases import AFRIKAANS, PORTUGUESE
from bester.demo.stage import Stage
from bester.demo.stories import expect
from bester.demo.world import Played, StoryError, World

if TYPE_CHECKING:
    from tests.system.conftest import Commands

AFRIKAANS_IN_ENGLISH = "Good morning! How are you? The train comes tomorrow."
PORTUGUESE_IN_ENGLISH = "Good morning, friend! The train arrives tomorrow. See you later!"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_stories(commands: Commands) -> None:
    result = commands.bester("demo", "--json")
    assert result.returncode == 0, result.stderr
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[-1]["arrived"] == [
        f"1a: G on j.example got “{AFRIKAANS_IN_ENGLISH}”",
        f"1b: G on k.example got “{PORTUGUESE_IN_ENGLISH}”",
        "2: U2 on S3 got “Hello from U1” by way of S1 M1 > S1 M2 > S2 M1 > S3 M1",
    ]
    assert events[-1]["ms"] < 15_000
    decided = [(event["server"], event["handler"], event["form"]) for event in events if "decided" in event]
    assert decided == [
        ("j.example", "afrikaans", "classic"),
        ("j.example", "portuguese", "attached"),
        ("j.example", "english", "attached"),
        ("k.example", "english", "attached"),
        ("S1", "M1", "classic"),
        ("S1", "M2", "attached"),
        ("S2", "M1", "attached"),
        ("S3", "M1", "attached"),
    ]
    assert not [event["pid"] for event in events if "pid" in event and alive(event["pid"])]


def test_for_people(commands: Commands) -> None:
    result = commands.bester("demo")
    assert result.returncode == 0, result.stderr
    assert "\x1b" not in result.stdout
    for text in (AFRIKAANS_IN_ENGLISH, PORTUGUESE_IN_ENGLISH, "S1 M1 > S1 M2 > S2 M1 > S3 M1", "sendServers k.example"):
        assert text in result.stdout


def test_keep(commands: Commands) -> None:
    demo = commands.start("bester", "demo", "--keep")
    demo.wait_for("Everything still runs")
    suggested = [demo.wait_for("BESTER_PASSWORD=demo bester").strip() for _ in range(4)]
    listen, send = (line.removeprefix("BESTER_PASSWORD=demo bester ") for line in suggested[:2])
    listening = commands.start("bester", *listen.split(), "--count", "1", BESTER_PASSWORD="demo")
    listening.wait_for_log("listening on k.example")
    words, _, data = send.partition(" '")
    sent = commands.bester(*words.split(), data.removesuffix("'"), password="demo")
    assert sent.returncode == 0, sent.stderr
    assert '"Good afternoon, friend!"' in listening.wait_for("english: ")
    assert listening.wait() == 0
    assert demo.stop(signal.SIGINT) == 0
    folders = {word.partition("unix:")[2].split("/S")[0] for word in " ".join(demo.lines).split() if "unix:" in word}
    assert folders
    assert not any(Path(folder).exists() for folder in folders)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(commands: Commands, number: signal.Signals) -> None:
    demo = commands.start("bester", "demo", "--json")
    line = json.loads(demo.wait_for("is ready"))
    assert demo.stop(number) == 130
    server = int(line["what"].rpartition("pid ")[2].rstrip(")"))
    assert not alive(server)


def test_what_cannot_be_written(commands: Commands) -> None:
    demo = commands.start("/bin/sh", "-c", f"exec {BIN / 'bester'} demo > /dev/full")
    assert demo.wait() == 1
    assert demo.log.read_text() == "bester: the output cannot be written: No space left on device\n"


def test_nobody_reads(commands: Commands) -> None:
    demo = commands.start("bester", "demo", "--json")
    demo.wait_for("is ready")
    demo.output.close()
    assert demo.popen.wait(30) == 0
    assert demo.log.read_text() == ""


def test_a_folder_that_cannot_be_used(commands: Commands) -> None:
    """Whose sockets would have too long a path."""
    folder = commands.folder / ("x" * 100)
    folder.mkdir()
    demo = commands.start("bester", "demo", TMPDIR=str(folder))
    assert demo.wait() == 1
    assert demo.log.read_text() == "bester: the demo cannot be played: AF_UNIX path too long\n"


def test_phrases() -> None:
    assert min(len(AFRIKAANS), len(PORTUGUESE)) > 30
    assert AFRIKAANS.to_english("Ek is honger, asseblief!") == "I am hungry, please!"
    assert AFRIKAANS.to_english("’n Huis by die see") == "a House by the see"
    assert PORTUGUESE.to_english("Onde fica a estação?") == "Where is the station?"
    assert PORTUGUESE.to_english("Xyz, ELE vem hoje.") == "Xyz, He comes today."
    assert AFRIKAANS.to_english("hoe gaan, dit") == "hoe goes, it"
    assert AFRIKAANS.to_english("") == ""


async def test_a_handler_that_does_not_start() -> None:
    async with World(Stage(json=False)) as world:
        place = world.place("a.example")
        with pytest.raises(StoryError, match=r"(?s)has no handler for .*x:.*No module named"):
            await world.start(place, [Played("english", "bester.demo.english"), Played("x", "bester.demo.nothing")])
        assert world.folder.is_dir()
    assert not world.folder.exists()


async def test_a_server_that_does_not_start() -> None:
    async with World(Stage(json=False)) as world:
        place = world.place("not a name")
        with pytest.raises(StoryError, match=r"(?s)did not start:.*server.name: found"):
            await world.start(place, [])


def test_what_is_not_as_expected() -> None:
    with pytest.raises(StoryError, match="G's text: expected 'a', found 'b'"):
        expect("G's text", "b", "a")
