"""Help for the tests of clients and handlers.

A handler's functions need no server to be tested::

    def test_chat():
        assert call(handler, "chat", "hello", user="t") == [SendClients(["g"], "hello")]

And a whole server runs in the test's own loop, on temporary sockets::

    async def test_with_server():
        async with server() as s, Client(s.url("t")) as client:
            ...

Several servers, on a simulated network that fails at random, by a seed::

    @lab(seeds=50)
    async def test_in_a_storm(world):
        shop = world.server("shop.example", handlers=[make_shop])
        await world.start()
        t = await world.client(shop, "t")
        async with world.trouble():
            ...

With pytest there are the fixtures ``bester_server`` and ``bester_client``::

    def test_chat(bester_server, bester_client):
        bester_server.attach(handler)
        assert bester_client.ask("chat", "hello").data == "hello"
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bester.lab.actors import LabClient as LabClient
    from bester.lab.actors import LabHandler as LabHandler
    from bester.lab.actors import Site as Site
    from bester.lab.caught import Caught as Caught
    from bester.lab.loop import Outside as Outside
    from bester.lab.loop import Stuck as Stuck
    from bester.lab.play import lab as lab
    from bester.lab.process import ProcessDied as ProcessDied
    from bester.lab.stage import LabWorld as LabWorld
    from bester.testing.calls import call as call
    from bester.testing.calls import call_async as call_async
    from bester.testing.running import PASSWORD as PASSWORD
    from bester.testing.running import LocalServer as LocalServer
    from bester.testing.running import RunningServer as RunningServer
    from bester.testing.running import server as server

_HOMES = {
    "Caught": "bester.lab.caught",
    "LabClient": "bester.lab.actors",
    "LabHandler": "bester.lab.actors",
    "LabWorld": "bester.lab.stage",
    "LocalServer": "bester.testing.running",
    "PASSWORD": "bester.testing.running",
    "Outside": "bester.lab.loop",
    "ProcessDied": "bester.lab.process",
    "RunningServer": "bester.testing.running",
    "Site": "bester.lab.actors",
    "Stuck": "bester.lab.loop",
    "call": "bester.testing.calls",
    "call_async": "bester.testing.calls",
    "lab": "bester.lab.play",
    "server": "bester.testing.running",
}
__all__ = [
    "PASSWORD",
    "Caught",
    "LabClient",
    "LabHandler",
    "LabWorld",
    "LocalServer",
    "Outside",
    "ProcessDied",
    "RunningServer",
    "Site",
    "Stuck",
    "call",
    "call_async",
    "lab",
    "server",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)  # the tests of functions need no server, and tests without fixtures nothing at all
    if home is None:
        raise AttributeError(f"module 'bester.testing' has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value
