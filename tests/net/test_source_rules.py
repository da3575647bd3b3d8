"""What the source may not do by itself: accept connections."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import bester
import bester_gadgets

SOURCES = [Path(str(package.__file__)).parent for package in (bester, bester_gadgets)]
OWN_SERVERS = {
    "create_server",
    "create_unix_server",
    "start_server",
    "start_unix_server",
    "TCPSite",
    "UnixSite",
    "SockSite",
}


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def sources() -> Iterator[tuple[str, ast.Module]]:
    for source in SOURCES:
        for path in sorted(source.rglob("*.py")):
            if "templates" not in path.parts:
                yield path.relative_to(source).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def test_all_listeners_accept_in_one_way() -> None:
    """asyncio's servers count nobody before a TLS handshake is over, and log a traceback for each failed accept."""
    found = {
        f"{name}: {call.func.attr}"
        for name, tree in sources()
        for call in calls(tree)
        if isinstance(call.func, ast.Attribute) and call.func.attr in OWN_SERVERS
    }
    assert found == {
        "workbench/attached.py: start_unix_server",  # the tester of handlers plays a server, to what it has started,
        "workbench/attached.py: start_server",  # also over TLS on loopback
        "lab/cluster.py: create_server",  # of a simulated NATS server, on the lab's loop, which has no real sockets
    }


WRITERS = {"write", "writelines", "write_eof", "sendto", "sendall"}
STREAMS = {"transport", "_transport", "_raw", "socket", "_socket", "writer", "response"}
ALLOWED = {
    # Each with what bounds it.
    "server/effects.py Effects.flush": "Connection.write, which it calls",
    "server/connections/connection.py Connection.write": "maxSendQueue: whoever leaves more unread is cut off",
    "server/connections/connection.py Connection.end": "one last frame; then it is closed after a time",
    "server/federation/link.py Link.greet": "once",
    "server/federation/link.py Link._flush": "WINDOW_BYTES without a report",
    "server/federation/classic.py _Sending.connection_made": "once",
    "server/telemetry/notify.py Notifier._send": "datagrams to the service manager",
    "web/gateway.py Gateway.write": "Connection.write and Connection.end, which call it",
    "web/gateway.py Gateway._answer_ping": "one answer, when what was written before is read",
    "web/gateway.py Gateway._answer_close": "once",
    "web/gateway.py Gateway.write_eof": "once",
    "web/gateway.py Gateway.look": "not before the one before it is answered",
    "web/front.py Front.upgrade": "once",
    "web/front.py _DetachableTransport.write": "aiohttp waits until there is room",
    "web/front.py _DetachableTransport.writelines": "the same",
    "web/console.py _write": "one event at a time, which has WRITE_S",
    "net/channel.py Channel._flush": "its owner waits for room; the other end is the own server",
    "tlstransport.py TlsTransport.write": "Connection.write and others, which call it",
    "tlstransport.py TlsTransport._flush": "a handshake, an alert, and MAX_ANSWERS to renewed keys",
    "cli/control.py Control.run": "it blocks",
    "lab/nats/connection.py Connection.connection_made": "once",
    "lab/nats/connection.py Connection._flush": "max_pending: a client that leaves more unread is cut off",
    "lab/nats/connection.py Connection.cut_off": "one last line",
    "cli/peer.py _Hello.greet": "once",
}
"""Where bytes go out to somebody who may not read them, and why that cannot fill the memory."""


def test_all_that_is_written_is_bounded() -> None:
    found = set()
    for name, tree in sources():
        if name.startswith(("workbench/", "demo/")):  # what people run to try their own programs
            continue
        for function, call in within_functions(tree):
            target = call.func
            if not isinstance(target, ast.Attribute) or target.attr not in WRITERS:
                continue
            stream = target.value
            word = (
                stream.attr if isinstance(stream, ast.Attribute) else stream.id if isinstance(stream, ast.Name) else ""
            )
            if word in STREAMS:
                found.add(f"{name} {function}")
    assert found == set(ALLOWED)


def within_functions(tree: ast.AST, name: str = "") -> Iterator[tuple[str, ast.Call]]:
    """Returns all calls, with the qualified names of the methods or functions that they stand in."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Call):
            yield name, node
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from within_functions(node, f"{name}.{node.name}".lstrip("."))
        else:
            yield from within_functions(node, name)
