"""Finds what is wrong with a running server, or is about to be."""

from __future__ import annotations

import datetime
import re
from typing import Any

from bester import __version__
from bester.clock import wall_time
from bester.config.handlers import HandlerConfig
from bester.errors import BesterError
from bester.server.admin.services import AdminServices
from bester.server.ports import Nodes
from bester.store.ports import QueueSize, account_of

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
"""The values of a problem's ``what``."""
EXPIRY_DAYS = 30
"""How long before its end a certificate is a problem."""
DISK_RESERVES = 4
"""With less than so many reserves free, the disk is a problem."""
NEARLY_FULL = 0.5
"""How full the queue of one server may be before it is a problem."""
OLD_S = 86_400.0
"""How long a message may wait for another server before it is a problem."""
SLOW_LOOP_S = 1.0
MAX_PROBLEMS = 100
MAX_NAMED = 10
MAX_SHOWN = 40
"""Characters of another node's release that are shown."""
_RELEASE = re.compile(r"(\d{1,9})\.(\d{1,9})\b")

Problem = dict[str, Any]
"""``{"what", "name", "detail", "since"?}``, with times in seconds since 1970."""


async def find(services: AdminServices) -> list[Problem]:
    """Returns the problems that this node can see, at most :data:`MAX_PROBLEMS`."""
    return [*of_process(services), *await of_store(services)][:MAX_PROBLEMS]


def of_process(services: AdminServices) -> list[Problem]:
    """Returns the problems of this process and its machine."""
    return (
        _certificates(services)
        + _identities(services)
        + _clock(services)
        + _disk(services)
        + _bus(services.cluster)
        + _releases(services.cluster)
        + _descriptors(services)
        + _loop(services)
        + _handlers(services)
        + _unacknowledged(services)
    )


async def of_store(services: AdminServices) -> list[Problem]:
    """Returns the problems of what the server stores; all nodes of a cluster have the same."""
    try:
        return _queues(services, await services.messages.queue_sizes()) + await _mailboxes(services)
    except BesterError as error:
        return [{"what": "store", "name": services.storage.place, "detail": error.message}]


def _certificates(services: AdminServices) -> list[Problem]:
    now = datetime.datetime.fromtimestamp(wall_time(), datetime.UTC)
    found: list[Problem] = []
    for expiry in [*services.federation.trust.expiries(), *services.listener_expiries()]:
        days = (expiry.at - now).days
        if days < EXPIRY_DAYS:
            detail = f"ends in {days} days, on {expiry.at:%Y-%m-%d}" if days >= 0 else f"ended on {expiry.at:%Y-%m-%d}"
            row: Problem = {"what": "certificate", "name": expiry.what, "detail": detail}
            found.append(row | ({"since": expiry.at.timestamp()} if days < 0 else {}))
    return found


def _clock(services: AdminServices) -> list[Problem]:
    """Reports that the system clock was set a while ago: earlier times are shown wrong."""
    jump = services.runtime.steady.recent_jump()
    if jump is None:
        return []
    since = services.runtime.steady.shown(jump.at)
    return [{"what": "clock", "name": jump.direction, "detail": str(jump), "since": since}]


def _identities(services: AdminServices) -> list[Problem]:
    """Reports servers of the configuration that did not prove their names."""
    return [
        {"what": "identity", "name": destination, "detail": doubt.why, "since": doubt.since}
        for destination, doubt in services.federation.trust.doubted.items()
    ]


def _disk(services: AdminServices) -> list[Problem]:
    storage = services.runtime.config.storage
    space = services.storage.disk_space() if services.storage.on_disk else None
    if space is None or space["free"] >= DISK_RESERVES * storage.reserve:
        return []
    detail = f"{space['free'] // 2**20} MiB are free, and {storage.reserve // 2**20} MiB are kept in reserve"
    if space["free"] < storage.reserve:
        detail += "; nothing more is stored"
    return [{"what": "disk", "name": str(storage.path), "detail": detail}]


def _bus(nodes: Nodes) -> list[Problem]:
    if nodes.bus_up:
        return []
    why = f" ({nodes.bus_why})" if nodes.bus_why else ""
    detail = f"cannot be reached: nothing is kept, and this node is on its own{why}"
    return [{"what": "bus", "name": "NATS", "detail": detail}]


