"""The simulated NATS server answers as the real one does: byte by byte, and to our stores."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.lab.natsservers import connected, running
from tests.lab.rawnats import Heard, RawNats
from tests.nats import NatsServer

from bester.bus.connection import Bus
from bester.errors import AccountExists
from bester.lab.nats import Settings
from bester.store.jetstream.accounts import JetStreamAccounts
from bester.store.jetstream.leases import JetStreamLeases
from bester.store.jetstream.messages import JetStreamMessages
from bester.store.jetstream.names import Names
from bester.store.jetstream.partitions import Layout
from bester.store.ports import Letter, MailboxBounds, Outgoing, Remembered

NOW = 1_000_000.0
BOUNDS = MailboxBounds(1000, 10**9, 3600.0)
API = "$JS.API"


def config(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "subjects": [f"{name}.>"],
        "storage": "file",
        "max_msgs_per_subject": 1,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "allow_atomic": True,
        **more,
    }


def batch(name: str, *messages: tuple[str, dict[str, str]], commit: str = "1", first: int = 1) -> list[tuple[Any, ...]]:
    """Returns the messages of an atomic batch."""
    found = []
    for number, (subject, headers) in enumerate(messages, first):
        ends = {"Nats-Batch-Commit": commit} if number == len(messages) + first - 1 and commit else {}
        found.append((subject, b"b", {**headers, "Nats-Batch-Id": name, "Nats-Batch-Sequence": str(number), **ends}))
    return found


EXPECTED = "Nats-Expected-Last-Subject-Sequence"
READS_HEADERS = {
    "config": {
        "filter_subject": "a.*",
        "deliver_policy": "all",
        "ack_policy": "none",
        "headers_only": True,
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": 10**10,
        "name": "reader",
    },
    "stream_name": "a",
}
NEXT = f"{API}.CONSUMER.MSG.NEXT.a.reader"
CONTRACT: list[tuple[Any, ...]] = [
    ("nobody", b"x"),
    (f"{API}.STREAM.INFO.a", {}),
    (f"{API}.STREAM.CREATE.a", config("a")),
    (f"{API}.STREAM.CREATE.a", config("a")),
    (f"{API}.STREAM.CREATE.a", config("a", max_age=10**12)),
    (f"{API}.STREAM.UPDATE.a", config("a", max_age=10**12)),
    (f"{API}.STREAM.UPDATE.b", config("b")),
    (f"{API}.STREAM.CREATE.b", config("b", subjects=["a.x"])),
    (f"{API}.STREAM.CREATE.b", config("other")),
    (f"{API}.STREAM.CREATE.b", config("b", num_replicas=3)),
    # Publishing, and its conditions.
    ("a.1", b"one"),
    ("a.1", b"two", {EXPECTED: "0"}),
    ("a.1", b"two", {EXPECTED: "1", "X": "y"}),
    ("a.1", b"two", {EXPECTED: "abc"}),
    ("a.2", b"two", {EXPECTED: "0"}),
    ("a.3", b"id", {"Nats-Msg-Id": "i"}),
    ("a.3", b"id", {"Nats-Msg-Id": "i"}),
    ("a.ttl", b"", {"Nats-TTL": "60s"}),
    ("a.ttl", b"", {"Nats-TTL": "soon"}),
    ("a.ttl", b"", {"Nats-TTL": "0s"}),
    ("a.1", b"", {"Nats-Expected-Stream": "b"}),
    ("a.1", b"", {"Nats-Expected-Last-Sequence": "77"}),
    ("a.1", b"", {"Nats-Expected-Last-Msg-Id": "77"}),
    # One message, or many.
    (f"{API}.STREAM.MSG.GET.a", {"last_by_subj": "a.1"}),
    (f"{API}.STREAM.MSG.GET.a", {"last_by_subj": "a.none"}),
    (f"{API}.STREAM.MSG.GET.a", {"last_by_subj": "a.*"}),
    (f"{API}.STREAM.MSG.GET.a", {"seq": 3}),
    (f"{API}.STREAM.MSG.GET.a", {"seq": 1}),
    (f"{API}.STREAM.MSG.GET.a", {"seq": 99}),
    (f"{API}.STREAM.MSG.GET.a", {"seq": 3, "next_by_subj": "a.>"}),
    (f"{API}.STREAM.MSG.GET.a", {"seq": 9, "next_by_subj": "a.>"}),
    (f"{API}.STREAM.MSG.GET.a", {}),
    (f"{API}.STREAM.MSG.GET.b", {"seq": 1}),
    (f"{API}.DIRECT.GET.a", {"next_by_subj": "a.>", "seq": 1, "batch": 10}),
    (f"{API}.DIRECT.GET.a", {"next_by_subj": "a.*", "seq": 3, "batch": 2}),
    (f"{API}.DIRECT.GET.a", {"next_by_subj": "a.>", "seq": 1, "batch": 2, "max_bytes": 1}),
    (f"{API}.DIRECT.GET.a", {"next_by_subj": "a.none", "seq": 1, "batch": 2}),
    (f"{API}.DIRECT.GET.a", {"next_by_subj": "a.>", "seq": 99, "batch": 2}),
    (f"{API}.DIRECT.GET.a", {"multi_last": ["a.3", "a.none", "a.1"], "batch": 3}),
    (f"{API}.DIRECT.GET.a", {"multi_last": ["a.1", "a.3"], "batch": 1}),
    (f"{API}.DIRECT.GET.a", {"multi_last": ["a.none"], "batch": 1}),
    (f"{API}.DIRECT.GET.a", {"last_by_subj": "a.1"}),
    (f"{API}.DIRECT.GET.a", {"seq": 3}),
    (f"{API}.DIRECT.GET.a", {"seq": 99}),
    (f"{API}.DIRECT.GET.a", {}),
    (f"{API}.DIRECT.GET.b", {"seq": 1}),
    # A consumer.
    (f"{API}.CONSUMER.CREATE.a.reader.a.*", READS_HEADERS),
    (NEXT, {"batch": 2, "no_wait": True}),
    (NEXT, {"batch": 9, "no_wait": True}),
    (NEXT, {"batch": 9, "no_wait": True}),
    (f"{API}.CONSUMER.DELETE.a.reader", b""),
    (f"{API}.CONSUMER.DELETE.a.reader", b""),
    (NEXT, {"batch": 9, "no_wait": True}),
    (f"{API}.CONSUMER.CREATE.b.reader.a.*", {**READS_HEADERS, "stream_name": "b"}),
    # Removing.
    (f"{API}.STREAM.INFO.a", {}),
    (f"{API}.STREAM.INFO.a", {"subjects_filter": "a.*", "offset": 1}),
    (f"{API}.STREAM.INFO.a", {"subjects_filter": "a.none", "offset": 0}),
    (f"{API}.STREAM.MSG.DELETE.a", {"seq": 3, "no_erase": True}),
    (f"{API}.STREAM.MSG.DELETE.a", {"seq": 3, "no_erase": True}),
    *[(f"a.p{number}", b"purged") for number in range(5)],
    (f"{API}.STREAM.PURGE.a", {"filter": "a.p1"}),
    (f"{API}.STREAM.PURGE.a", {"filter": "a.p1"}),
    (f"{API}.STREAM.INFO.a", {}),
    (f"{API}.STREAM.PURGE.a", {"seq": 8}),
    (f"{API}.STREAM.PURGE.a", {"keep": 2}),
    (f"{API}.STREAM.PURGE.a", {"keep": 2, "seq": 3}),
    (f"{API}.STREAM.INFO.a", {}),
    (f"{API}.STREAM.PURGE.a", {}),
    (f"{API}.STREAM.PURGE.b", {}),
    (f"{API}.STREAM.INFO.a", {}),
    ("a.1", b"again"),
    (f"{API}.STREAM.INFO.a", {}),
    # Streams that refuse, or drop.
    (f"{API}.STREAM.CREATE.n", config("n", discard="new", discard_new_per_subject=True)),
    ("n.a", b"1"),
    ("n.a", b"2"),
    (f"{API}.STREAM.CREATE.m", config("m", max_msgs=2, max_msgs_per_subject=-1, discard="new")),
    *[("m.a", b"1")] * 3,
    (f"{API}.STREAM.CREATE.o", config("o", max_msgs=2, max_msgs_per_subject=-1)),
    *[("o.a", b"1")] * 3,
    (f"{API}.STREAM.INFO.o", {}),
    (f"{API}.STREAM.CREATE.y", config("y", max_bytes=100, max_msgs_per_subject=-1, discard="new")),
    *[("y.a", b"1" * 20, {"A": "b"})] * 2,
    (f"{API}.STREAM.CREATE.z", config("z", max_bytes=100, max_msgs_per_subject=-1)),
    *[("z.a", b"1" * 20)] * 3,
    (f"{API}.STREAM.INFO.z", {}),
    (f"{API}.STREAM.CREATE.plain", config("plain", allow_direct=False, allow_msg_ttl=False, allow_atomic=False)),
    ("plain.a", b"", {"Nats-TTL": "5s"}),
    *batch("p", ("plain.a", {}), ("plain.b", {})),
    (f"{API}.DIRECT.GET.plain", {"seq": 1}),
    # Batches.
    *batch("b1", ("n.x1", {}), ("n.x2", {}), ("n.x3", {"Nats-TTL": "60s"})),
    *batch("b2", ("n.y1", {}), ("n.x2", {}), ("n.y3", {})),
    *batch("b3", ("n.y1", {}), ("n.y1", {}), ("n.y3", {})),
    *batch("b4", ("n.y1", {EXPECTED: "5"}), ("n.y3", {})),
    *batch("b5", ("n.y1", {"Nats-TTL": "x"}), ("n.y3", {})),
    *batch("b6", ("n.y1", {"Nats-Msg-Id": "7"}), ("n.y3", {"Nats-Msg-Id": "7"})),
    *batch("b7", ("n.y1", {"Nats-Msg-Id": "7"}), ("n.y3", {})),
    *batch("l" * 65, ("n.z1", {}), ("n.z2", {})),
    *batch("b8", ("n.z1", {}), ("n.z2", {}), first=2),
    *batch("b9", ("n.z1", {}), commit=""),
    *batch("b9", ("n.z1", {}), ("n.z2", {}), first=3),
    ("n.z1", b"", {"Nats-Batch-Id": "b10"}),
    *batch("b11", ("n.one", {})),
    *batch("b13", ("n.f1", {}), ("n.f2", {}), commit="2"),
    *batch("b14", ("a.c1", {EXPECTED: "0"}), ("a.c1", {EXPECTED: "0"})),
    *batch("b15", ("a.d1", {}), ("a.d1", {})),
    (f"{API}.STREAM.INFO.n", {"subjects_filter": ">"}),
    (f"{API}.DIRECT.GET.n", {"next_by_subj": "n.>", "seq": 1, "batch": 100}),
    (f"{API}.DIRECT.GET.a", {"next_by_subj": "a.>", "seq": 1, "batch": 100}),
]
"""Requests, each with its data and its headers."""


async def answers(port: int, counts: list[int] | None = None) -> list[list[Heard]]:
    """Returns what the requests of the contract are answered with.

    Args:
        port: the server's.
        counts: how many answers to wait for, for each request; None: the server answers before it reads on.
    """
    client = await RawNats.connect(port)
    found = []
    for number, request in enumerate(CONTRACT):
        client.ask(*request)
        found.append(await client.settle(counts[number] if counts is not None else 0))
    await client.close()
    return found


def common(ours: Any, real: Any) -> Any:
    """Returns a real server's answer without the members that ours does not have: it says more about itself."""
    if isinstance(ours, dict) and isinstance(real, dict):
        return {name: common(value, real[name]) for name, value in ours.items() if name in real}
    if isinstance(ours, Heard) and isinstance(real, Heard):
        return real._replace(data=common(ours.data, real.data))
    return real


