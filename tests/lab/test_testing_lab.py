"""``bester.testing.lab``: plays of other people's handlers in a simulated world."""

from __future__ import annotations

import asyncio
import inspect
import random
import socket
import sqlite3
import subprocess
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.lab.plays import handler_of, started

from bester import Handler, Refuse, Reply, Request, Response
from bester.handler.address import find_address
from bester.testing import LabWorld, Outside, ProcessDied, Stuck, lab


def notes(caught: pytest.ExceptionInfo[BaseException]) -> str:
    return "\n".join(caught.value.__notes__)


# -- how plays are run ------------------------------------------------------------------------------------------------


def test_a_play_runs_once_for_each_seed_with_all_that_its_test_was_given() -> None:
    seen = []

    @lab(seeds=3)
    async def play(one: str, /, world: LabWorld, seed: int, *, more: int) -> None:
        seen.append((one, more, seed, world.seed))

    assert list(inspect.signature(play).parameters) == ["one", "seed", "more"]  # which pytest has fixtures for
    assert not inspect.iscoroutinefunction(play)
    play("fixture", more=1)
    play("fixture", more=2, seed=17)
    assert seen == [("fixture", 1, n, n) for n in range(3)] + [("fixture", 2, 17, 17)]


def test_all_chance_and_time_come_from_the_seed() -> None:
    seen: list[Any] = []

    @lab(seeds=[4, 4, 5])
    async def play(world: LabWorld) -> None:
        def do(_: Request) -> Response:
            return Reply([str(uuid.uuid4()), random.random(), time.time(), world.random.random()])

        _, ann = await started(world, handler_of(do))
        await asyncio.sleep(60)
        seen.append([(await ann.ask("do")).data, world.now])

    play()
    assert seen[0] == seen[1] != seen[2]


@lab(seeds=1)
async def test_a_test_can_be_the_play_itself(world: LabWorld) -> None:
    assert world.now == 0


class TestMethods:
    @lab(seeds=1)
    async def test_a_method_can_be_the_play(self, world: LabWorld, tmp_path: Path) -> None:
        assert tmp_path.exists()
        assert world.seed == 0


def test_the_environment_chooses_one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    @lab
    async def play(world: LabWorld) -> None:
        seen.append(world.seed)

    monkeypatch.setenv("BESTER_LAB_SEED", "17")
    play()
    assert seen == [17]
    monkeypatch.setenv("BESTER_LAB_SEED", "many")
    with pytest.raises(ValueError, match="BESTER_LAB_SEED must be a whole number; got 'many'"):
        play()


def test_a_failure_tells_the_seed_and_what_happened_last() -> None:
    @lab(seeds=3)
    async def play(world: LabWorld) -> None:
        shop, ann = await started(world)
        world.note("now it comes")
        await ann.ask("count", {"pears": 2})
        shop.kill()
        assert world.seed < 1

    with pytest.raises(AssertionError) as caught:
        play()
    told = notes(caught)
    assert "play failed in the lab with seed 1 (the 1 before it passed), at 0." in told
    assert "play(seed=1), or with BESTER_LAB_SEED=1 in the environment" in told
    for line in (
        "  now it comes",
        '  ann#1 -> shop.example#1: count {"pears":2} (id ',
        '  shop.example#1 -> make_counter@shop.example#1: count {"pears":2} (id ',
        "  make_counter@shop.example#1 -> shop.example#1: answers reply [1,1]",
        "  shop.example#1 -> ann#1: report on ",
        "  shop.example#1 is killed",
        "  make_counter@shop.example#1 is killed",
    ):
        assert line in told
    assert caught.traceback[-1].name == "play"


def test_a_play_that_does_not_end_says_who_waits() -> None:
    @lab(seeds=1, limit_s=100)
    async def play(world: LabWorld) -> None:
        _, ann = await started(world)
        await ann.receive()

    with pytest.raises(Stuck, match="the play has not ended after 100 s") as caught:
        play()
    assert f"play waits in {play.__qualname__} ({__file__}:" in notes(caught)
    assert "for LabClient.receive" in notes(caught)


