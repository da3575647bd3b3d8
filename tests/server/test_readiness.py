"""Readiness of short-lived sockets, by both ways to learn of it."""

from __future__ import annotations

import asyncio
import os
import select
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import pytest
from tests.waiting import until

from bester.server.handlers.readiness import EpollReadiness, LoopReadiness, Readiness

WAYS: list[type[LoopReadiness] | type[EpollReadiness]] = [LoopReadiness]
if hasattr(select, "epoll"):
    WAYS.append(EpollReadiness)

Pair = tuple[socket.socket, socket.socket]


class Owner:
    """Notes what it is told."""

    def __init__(self, at_readable: Callable[[], object] = lambda: None) -> None:
        self.told: list[str] = []
        self._at_readable = at_readable

    def readable(self) -> None:
        self.told.append("readable")
        self._at_readable()

    def writable(self) -> None:
        self.told.append("writable")


@pytest.fixture
async def pair() -> Pair:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    return ours, theirs


@pytest.fixture(params=WAYS)
async def readiness(request: pytest.FixtureRequest) -> AsyncIterator[Readiness]:
    made: Readiness = request.param(asyncio.get_running_loop())
    yield made
    made.close()
    made.close()


async def test_what_is_readable(readiness: Readiness, pair: Pair) -> None:
    ours, theirs = pair
    with ours, theirs:
        owner = Owner(lambda: ours.recv(10))
        readiness.add(ours.fileno(), owner)
        theirs.send(b"x")
        await until(lambda: owner.told)
        theirs.send(b"y")
        await until(lambda: len(owner.told) == 2)
        theirs.close()
        await until(lambda: len(owner.told) == 3)
        assert set(owner.told) == {"readable"}
        readiness.release(ours)


async def test_room_to_write(readiness: Readiness, pair: Pair) -> None:
    ours, theirs = pair
    with ours, theirs:
        owner = Owner()
        readiness.add(ours.fileno(), owner)
        with suppress(BlockingIOError):
            while True:
                ours.send(bytes(65536))
        readiness.await_room(ours.fileno(), True)
        theirs.setblocking(False)
        await asyncio.sleep(0)
        assert not owner.told
        with suppress(BlockingIOError):
            while True:
                theirs.recv(65536)
        await until(lambda: owner.told)
        readiness.await_room(ours.fileno(), False)
        told = len(owner.told)
        theirs.send(b"x")
        await until(lambda: len(owner.told) > told)
        assert owner.told[:told] == ["writable"] * told
        assert owner.told[told] == "readable"
        readiness.release(ours)


async def test_one_that_was_released_while_another_process_holds_it(readiness: Readiness, pair: Pair) -> None:
    """A child process does so between its fork and its exec; and the number of the socket may be another's by then."""
    ours, theirs = pair
    gone, owner = Owner(), Owner()
    readiness.add(ours.fileno(), gone)
    held = os.dup(ours.fileno())
    fd = ours.fileno()
    readiness.release(ours)
    later, other = socket.socketpair()
    with later, other, theirs:
        assert later.fileno() == fd
        readiness.add(fd, owner)
        other.send(b"x")
        await until(lambda: owner.told)
        theirs.send(b"x")
        await asyncio.sleep(0)
        assert not gone.told
        os.close(held)
        readiness.release(later)


async def test_those_that_are_released_are_closed_before_anything_else_happens(
    readiness: Readiness, pair: Pair
) -> None:
    ours, theirs = pair
    closed: list[bool] = []

    def ends() -> None:
        asyncio.get_running_loop().call_soon(lambda: closed.append(ours.fileno() == -1))
        readiness.release(ours)

    with ours, theirs:
        readiness.add(ours.fileno(), Owner(ends))
        theirs.send(b"x")
        await until(lambda: closed)
        assert closed == [True]


async def test_one_that_is_released_by_the_turn_of_another(readiness: Readiness, pair: Pair) -> None:
    """Both are ready at once, and only the first is told."""
    ours, theirs = pair
    with ours, theirs:
        first = Owner(lambda: readiness.release(theirs))
        second = Owner(lambda: readiness.release(ours))
        readiness.add(ours.fileno(), first)
        readiness.add(theirs.fileno(), second)
        theirs.send(b"x")
        ours.send(b"x")
        await until(lambda: first.told + second.told)
        readiness.release(ours if first.told else theirs)
        await asyncio.sleep(0)
        assert first.told + second.told == ["readable"]
