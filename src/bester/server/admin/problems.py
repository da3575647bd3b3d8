"""What is wrong with a running server, or is about to be: found when somebody asks, and watched for the log.

The watch looks every :data:`LOOK_S` seconds. It tells the log when a problem begins, once a day as long as it lasts,
and when it is over; what it found last is what metrics and the service manager are told.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import re
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bester import __version__
from bester.clock import wall_time
from bester.errors import BesterError
from bester.server.telemetry.storage import disk_space
from bester.store.ports import account_of
from bester.timeouts import within

if TYPE_CHECKING:
    from bester.config.handlers import HandlerConfig
    from bester.server.cluster.node import ClusterNode
    from bester.server.runtime import Runtime
    from bester.store.ports import QueueSize

log = logging.getLogger("bester.problems")

KINDS = (
    "bus",
    "certificate",
    "clock",
    "deadLetters",
    "descriptors",
    "disk",
    "handler",
    "identity",
    "loop",
    "mailbox",
    "node",
    "queue",
    "release",
    "store",
    "unacknowledged",
)
"""What ``what`` can be."""
LOOK_S = 10.0
REMIND_S = 24 * 60 * 60.0
"""How often the log is told of what lasts."""
EXPIRY_DAYS = 30
"""How long before its end a certificate is a problem."""
DISK_RESERVES = 4
"""With less than so many reserves free, the disk is a problem."""
NEARLY_FULL = 0.5
"""How full the queue of one server may be."""
OLD_S = 86_400.0
"""How old what waits for another server may be."""
SLOW_LOOP_S = 1.0
MAX_PROBLEMS = 100
MAX_NAMED = 10
MAX_SHOWN = 40
"""Characters of what another node calls its release."""
_RELEASE = re.compile(r"(\d{1,9})\.(\d{1,9})\b")

Problem = dict[str, Any]
"""``{"what", "name", "detail", "since"?}``, with times in seconds since 1970."""


class Watch:
    """Looks for problems by itself."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.told: Callable[[str], None] = lambda line: None
        """Is told all problems in a line, whenever they have changed."""
        self._asked = asyncio.Event()
        self._known: dict[tuple[str, str], float] = {}
        """Those of the last look, by kind and name, and when the log was told."""
        self._before = ""

    def look_soon(self) -> None:
        """Something has changed that may be a problem."""
        self._asked.set()

    async def run(self) -> None:
        """Looks again and again, until it is cancelled."""
        while True:
            self._asked.clear()
            try:
                self._compare(await find(self.runtime))
            except Exception:  # one look that fails is not to be the last
                log.exception("problems could not be looked for")
            try:
                async with within(LOOK_S):
                    await self._asked.wait()
            except TimeoutError:
                continue

    def counts(self) -> dict[str, int]:
        """Returns how many problems of each kind there are, as of the last look."""
        found = Counter(what for what, _ in self._known)
        return {what: found[what] for what in KINDS}

    def _compare(self, found: list[Problem]) -> None:
        now, known = self.runtime.clock(), self._known
        self._known = {}
        for problem in found:
            key = problem["what"], problem["name"]
            told = known.pop(key, None)
            if told is None or now - told >= REMIND_S:
                log.warning("%s", in_a_line(problem))
                told = now
            self._known[key] = told
        if len(found) < MAX_PROBLEMS:  # else one that is missing may only have had no room
            for what, name in known:
                log.warning("no longer a problem: %s: %s", what, ascii(name)[1:-1])
        text = "; ".join(map(in_a_line, found[:3])) + ("; ..." if len(found) > 3 else "")
        status = f"{len(found)} problem{'s' if len(found) > 1 else ''}: {text}" if found else "no problems"
        if self._before != status:
            self._before = status
            self.told(f"{self.runtime.config.server.name} is ready, {status}")


def in_a_line(problem: Problem) -> str:
    """Returns a problem in words, in which nothing breaks the line."""
    return ascii(f"{problem['what']}: {problem['name']}: {problem['detail']}")[1:-1]