@pytest.mark.parametrize(
    ("play", "kind", "text"),
    [
        (lambda world: None, TypeError, "a play is an async def function; got <function"),
        (started, None, ""),
        (asyncio.sleep, TypeError, "sleep needs a parameter named world"),
    ],
)
def test_only_coroutine_functions_with_a_world_are_plays(play: Any, kind: Any, text: str) -> None:
    if kind is None:
        lab(play)
    else:
        with pytest.raises(kind, match=text):
            lab(play)


def test_some_seed_is_needed() -> None:
    async def play(world: LabWorld) -> None: ...

    with pytest.raises(ValueError, match="got none"):
        lab(seeds=[])(play)
    with pytest.raises(ValueError, match="got none"):
        lab(seeds=0)(play)


async def test_a_lab_has_a_loop_of_its_own() -> None:
    @lab
    async def play(world: LabWorld) -> None: ...

    with pytest.raises(RuntimeError, match="call it from a function that is not async"):
        play()


@lab(seeds=1)
async def test_wrong_use_is_told(world: LabWorld) -> None:
    shop = world.server("shop.example")
    with pytest.raises(ValueError, match=r"there is a server shop\.example already"):
        world.server("shop.example")
    with pytest.raises(RuntimeError, match=r"await world\.start\(\) before the first client"):
        await world.client(shop, "ann")
    await world.start()
    with pytest.raises(RuntimeError, match=r"add l\.example before world\.start\(\)"):
        world.server("l.example")
    wrong: Any = "shop.example"
    with pytest.raises(TypeError, match="a server or client of this world is required; got 's'"):
        world.cut(wrong)
    wrong = "flood"
    with pytest.raises(ValueError, match=r"kinds of trouble are kill, .*; got flood"):
        world.trouble(kinds=[wrong])
    with pytest.raises(ValueError, match="must be positive"):
        world.trouble(0)


# -- handlers ---------------------------------------------------------------------------------------------------------


@lab(seeds=2)
async def test_a_restart_forgets_what_was_in_memory_and_keeps_the_folder(world: LabWorld) -> None:
    shop, ann = await started(world)
    assert (await ann.ask("count")).data == [1, 1]
    await shop.handlers[0].restart()
    assert (await ann.ask("count")).data == [1, 2]
    await shop.restart()
    await asyncio.sleep(5)
    assert (await ann.ask("count")).data == [1, 3]
    await shop.stop()
    await shop.start()
    await asyncio.sleep(5)
    assert (await ann.ask("count")).data == [1, 4]
    shop.cut_power()
    assert not shop.running
    await shop.start()
    await asyncio.sleep(40)  # nobody told the client
    assert (await ann.ask("count")).data == [1, 5]
    shop.kill(handlers=False)
    await shop.start()
    await asyncio.sleep(5)
    assert (await ann.ask("count")).data == [2, 6]
    assert (world.folder(shop) / "server.conf").parent == shop.folder


def test_what_a_function_raises_fails_the_play() -> None:
    def do(message: Request) -> Response:
        raise KeyError(message.data)

    @lab(seeds=1)
    async def play(world: LabWorld) -> None:
        _, ann = await started(world, handler_of(do))
        assert (await ann.send("do", "no such key")).error.code == "handlerError"

    with pytest.raises(KeyError, match="no such key") as caught:
        play()
    assert "raised in make@shop.example#1, the handler of do failed" in notes(caught)
    assert caught.traceback[-1].name == "do"


def test_a_play_that_fails_tells_what_was_raised_besides() -> None:
    def do(_: Request) -> Response:
        raise KeyError("mine")

    @lab(seeds=1)
    async def play(world: LabWorld) -> None:
        _, ann = await started(world, handler_of(do))
        (await ann.send("do")).raise_for_status()

    with pytest.raises(Exception, match="handlerError") as caught:
        play()
    assert "Raised besides:\n  make@shop.example#1, the handler of do failed: KeyError: 'mine'" in notes(caught)


@lab(seeds=1)
async def test_a_play_may_expect_what_is_raised(world: LabWorld) -> None:
    def do(message: Request) -> Response:
        if message.data == "refuse":
            raise Refuse("no", code="shop.no")
        raise KeyError

    _, ann = await started(world, handler_of(do))
    await ann.send("do", "refuse")
    assert not world.errors
    await ann.send("do")
    assert isinstance(world.errors.pop().error, KeyError)


