"""Where no message goes (docs/protocol.md, section 8.4): what a socket's file is, and what a name leads to."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bester.config import Config, parse
from bester.config.nodes import Access, for_node, private_cluster
from bester.errors import NotAllowed
from bester.net import forbidden
from bester.net.forbidden import addresses_of, refusal_of, socket_to
from bester.protocol.addresses import TcpAddress


def configuration(**federation: Any) -> Config:
    return parse(json.dumps({"network": {"unix": {"address": "clients"}}, "federation": federation}), Path.cwd())


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    return tmp_path


@contextmanager
def listening(name: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(name)
        there.listen()
        yield there


def leads(path: str, named: bool = False, **federation: Any) -> bool:
    """Whether something may be sent there."""
    try:
        with socket_to(Path(path), configuration(**federation), named):
            return True
    except NotAllowed:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="a socket's file cannot be held here")
def test_a_link_that_is_turned_around_leads_nowhere_else(folder: Path) -> None:
    link = folder / "link"
    with listening("good") as good, listening("besterControl"):
        link.symlink_to("good")
        with socket_to(link, configuration(), False) as way, socket.socket(socket.AF_UNIX) as client:
            link.unlink()
            link.symlink_to("besterControl")
            client.connect(way)
            good.settimeout(5)
            good.accept()[0].close()
        assert not leads("link")


@pytest.mark.skipif(sys.platform != "linux", reason="a socket's file cannot be held here")
def test_a_link_to_a_named_socket_that_is_turned_around(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    link, opened = folder / "link", os.open

    def turn_around(path: Path, flags: int) -> int:
        link.unlink()
        link.symlink_to("other")
        return opened(path, flags)

    with listening("named"), listening("other"):
        link.symlink_to("named")
        more: Any = {"policy": "verified", "servers": {"near.example": {"address": "unix:named"}}}
        assert leads("link", **more)
        monkeypatch.setattr(os, "open", turn_around)
        assert not leads("link", **more)


def test_sockets_that_only_a_name_leads_to(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    servers = {"near.example": {"address": "unix:./there"}}
    user = os.geteuid()
    with listening("there"):
        assert leads("there")
        for policy in ("open", "verified"):
            assert not leads("there", policy=policy)
            assert leads("there", policy=policy, servers=servers)
        with monkeypatch.context() as another_user:
            another_user.setattr(os, "geteuid", lambda: user + 1)
            assert (leads("there"), leads("there", named=True), leads("there", servers=servers)) == (False, True, True)
        monkeypatch.setattr(forbidden, "SYSTEM_FOLDERS", (f"{folder.resolve()}/",))
        assert (leads("there"), leads("there", named=True), leads("there", servers=servers)) == (False, True, True)


@pytest.mark.parametrize("number", [1, 2])
def test_the_sockets_of_all_nodes(number: int) -> None:
    types = {"started": {"handlerBinary": "./h", "unixDomainSocketPath": "started"}}
    tree = {"network": {"unix": {"address": "clients"}}, "handlers": {"typeMap": types}}
    access = private_cluster(Access("nats://127.0.0.1:4222", "secret"))
    config = for_node(parse(json.dumps(tree), Path.cwd()), number, "n", access, 4)
    for name in ("besterControl", "besterControl.2", "besterHandlers.4", "bInformer", "clients.3", "started"):
        with listening(name), pytest.raises(NotAllowed), socket_to(Path(name), config, True):
            pass


def test_what_is_not_there_is_another_error() -> None:
    with pytest.raises(FileNotFoundError), socket_to(Path("none"), configuration(), False):
        pass


LOOPBACK = ["127.0.0.1", "127.1", "127.8.8.8", "0x7f000001", "2130706433", "localhost", "0.0.0.0", "0"]
LOOPBACK6 = ["::1", "::ffff:127.0.0.1", "::", "::ffff:7f00:1", "64:ff9b::127.0.0.1"]
LINK_LOCAL = ["169.254.169.254", "2852039166", "fe80::1", "fe80::1%1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe"]


@pytest.mark.parametrize("host", LOOPBACK + LOOPBACK6)
async def test_loopback_however_it_is_spelled(host: str) -> None:
    target = TcpAddress(host, 2223)
    for policy in ("open", "verified"):
        with pytest.raises(NotAllowed):
            await addresses_of([target], configuration(policy=policy), False)
        assert await addresses_of([target], configuration(policy=policy), True)
    assert await addresses_of([target], configuration(), False)


@pytest.mark.parametrize("host", LINK_LOCAL)
async def test_link_local_addresses_under_every_policy(host: str) -> None:
    for policy in ("local", "open", "verified"):
        with pytest.raises(NotAllowed):
            await addresses_of([TcpAddress(host, 80)], configuration(policy=policy), False)
    assert await addresses_of([TcpAddress(host, 80)], configuration(), True)


@pytest.mark.parametrize("number", ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fd00::1", "::ffff:192.0.2.1"])
def test_other_numbers(number: str) -> None:
    assert refusal_of(number, configuration(policy="verified")) is None


async def test_a_name_leads_where_it_led_when_it_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name's owner may let it lead elsewhere each time that it is looked up; so it is looked up once."""
    answers = [["192.0.2.1", "127.0.0.1"], ["127.0.0.1"]]

    async def getaddrinfo(host: str, port: int, **more: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port)) for number in answers.pop(0)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    target = TcpAddress("rebound.example", 2223)
    found = await addresses_of([target], configuration(policy="open"), False)
    assert [info[4][0] for info in found] == ["192.0.2.1"]
    with pytest.raises(NotAllowed):
        await addresses_of([target], configuration(policy="open"), False)