async def find(runtime: Runtime) -> list[Problem]:
    """Returns what is a problem now, at most :data:`MAX_PROBLEMS`."""
    return [*own(runtime), *await kept(runtime)][:MAX_PROBLEMS]


def own(runtime: Runtime) -> list[Problem]:
    """Returns those of this process and its machine."""
    here = _disk(runtime) if runtime.nodes is None else _bus(runtime.nodes) + _releases(runtime.nodes)
    return (
        _certificates(runtime)
        + _identities(runtime)
        + _clock(runtime)
        + here
        + _descriptors(runtime)
        + _loop(runtime)
        + _handlers(runtime)
        + _unacknowledged(runtime)
    )


async def kept(runtime: Runtime) -> list[Problem]:
    """Returns those of what the server keeps, which is the same for all nodes of a cluster."""
    try:
        return _queues(runtime, await runtime.messages.queue_sizes()) + await _mailboxes(runtime)
    except BesterError as error:
        where = str(runtime.config.storage.path) if runtime.nodes is None else "NATS"
        return [{"what": "store", "name": where, "detail": error.message}]


def _certificates(runtime: Runtime) -> list[Problem]:
    now = datetime.datetime.fromtimestamp(wall_time(), datetime.UTC)
    found: list[Problem] = []
    for expiry in [*runtime.federation.trust.expiries(), *runtime.more_expiries]:
        days = (expiry.at - now).days
        if days < EXPIRY_DAYS:
            detail = f"ends in {days} days, on {expiry.at:%Y-%m-%d}" if days >= 0 else f"ended on {expiry.at:%Y-%m-%d}"
            row: Problem = {"what": "certificate", "name": expiry.what, "detail": detail}
            found.append(row | ({"since": expiry.at.timestamp()} if days < 0 else {}))
    return found


def _clock(runtime: Runtime) -> list[Problem]:
    """The system clock was set a while ago; what is shown of earlier times is not to be trusted."""
    jump = runtime.steady.recent_jump()
    if jump is None:
        return []
    return [{"what": "clock", "name": jump.direction, "detail": str(jump), "since": runtime.steady.shown(jump.at)}]


def _identities(runtime: Runtime) -> list[Problem]:
    """Servers of the configuration that are not who they should be."""
    return [
        {"what": "identity", "name": destination, "detail": doubt.why, "since": doubt.since}
        for destination, doubt in runtime.federation.trust.doubted.items()
    ]


def _disk(runtime: Runtime) -> list[Problem]:
    storage = runtime.config.storage
    room = disk_space(str(storage.path))
    if room is None or room["free"] >= DISK_RESERVES * storage.reserve:
        return []
    detail = f"{room['free'] // 2**20} MiB are free, and {storage.reserve // 2**20} MiB are kept in reserve"
    if room["free"] < storage.reserve:
        detail += "; nothing more is stored"
    return [{"what": "disk", "name": str(storage.path), "detail": detail}]


def _bus(nodes: ClusterNode) -> list[Problem]:
    if nodes.bus.up:
        return []
    why = f" ({nodes.bus.why})" if nodes.bus.why else ""
    detail = f"cannot be reached: nothing is kept, and this node is on its own{why}"
    return [{"what": "bus", "name": "NATS", "detail": detail}]


def _releases(nodes: ClusterNode) -> list[Problem]:
    """Nodes that are newer than this one by more than what can run together; the older one says so."""
    found: dict[str, list[str]] = {}
    for member in nodes.membership.others.values():
        if too_new(__version__, member.hello.version):
            found.setdefault(member.hello.version[:MAX_SHOWN], []).append(member.node)
    rule = "only one minor release and the next one can run together"
    return [
        {
            "what": "release",
            "name": version,
            "detail": f"is that of {', '.join(sorted(names)[:MAX_NAMED])}, and this node has {__version__}: {rule}",
        }
        for version, names in sorted(found.items())
    ]


def too_new(ours: str, other: str) -> bool:
    """Whether a release is newer than ours by more than a minor release; of what is no release, nothing is known."""
    numbers = [_RELEASE.match(one) for one in (ours, other)]
    if not all(numbers):
        return False
    (major, minor), (other_major, other_minor) = ((int(one[1]), int(one[2])) for one in numbers if one)
    return other_major > major or (other_major == major and other_minor > minor + 1)


