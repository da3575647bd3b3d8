"""What a node may be asked by another: each question is answered from what this node has itself.

Whoever can reach NATS as a node may ask all of them, as it may do everything else that nodes do to each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from bester import __version__
from bester.errors import SessionEnded
from bester.protocol.names import username
from bester.server import problems, views
from bester.server.glance import glance, online

if TYPE_CHECKING:
    from bester.server.hall import Hall

Question = Callable[["Hall", dict[str, Any]], Awaitable[Any]]


async def _usernames(hall: Hall, args: dict[str, Any]) -> list[str]:
    return hall.exchange.presence.usernames()


async def _online(hall: Hall, args: dict[str, Any]) -> int:
    return online(hall)


async def _clients(hall: Hall, args: dict[str, Any]) -> list[dict[str, Any]]:
    return views.clients(hall, args.get("after", ""), args.get("limit"))


async def _sessions(hall: Hall, args: dict[str, Any]) -> dict[str, int]:
    """How many sessions the accounts have whose names are between two."""
    after, last = args["after"], args["last"]
    presence = hall.exchange.presence
    return {name: len(presence.all_sessions(name)) for name in presence.all_usernames() if after < name <= last}


async def _kick(hall: Hall, args: dict[str, Any]) -> int:
    return kick(hall, args["username"])


def kick(hall: Hall, name: str) -> int:
    """Ends an account's sessions at this node, and returns how many there were."""
    sessions = hall.exchange.presence.all_sessions(username(name))
    for session in sessions:
        session.carrier.end_session(SessionEnded("the session was ended by an operator"))
    return len(sessions)


async def _handlers(hall: Hall, args: dict[str, Any]) -> list[dict[str, Any]]:
    return views.handlers(hall)


async def _start_handler(hall: Hall, args: dict[str, Any]) -> object:
    return await hall.supervisor.start_type(args["type"])


async def _stop_handler(hall: Hall, args: dict[str, Any]) -> object:
    return await hall.supervisor.stop_type(args["type"])


async def _drain_handler(hall: Hall, args: dict[str, Any]) -> object:
    return hall.supervisor.drain_type(args["type"])


async def _handler_log(hall: Hall, args: dict[str, Any]) -> object:
    return hall.supervisor.output(args["type"], args["lines"])


async def _servers(hall: Hall, args: dict[str, Any]) -> list[dict[str, Any]]:
    return views.servers_now(hall, [])


async def _disconnect_server(hall: Hall, args: dict[str, Any]) -> int:
    return hall.forwarding.disconnect(args["server"])


async def _problems(hall: Hall, args: dict[str, Any]) -> list[dict[str, Any]]:
    return problems.own(hall)


async def _status(hall: Hall, args: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": __version__,
        "process": views.process(hall),
        "numbers": views.numbers(hall) | {"accounts": online(hall)},
        "accounts": len(hall.exchange.presence.usernames()),
        "handlers": views.handlers(hall),
        "servers": views.servers_now(hall, []),
        "problems": problems.own(hall),
    }


async def _glance(hall: Hall, args: dict[str, Any]) -> dict[str, Any]:
    return glance(hall) | {"problems": problems.own(hall)}


async def _history(hall: Hall, args: dict[str, Any]) -> list[list[float | None]]:
    return list(hall.sampler.history)


async def _receipts(hall: Hall, args: dict[str, Any]) -> int:
    """Lets go of the receipts of the last second, and says how many messages have none."""
    await hall.receipts.settle()
    return hall.receipts.unrecorded


async def _reload(hall: Hall, args: dict[str, Any]) -> object:
    return await hall.reload()


QUESTIONS: dict[str, Question] = {
    "usernames": _usernames,
    "online": _online,
    "clients": _clients,
    "sessions": _sessions,
    "kick": _kick,
    "handlers": _handlers,
    "startHandler": _start_handler,
    "stopHandler": _stop_handler,
    "drainHandler": _drain_handler,
    "handlerLog": _handler_log,
    "servers": _servers,
    "disconnectServer": _disconnect_server,
    "problems": _problems,
    "status": _status,
    "glance": _glance,
    "history": _history,
    "receipts": _receipts,
    "reload": _reload,
}