def test_tasks_that_fail_unseen_fail_the_play() -> None:
    @lab(seeds=1)
    async def play(world: LabWorld) -> None:
        async def fails(number: int) -> None:
            raise ArithmeticError(number)

        for number in range(2):
            asyncio.create_task(fails(number))  # noqa: RUF006
        await asyncio.sleep(1)

    with pytest.raises(BaseExceptionGroup, match="nobody caught these") as caught:
        play()
    assert [type(one) for one in caught.value.exceptions] == [ArithmeticError] * 2


def test_factories_make_a_new_handler_each_time() -> None:
    handler = Handler("besterHandlers")
    handler.on("do")(lambda message: None)

    @lab(seeds=1)
    async def play(world: LabWorld, make: Any) -> None:
        shop = world.server("shop.example", handlers=[make])
        await world.start()
        await shop.restart()

    with pytest.raises(TypeError, match=r"must return a bester\.Handler; got 7"):
        play(make=lambda folder: 7)
    kept = Handler("besterHandlers")

    def make(folder: Path) -> Handler:
        if not kept.types:
            kept.on("do")(lambda message: None)
        kept._address = find_address(folder / "besterHandlers")
        return kept

    with pytest.raises(TypeError, match="returned its handler a second time"):
        play(make=make)


@pytest.mark.parametrize(
    ("reach", "text"),
    [
        (lambda: threading.Thread(target=print).start(), "a thread in a simulated world.*asyncio.to_thread"),
        (lambda: subprocess.run(["true"], check=True), "a process in a simulated world.*stand-in"),
        (lambda: socket.create_connection(("127.0.0.1", 80)), "getaddrinfo in a simulated world"),
        (lambda: socket.socket().connect(("127.0.0.1", 80)), "a connection that blocks in a simulated world"),
    ],
)
def test_the_world_outside_is_refused(reach: Callable[[], object], text: str) -> None:
    @lab(seeds=1)
    async def play(world: LabWorld) -> None:
        _, ann = await started(world, handler_of(lambda _: reach()))
        await ann.send("do")

    with pytest.raises(Outside, match=text):
        play()


@lab(seeds=1)
async def test_functions_with_threads_run_in_their_turn(world: LabWorld) -> None:
    def do(message: Request) -> Response:
        return Reply([threading.current_thread() is threading.main_thread(), message.data])

    _, ann = await started(world, handler_of(do, thread=True))
    assert [(await ann.ask("do", n)).data for n in range(3)] == [[True, n] for n in range(3)]


def test_nothing_of_the_world_stays() -> None:
    @lab(seeds=1)
    async def play(world: LabWorld) -> None:
        shop, _ = await started(world)
        folders.append(shop.folder)

    folders: list[Path] = []
    before = (socket.socket, time.time, threading.Thread.start, sqlite3.connect, socket.getaddrinfo)
    play()
    assert before == (socket.socket, time.time, threading.Thread.start, sqlite3.connect, socket.getaddrinfo)
    assert not folders[0].exists()


# -- answers in parts -------------------------------------------------------------------------------------------------


def counting(ended: list[str]) -> Callable[[Path], Handler]:
    """Returns the factory of a handler that counts, and notes that it was given up."""

    def make(folder: Path) -> Handler:
        handler = Handler()

        @handler.on("do")
        async def do(message: Request) -> AsyncIterator[Reply]:
            try:
                for number in range(message.data):
                    yield Reply(number)
                    await asyncio.sleep(1)
            except (asyncio.CancelledError, GeneratorExit):
                ended.append("given up")
                raise

        return handler

    return make


def test_a_client_takes_an_answer_in_parts() -> None:
    ended: list[str] = []

    @lab(seeds=2)
    async def play(world: LabWorld) -> None:
        _, ann = await started(world, counting(ended))
        stream = ann.stream("do", 5, window=2, timeout=30)
        assert [part.data async for part in stream] == [0, 1, 2, 3, 4]
        assert stream.report is not None
        assert stream.report.good
        async with ann.stream("do", 1000) as stream:
            async for part in stream:
                if part.data == 3:
                    break
        await asyncio.sleep(5)
        ended.append("was")
        stream = ann.stream("do", 1000)
        async with stream:
            assert (await anext(stream)).data == 0
            await ann.restart()
            with pytest.raises(ProcessDied):
                await anext(stream)
        assert stream.report is None

    play()
    assert ended[:2] == ["given up", "was"]
