"""nats-py is the release that ``bester.bus.wire`` was written for, whose private parts it uses.

A test that fails here says which part has changed: read it, adapt ``wire.py`` and its docstring where that is needed,
and then this file and the pins in ``pyproject.toml``.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Callable
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nats", reason="nats-py is not installed")

from nats.aio.client import Client
from nats.aio.transport import TcpTransport

from bester.bus import wire
from bester.bus.subscription import Subscription

MINOR = "2.16"
PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

METHODS = {
    # What is overridden.
    Client._process_msg: "5d15af8418e8",
    Client._connect_command: "4317bee980fb",
    TcpTransport.connect: "37ea3adf80cf",
    TcpTransport.connect_tls: "da60653ad3ad",
    # What reads and writes the attributes that are replaced or appended to.
    Client._close: "a04ed80cea41",
    Client._attempt_reconnect: "35547e2faf88",
    Client._process_op_err: "c43e098cbd87",
    Client._connect_to_server: "7b4d6415bf3d",
    Client._send_command: "da98595c4c4b",
    Client._flush_pending: "4cb0f6eab923",
    Client._flusher: "3aead5aed986",
    Client._process_connect_init: "d359919a1213",
}
"""The digests of what ``wire.py`` relies on."""


def digest(function: Callable[..., Any]) -> str:
    """Returns a digest of a function's source."""
    return blake2b(inspect.getsource(function).encode(), digest_size=6).hexdigest()


def test_it_is_the_release_that_is_pinned() -> None:
    assert version("nats-py").startswith(f"{MINOR}.")
    assert MINOR in (wire.__doc__ or "")
    major, minor = map(int, MINOR.split("."))
    project = tomllib.loads(PYPROJECT.read_text())
    groups = [*project["project"]["optional-dependencies"].values(), *project["dependency-groups"].values()]
    pins = [one for group in groups for one in group if one.startswith("nats-py")]
    assert len(pins) == 2
    assert set(pins) == {f"nats-py[nkeys]>={MINOR},<{major}.{minor + 1}"}


@pytest.mark.parametrize("function", METHODS, ids=lambda function: function.__qualname__)
def test_no_method_that_is_relied_on_has_changed(function: Callable[..., Any]) -> None:
    assert digest(function) == METHODS[function]


async def test_the_attributes_that_are_used_are_there() -> None:
    client = Client()
    assert (client._subs, client._sid) == ({}, 0)
    assert (client._pending, client._pending_data_size, client._flush_queue) == ([], 0, None)
    assert (client._server_info, client._current_server) == ({}, None)
    assert (client._reconnection_task, client._transport) == (None, None)
    transport = TcpTransport()  # type: ignore[no-untyped-call]
    names = {"_bare_io_reader", "_io_reader", "_bare_io_writer", "_io_writer"}
    assert set(vars(transport)) == names


def test_overridden_methods_take_the_same_arguments() -> None:
    for ours, theirs in (
        (wire.WireClient._process_msg, Client._process_msg),
        (wire.WireClient._connect_command, Client._connect_command),
        (wire._Transport.connect, TcpTransport.connect),
        (wire._Transport.connect_tls, TcpTransport.connect_tls),
    ):
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)


def test_a_subscription_has_all_that_is_read_of_it() -> None:
    sources = [inspect.getsource(Client._close), inspect.getsource(Client._attempt_reconnect)]
    read = {name for source in sources for name in re.findall(r"\bsub\.(\w+)", source)}
    assert read
    assert {name for name in read if not hasattr(Subscription(1, "subject", "", lambda *_: None), name)} == set()
