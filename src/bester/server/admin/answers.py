"""One node's answers to the questions of the others: each is answered from this node alone.

Anyone who can reach NATS as a node can ask all of them; nodes trust each other with everything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from bester import __version__
from bester.errors import UnknownCommand
from bester.server.admin import clients, descriptions, handlers, numbers, problems, servers
from bester.server.admin.services import AdminServices

Question = Callable[[AdminServices, dict[str, Any]], Awaitable[Any]]


async def answer(services: AdminServices, name: str, args: dict[str, Any]) -> Any:
    """Returns this node's answer to a question.

    Raises:
        UnknownCommand: this release does not know the question.
        BesterError: as the question says.
    """
    question = QUESTIONS.get(name)
    if question is None:
        raise UnknownCommand("this node's release does not know the question")
    return await question(services, args)


async def _usernames(services: AdminServices, args: dict[str, Any]) -> list[str]:
    return services.runtime.exchange.presence.usernames()


async def _online(services: AdminServices, args: dict[str, Any]) -> int:
    return services.cluster.counted_here()


async def _clients(services: AdminServices, args: dict[str, Any]) -> list[dict[str, Any]]:
    return clients.connected(services, args.get("after", ""), args.get("limit"))


async def _sessions(services: AdminServices, args: dict[str, Any]) -> dict[str, int]:
    return clients.session_counts(services, args["after"], args["last"])


async def _kick(services: AdminServices, args: dict[str, Any]) -> int:
    return clients.kick(services, args["username"])


async def _handlers(services: AdminServices, args: dict[str, Any]) -> list[dict[str, Any]]:
    return handlers.types(services)


async def _descriptions(services: AdminServices, args: dict[str, Any]) -> list[dict[str, Any]]:
    return descriptions.at_node(services, args["types"])


async def _start_handler(services: AdminServices, args: dict[str, Any]) -> object:
    return await services.supervisor.start_type(args["type"])


async def _stop_handler(services: AdminServices, args: dict[str, Any]) -> object:
    return await services.supervisor.stop_type(args["type"])


async def _drain_handler(services: AdminServices, args: dict[str, Any]) -> object:
    return services.supervisor.drain_type(args["type"])


async def _handler_log(services: AdminServices, args: dict[str, Any]) -> object:
    return services.supervisor.output(args["type"], args["lines"])


async def _servers(services: AdminServices, args: dict[str, Any]) -> list[dict[str, Any]]:
    return servers.servers(services, [])


async def _disconnect_server(services: AdminServices, args: dict[str, Any]) -> int:
    return services.federation.disconnect(args["server"])


async def _problems(services: AdminServices, args: dict[str, Any]) -> list[dict[str, Any]]:
    return problems.of_process(services)


async def _status(services: AdminServices, args: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": __version__,
        "process": numbers.process(services),
        "numbers": numbers.numbers(services) | {"accounts": services.cluster.counted_here()},
        "accounts": len(services.runtime.exchange.presence.usernames()),
        "handlers": handlers.types(services),
        "servers": servers.servers(services, []),
        "problems": problems.of_process(services),
    }


async def _glance(services: AdminServices, args: dict[str, Any]) -> dict[str, Any]:
    return numbers.glance(services) | {"problems": problems.of_process(services)}


async def _history(services: AdminServices, args: dict[str, Any]) -> list[list[float | None]]:
    return list(services.rates.history)


async def _receipts(services: AdminServices, args: dict[str, Any]) -> int:
    """Returns how many messages have no receipt; the others' can be found now."""
    await services.receipts.settle()
    return services.receipts.unrecorded


async def _reload(services: AdminServices, args: dict[str, Any]) -> object:
    return await services.reload()


QUESTIONS: dict[str, Question] = {
    "usernames": _usernames,
    "online": _online,
    "clients": _clients,
    "sessions": _sessions,
    "kick": _kick,
    "handlers": _handlers,
    "descriptions": _descriptions,
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