def _releases(nodes: Nodes) -> list[Problem]:
    """Returns the releases that are too new to run together with this node's; the older node reports it."""
    found: dict[str, list[str]] = {}
    for node, version in nodes.others.items():
        if too_new(__version__, version):
            found.setdefault(version[:MAX_SHOWN], []).append(node)
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
    """Whether a release is newer than ours by more than a minor release; False if one of them is not a release."""
    numbers = [_RELEASE.match(one) for one in (ours, other)]
    if not all(numbers):
        return False
    (major, minor), (other_major, other_minor) = ((int(one[1]), int(one[2])) for one in numbers if one)
    return other_major > major or (other_major == major and other_minor > minor + 1)


def _descriptors(services: AdminServices) -> list[Problem]:
    limits = services.limits
    if not limits.is_starved:
        return []
    detail = (
        f"{len(limits.connections)} connections are open, and there are descriptors for {limits.room}; "
        "others were refused or had to wait within the last minute"
    )
    return [{"what": "descriptors", "name": "open files", "detail": detail}]


def _loop(services: AdminServices) -> list[Problem]:
    lag_s = services.rates.worst_lag_s
    if lag_s < SLOW_LOOP_S:
        return []
    return [{"what": "loop", "name": "event loop", "detail": f"was late by {lag_s:.1f} s within the last 10 s"}]


def _handlers(services: AdminServices) -> list[Problem]:
    """Reports classic handlers that cannot be asked although nobody stopped them."""
    found: list[Problem] = []
    served = services.runtime.config.served_types()
    for name in sorted(served):
        if services.supervisor.is_down(name):
            ended = (services.supervisor.state(name) or {}).get("lastExit")
            detail = "its process cannot be started" if ended is None else f"its process ended with {ended}"
            found.append({"what": "handler", "name": name, "detail": f"{detail}; it is started again and again"})
        elif why := _why_away(services, served[name]):
            found.append({"what": "handler", "name": name, "detail": why})
    return found


def _unacknowledged(services: AdminServices) -> list[Problem]:
    """Reports accounts whose sessions were given messages at least twice, and did not acknowledge them."""
    known = services.runtime.exchange.redelivery.unacknowledged
    found: dict[str, set[str]] = {}
    for session in services.runtime.exchange.redelivery.late:
        left = [id for id in (*session.late, *session.unacked) if id in known and known[id].given > 1]
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


def _why_away(services: AdminServices, handler: HandlerConfig) -> str:
    """Returns why a classic handler that this server does not start cannot be asked; "" if it can, or nobody knows."""
    name, route = handler.type, services.runtime.exchange.dispatcher.types.get(handler.type)
    if handler.socket is None or route is None or route.attached:
        return ""
    if services.supervisor.state(name) is not None or services.supervisor.is_stopped(name):
        return ""
    return services.classic.why_away(str(handler.socket))


def _queues(services: AdminServices, sizes: list[QueueSize]) -> list[Problem]:
    most = services.runtime.config.federation.max_queued
    found: list[Problem] = []
    for size in sizes:
        reasons = []
        if size.waiting > NEARLY_FULL * most:
            reasons.append(f"{size.waiting} of at most {most} messages wait")
        waits_s = services.runtime.steady.now() - size.oldest if size.oldest else 0.0
        if waits_s > OLD_S:
            reasons.append(f"the oldest message waits for {waits_s / 3600:.0f} h")
        if reasons:
            row = {
                "what": "queue",
                "name": size.destination,
                "detail": "; ".join(reasons),
                "since": services.runtime.steady.shown(size.oldest),
            }
            found.append(row)
        if size.dead:
            detail = f"{size.dead} messages were given up"
            if account_of(size.destination) is not None:
                detail += ", which the account never acknowledged"
            found.append({"what": "deadLetters", "name": size.destination, "detail": detail})
    return found


async def _mailboxes(services: AdminServices) -> list[Problem]:
    limits = services.runtime.config.limits
    found: list[Problem] = []
    for size in (await services.storage.totals()).fullest:
        detail = (
            f"{size.messages} of at most {limits.mailbox_messages} messages, "
            f"{size.bytes // 2**20} of {limits.mailbox_bytes // 2**20} MiB"
        )
        found.append({"what": "mailbox", "name": size.username, "detail": detail})
    return found
