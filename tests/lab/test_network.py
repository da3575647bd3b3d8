"""The simulated network, as asyncio's own streams see it."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Awaitable, Callable

import pytest

from bester.lab.loop import START_S
from bester.lab.network import SILENCE_S, Link
from bester.lab.process import Process
from bester.lab.sockets import BUFFER_BYTES
from bester.lab.world import World

PORT = 4000
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Two:
    """A listener on one machine and a connection to it from another."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.near, self.far = world.machine("near"), world.machine("far")
        self.listener: Process = self.far.process("listener")
        self.dialler: Process = self.near.process("dialler")
        self._accepted: asyncio.Future[Streams]
        self.keep: list[Streams] = []
        """What is open until the world ends."""

    async def connect(self) -> tuple[Streams, Streams]:
        """Returns the dialler's streams and the listener's."""
        await self.listen()
        near = await self.dialler.call(asyncio.open_connection("far", PORT))
        far = await self._accepted
        self.keep += [near, far]
        return near, far

    async def listen(self) -> None:
        self._accepted = asyncio.get_running_loop().create_future()

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._accepted.set_result((reader, writer))

        await self.listener.call(asyncio.start_server(accepted, self.far.address, PORT))


def played(play: Callable[[Two], Awaitable[None]], seed: int = 1) -> World:
    """Runs a play; returns its world."""
    world = World(seed)

    async def run() -> None:
        await play(Two(world))

    world.run(run())
    assert world.loop.faults == []
    return world


def test_data_comes_in_order_after_the_latency() -> None:
    async def play(two: Two) -> None:
        two.world.network.link = Link(latency_s=0.5, jitter_s=0.1)
        near, far = await two.connect()
        began = two.world.loop.time()
        for number in range(100):
            near[1].write(b"%d " % number)
            await asyncio.sleep(0)
        assert await far[0].readexactly(290) == b"".join(b"%d " % number for number in range(100))
        assert 0.5 <= two.world.loop.time() - began <= 0.7
        near[1].close()
        assert await far[0].read() == b""

    played(play)


def test_data_is_split_at_the_mtu() -> None:
    async def play(two: Two) -> None:
        two.world.network.link = Link(mtu=100)
        near, far = await two.connect()
        near[1].write(bytes(1000))
        assert len(await far[0].read(1000)) <= 100
        assert len(await far[0].readexactly(900)) == 900

    played(play)


def test_nobody_listens_and_nobody_is_there() -> None:
    async def play(two: Two) -> None:
        with pytest.raises(ConnectionRefusedError):
            await two.dialler.call(asyncio.open_connection("far", PORT))
        with pytest.raises(socket.gaierror):
            await two.dialler.call(asyncio.open_connection("nowhere", PORT))
        two.far.cut_power()
        with pytest.raises(TimeoutError) as timed_out:
            await two.dialler.call(asyncio.open_connection("far", PORT))
        assert timed_out.value.errno == errno.ETIMEDOUT

    played(play)


def test_what_was_lost_is_sent_again() -> None:
    async def play(two: Two) -> None:
        near, far = await two.connect()
        two.world.network.cut([two.near], [two.far])
        near[1].write(b"late")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(20):
                await far[0].read(4)
        two.world.network.heal()
        assert await far[0].readexactly(4) == b"late"

    played(play)


@pytest.mark.parametrize("both", [True, False])
def test_both_ends_of_a_silent_connection_are_lost(both: bool) -> None:
    async def play(two: Two) -> None:
        near, far = await two.connect()
        if both:
            two.world.network.cut([two.near], [two.far])
        else:
            two.world.network.block(two.near, two.far)
        for reader in (near[0], far[0]):
            with pytest.raises(TimeoutError) as timed_out:
                await reader.read(1)
            assert timed_out.value.errno == errno.ETIMEDOUT
        assert SILENCE_S <= two.world.loop.time() - START_S <= SILENCE_S + 2

    played(play)


