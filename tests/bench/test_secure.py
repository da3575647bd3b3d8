"""The load generator for TLS and WebSockets, against our server."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.peers import Accounts, Peers
from bench.secure import KINDS, bester, generator, missing, told

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.mark.parametrize("kind", KINDS)
def test_replies_are_compared_and_counted(tmp_path: Path, kind: str) -> None:
    peers = Peers(tmp_path, Accounts(tmp_path, 10))
    with bester(peers, kind) as server, generator(server, range(5), 64) as load:
        assert told(load, "add 5")["clients"] == 5
        assert told(load, "make 2 50")["replies"] == 50
        assert told(load, "make 3 20")["replies"] == 70


def test_clients_that_send_nothing(tmp_path: Path) -> None:
    peers = Peers(tmp_path, Accounts(tmp_path, 10))
    with bester(peers, "WebSocket", handler=False) as server, generator(server, range(10), 0) as crowd:
        told(crowd, "add 4")
        assert told(crowd, "add 6")["clients"] == 10
