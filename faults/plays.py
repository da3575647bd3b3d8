"""Servers with senders, receivers and handlers around them, and the judgement at the end."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.ports import free_ports

from bester.net.selfsigned import make_certificate
from faults.ledger import Ledger
from faults.players import Handler, Player, Receiver, Sender
from faults.run import Run
from faults.servers import Besterd, config

PATIENCE_S = 60.0
"""How long a play waits for what must come at last."""
FAR = "b.example"


class Play:
    """One server, or two that know each other's keys, and those around them."""

    def __init__(
        self, run: Run, *, far: bool = False, hosts: tuple[str, str] = ("127.0.0.1", "127.0.0.1"), **more: Any
    ) -> None:
        """Makes a play; the servers reach each other at ``hosts``, and ``more`` goes into their configurations."""
        self.run = run
        self.ledger = Ledger()
        self.senders: list[Sender] = []
        self.receivers: list[Receiver] = []
        self.players: list[Player] = []
        self.far: Besterd | None = None
        self._to_far: list[str] = []
        if far:
            near_config, far_config = federated(run.folder(), hosts, more)
            self.far = run.server(run.folder(), far_config)
        else:
            near_config = config(**more)
        self.near = run.server(run.folder(), near_config)
        self.add(Handler(self.near, self.ledger))
        if self.far is not None:
            self.add(Handler(self.far, self.ledger))
        self._turns: Iterator[tuple[Sender, str]] | None = None

    def add(self, player: Player) -> None:
        """Adds a player; before the beginning."""
        self.players.append(player)
        if isinstance(player, Sender):
            self.senders.append(player)
        elif isinstance(player, Receiver):
            self.receivers.append(player)

    def people(
        self,
        senders: int,
        present: int,
        away: int,
        far: int = 0,
        window: int = 32,
        turns: tuple[int, int] = (20, 200),
    ) -> None:
        """Adds senders, and receivers that are there, that come and go, and that are at the other server.

        The first receiver that comes and goes leaves at once, and is back only at the end.
        """
        random = self.run.random

        def comes() -> int:
            return random.randint(*turns)

        for n in range(senders):
            self.add(Sender(self.near, self.ledger, f"s{n}", window))
        for n in range(present):
            self.add(Receiver(self.near, self.ledger, f"here{n}"))
        for n in range(away):
            self.add(one := Receiver(self.near, self.ledger, f"away{n}", comes))
            if n == 0:
                one.leave_for_good()
        if self.far is not None:
            for n in range(far):
                self.add(Receiver(self.far, self.ledger, f"far{n}", comes if n % 2 else None))
                self._to_far.append(f"far{n}")

    async def begin(self) -> None:
        """Starts the servers; returns when everybody has been let in once, so that their accounts are there."""
        if self.far is not None:
            await self.far.start()
        await self.near.start()
        await self.let_in()

    async def let_in(self) -> None:
        """Lets everybody begin; returns when all have been let in once."""
        for player in self.players:
            self.run.spawn(player.play())
        async with asyncio.timeout(PATIENCE_S):
            for player in self.players:
                await player.was_in.wait()

    def give(self, count: int, size: int = 64) -> None:
        """Lets the senders send this many more messages, to the receivers in turns."""
        if self._turns is None:
            names = [one.name for one in self.receivers]
            # Not one to one: each sender writes to each receiver in time.
            self._turns = ((s, n) for n in itertools.cycle(names) for s in self.senders)
        for sender, name in itertools.islice(self._turns, count):
            if name in self._to_far:
                sender.give(name, size, "far", server=FAR)
            else:
                sender.give(name, size)

    async def all_reported(self, timeout_s: float = PATIENCE_S) -> None:
        """Returns when every message has its report, or after the time."""
        try:
            async with asyncio.timeout(timeout_s):
                for sender in self.senders:
                    await sender.idle.wait()
        except TimeoutError:
            self.run.notes.append(f"{self.run.scenario}: not every message had its report within {timeout_s:g} s.")

    async def finish(self, timeout_s: float = PATIENCE_S) -> None:
        """Waits for all reports and all messages, stops the servers, and reads what they still store."""
        await self.all_reported(timeout_s)
        for receiver in self.receivers:
            receiver.stay()
        if not await self.ledger.all_came(timeout_s):
            self.run.notes.append(f"{self.run.scenario}: not everything came within {timeout_s:g} s.")
        for server in filter(None, (self.near, self.far)):
            await server.stop()
            for username, key, delivery_id in letters(server.database):
                if key in self.ledger.received:
                    self.ledger.came(username, key, delivery_id)
                else:
                    self.run.notes.append(f"{self.run.scenario}: {key} is still in the mailbox of {username}.")

    def judge(self, what: str = "") -> None:
        """Notes what every scenario has to reach."""
        judge(self.run, what, [self.ledger])


