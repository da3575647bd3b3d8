"""``bester run``: a handler of a module or a file, with errors for its author, and reloading."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import typer
from tests.waiting import PATIENCE_S

from bester import Client
from bester.cli.loading import load, run_now
from bester.cli.reloading import Child, _files
from bester.testing import RunningServer, server

PROGRAM = """
from bester import Handler, Router

handler = Handler()
router = Router("r.")

@handler.on("order")
async def order(dish: str) -> str:
    return "VERSION " + dish

@router.on("order")
def routed(dish: str) -> str:
    return dish
"""
BESTER = [sys.executable, "-c", "from bester.cli.main import main; main()"]


class Run:
    """A command with what it says on standard error."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def until(self, text: str, times: int = 1) -> None:
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            while self.said.count(text) < times:
                line = (await self.process.stderr.readline()).decode()
                assert line, self.said
                self.said += line

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE_S):
            self.said += (await self.process.stderr.read()).decode()
            return await self.process.wait()


@asynccontextmanager
async def running(at: RunningServer, folder: Path, *arguments: str) -> AsyncIterator[Run]:
    process = await asyncio.create_subprocess_exec(
        *(*BESTER, "run", *arguments),
        cwd=folder,
        env=os.environ | {"BESTER_HANDLERS": at.handlers_path},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield Run(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    ("target", "type"),
    [
        ("shop.py", "order"),
        ("shop", "order"),
        ("shop:router", "r.order"),
        ("package/routes.py:handler", "order"),
        ("package.routes:inside.handler", "order"),
    ],
)
async def test_it_runs(tmp_path: Path, target: str, type: str) -> None:
    (tmp_path / "shop.py").write_text(PROGRAM)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "inside.py").write_text(PROGRAM)
    (tmp_path / "package" / "routes.py").write_text("from . import inside\nfrom .inside import handler")
    async with server() as at, running(at, tmp_path, target) as run, Client(at.url("t")) as t:
        await run.until("attached to")
        assert "pizza" in (await t.ask(type, "pizza", timeout=PATIENCE_S)).data
        assert await run.stop() == 0


@pytest.mark.parametrize(
    ("target", "program", "said"),
    [
        ("nothing", "", "there is no module nothing in"),
        ("nothing.py", "", "there is no file nothing.py"),
        ("sys.py", PROGRAM, "sys.py has the name of another module, sys"),
        ("shop.more:handler", "", "there is no module shop.more"),
        ("shop:", "", "names no handler; give module:name"),
        ("shop:other", PROGRAM, "shop has no other; the handlers in it are: handler, router"),
        ("shop:Handler", PROGRAM, "is no bester.Handler, but of the type type"),
        ("shop", "handler = 1", "shop:handler is no bester.Handler, but of the type int"),
        ("shop", "from bester import Handler\nhandler = Handler()", "register one with @handler.on"),
        ("shop", PROGRAM + "handler.on('two')(lambda one, other: None)", "takes the request twice"),
        ("shop", "def (", "SyntaxError"),
        ("shop", "import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("shop", "raise SystemExit(0)", "SystemExit: 0"),
        (
            "shop",
            PROGRAM
            + "\n@handler.lifespan\nasync def x() -> 'AsyncIterator[int]':\n    raise OSError('full')\n    yield",
            "'AsyncIterator[int]', cannot be resolved",
        ),
        (
            "shop",
            "from collections.abc import AsyncIterator\n"
            + PROGRAM
            + "\n@handler.lifespan\nasync def x() -> AsyncIterator[Handler]:\n    raise OSError('full')\n    yield",
            "OSError: full\nat the start of the lifespan x (",
        ),
        (".", "", "'.' names no module; give module:name"),
    ],
)
def test_errors_are_for_the_author(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    target: str,
    program: str,
    said: str,
) -> None:
    (tmp_path / (target if target == "sys.py" else "shop.py")).write_text(program)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        with pytest.raises(typer.Exit) as caught:
            run_now(load(target))
    finally:
        sys.modules.pop("shop", None)
    told = capsys.readouterr().err
    assert said in told
    assert caught.value.exit_code in (1, 2)
    if "Traceback" in told:
        assert "shop.py" in told, "the author's own code"
    assert "src/bester" not in told
    assert "importlib" not in told
    assert "asyncio/" not in told
    assert "contextlib" not in told


def test_the_command_fails_as_it_says(tmp_path: Path) -> None:
    done = subprocess.run([*BESTER, "run", "nothing.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (done.stderr, done.returncode) == ("bester: there is no file nothing.py\n", 2)


async def test_a_change_is_taken_up_without_losing_a_message(tmp_path: Path) -> None:
    program = tmp_path / "shop.py"
    program.write_text(PROGRAM)
    async with server() as at, running(at, tmp_path, "shop", "--reload") as run, Client(at.url("t")) as t:
        await run.until("attached to")
        asking = True
        got: set[str] = set()

        async def ask() -> None:
            while asking:
                got.add((await t.ask("order", "pizza", timeout=PATIENCE_S)).data)

        asks = asyncio.ensure_future(ask())
        program.write_text(PROGRAM.replace("VERSION", "second"))
        await run.until("attached to", 2)
        program.write_text("def (")
        await run.until("the one before goes on")
        assert "SyntaxError" in run.said
        program.write_text(PROGRAM.replace("VERSION", "third"))
        await run.until("attached to", 3)
        while "third pizza" not in got:
            await asyncio.sleep(0.01)
        asking = False
        await asks
        assert got == {"VERSION pizza", "second pizza", "third pizza"}
        assert await run.stop() == 0


async def test_it_waits_for_a_change_when_it_cannot_start(tmp_path: Path) -> None:
    program = tmp_path / "shop.py"
    program.write_text("def (")
    async with server() as at, running(at, tmp_path, "shop.py", "--reload") as run:
        await run.until("it is started again when a file changes")
        program.write_text(
            "from bester import Handler\nhandler = Handler(classic='aSock')\nhandler.on('x')(lambda message: None)"
        )
        await run.until("--reload is for handlers that attach")
        program.write_text(PROGRAM)
        await run.until("attached to")
        assert await run.stop() == 0


async def test_no_file_of_the_author_stands_in_for_a_module_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop.py").write_text("")
    (tmp_path / "typing.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    child = Child("shop.py")
    assert await asyncio.to_thread(child.process.wait, PATIENCE_S) == 2
    assert child.ended()
    assert "shop has no handler" in capfd.readouterr().err


def test_what_is_watched(tmp_path: Path) -> None:
    for name in ("a.py", "b.txt", "sub/c.py", ".git/d.py", "env/pyvenv.cfg", "env/e.py", "node_modules/f.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [Path(path).name for path, _ in _files(tmp_path)] == ["a.py", "c.py"]
