"""Readiness of sockets that live for a single message.

uvloop needs seven system calls to watch a socket and to stop that, because libuv first adds and removes it to find out
whether it can be watched. So the loop watches one epoll object for as long as the server runs, and the epoll object
watches the sockets: one system call for each, as a socket that is closed leaves it by itself.
"""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Protocol


class Watched(Protocol):
    """The owner of a non-blocking socket."""

    def readable(self) -> None:
        """There is something to read; sometimes there is nothing."""

    def writable(self) -> None:
        """There is room to write; called only while that is awaited. Does not close its socket or another."""


class Readiness(Protocol):
    """Tells the owners of sockets when these are ready."""

    def add(self, fd: int, owner: Watched) -> None:
        """Watches a socket for something to read."""

    def await_room(self, fd: int, awaited: bool) -> None:
        """Watches a socket for room to write as well, or no longer."""

    def release(self, connected: socket.socket) -> None:
        """Forgets a socket, and closes it before the loop's next callback."""

    def close(self) -> None:
        """Ends, when all sockets have been released; may be called again."""


class EpollReadiness:
    """Linux: an epoll object within the loop's own."""

    __slots__ = ("_epoll", "_looking", "_loop", "_owners", "_released")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._owners: dict[int, Watched] = {}
        self._looking = False
        self._released: list[socket.socket] = []
        loop.add_reader(self._epoll.fileno(), self._look)

    def add(self, fd: int, owner: Watched) -> None:
        self._epoll.register(fd, select.EPOLLIN)
        self._owners[fd] = owner

    def await_room(self, fd: int, awaited: bool) -> None:
        self._epoll.modify(fd, select.EPOLLIN | select.EPOLLOUT if awaited else select.EPOLLIN)

    def release(self, connected: socket.socket) -> None:
        del self._owners[connected.fileno()]
        self._released.append(connected)
        if not self._looking:
            self._close_released()

    def _close_released(self) -> None:
        for connected in self._released:
            connected.close()
        self._released.clear()

    def close(self) -> None:
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()

    def _look(self) -> None:
        owners = self._owners
        self._looking = True
        try:
            for fd, events in self._epoll.poll(0):
                # A child process keeps a closed socket alive between its fork and its exec.
                owner = owners.get(fd)
                if owner is None:
                    continue
                if events & select.EPOLLOUT:
                    owner.writable()
                if events & ~select.EPOLLOUT:
                    owner.readable()
        finally:
            self._looking = False
            # Together: each wakes a process, which may preempt this one.
            self._close_released()


class LoopReadiness:
    """Other systems: the loop itself watches each socket."""

    __slots__ = ("_loop", "_owners")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._owners: dict[int, Watched] = {}

    def add(self, fd: int, owner: Watched) -> None:
        self._owners[fd] = owner
        self._loop.add_reader(fd, owner.readable)

    def await_room(self, fd: int, awaited: bool) -> None:
        if awaited:
            self._loop.add_writer(fd, self._owners[fd].writable)
        else:
            self._loop.remove_writer(fd)

    def release(self, connected: socket.socket) -> None:
        fd = connected.fileno()
        del self._owners[fd]
        self._loop.remove_reader(fd)
        self._loop.remove_writer(fd)
        connected.close()

    def close(self) -> None:
        """Has nothing of its own."""


def make_readiness(loop: asyncio.AbstractEventLoop) -> Readiness:
    """Returns the cheapest that this system has."""
    return EpollReadiness(loop) if hasattr(select, "epoll") else LoopReadiness(loop)
