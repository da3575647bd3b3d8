"""docs/architecture.md names what exists, and a message passes the functions of its tables in their order."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.certificates import self_signed
from tests.pure import needs_pure
from tests.server.peers import stage, to
from tests.server.test_identity import named, pin

import bester

ROOT = Path(bester.__file__).parent
PAGE = (Path(__file__).parents[2] / "docs/architecture.md").read_text()
PAGE_LINES = 150
CODE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[a-z_]+(/[a-z_]+)*(\.py|/)")
NAME = re.compile(r"[A-Z][A-Za-z]+(\.[a-z_]+)?|TRANSITIONS")
STEP = re.compile(r"^\| `([a-z_/]+\.py)` \| `([\w.]+)` \|", re.MULTILINE)

pytestmark = needs_pure("calls of functions cannot be watched")


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def steps(title: str) -> list[tuple[str, str]]:
    """The files and functions of a table, in order."""
    found = STEP.findall(section(title))
    assert len(found) > 10
    return found


def defined(file: str) -> Any:
    return importlib.import_module("bester." + file.removesuffix(".py").replace("/", "."))


def has(owner: Any, name: str) -> bool:
    """Whether a module or class has a name, annotations and slots included."""
    first, _, rest = name.partition(".")
    found = getattr(owner, first, None)
    if found is None:
        return first in getattr(owner, "__annotations__", {}) or first in _assigned(owner)
    return not rest or has(found, rest)


def _assigned(owner: Any) -> set[str]:
    """The attributes that a class gives its instances."""
    return set(re.findall(r"self\.(\w+)(?:: [^=]+)? =", inspect.getsource(owner))) if inspect.isclass(owner) else set()


def everything() -> dict[str, Any]:
    """All classes and constants of the server's modules, by name."""
    names: dict[str, Any] = {}
    for folder in ("core", "server"):
        for path in (ROOT / folder).rglob("*.py"):
            if path.name != "spans.py":
                module = defined(str(path.relative_to(ROOT)))
                names |= {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return names


def test_it_is_one_page() -> None:
    assert len(PAGE.splitlines()) <= PAGE_LINES


def test_all_that_it_names_exists() -> None:
    known = everything()
    spans = CODE.findall(PAGE)
    for span in spans:
        if FILE.fullmatch(span):
            assert (ROOT / span).exists() or (ROOT.parents[1] / span).exists(), span
        elif NAME.fullmatch(span) and not span.isupper():
            owner, _, rest = span.partition(".")
            assert owner in known, span
            assert not rest or has(known[owner], rest), span
    for file, name in [step for title in TITLES for step in steps(title)]:
        assert has(defined(file), name), f"{file} has no {name}"
    for line in section("Where it is decided").splitlines():
        file = ""
        for span in CODE.findall(line):
            if FILE.fullmatch(span):
                file = span
            elif NAME.fullmatch(span) and file:
                assert has(defined(file), span), f"{file} has no {span}"


TITLES = ("From a client to a handler to a client", "From a client to a handler to another server to a client")


@contextmanager
def passing(seen: list[tuple[str, str]]) -> Iterator[None]:
    """Notes each function of ours that is called, with its file."""
    prefix = f"{ROOT}/"

    def look(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(prefix):
            seen.append((code.co_filename.removeprefix(prefix), code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)


def assert_in_order(expected: list[tuple[str, str]], seen: list[tuple[str, str]]) -> None:
    calls = iter(seen)
    for step in expected:
        assert step in calls, f"{step[0]} {step[1]} is not called after the steps before it"


@pytest.fixture(autouse=True)
def _nobody_else_looks() -> None:
    if sys.getprofile() is not None:
        pytest.skip("something else profiles the interpreter")


async def test_a_message_passes_what_the_first_table_says() -> None:
    seen: list[tuple[str, str]] = []
    async with stage() as play:
        handler, t, g = await play.attach("chat"), await play.login("t"), await play.login("g")
        with passing(seen):
            t.ask("chat", "1")
            handler.answer(await handler.get(), to("g"))
            await g.get()
            await t.report("1")
    assert_in_order(steps(TITLES[0]), seen)


async def test_a_message_to_another_server_passes_what_the_second_table_says(tmp_path: Path) -> None:
    ours, theirs = self_signed(tmp_path, "a.example"), self_signed(tmp_path, "b.example")
    seen: list[tuple[str, str]] = []
    async with AsyncExitStack() as closing:
        b = await closing.enter_async_context(
            named("b.example", theirs, policy="open", servers={"a.example": pin(ours)})
        )
        address = f"127.0.0.1:{b.port_of('tls')}"
        a = await closing.enter_async_context(
            named("a.example", ours, policy="open", servers={"b.example": pin(theirs, address=address)})
        )
        first, second = await a.attach("chat"), await b.attach("chat")
        t, g = await a.login("t"), await b.login("g")

        async def send(id: str) -> None:
            t.ask("chat", id)
            first.answer(await first.get(), {"type": "sendServers", "data": ["b.example"]})
            second.answer(await second.get(), to("g"))
            await g.get()
            await t.report(id)

        await send("1")  # opens the link
        with passing(seen):
            await send("2")
    assert_in_order(steps(TITLES[1]), seen)
