"""The handlers of the worlds: who sends what on to whom, as the founding documents' handlers do.

A handler sends to the recipient if that is a client of its own server, and else to the next server. The types are those
of the demo: an English handler delivers, a Portuguese one translates and hands on.
"""

from __future__ import annotations

from collections.abc import Callable

from lab.scale.local import Answer, Answered
from lab.scale.network import name_of
from lab.scale.world import World

CLIENT = ["c0"]
Route = Callable[[int, int], int]
"""Takes a server and the target, and returns the next server."""


def relay(world: World, route: Route) -> None:
    """Lets every server deliver what is for its own client, and pass all else on."""
    for server in world.servers:
        server.serve(["english"], _relaying(world, server.number, route))


def _relaying(world: World, here: int, route: Route) -> Answer:
    target, hops_of = world.ledger.target, world.ledger.hops

    def answer(number: int, hops: int) -> Answered:
        to = target[number]
        if to == here:
            hops_of.append(hops)
            return "sendClients", CLIENT, None
        return "sendServers", [name_of(route(here, to))], None

    return answer


def translate(world: World) -> None:
    """Lets every server have a Portuguese handler, too, which hands on to the English one."""
    for server in world.servers:
        server.serve(["portuguese"], lambda number, hops: ("sendHandler", "english", None))


def direct(here: int, target: int) -> int:
    """Everyone reaches everyone: a mesh."""
    return target


def over(hub: int) -> Route:
    """All goes over one hub."""
    return lambda here, target: target if here == hub else hub


def tiers(hubs: int) -> Route:
    """The first servers are hubs, and know each other; each other server knows one of them."""

    def route(here: int, target: int) -> int:
        if here >= hubs:
            return here % hubs
        home = target if target < hubs else target % hubs
        return target if here == home else home

    return route


def chains(length: int) -> Route:
    """Servers stand in rows, each of which passes on to the next."""
    return lambda here, target: here + 1


def group(world: World, hub: int, members: list[int]) -> None:
    """Lets a hub send what comes for a group to all servers of its members, which deliver it."""
    names = [name_of(member) for member in members]
    hops_of = world.ledger.hops

    def deliver(number: int, hops: int) -> Answered:
        hops_of.append(hops)
        return "sendClients", CLIENT, None

    for server in world.servers:
        if server.number == hub:
            server.serve(["group"], lambda number, hops: ("sendServers", names, "news"))
        else:
            server.serve(["group"], lambda number, hops: ("sendServers", [name_of(hub)], None))
        server.serve(["news"], deliver)