def judge(run: Run, what: str, ledgers: Sequence[Ledger]) -> None:
    """Notes what every scenario has to reach, for several plays together."""

    def add(name: str, count: Callable[[Ledger], int]) -> None:
        run.at_most(f"{what}: {name}" if what else name, sum(map(count, ledgers)), 0)

    add("reported good and lost", lambda one: len(one.lost()))
    add("seen twice, repeats dropped by their delivery ids", lambda one: len(one.twice()))
    add("reported bad for good, and delivered", lambda one: len(one.wrongly_refused()))
    add("refused for good, or never reported", lambda one: len(one.refused) + len(one.unreported()))
    told: Counter[str] = Counter()
    for ledger in ledgers:
        told.update(ledger.temporary)
        told.update(ledger.refused.values())
    run.notes.append(
        f"{run.scenario}{', ' + what if what else ''}: {sum(len(one.good) for one in ledgers):,} messages reported "
        f"good, {sum(one.repeats for one in ledgers):,} repeats dropped by their delivery ids; refused, also for now: "
        f"{', '.join(f'{code} {count}' for code, count in sorted(told.items())) or 'none'}."
    )
    if lost := sum(one.tokens_lost for one in ledgers):
        run.notes.append(f"{run.scenario}: {lost} tokens were given and later not known.")


def federated(folder: Path, hosts: tuple[str, str], more: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the configurations of two servers that prove their names: only then are repeats between them known.

    Args:
        folder: for their certificates.
        hosts: where they reach each other.
        more: goes into both.
    """
    names = ("a.example", FAR)
    ports = free_ports(len(names))
    marks = []
    for name in names:
        certificate, key, mark = make_certificate(name)
        (folder / f"{name}.pem").write_bytes(certificate)
        (folder / f"{name}.key").write_bytes(key)
        marks.append(mark)
    made = []
    for own, other in ((0, 1), (1, 0)):
        pem, key_file = str(folder / f"{names[own]}.pem"), str(folder / f"{names[own]}.key")
        tls = {"port": ports[own], "address": hosts[own], "certificate": pem, "key": key_file}
        peer = {"address": f"{hosts[other]}:{ports[other]}", "fingerprint": marks[other]}
        federation = {"servers": {names[other]: peer}, "retryMin": 0.2, "retryMax": 1} | more.get("federation", {})
        others = {key: value for key, value in more.items() if key != "federation"}
        made.append(config(names[own], network={"tls": tls}, federation=federation, **others))
    return made[0], made[1]


def letters(database: Path) -> list[tuple[str, str, str]]:
    """Returns the letters in the mailboxes of a server that does not run: account, key, delivery id."""
    query = "SELECT username, data, delivery_id FROM letter ORDER BY position"
    return [(name, json.loads(data)["key"], id) for name, data, id in _rows(database, query)]


def waiting(database: Path) -> int:
    """Returns how many messages are in the outbox of a server that does not run."""
    return int(_rows(database, "SELECT count(*) FROM outgoing")[0][0])


def problems(database: Path) -> list[str]:
    """Returns the problems of a database; it must be a copy, because this changes the files."""
    if not database.exists():
        return []
    try:
        found = [str(text) for (text,) in _rows(database, "PRAGMA integrity_check")]
    except sqlite3.DatabaseError as error:
        return [str(error)]
    return [] if found == ["ok"] else found


def _rows(database: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()
