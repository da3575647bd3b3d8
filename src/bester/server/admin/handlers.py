"""The types of one node and their handlers, as operators see them."""

from __future__ import annotations

from typing import Any

from bester.clock import wall_time
from bester.core.routing import AttachedHandler, TypeRoute
from bester.server.admin.services import AdminServices
from bester.server.runtime import Runtime
from bester.server.telemetry.served import served


def available_types(runtime: Runtime) -> list[str]:
    """Returns the types that have a handler now, sorted."""
    return sorted(name for name, route in runtime.exchange.dispatcher.types.items() if route.available)


def types(services: AdminServices) -> list[dict[str, Any]]:
    """Returns each type with its handlers and its numbers, sorted."""
    now = services.runtime.clock()
    supervisor = services.supervisor
    gates = services.runtime.exchange.gates
    verdicts: dict[str, dict[str, int]] = {}
    for (guard, verdict), count in gates.verdicts.items():
        verdicts.setdefault(guard, {})[verdict] = count
    rows: list[dict[str, Any]] = []
    for name, route in sorted(services.runtime.exchange.dispatcher.types.items()):
        done = served(services.cluster, route.metrics)
        rows.append(
            {
                "type": name,
                "attached": [
                    {
                        "name": handler.name,
                        "outstanding": len(handler.outstanding),
                        "concurrency": handler.concurrency,
                        "seconds": round(now - handler.since, 1),
                        "over": handler.over,
                        "address": handler.address or None,
                    }
                    for handler in route.attached
                ],
                "classic": _classic_socket(services, route),
                "process": supervisor.state(name),
                "stopped": supervisor.is_stopped(name),
                "down": supervisor.is_down(name),
                "active": route.active,
                "waiting": count_waiting(route),
                "answered": done.answered,
                "failed": done.failed,
                "meanMs": round(1000 * done.seconds / done.answered, 3) if done.answered else None,
                "lastError": route.last_error or None,
                "version": services.descriptions.version(name),
                "validates": services.descriptions.validates(name),
                "guards": list(dict.fromkeys(rule.guard for rule in gates.rules_of(name))),
                "verdicts": verdicts.get(name),
            }
        )
    return rows


def count_waiting(route: TypeRoute) -> int:
    """Returns how many messages wait for a handler of a type."""
    return sum(len(queue.waiting) for queue in route.queues.values())


def _classic_socket(services: AdminServices, route: TypeRoute) -> str | None:
    """Returns where a type's classic handler answers, or would answer if an operator had not stopped it."""
    if services.supervisor.is_stopped(route.name):
        handler = services.runtime.config.served_types().get(route.name)
        if handler is not None and handler.socket is not None:
            return str(handler.socket)
    return route.rules.classic_socket


def handlers(services: AdminServices) -> list[dict[str, Any]]:
    """Returns the handlers: each attached process, and the classic handler of each type, sorted by their names."""
    runtime = services.runtime
    ahead_s = wall_time() - runtime.clock()
    rows = [_attached(services, one, ahead_s) for one in runtime.exchange.dispatcher.handlers if not one.is_remote]
    configured = runtime.config.served_types()
    for name, route in runtime.exchange.dispatcher.types.items():
        rules = configured.get(name)
        if rules is not None and (rules.socket is not None or (rules.stdio is not None and not route.attached)):
            rows.append(_classic(services, route, "classic" if rules.stdio is None else "stdio"))
    return sorted(rows, key=lambda row: (row["name"], row["kind"]))


def _attached(services: AdminServices, handler: AttachedHandler, ahead_s: float) -> dict[str, Any]:
    types = services.runtime.exchange.dispatcher.types
    routes = [route for route in handler.types if route.name in types]
    done = [served(services.cluster, route.metrics) for route in routes]
    return {
        "name": handler.name,
        "kind": "attached",
        "state": "draining" if handler.detached else "up",
        "types": [route.name for route in handler.types],
        "since": round(handler.since + ahead_s, 1),
        "outstanding": len(handler.outstanding),
        "concurrency": handler.concurrency,
        "answered": sum(one.answered for one in done),
        "failed": sum(one.failed for one in done),
        "lastError": next((route.last_error for route in routes if route.last_error), None),
    }


def _classic(services: AdminServices, route: TypeRoute, kind: str) -> dict[str, Any]:
    process = services.supervisor.state(route.name)
    state = "up"
    if services.supervisor.is_stopped(route.name):
        state = "stopped"
    elif process is not None and process["pid"] is None and process["starts"]:
        state = "down"
    done = served(services.cluster, route.metrics)
    return {
        "name": route.name,
        "kind": kind,
        "state": state,
        "types": [route.name],
        "since": None,
        "process": process,
        "outstanding": route.active,
        "concurrency": route.rules.classic_concurrency,
        "answered": done.answered,
        "failed": done.failed,
        "lastError": route.last_error or None,
    }
