"""Runs one plan in a world of its own, and returns what came of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from random import Random
from typing import Any

from bester.lab.loop import Stuck
from bester.lab.network import Link
from bester.lab.process import ProcessDied, current
from bester.lab.transport import READ_BYTES
from bester.lab.world import World
from lab.bounds import Bounds
from lab.clusterorder import in_clusters
from lab.clusterwatch import ClusterWatch
from lab.dials import Dials
from lab.hands import EXPECTED, HandPlayer
from lab.inside import at_quiet
from lab.invariants import Judge
from lab.keeper import Keeper
from lab.ledger import Ledger
from lab.leftover import too_many_letters, unknown_accounts, unread_mail
from lab.order import across
from lab.plan import Plan
from lab.repeats import handled_again
from lab.sessions import SessionPlayer, make_session
from lab.sites import SitePlayer
from lab.stage import Stage
from lab.trouble import Trouble

SETTLE_S = 600.0
"""How long everything may take to come, after all faults are over."""
STILL_S = 60.0
"""How long nothing may come until what is missing is given up: servers are tried every 5 s, requests end in 30 s."""
CALM_S = 6.5
"""How long nothing may have come before it counts as over."""
QUIET_S = 120
"""How long the servers may still hold something after that."""
TLS_END_S = 32.0
"""How long the end of a connection over TLS may take, where the other end does not answer."""
STEPS = 800_000
"""How many callbacks a play may take, and as many more for each node of a cluster."""
DISK_FAULTS = ("syncFails", "writeFails", "diskFull")
DISK_LOGS = ("bester.database", "bester.receipts", "bester.server")
"""Who may log an error where a disk fails."""
NATS_ERRORS = ("cannot be reached now", "cannot reach each other now")
DISK_ERRORS = ("disk I/O error", "has no room", "database or disk is full")


@dataclass
class Outcome:
    """What came of a plan."""

    violations: list[str] = field(default_factory=list)
    digest: str = ""
    happened: list[tuple[float, str]] = field(default_factory=list)
    """The kinds of faults that happened, with their times."""
    points: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    messages: int = 0
    reports: int = 0
    receipts: int = 0
    steps: int = 0
    simulated_s: float = 0.0
    took_s: float = 0.0
    last: list[str] = field(default_factory=list)
    """The end of the trace, where something was violated."""


class _TooLong(Exception):
    """The play took too many steps."""


def run_plan(plan: Plan, listener: Callable[[str], None] | None = None) -> Outcome:
    """Runs a plan; violations are in what is returned, crashes of the lab are raised."""
    began = time.process_time()
    outcome = Outcome(messages=len(plan.messages))
    world = World(plan.seed, listener)
    play = _Play(world, plan)
    expected = _expected_errors(plan)
    with _log(expected, DISK_LOGS if DISK_ERRORS[0] in expected else ()) as records:
        try:
            world.run(play.run())
        except Stuck as error:
            play.ledger.violation(f"hang: {error}")
        except _TooLong as error:
            play.ledger.violation(f"unfinished: {error}")
    for record in records:
        play.ledger.violation(f"log: {record}")
    for fault in world.loop.faults:
        play.ledger.violation(f"uncaught: {fault.get('message')}: {fault.get('exception')!r}")
    outcome.violations = play.ledger.violations
    outcome.digest = world.trace.digest
    outcome.happened, outcome.points = play.trouble.happened, play.trouble.points
    outcome.codes = play.ledger.codes
    outcome.reports, outcome.receipts = play.ledger.reports, play.ledger.receipts
    outcome.steps, outcome.simulated_s = world.loop.steps, world.loop.time() - 1000.0
    if outcome.violations:
        outcome.last = list(world.trace.last)
    made = [one for keeper in play.keepers for one in keeper.stopped]
    del world, play
    for _ in range(3):  # what has a finalizer goes a collection later
        gc.collect()
        alive = sum(one() is not None for one in made)
        if not alive:
            break
    gc.freeze()  # what is there now need not be looked at again
    if alive:
        outcome.violations.append(f"memory: {alive} of {len(made)} servers are still there after the world's end")
    outcome.took_s = time.process_time() - began
    return outcome


class _Play:
    def __init__(self, world: World, plan: Plan) -> None:
        self.world = world
        self.plan = plan
        self.ledger = Ledger()
        self.stage = Stage(world, plan, self.ledger)
        weather = plan.weather
        world.network.link = Link(weather.latency_s, weather.jitter_s, weather.mtu, weather.bytes_per_s or float("inf"))
        if weather.read_bytes:
            chance: Random = world.random("reads")
            world.network.read_bytes = lambda: chance.randint(1, weather.read_bytes)
        else:
            world.network.read_bytes = lambda: READ_BYTES
        self.most_steps = STEPS * (1 + sum(site.nodes for site in plan.servers))
        self.sites: list[SitePlayer] = []
        self.keepers: list[Keeper] = []

    def _set_up(self) -> None:
        """Makes the servers and players, in the running world, whose chance their certificates have."""
        plan = self.plan
        self.sites = self._make_sites()
        self.keepers = [keeper for site in self.sites for keeper in site.keepers]
        self.stage.hosts = [site.host for site in self.sites]
        self.stage.nodes = [site.labs for site in self.sites]
        self.hands = [HandPlayer(self.stage, at, hand) for at, hand in enumerate(plan.hands)]
        self.sessions: list[SessionPlayer] = [
            make_session(self.stage, at, session) for at, session in enumerate(plan.sessions)
        ]
        self.trouble = Trouble(self.stage, self.sites, self.hands, self.sessions)
        self.judge = Judge(self.stage, self.sessions, self.trouble.struck)
        self.world.network.on_connect = Dials(self.stage, self.keepers).attempt
        self.bounds = Bounds(self.stage, self.keepers)
        self.watch = ClusterWatch(self.stage, self.sites)

    def _make_sites(self) -> list[SitePlayer]:
        plan, types = self.plan, sorted({one for hand in self.plan.hands for one in hand.types})
        settings: dict[str, Any] = {
            # Configured, so that they are unavailable for now, and not unknown, while their handler is away.
            "handlers": {"typeMap": {type: {} for type in types}},
            "federation": {"rate": 1000000, "burst": 1000000, "retryMax": 5},
        }
        sites = [SitePlayer(self.stage, at, settings) for at in range(len(plan.servers))]
        if plan.proven or plan.names:
            for site in sites:
                site.know(sites)
        return sites

    async def run(self) -> None:
        stage, loop = self.stage, self.world.loop
        self._set_up()
        for site in self.sites:
            await site.start_nats()
        running = [asyncio.create_task(keeper.run()) for keeper in self.keepers]
        await self._all_up(60.0)
        await self._make_accounts()
        for hand in self.hands:
            hand.start()
        stage.began = loop.time()
        for number, message in enumerate(self.plan.messages):
            self.sessions[message.by].give(number, stage.began + message.at)
        for session in self.sessions:
            session.start()
        self.trouble.plan(self.plan.faults)
        loop.grain_s = self.plan.weather.grain_s
        for keeper in self.keepers:
            keeper.lab.machine.disk.sync_s = self.plan.weather.sync_s
        self.watch.start()
        loop.after_step = self._after_step
        await asyncio.sleep(self.plan.length_s)
        await self._count_letters()
        stage.settling = True
        loop.grain_s = 0.0
        stage.note("all faults are over")
        self.trouble.heal()
        await self._quiet(settled=await self._settle())
        for task in running:
            if task.done() and task.exception() is not None:
                self.ledger.violation(f"lab: {task.exception()!r}")
        await self._stop()
        for task in running:
            task.cancel()
        loop.after_step = None
        self.judge.judge([await site.left() for site in self.sites])
        happened = {kind for _, kind in self.trouble.happened}
        for violation in chain(
            handled_again(stage, happened),
            across(stage),
            unknown_accounts(stage),
            in_clusters(stage, self.sessions, self.trouble.disturbed, self.watch.leaderless),
        ):
            self.ledger.violation(violation)

    def _after_step(self) -> None:
        loop = self.world.loop
        if loop.steps > self.most_steps:
            raise _TooLong(f"{loop.steps} callbacks until {loop.time():.3f}")
        self.bounds.look()
        self.watch.look()

    async def _all_up(self, timeout_s: float) -> None:
        for keeper in self.keepers:
            try:
                await asyncio.wait_for(keeper.ready.wait(), timeout_s)
            except TimeoutError:
                self.ledger.violation(f"{keeper.lab.name} does not start: {keeper.why}")

    async def _make_accounts(self) -> None:
        for session in self.sessions:
            session.start()
        for session in self.sessions:
            await session.was_in.wait()
        for session in self.sessions:
            if session.process is not None:
                session.process.kill()
            session.lost = 0
        await asyncio.sleep(0.1)

    async def _settle(self) -> bool:
        """Returns when all that is to come has come; False if it does not in its time."""
        stage = self.stage
        await self._all_up(120.0)
        deadline = stage.now + SETTLE_S
        healed_at = stage.now
        while stage.now < deadline and stage.now - max(healed_at, self.ledger.last_at) < STILL_S:
            await asyncio.sleep(0.5)
            if (
                stage.now - self.ledger.last_at > CALM_S
                and all(session.idle and session.connected for session in self.sessions)
                and all(keeper.ready.is_set() for keeper in self.keepers)
                and not self._outbox()
                and not self.ledger.awaited()
                and not self.judge.missing(None)
            ):
                return True
        stage.note("not everything came")
        return False

    async def _count_letters(self) -> None:
        """Looks whether there are more letters than there may be, while those who are away leave them there."""
        for keeper in self.keepers:
            process, server = keeper.lab.process, keeper.lab.server
            if self.plan.servers[keeper.index].nodes:
                continue  # each node counts for itself (docs/scale.md)
            if process is not None and server is not None and process.alive and not process.paused:
                counting = asyncio.create_task(process.call(too_many_letters(server)))
                await asyncio.wait({counting}, timeout=1.0)
                if counting.done() and counting.exception() is None:
                    for one in counting.result():
                        self.ledger.violation(f"bound: {one}")

    async def _quiet(self, settled: bool) -> None:
        """Waits until the servers hold nothing any more; notes what they do not let go.

        Where some messages find no end, they may hold what is under way, but no mail for those who are there.
        """
        left: list[str] = []
        for _ in range(QUIET_S if settled else 20):
            left = []
            for keeper in self.keepers:
                process, server = keeper.lab.process, keeper.lab.server
                if process is not None and server is not None:
                    left += at_quiet(server) if settled else ()
                    with suppress(ProcessDied):
                        left += await process.call(unread_mail(self.stage, server, keeper.index, self.sessions))
            if not left:
                return
            await asyncio.sleep(1.0)
        for one in left[:5]:
            self.ledger.violation(f"quiet: {one}")

    def _outbox(self) -> int:
        """Returns for how many other servers something waits."""
        count = 0
        for keeper in self.keepers:
            server = keeper.lab.server
            if server is not None:
                for one in server.federation.destinations.values():
                    count += one.backlog.active or bool(one.backlog.writing) or not one.pending.is_empty
        return count

    async def _stop(self) -> None:
        self.stage.over = True
        players = [session.process for session in self.sessions] + [hand.process for hand in self.hands]
        for keeper in self.keepers:
            try:
                await keeper.stop()
            except TimeoutError:
                self.ledger.violation(f"{keeper.lab.name} does not stop")
        for process in players:
            if process is not None:
                process.kill()
        await asyncio.sleep(TLS_END_S)
        for keeper in self.keepers:
            for one in keeper.left()[:5]:
                self.ledger.violation(f"{keeper.lab.name} left behind: {one}")


def _expected_errors(plan: Plan) -> tuple[str, ...]:
    """Returns parts of errors that the log may have."""
    found: tuple[str, ...] = (EXPECTED,)
    if any(one.kind in DISK_FAULTS for one in plan.faults):
        found += DISK_ERRORS
    if plan.faults and any(site.nodes for site in plan.servers):
        found += NATS_ERRORS
    return found


@contextmanager
def _log(expected: tuple[str, ...], loggers: tuple[str, ...]) -> Any:
    """Collects what Bester's log has of errors, without those of some loggers, and those that have expected parts."""
    records: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            process = current.get()
            if process is not None and not process.alive:
                return  # what it had left half done is closed
            if record.levelno >= logging.ERROR or record.exc_info:
                text = record.getMessage()
                if record.exc_info and record.exc_info[1] is not None:
                    text += f": {record.exc_info[1]!r}"
                if record.name in loggers or any(one in text for one in expected):
                    return
                records.append(f"{record.name}: {text}"[:500])

    collector = Collector()
    logger = logging.getLogger("bester")
    before = logger.propagate, logger.level, logger.handlers
    logger.handlers = [collector]  # others would keep what records refer to
    logger.propagate = False
    try:
        yield records
    finally:
        logger.propagate, logger.level, logger.handlers = before