def test_one_way_stays_open() -> None:
    async def play(two: Two) -> None:
        near, far = await two.connect()
        two.world.network.block(two.near, two.far)
        far[1].write(b"heard")
        assert await near[0].readexactly(5) == b"heard"

    played(play)


def test_the_end_of_a_process_is_seen() -> None:
    async def play(two: Two) -> None:
        near, far = await two.connect()
        far[1].write(b"last words")
        two.listener.kill()
        assert await near[0].read() == b"last words"
        with pytest.raises(ConnectionRefusedError):
            await two.dialler.call(asyncio.open_connection("far", PORT))

    played(play)


def test_what_was_not_read_resets() -> None:
    async def play(two: Two) -> None:
        near, far = await two.connect()
        far[1].transport.pause_reading()  # type: ignore[attr-defined]
        near[1].write(b"unread")
        await asyncio.sleep(1)
        two.listener.kill()
        with pytest.raises(ConnectionResetError):
            await near[0].read()

    played(play)


def test_one_end_does_not_linger() -> None:
    async def play(two: Two) -> None:
        near, far = await two.connect()
        ours = far[1].get_extra_info("socket")
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        far[1].close()
        with pytest.raises(ConnectionResetError):
            await near[0].read()

    played(play)


def test_a_loss_of_power_is_silent() -> None:
    async def play(two: Two) -> None:
        near, _ = await two.connect()
        two.far.cut_power()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await near[0].read()
        two.far.switch_on()
        near[1].write(b"who are you?")
        with pytest.raises(ConnectionResetError):
            await near[0].read()

    played(play)


def test_a_connection_is_reset_on_its_way() -> None:
    async def play(two: Two) -> None:
        near, far = await two.connect()
        assert two.world.network.reset(two.near, two.far) == 1
        for reader in (near[0], far[0]):
            with pytest.raises(ConnectionResetError):
                await reader.read()

    played(play)


def test_a_writer_is_stopped_by_a_reader_who_does_not_read() -> None:
    async def play(two: Two) -> None:
        near, far = await two.connect()
        far[1].transport.pause_reading()  # type: ignore[attr-defined]
        sent = 0

        async def write() -> None:
            nonlocal sent
            while True:
                near[1].write(bytes(10_000))
                sent += 10_000
                await near[1].drain()

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(10):
                await write()
        assert BUFFER_BYTES <= sent <= BUFFER_BYTES + 100_000
        far[1].transport.resume_reading()  # type: ignore[attr-defined]
        assert len(await far[0].readexactly(sent)) == sent

    played(play)


def test_one_direction_ends() -> None:
    async def play(two: Two) -> None:
        near, far = await two.connect()
        near[1].write(b"question")
        near[1].write_eof()
        assert await far[0].read() == b"question"
        far[1].write(b"answer")
        assert await near[0].readexactly(6) == b"answer"

    played(play)


def test_a_paused_process_does_nothing_and_loses_nothing() -> None:
    async def play(two: Two) -> None:
        near, far = await two.connect()

        async def echo() -> None:
            while data := await far[0].read(100):
                far[1].write(data)

        two.listener.start(echo())
        two.listener.paused = True
        near[1].write(b"hello")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await near[0].read(100)
        two.world.loop.resume(two.listener)
        assert await near[0].read(100) == b"hello"

    played(play)


def test_a_unix_socket_is_a_file() -> None:
    async def play(two: Two) -> None:
        path = two.far.folder / "socket"

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            two.keep.append((reader, writer))
            writer.write(b"welcome")

        async def listen() -> None:
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listening.bind(str(path))
            await asyncio.start_server(accepted, sock=listening)

        async def dial() -> bytes:
            reader, writer = await asyncio.open_unix_connection(path)
            two.keep.append((reader, writer))
            return await reader.readexactly(7)

        caller = two.far.process("caller")
        with pytest.raises(FileNotFoundError):
            await caller.call(dial())
        await two.listener.call(listen())
        assert await caller.call(dial()) == b"welcome"
        two.listener.kill()
        with pytest.raises(ConnectionRefusedError):
            await caller.call(dial())

    played(play)
