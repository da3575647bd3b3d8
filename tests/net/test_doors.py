"""What the source may not do by itself: accept connections."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import bester

SOURCE = Path(bester.__file__).parent
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
    for path in sorted(SOURCE.rglob("*.py")):
        if "templates" not in path.parts:
            yield path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def test_all_listeners_accept_in_one_way() -> None:
    """asyncio's servers count nobody before a TLS handshake is over, and log a traceback for each failed accept."""
    found = {
        f"{name}: {call.func.attr}"
        for name, tree in sources()
        for call in calls(tree)
        if isinstance(call.func, ast.Attribute) and call.func.attr in OWN_SERVERS
    }
    # The tester of handlers plays a server, to the handler that it has started.
    assert found == {"workbench/attached.py: start_unix_server"}