async def test_every_answer_is_that_of_the_real_server(tmp_path: Path) -> None:
    real = NatsServer(tmp_path / "nats")
    try:
        async with running(settings=Settings(max_payload=4 * 1024**2)) as simulated:
            ours = await answers(simulated.ports[0])
        theirs = await answers(real.port, [len(some) for some in ours])
    finally:
        real.kill()
    differences = [
        (request, some, others)
        for request, some, others in zip(CONTRACT, ours, theirs, strict=True)
        if some != [common(*pair) for pair in zip(some, others, strict=True)]
    ]
    assert differences == []


COMMANDS = [
    b"PING\r\n",
    b"SUB a.* 7\r\nSUB a.> q 8\r\nPUB a.b 1\r\nx\r\nPUB a.b reply 1\r\ny\r\n",
    b"HPUB a.b r2 12 13\r\nNATS/1.0\r\n\r\nz\r\nUNSUB 8 3\r\nPUB a.b 0\r\n\r\nUNSUB 7\r\npub a.b 0\r\n\r\n",
    b"SUB b 9\r\nUNSUB 9 2\r\nPUB b 1\r\n1\r\nPUB b 1\r\n2\r\nPUB b 1\r\n3\r\n",
    b"SUB c  10\r\nSUB c 10\r\nPUB c  1\r\n1\r\n",
    b"SUB d..e 11\r\nSUB d.>.e 12\r\n",
    b"PUB none in.none 0\r\n\r\nPUB none 0\r\n\r\n",
]
ENDS = [b"NONSENSE\r\n", b"PUB a b c d\r\n", b"PUB a 1\r\nabcdef\r\n", b"PUB a 5000000\r\n", b"SUB " + b"x" * 5000]


