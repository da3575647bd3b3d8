"""The simulated network: addresses, connections, and what befalls them between two machines."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from random import Random
from typing import Any
from zlib import crc32

from bester.lab.loop import LabLoop
from bester.lab.machine import Machine
from bester.lab.process import Process, leave_if_dead
from bester.lab.sockets import LabSocket, Segment
from bester.lab.transport import READ_BYTES, LabTransport

LOCAL_S = 0.000_02
"""The latency between processes of one machine."""
FIRST_RETRY_S = 1.0
"""When a connection attempt is repeated that got no answer; each later one after twice the time, as Linux does."""
CONNECT_S = 127.0
"""After how long the system gives an attempt up."""
SILENCE_S = 30.0
"""After how long the system ends a connection whose other end acknowledges nothing (bester.net.keepalive)."""
FIRST_PORT = 32_768


@dataclass(slots=True)
class Link:
    """How data travels between two machines, in either direction."""

    latency_s: float = 0.000_5
    jitter_s: float = 0.000_2
    """Up to this is added to the latency, drawn for each segment; so data of different connections is reordered."""
    mtu: int = 1 << 20
    """The most bytes that arrive at once."""
    bytes_per_s: float = float("inf")


class Network:
    """Connects the machines of one world.

    Args:
        loop: the world's loop.
        chance: decides latencies and losses.
        note: adds a line to the trace.
    """

    def __init__(self, loop: LabLoop, chance: Random, note: Callable[[str], None]) -> None:
        self.loop = loop
        self._chance = chance
        self._note = note
        self.link = Link()
        """How machines are connected for which nothing else was said."""
        self._links: dict[tuple[str, str], Link] = {}
        self._blocked: dict[tuple[str, str], float] = {}
        """From which machine nothing comes to which, and since when."""
        self._machines: dict[str, Machine] = {}
        self._names: dict[str, list[str]] = {}
        self._bound: dict[Any, LabSocket] = {}
        self._sockets: dict[int, LabSocket] = {}
        self._next_descriptor = 1 << 20
        self._next_port = FIRST_PORT
        self.read_bytes: Callable[[], int] = lambda: READ_BYTES
        """Returns the most bytes that the next read returns."""
        self.on_connect: Callable[[Process | None, Any], None] | None = None
        """Called with who connects, and the address, before each attempt."""
        self.on_arrival: Callable[[LabSocket, LabSocket, bytes], None] | None = None
        """Called with the sender and the receiver of data that arrives."""

    # -- machines and the ways between them ----------------------------------------------------------------------

    def add(self, machine: Machine) -> None:
        """Connects a machine; its name is a host name."""
        self._machines[machine.address] = machine
        self._names[machine.name] = [machine.address]

    def alias(self, name: str, *machines: Machine) -> None:
        """Adds a host name for machines; each look-up returns several in another order."""
        self._names[name] = [machine.address for machine in machines]

    def set_link(self, one: Machine, other: Machine, link: Link) -> None:
        """Says how two machines are connected; data that is under way is not affected."""
        self._links[one.name, other.name] = self._links[other.name, one.name] = link

    def clear_links(self) -> None:
        """Connects all machines as :attr:`link` says again."""
        self._links.clear()

    def block(self, sender: Machine, receiver: Machine) -> None:
        """From now on nothing of a machine comes to another: no data, no end, no refusal."""
        if (sender.name, receiver.name) in self._blocked:
            return
        self._blocked[sender.name, receiver.name] = self.loop.time()
        for one in list(self._sockets.values()):
            if one.peer is not None and {self._host(one), self._host(one.peer)} == {sender, receiver}:
                self._expect_answer(one)

    def unblock(self, sender: Machine, receiver: Machine) -> None:
        """Data comes through again, that which was lost meanwhile when the system sends it again."""
        since = self._blocked.pop((sender.name, receiver.name), None)
        if since is None:
            return
        for one in list(self._sockets.values()):
            if (
                one.in_flight
                and one.peer is not None
                and self._host(one.peer) is sender
                and self._host(one) is receiver
            ):
                again_s = self._chance.uniform(0, min(2.0, self.loop.time() - since))
                self._arm(one, self.loop.time() + again_s)

    def cut(self, some: list[Machine], others: list[Machine]) -> None:
        """Blocks both ways between two groups of machines."""
        for one in some:
            for other in others:
                self.block(one, other)
                self.block(other, one)

    def heal(self) -> None:
        """Opens all ways again."""
        for pair in list(self._blocked):
            self.unblock(*(self._machine(name) for name in pair))

    def power_lost(self, machine: Machine) -> None:
        """Other machines hear nothing more of this one, whose processes are gone."""
        for one in list(self._sockets.values()):
            if one.peer is not None and self._host(one.peer) is machine:
                self._expect_answer(one)

    def power_back(self, machine: Machine) -> None:
        """What others still send to its former connections is refused from now on."""
        for one in list(self._sockets.values()):
            if one.peer is not None and one.peer.in_flight and self._host(one.peer) is machine:
                self._arm(one.peer, self.loop.time() + self._chance.uniform(0, 2.0))

    def reset(self, one: Machine, other: Machine) -> int:
        """Resets all connections between two machines, as a router that forgot them; returns how many."""
        count = 0
        for end in list(self._sockets.values()):
            if end.peer is not None and {self._host(end), self._host(end.peer)} == {one, other}:
                count += end.error is None
                end.fail(_reset_error())
                end.in_flight.clear()
        return count // 2

    def _machine(self, name: str) -> Machine:
        return self._machines[self._names[name][0]]

    @staticmethod
    def _host(one: LabSocket) -> Machine:
        assert one.process is not None
        machine: Machine = one.process.machine
        return machine

    def _way(self, sender: LabSocket, receiver: LabSocket) -> Link | None:
        """Returns the link from one socket to another; None: nothing comes through now."""
        one, other = self._host(sender), self._host(receiver)
        if one is other:
            return _WITHIN
        if (one.name, other.name) in self._blocked or not other.on:
            return None
        return self._links.get((one.name, other.name), self.link)

    # -- descriptors and addresses -------------------------------------------------------------------------------

    def open(self, new: LabSocket) -> int:
        """Returns a descriptor for a new socket."""
        self._next_descriptor += 1
        self._sockets[self._next_descriptor] = new
        return self._next_descriptor

    def closed(self, one: LabSocket) -> None:
        """Forgets a socket that was closed."""
        self._sockets.pop(one.descriptor, None)
        for key in [key for key, bound in self._bound.items() if bound is one]:
            del self._bound[key]

    def socket_of(self, fd: Any) -> Any:
        """Returns the socket with a descriptor, or the socket itself."""
        return fd if isinstance(fd, LabSocket) else self._sockets[fd]

    def bind(self, one: LabSocket, address: Any) -> None:
        """Gives a socket its address.

        Raises:
            OSError: it is taken, or is not one of the machine's.
        """
        machine = self._host(one)
        if one.family == socket.AF_UNIX:
            path = os.fspath(address)
            _make_socket_file(path)  # its mode, its inode and its removal are the file system's
            one.name = path
            self._bound[self._key(one, path)] = one
            return
        host, port = str(address[0]), int(address[1])
        if port == 0:
            port = self._new_port()
        if host not in ("", "0.0.0.0", "127.0.0.1", machine.address):
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
        one.name = (host, port)
        key = self._key(one, one.name)
        if key in self._bound:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        self._bound[key] = one

    def _key(self, one: LabSocket, name: Any) -> Any:
        if one.family == socket.AF_UNIX:
            return os.path.realpath(name)
        return self._host(one).name, name[1]

    def _new_port(self) -> int:
        self._next_port += 1
        return self._next_port

    async def look_up(self, host: Any, port: Any) -> list[Any]:
        """Answers as ``getaddrinfo``, for numbers and the names of machines.

        Raises:
            socket.gaierror: there is no such host.
        """
        await asyncio.sleep(LOCAL_S)
        name = "0.0.0.0" if host is None else host.decode() if isinstance(host, bytes) else str(host)
        numbers = self._names.get(name, [name])
        try:
            ipaddress.ip_address(numbers[0])
        except ValueError:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        if len(numbers) > 1:
            numbers = self._chance.sample(numbers, len(numbers))
        tcp = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
        return [(*tcp, (number, int(port or 0))) for number in numbers]

    # -- connections ---------------------------------------------------------------------------------------------

    async def connect(self, sock: LabSocket, address: Any) -> None:
        """Connects a socket.

        Raises:
            OSError: nobody listens there, or nobody answers.
        """
        leave_if_dead()
        if self.on_connect is not None:
            self.on_connect(sock.process, address)
        if sock.family == socket.AF_UNIX:
            path = _real(address)  # now: it may be a descriptor's
            await asyncio.sleep(LOCAL_S)
            self.connect_unix(sock, path)
            return
        here = self._host(sock)
        host, port = str(address[0]), int(address[1])
        there = here if host in ("127.0.0.1", "0.0.0.0") else self._machines.get(host)
        tried_s, wait_s = 0.0, FIRST_RETRY_S
        while True:
            link = self._open_between(here, there)
            if link is not None and there is not None:
                await asyncio.sleep(2 * link.latency_s + self._chance.uniform(0, 2 * link.jitter_s))
                if self._open_between(here, there) is not None:
                    sock.name = (here.address, self._new_port())
                    self._join(sock, (host, port), self._bound.get((there.name, port)))
                    return
            if tried_s >= CONNECT_S:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            await asyncio.sleep(wait_s)
            tried_s, wait_s = tried_s + wait_s, 2 * wait_s

    def connect_unix(self, one: LabSocket, address: Any) -> None:
        """Connects a socket to a Unix socket's path.

        Raises:
            OSError: nobody listens there.
        """
        path = _real(address)
        self._join(one, path, self._bound.get(path))

    def _open_between(self, here: Machine, there: Machine | None) -> Link | None:
        """Returns the link if a handshake succeeds now, which takes both directions."""
        if there is here:
            return _WITHIN
        if there is None or not there.on or {(here.name, there.name), (there.name, here.name)} & self._blocked.keys():
            return None
        return self._links.get((here.name, there.name), self.link)

    def _join(self, sock: LabSocket, address: Any, listening: LabSocket | None) -> None:
        if listening is None or listening.closed or not listening.listening:
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        if sock.closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        assert listening.process is not None
        accepted = listening.process.enter().run(LabSocket, listening.family, listening.type, listening.proto)
        accepted.name, accepted.peer_name = address, sock.name
        sock.peer_name = address
        accepted.peer, sock.peer = sock, accepted
        listening.arrived.append(accepted)
        listening.notify()
        self._note(f"{sock.process} connects to {listening.process}")

    def transport(self, sock: LabSocket, protocol: Any, waiter: Any, server: Any) -> asyncio.Transport:
        """Returns a transport over a connected socket."""
        return LabTransport(self.loop, sock, protocol, waiter, server, self.read_bytes)

    # -- data ----------------------------------------------------------------------------------------------------

    def transmit(self, sender: LabSocket, data: bytes, reset: bool = False) -> None:
        """Sends data to the other end; empty data ends the stream, or resets it."""
        receiver = sender.peer
        assert receiver is not None
        link = self._way(sender, receiver) or self.link
        due = self.loop.time() + link.latency_s + self._chance.random() * link.jitter_s
        start = 0
        while True:
            part = data[start : start + link.mtu] if start or len(data) > link.mtu else data
            due = max(due + len(part) / link.bytes_per_s, receiver.last_due)
            receiver.last_due = due
            receiver.unread += len(part)
            receiver.in_flight.append(Segment(due, part, reset))
            start += link.mtu
            if start >= len(data):
                break
            due += self._chance.random() * link.jitter_s
        if not receiver.armed:
            self._arm(receiver, receiver.in_flight[0].due)

    def _arm(self, receiver: LabSocket, due: float) -> None:
        receiver.armed = True
        self.loop.call_at(due, self._deliver, receiver, context=_OUTSIDE)

    def _deliver(self, receiver: LabSocket) -> None:
        receiver.armed = False
        sender = receiver.peer
        assert sender is not None
        if not receiver.in_flight:
            return
        if self._way(sender, receiver) is None:
            self._expect_answer(sender)
            return  # armed again when the way is open
        now = self.loop.time()
        while receiver.in_flight and receiver.in_flight[0].due <= now:
            self._arrive(sender, receiver, receiver.in_flight.popleft())
        if receiver.in_flight and not receiver.armed:
            self._arm(receiver, receiver.in_flight[0].due)

    def _arrive(self, sender: LabSocket, receiver: LabSocket, segment: Segment) -> None:
        if receiver.closed:
            receiver.unread = 0
            receiver.in_flight.clear()
            if not segment.reset:
                self._refuse(sender, receiver)
            return
        self._note(f"{sender.process} > {receiver.process} {_shown(receiver, segment)}")
        if segment.reset:
            receiver.fail(_reset_error())
        elif segment.data:
            receiver.received += segment.data
            if self.on_arrival is not None:
                self.on_arrival(sender, receiver, segment.data)
        else:
            receiver.ended = True
        receiver.notify()

    def _refuse(self, sender: LabSocket, receiver: LabSocket) -> None:
        """Answers data for a connection that the receiver does not have (any more)."""
        if sender.closed:
            return
        if self._way(receiver, sender) is None:
            self._expect_answer(sender)
        else:
            self.loop.call_later(self.link.latency_s, sender.fail, _reset_error(), context=_OUTSIDE)

    def make_room(self, sender: LabSocket) -> None:
        """Tells a sender that the other end has read something."""
        if sender.on_room is not None and not sender.closed:
            self.loop.call_later(self.link.latency_s, self._tell_room, sender, context=_OUTSIDE)

    @staticmethod
    def _tell_room(sender: LabSocket) -> None:
        if sender.on_room is not None and not sender.closed:
            sender.on_room()

    def _expect_answer(self, one: LabSocket) -> None:
        """Ends a connection from one end's view if its other end is silent for too long."""
        if one.process is not None and one.process.alive and not one.closed:
            wait_s = SILENCE_S + self._chance.uniform(0, 1)
            self.loop.call_later(wait_s, self._give_up, one, self.loop.time(), context=_OUTSIDE)

    def _give_up(self, one: LabSocket, since: float) -> None:
        other = one.peer
        if other is None or one.closed:
            return
        here, there = self._host(one), self._host(other)
        ways = ((here.name, there.name), (there.name, here.name))
        blocked = [self._blocked[way] for way in ways if way in self._blocked]
        if not there.on or (blocked and min(blocked) <= since):
            one.fail(TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
        elif not blocked and (other.closed or other.error is not None) and not one.ended:
            one.fail(_reset_error())


def _real(path: str | os.PathLike[str]) -> str:
    """Returns the path of an existing file without links, which may be one below /proc/self/fd."""
    return os.path.realpath(path, strict=True)


def _make_socket_file(path: str) -> None:
    """Creates a socket file on which nobody listens.

    Raises:
        OSError: EADDRINUSE if there is a file.
    """
    with _REAL_SOCKET(socket.AF_UNIX) as real:
        real.bind(path)


def _shown(receiver: LabSocket, segment: Segment) -> str:
    """Returns what the trace shows of data: its checksum, but for TLS, whose bytes come from OpenSSL's own chance."""
    data = segment.data
    if not data:
        return "reset" if segment.reset else "end"
    if receiver.secret is None:
        receiver.secret = data[:2] == b"\x16\x03"
    return str(len(data)) if receiver.secret else f"{len(data)} {crc32(data):08x}"


def _reset_error() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


_WITHIN = Link(LOCAL_S, LOCAL_S)
_REAL_SOCKET = socket.socket  # while a world runs, the name means another
_OUTSIDE = Context()
