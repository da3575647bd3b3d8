"""What a node may be asked by another: each question is answered from what this node has itself.

Whoever can reach NATS as a node may ask all of them, as it may do everything else that nodes do to each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from bester import __version__
from bester.errors import SessionEnded, UnknownCommand
from bester.protocol.names import username
from bester.server.admin import node_status as views
from bester.server.admin import problems
from bester.server.admin.overview import glance, online

if TYPE_CHECKING:
    from bester.server.runtime import Runtime

Question = Callable[["Runtime", dict[str, Any]], Awaitable[Any]]


async def _usernames(runtime: Runtime, args: dict[str, Any]) -> list[str]:
    return runtime.exchange.presence.usernames()


async def _online(runtime: Runtime, args: dict[str, Any]) -> int:
    return online(runtime)


async def _clients(runtime: Runtime, args: dict[str, Any]) -> list[dict[str, Any]]:
    return views.clients(runtime, args.get("after", ""), args.get("limit"))


async def _sessions(runtime: Runtime, args: dict[str, Any]) -> dict[str, int]:
    """How many sessions the accounts have whose names are between two."""
    after, last = args["after"], args["last"]
    presence = runtime.exchange.presence
    return {name: len(presence.all_sessions(name)) for name in presence.all_usernames() if after < name <= last}


async def _kick(runtime: Runtime, args: dict[str, Any]) -> int:
    return kick(runtime, args["username"])


def kick(runtime: Runtime, name: str) -> int:
    """Ends an account's sessions at this node, and returns how many there were."""
    sessions = runtime.exchange.presence.all_sessions(username(name))
    for session in sessions:
        session.carrier.end_session(SessionEnded("the session was ended by an operator"))
    return len(sessions)


async def _handlers(runtime: Runtime, args: dict[str, Any]) -> list[dict[str, Any]]:
    return views.handlers(runtime)


async def _start_handler(runtime: Runtime, args: dict[str, Any]) -> object:
    return await runtime.supervisor.start_type(args["type"])


async def _stop_handler(runtime: Runtime, args: dict[str, Any]) -> object:
    return await runtime.supervisor.stop_type(args["type"])


async def _drain_handler(runtime: Runtime, args: dict[str, Any]) -> object:
    return runtime.supervisor.drain_type(args["type"])


async def _handler_log(runtime: Runtime, args: dict[str, Any]) -> object:
    return runtime.supervisor.output(args["type"], args["lines"])


async def _servers(runtime: Runtime, args: dict[str, Any]) -> list[dict[str, Any]]:
    return views.servers_now(runtime, [])


async def _disconnect_server(runtime: Runtime, args: dict[str, Any]) -> int:
    return runtime.federation.disconnect(args["server"])


async def _problems(runtime: Runtime, args: dict[str, Any]) -> list[dict[str, Any]]:
    return problems.own(runtime)


async def _status(runtime: Runtime, args: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": __version__,
        "process": views.process(runtime),
        "numbers": views.numbers(runtime) | {"accounts": online(runtime)},
        "accounts": len(runtime.exchange.presence.usernames()),
        "handlers": views.handlers(runtime),
        "servers": views.servers_now(runtime, []),
        "problems": problems.own(runtime),
    }


async def _glance(runtime: Runtime, args: dict[str, Any]) -> dict[str, Any]:
    return glance(runtime) | {"problems": problems.own(runtime)}


async def _history(runtime: Runtime, args: dict[str, Any]) -> list[list[float | None]]:
    return list(runtime.rates.history)


async def _receipts(runtime: Runtime, args: dict[str, Any]) -> int:
    """Lets go of the receipts of the last second, and says how many messages have none."""
    await runtime.receipts.settle()
    return runtime.receipts.unrecorded


async def _reload(runtime: Runtime, args: dict[str, Any]) -> object:
    return await runtime.reload()


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


async def answer(runtime: Runtime, name: str, args: dict[str, Any]) -> Any:
    """Returns this node's answer to a question.

    Raises:
        UnknownCommand: this release does not know the question.
        BesterError: as the question says.
    """
    question = QUESTIONS.get(name)
    if question is None:
        raise UnknownCommand("this node's release does not know the question")
    return await question(runtime, args)
