"""Plans: all that happens in one play, as plain data that does not change when the drawing of plans does.

Servers, handlers, accounts and sessions are named by their places in the plan's tuples. Times are seconds from the
beginning of the play. Every message carries its *errand*, which tells the handlers what to do with it, so that a
handler needs no memory and a message can be taken out of a plan without changing the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct


class Errand(Struct, frozen=True, omit_defaults=True):
    """What a handler is to do with a message."""

    wait_s: float = 0.0
    """How long it waits before it answers."""
    clients: tuple[str, ...] = ()
    """Names of accounts of its server, which need not exist."""
    transient: bool = False
    servers: tuple[int, ...] = ()
    handler: str = ""
    """The type of the next handler on its server."""
    then: Errand | None = None
    """What the handlers of those servers, and the next handler, are to do."""
    circle: bool = False
    """Whether those servers are to do this errand again, and so on."""
    reply: bool = False
    lie: str = ""
    """What is wrong with the answer: one of :data:`LIES`."""


LASTING = ("refuse", "shape")
"""Lies that are told each time: the answer says no, or has a wrong form."""
PASSING = ("refuseNow", "hang", "garbage", "die")
"""Lies that are told the first time: a temporary no, no answer, no frame, and the death of the handler."""
HARMLESS = ("twice", "unknown")
"""Lies beside which the commands are carried out: the answer comes twice, or after one for an unknown id."""
LIES = (*LASTING, *PASSING, *HARMLESS)


class Message(Struct, frozen=True, omit_defaults=True):
    """A message, which a session sends at some time, or as soon as it can."""

    at: float
    by: int
    type: str = "t0"
    errand: Errand = Errand()
    once: bool = True
    size: int = 0
    """How many bytes are added to it."""
    dry: bool = False
    again: bool = False
    """Whether it is sent once more after its report, as by a process that died before it noted that."""


class Site(Struct, frozen=True, omit_defaults=True):
    """A server."""

    settings: dict[str, Any] = {}
    """More of its configuration."""
    nodes: int = 0
    """How many nodes it has, if it is a cluster; 0: it is none."""
    nats: int = 1
    """How many NATS servers a cluster has: 1 or 3."""


class Hand(Struct, frozen=True, omit_defaults=True):
    """A handler's process."""

    server: int
    types: tuple[str, ...]
    node: int = 0
    """The node that it is attached to."""
    library: bool = False
    """Whether it is a :class:`bester.Handler`; else it speaks the protocol by hand."""
    concurrency: int = 64
    late_s: float = 0.0
    """Up to this long it waits before each answer; so it answers out of order."""


class Account(Struct, frozen=True, omit_defaults=True):
    """An account, and where it is."""

    server: int


class Session(Struct, frozen=True, omit_defaults=True):
    """A client's process, which logs in again whenever its connection is lost."""

    account: int
    library: bool = False
    ack: bool = True
    mail: bool = True
    away: tuple[tuple[float, float], ...] = ()
    """From when until when it is not there."""
    slow_s: float = 0.0
    """How long it waits after each read."""
    node: int | None = None
    """The node that it connects to; None: any, each time another one."""


class Fault(Struct, frozen=True, omit_defaults=True):
    """Something that goes wrong; :mod:`lab.trouble` has the kinds."""

    at: float
    kind: str
    who: int = 0
    other: int = 0
    for_s: float = 0.0
    count: int = 0
    amount: float = 0.0
    point: str = ""
    node: int = 0
    """Which of the server's nodes or NATS servers it strikes."""


class Weather(Struct, frozen=True, omit_defaults=True):
    """How the network is, and the disks."""

    latency_s: float = 0.0005
    jitter_s: float = 0.0002
    mtu: int = 1 << 20
    bytes_per_s: float = 0.0
    """0: without a bound."""
    read_bytes: int = 0
    """The most bytes that a read returns; 0: as many as there are."""
    sync_s: float = 0.0
    """How long the servers' disks take to sync, until the faults are over."""
    grain_s: float = 0.0
    """What happens within this time happens at one moment, as where the processors are busy."""


class Plan(Struct, frozen=True, omit_defaults=True):
    """A play."""

    seed: int
    """Where the world's chance comes from."""
    servers: tuple[Site, ...]
    hands: tuple[Hand, ...] = ()
    accounts: tuple[Account, ...] = ()
    sessions: tuple[Session, ...] = ()
    messages: tuple[Message, ...] = ()
    faults: tuple[Fault, ...] = ()
    weather: Weather = Weather()
    proven: bool = False
    """Whether the servers prove their names to each other."""
    names: bool = False
    """Whether servers are addressed by their names; else by their numbers."""
    length_s: float = 10.0
    found: str = ""
    """What the plan found, where it is kept as a test."""


def account_name(index: int) -> str:
    """Returns an account's name."""
    return f"a{index}"


def server_name(index: int) -> str:
    """Returns a server's name."""
    return f"s{index}.example"


def write(plan: Plan) -> bytes:
    """Returns a plan as JSON."""
    return msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n"


def read(path: Path) -> Plan:
    """Reads a plan.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return msgspec.json.decode(path.read_bytes(), type=Plan)


def as_play(plan: Plan) -> Iterator[str]:
    """Yields the lines of a plan for people."""
    names = "proven names" if plan.proven else "plain TCP"
    yield f"seed {plan.seed}: {len(plan.servers)} servers over {names}, {plan.length_s:g} s"
    for index, site in enumerate(plan.servers):
        if site.nodes:
            yield f"  {server_name(index)} has {site.nodes} nodes and {site.nats} NATS servers"
        if site.settings:
            yield f"  {server_name(index)}: {_short(site.settings)}"
    for index, hand in enumerate(plan.hands):
        yield f"  handler {index}: {_short(hand)}"
    for index, session in enumerate(plan.sessions):
        where = server_name(plan.accounts[session.account].server)
        yield f"  session {index} of {account_name(session.account)} at {where}: {_short(session)}"
    if plan.weather != Weather():
        yield f"  network: {_short(plan.weather)}"
    lines = [(one.at, f"session {one.by} sends {_short(one)}") for one in plan.messages]
    lines += [(one.at, f"FAULT {one.kind} {_short(one)}") for one in plan.faults]
    for at, line in sorted(lines):
        yield f"  {at:8.3f} {line}"


def _short(part: Any) -> str:
    members = msgspec.to_builtins(part)
    return " ".join(f"{key}={value}" for key, value in members.items() if key not in ("at", "by", "kind"))