def _descriptors(runtime: Runtime) -> list[Problem]:
    gate = runtime.gate
    if not gate.is_starved:
        return []
    detail = (
        f"{len(gate.connections)} connections are open, and there are descriptors for {gate.room}; "
        "others were refused or had to wait within the last minute"
    )
    return [{"what": "descriptors", "name": "open files", "detail": detail}]


def _loop(runtime: Runtime) -> list[Problem]:
    lag_s = runtime.rates.worst_lag_s
    if lag_s < SLOW_LOOP_S:
        return []
    return [{"what": "loop", "name": "event loop", "detail": f"was late by {lag_s:.1f} s within the last 10 s"}]


def _handlers(runtime: Runtime) -> list[Problem]:
    """Classic handlers that nobody stopped, and that are not there: processes of ours, and others' sockets."""
    found: list[Problem] = []
    served = runtime.config.served_types()
    for name in sorted(served):
        if runtime.supervisor.is_down(name):
            ended = (runtime.supervisor.state(name) or {}).get("lastExit")
            detail = "its process cannot be started" if ended is None else f"its process ended with {ended}"
            found.append({"what": "handler", "name": name, "detail": f"{detail}; it is started again and again"})
        elif why := _dead(runtime, served[name]):
            found.append({"what": "handler", "name": name, "detail": why})
    return found


def _unacknowledged(runtime: Runtime) -> list[Problem]:
    """Accounts whose sessions leave messages unacknowledged that they were given at least twice."""
    known = runtime.exchange.unacknowledged
    found: dict[str, set[str]] = {}
    for session in runtime.exchange.late:
        left = [id for id in (*session.late, *session.given) if id in known and known[id].given > 1]
        if left and not session.closed:
            found.setdefault(session.username, set()).update(left)
    return [
        {
            "what": "unacknowledged",
            "name": username,
            "detail": f"its sessions leave {len(ids)} messages unacknowledged, which are given again and again",
        }
        for username, ids in sorted(found.items())[:MAX_PROBLEMS]
    ]


def _dead(runtime: Runtime, handler: HandlerConfig) -> str:
    """Returns why a classic handler that somebody else starts cannot be asked; empty where it can, for all we know."""
    name, kind = handler.type, runtime.exchange.types.get(handler.type)
    if handler.socket is None or kind is None or kind.attached:
        return ""
    if runtime.supervisor.state(name) is not None or runtime.supervisor.is_stopped(name):
        return ""
    return runtime.classic.why_away(str(handler.socket))


def _queues(runtime: Runtime, sizes: list[QueueSize]) -> list[Problem]:
    most = runtime.config.federation.max_queued
    found: list[Problem] = []
    for size in sizes:
        reasons = []
        if size.waiting > NEARLY_FULL * most:
            reasons.append(f"{size.waiting} of at most {most} messages wait")
        waits_s = runtime.steady.now() - size.oldest if size.oldest else 0.0
        if waits_s > OLD_S:
            reasons.append(f"the oldest message waits for {waits_s / 3600:.0f} h")
        if reasons:
            row = {
                "what": "queue",
                "name": size.destination,
                "detail": "; ".join(reasons),
                "since": runtime.steady.shown(size.oldest),
            }
            found.append(row)
        if size.dead:
            detail = f"{size.dead} messages were given up"
            if account_of(size.destination) is not None:
                detail += ", which the account never acknowledged"
            found.append({"what": "deadLetters", "name": size.destination, "detail": detail})
    return found


async def _mailboxes(runtime: Runtime) -> list[Problem]:
    limits = runtime.config.limits
    found: list[Problem] = []
    for size in (await runtime.totals.get()).fullest:
        detail = (
            f"{size.messages} of at most {limits.mailbox_messages} messages, "
            f"{size.bytes // 2**20} of {limits.mailbox_bytes // 2**20} MiB"
        )
        found.append({"what": "mailbox", "name": size.username, "detail": detail})
    return found