async def dialogue(port: int) -> list[Any]:
    """Returns what commands are answered with."""
    found: list[Any] = []
    for options in ({}, {"echo": False}, {"no_responders": False}):
        client = await RawNats.connect(port, **options)
        for commands in COMMANDS:
            client.write(commands)
            found.append(await client.settle())
        found.append(client.errors)
        await client.close()
    for last in ENDS:
        client = await RawNats.connect(port)
        client.write(last)
        found.append(await client.rest())
        await client.close()
    return found


async def test_every_command_does_what_it_does_at_the_real_server(nats: NatsServer) -> None:
    async with running(settings=Settings(max_payload=4 * 1024**2)) as simulated:
        assert await dialogue(simulated.ports[0]) == await dialogue(nats.port)


async def kept(bus: Bus, layout: Layout) -> list[Any]:
    """Returns what our stores answer."""
    names = Names("contract")
    messages, accounts, leases = (
        JetStreamMessages(bus, names, layout),
        JetStreamAccounts(bus, names, layout),
        JetStreamLeases(bus, names),
    )
    found: list[Any] = []
    for store in (messages, accounts, leases):
        await store.open()
    letters = [Letter(name, str(number), "t", b"x" * number) for number in range(30) for name in ("a", "b")]
    found.append(await messages.deposit(letters, BOUNDS, NOW))
    found.append(await messages.deposit(letters[10:] + letters[:5], BOUNDS, NOW))
    found.append(await messages.read_mailbox("a", 0, 10, 10**6, NOW))
    found.append(await messages.read_mailbox("a", 0, 100, 40, NOW))
    await messages.remove_letters([("a", str(number)) for number in range(20)])
    found += [await messages.read_mailbox("a", 0, 100, 10**6, NOW), await messages.mailbox_sizes()]
    found.append(await messages.clear_mailbox("b"))
    found += [await messages.has_mail("a"), await messages.has_mail("b"), await messages.mailbox_size("a")]
    outgoing = [Outgoing(f"host{number % 2}:1", str(number), "t", b"{}", 0) for number in range(20)]
    positions = await messages.enqueue(outgoing, NOW)
    found += [positions, await messages.enqueue(outgoing[5:10], NOW)]
    await messages.note_failures([(position, NOW + 60, "why") for position in positions[:4]])
    await messages.bury([(position, "dead") for position in positions[4:6]])
    await messages.remove_sent(positions[6:12])
    found += [await messages.read_outbox("host0:1", 0, 10, 10**6, NOW), await messages.queue_sizes()]
    found += [await messages.list_queue(dead=True), await messages.revive(positions, NOW), await messages.list_queue()]
    records = [Remembered(bytes([number]) * 16, b"d" * 16, b"%d" % number) for number in range(10)]
    await messages.remember(records, NOW)
    await messages.remember([Remembered(one.key, one.digest, b"other") for one in records], NOW + 10)
    found += [await messages.recall(records[3].key), await messages.recall(b"k" * 16)]
    await messages.forget_before(NOW - 1, 4)
    found.append([await messages.recall(one.key) for one in records])
    for name in ("alice", "bob", "carol"):
        await accounts.add(name, "$1", created=NOW)
    try:
        await accounts.add("bob", "$2", created=NOW)
    except AccountExists:
        found.append("there already")
    await accounts.add_token("bob", b"t" * 32, NOW + 100, NOW)
    found.append(await accounts.find_token(b"t" * 32, NOW))
    await accounts.set_password("bob", "$3")
    await accounts.set_roles("carol", ("r",))
    await accounts.remove("alice")
    found += [await accounts.find_token(b"t" * 32, NOW), await accounts.list(), await accounts.count()]
    found.append(await accounts.exists(["alice", "bob", "dave"]))
    first = await leases.take("x", "n1", 600)
    found += [first, await leases.take("x", "n2", 600), await leases.renew(first, 600), await leases.list()]
    await leases.give_back(first)
    await leases.give_back(await leases.take("x", "n1", 600))
    found += [await leases.take("x", "n2", 600), await leases.take("y", "n1", 1)]
    await asyncio.sleep(2.5)
    found.append(await leases.list())
    for store in (messages, accounts, leases):
        await store.close()
    return found


@pytest.mark.parametrize("partitions", [1, 3])
async def test_our_stores_get_the_same_answers(tmp_path: Path, partitions: int) -> None:
    real = NatsServer(tmp_path / "nats")
    try:
        async with running() as simulated, connected(*simulated.urls) as bus, connected(real.url) as real_bus:
            ours, theirs = await asyncio.gather(*(kept(one, Layout(partitions=partitions)) for one in (bus, real_bus)))
    finally:
        real.kill()
    assert ours == theirs
