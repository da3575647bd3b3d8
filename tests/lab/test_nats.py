"""The simulated NATS server keeps what it acknowledged, fails as it is told, and repeats itself byte by byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from random import Random

import pytest
from tests.lab.natsservers import connected, running
from tests.lab.rawnats import RawNats
from tests.waiting import until

from bester.bus.connection import Bus
from bester.bus.errors import BusLost, NoResponders
from bester.errors import Overloaded
from bester.lab.nats import USUAL, Fate, NatsCluster, NatsServer, Settings
from bester.lab.nats import leaders as leaders_module
from bester.lab.nats.wire import Parser, WireError
from bester.store.jetstream.errors import SubjectTaken
from bester.store.jetstream.retrying import RetryTimes
from bester.store.jetstream.stream import Stream, StreamConfig

SHORT = RetryTimes(answer_s=0.05, single_s=0.05, unresponsive_s=0.05, pause_s=0.02, total_s=0.3)
ONE = StreamConfig("S", "s.>", refuse_new=True, allow_ttl=True)


class Scripted:
    """Fates that come in turn, for the requests to one subject."""

    def __init__(self, subject: str, *fates: Fate) -> None:
        self._subject = subject
        self._fates = list(fates)

    def __call__(self, subject: str) -> Fate:
        return self._fates.pop(0) if subject == self._subject and self._fates else USUAL


async def opened(bus: Bus, config: StreamConfig = ONE, times: RetryTimes = SHORT) -> Stream:
    stream = Stream(bus, config, times)
    await stream.open()
    return stream


async def found(stream: Stream) -> list[str]:
    return [one.subject for one in await stream.page("s.>", 0, 100)]


# -- kills -------------------------------------------------------------------------------------------------------------


async def test_what_was_acknowledged_is_there_after_a_kill() -> None:
    async with running() as nats, connected(*nats.urls) as bus:
        stream = await opened(bus)
        ids = {"Nats-Msg-Id": "i"}
        assert [await stream.publish("s.a", b"1", ids), await stream.publish("s.b", b"2")] == [1, 2]
        await stream.publish("s.short", b"", {"Nats-TTL": "1s"})
        nats.kill(nats.servers[0])
        await until(lambda: not bus.up)
        with pytest.raises(Overloaded):
            await stream.publish("s.c", b"")
        await asyncio.sleep(1.0)  # lifetimes go on without it
        await nats.start(nats.servers[0])
        await until(lambda: bus.up)
        assert await found(stream) == ["s.a", "s.b"]
        assert await stream.publish("s.a", b"1", ids) == 1
        assert await stream.publish("s.c", b"3") == 4


async def test_a_request_that_is_under_way_at_a_kill_has_no_answer() -> None:
    async with running(fates=Scripted("s.a", Fate(delay_s=0.05))) as nats, connected(*nats.urls) as bus:
        await opened(bus)
        asked = bus.request("s.a", b"")
        await asyncio.sleep(0.01)
        nats.kill(nats.servers[0])
        await nats.start(nats.servers[0])
        with pytest.raises(BusLost):
            await asked


# -- fates -------------------------------------------------------------------------------------------------------------


async def test_an_acknowledgement_is_lost_after_the_message_was_stored() -> None:
    async with running(fates=Scripted("s.a", Fate(lost=True))) as nats, connected(*nats.urls) as bus:
        stream = await opened(bus)
        with pytest.raises(SubjectTaken):  # the second try finds it
            await stream.publish("s.a", b"")
        assert await found(stream) == ["s.a"]


async def test_a_message_is_lost_before_it_is_stored() -> None:
    async with running(fates=Scripted("s.a", Fate(ignored=True))) as nats, connected(*nats.urls) as bus:
        stream = await opened(bus)
        with pytest.raises(BusLost):
            await bus.request("s.a", b"", timeout_s=0.02)
        assert await found(stream) == []
        assert await stream.publish("s.a", b"") == 1


async def test_an_answer_comes_late() -> None:
    fates = Scripted("$JS.API.STREAM.PURGE.S", Fate(delay_s=0.1), Fate(delay_s=0.1))
    async with running(fates=fates) as nats, connected(*nats.urls) as bus:
        stream = await opened(bus)
        await stream.publish("s.a", b"")
        assert await stream.purge("s.>") == 0  # the first try purged it, and the last one had an answer in time
        assert await found(stream) == []


async def test_nobody_hears_what_is_published_while_the_leader_changes() -> None:
    fates = Scripted("s.a", Fate(nobody=True))
    async with running(fates=fates) as nats, connected(*nats.urls) as bus:
        await opened(bus)
        with pytest.raises(NoResponders):
            await bus.request("s.a", b"")
        assert json.loads((await bus.request("s.a", b"")).data)["seq"] == 1


# -- leaders, and servers that do not reach each other -----------------------------------------------------------------


async def test_jetstream_is_away_for_a_while() -> None:
    async with running() as nats, connected(*nats.urls) as bus:
        stream = await opened(bus)
        nats.cluster.jetstream_away(0.5)
        with pytest.raises(NoResponders):
            await bus.request("s.a", b"")
        answer = json.loads((await bus.request("$JS.API.STREAM.INFO.S", b"")).data)
        assert (answer["error"]["code"], answer["error"]["err_code"]) == (503, 10008)
        with pytest.raises(Overloaded):
            await stream.publish("s.a", b"")
        stream.publisher._api.publishing.times = RetryTimes()
        assert await stream.publish("s.a", b"") == 1


async def test_a_stream_has_no_leader_for_a_while() -> None:
    async with running() as nats, connected(*nats.urls) as bus:
        stream, other = await opened(bus), await opened(bus, StreamConfig("T", "t.>"))
        await stream.publish("s.a", b"")
        nats.cluster.leader_away("S", 0.2)
        with pytest.raises(NoResponders):
            await bus.request("s.b", b"")
        with pytest.raises(BusLost):
            await bus.request("$JS.API.STREAM.INFO.S", b"", timeout_s=0.05)
        assert await found(stream) == ["s.a"]  # a replica answers
        assert await other.publish("t.a", b"") == 1
        await until(lambda: nats.cluster.leaders.streams["S"].leader)
        assert await stream.publish("s.b", b"") == 2


@pytest.fixture
def quick_elections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaders_module, "ELECTION_S", (0.05, 0.1))


@pytest.mark.usefixtures("quick_elections")
async def test_the_larger_side_of_a_divided_cluster_goes_on() -> None:
    async with running(3) as nats:
        names = [server.name for server in nats.servers]
        buses = [connected(url) for url in nats.urls]
        async with buses[0] as first, buses[1] as second, buses[2] as third:
            heard: list[bytes] = []
            for bus in (second, third):
                bus.subscribe("core", lambda _subject, _reply, _headers, data: heard.append(data))
            streams = [
                await opened(bus, StreamConfig("S", "s.>", 3, refuse_new=True)) for bus in (first, second, third)
            ]
            assert await streams[0].publish("s.a", b"") == 1
            leader = nats.cluster.leaders.streams["S"].leader
            nats.cluster.divide([leader])
            small = names.index(leader)
            large = (small + 1) % 3
            with pytest.raises(Overloaded):
                await streams[small].publish("s.b", b"")
            streams[large].publisher._api.publishing.times = RetryTimes()
            assert await streams[large].publish("s.c", b"") == 2
            assert nats.cluster.leaders.streams["S"].leader not in ("", leader)
            nats.cluster.heal()
            assert await streams[small].publish("s.b", b"") == 3
            nats.cluster.cut(names[0], names[1])
            first.publish("core", b"x")
            await until(lambda: heard)
            assert heard == [b"x"]


@pytest.mark.usefixtures("quick_elections")
async def test_a_cluster_without_a_majority_stops_and_another_server_leads_when_one_is_killed() -> None:
    async with running(3) as nats, connected(*nats.urls) as bus:
        stream = await opened(bus, StreamConfig("S", "s.>", 3, refuse_new=True), RetryTimes())
        last = 0
        for server in nats.servers:
            last = await stream.publish(f"s.{server.name}", b"")
            nats.kill(server)
            await until(lambda: nats.cluster.leaders.streams["S"].leader)
            last = await stream.publish(f"s.{server.name}.2", b"")
            await nats.start(server)
        assert last == 6
        for server in nats.servers[1:]:
            nats.kill(server)
        await until(lambda: bus.up)
        answer = json.loads((await bus.request("$JS.API.STREAM.INFO.S", b"")).data)
        assert answer["error"]["err_code"] == 10008


async def test_a_replica_lags_behind_its_leader() -> None:
    async with running(3) as nats, connected(nats.urls[0]) as bus:
        config = StreamConfig("S", "s.>", 3)
        stream = await opened(bus, config)
        await stream.publish("s.a", b"old")
        nats.cluster.leaders.streams["S"].leader = nats.servers[1].name
        nats.cluster.lag(nats.servers[0].name, 0.3)
        await stream.publish("s.a", b"new")
        await stream.publish("s.b", b"new")
        assert [(one.subject, one.data) for one in await stream.last_messages(["s.a", "s.b"])] == [("s.a", b"old")]
        newest = await stream.last_message("s.a")
        assert newest is not None
        assert newest.data == b"new"
        await until(lambda: stream.last_messages(["s.b"]), bool)
        nats.cluster.lag(nats.servers[0].name, 0.0)
        await stream.purge("s.b")
        assert await stream.last_messages(["s.b"]) == []


# -- clients -----------------------------------------------------------------------------------------------------------


async def test_a_client_that_is_cut_off_connects_again() -> None:
    async with running() as nats, connected(*nats.urls) as bus:
        for text in ("", "Slow Consumer", "Stale Connection"):
            losses = bus.losses
            nats.servers[0].cut_off("test", text)
            await until(lambda losses=losses: bus.up and bus.losses > losses)
            assert [one.name for one in nats.servers[0].connections.values()] == ["test"]


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    async with running(settings=Settings(max_pending=100_000)) as nats, connected(*nats.urls) as bus:
        slow = await RawNats.connect(nats.ports[0], name="slow")
        slow.write(b"SUB flood 5\r\n")
        await slow.settle()
        for _ in range(1000):
            bus.publish("flood", b"x" * 50_000)
            await asyncio.sleep(0)
            if len(nats.servers[0].connections) == 1:
                break
        await until(lambda: len(nats.servers[0].connections) == 1)
        with pytest.raises(NoResponders):
            await bus.request("flood", b"")
        await slow.close()


# -- always the same ---------------------------------------------------------------------------------------------------


class Recorder(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None: ...


async def written(seed: int) -> bytes:
    """Returns all that a server writes in a conversation that leaves much to chance."""
    cluster = NatsCluster(Random(seed), lambda: 1e9)
    server = NatsServer(cluster)
    server.start()
    ends = []
    for number in range(5):
        recorder, protocol = Recorder(), server.make_protocol()
        protocol.connection_made(recorder)
        protocol.data_received(
            b'CONNECT {"headers":true,"no_responders":true}\r\nSUB g.* q 1\r\nSUB in.%d.> 2\r\n' % number
        )
        ends.append((recorder, protocol))
    stream = b'{"name":"S","subjects":["s.>"],"allow_direct":true,"max_msgs_per_subject":2}'
    reading = b'{"config":{"filter_subject":"s.*","ack_policy":"none"}}'
    for number, (_, protocol) in enumerate(ends):
        for subject, body in (
            (b"$JS.API.STREAM.CREATE.S", stream),
            *((b"g.%d" % n, b"x") for n in range(10)),
            *((b"s.%d" % n, b"x") for n in range(10)),
            (b"$JS.API.CONSUMER.CREATE.S", reading),
            (b"$JS.API.STREAM.INFO.S", b'{"subjects_filter":"s.*"}'),
            (b"$JS.API.DIRECT.GET.S", b'{"next_by_subj":"s.*","seq":3,"batch":5}'),
        ):
            protocol.data_received(b"PUB %s in.%d.1 %d\r\n%s\r\n" % (subject, number, len(body), body))
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    server.stop()
    return b"|".join(bytes(recorder.written) for recorder, _ in ends)


async def test_the_same_seed_gives_the_same_bytes() -> None:
    first = await written(7)
    assert len(first) > 10_000
    assert first == await written(7)
    assert first != await written(8)


WIRE = (
    b'CONNECT {"verbose":false}\r\nPING\r\nsub a.> q 1\r\nSUB b 2\r\nPUB a.b 0\r\n\r\nPUB a r 5\r\n\r\nxyz\r\n'
    b"HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nUNSUB 1 5\r\nPONG\r\n"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_commands_are_the_same_however_the_bytes_are_cut(size: int) -> None:
    whole = list(Parser(100).feed(WIRE))
    assert len(whole) == 9
    parser = Parser(100)
    assert [one for at in range(0, len(WIRE), size) for one in parser.feed(WIRE[at : at + size])] == whole


@pytest.mark.parametrize("bad", [b"HPUB a 9 5\r\n", b"PUB a x\r\n", b"PUB a 101\r\n", b"CONNECT {\r\n", b"x" * 5000])
def test_other_bytes_are_refused(bad: bytes) -> None:
    feed: Callable[[bytes], object] = lambda data: list(Parser(100).feed(data))  # noqa: E731
    with pytest.raises(WireError):
        feed(bad)
