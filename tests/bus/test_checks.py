"""What keeps a node out of NATS is said in one line, at once where it can be known."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
from tests.nats import NatsServer

from bester.bus import checks
from bester.bus.connection import Bus
from bester.bus.options import BusOptions, BusTimes
from bester.errors import BadConfiguration

nkeys = pytest.importorskip("nkeys", reason="nkeys is not installed")


async def refusal(options: BusOptions) -> str:
    bus = Bus(options, "test")
    with pytest.raises(BadConfiguration) as error:
        await bus.open()
    assert not bus.up
    assert "\n" not in error.value.message
    return error.value.message


@pytest.mark.parametrize("text", [b"", b"hello\n", b"-----BEGIN NATS USER JWT-----\na.b.c\n", b"\xff"])
async def test_a_file_that_has_no_seed_is_told_before_anything_is_sent(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(text)
    where = ("nats://127.0.0.1:1",)
    assert f"cluster.nkey: {path} has no seed" in await refusal(BusOptions(where, nkey=path))
    assert f"cluster.credentials: {path} has no " in await refusal(BusOptions(where, credentials=path))
    path.unlink()
    assert "cannot be read: No such file" in await refusal(BusOptions(where, nkey=path))
    assert "cannot be read: No such file" in await refusal(BusOptions(where, credentials=path))
    assert f"cluster.ca: {path} cannot be read: No such file" in await refusal(BusOptions(where, ca=path))


async def test_a_node_enters_with_an_nkey(tmp_path: Path) -> None:
    seeds = [nkeys.encode_seed(secrets.token_bytes(32), nkeys.PREFIX_BYTE_USER) for _ in range(2)]
    files = [tmp_path / "right", tmp_path / "wrong"]
    for file, seed in zip(files, seeds, strict=True):
        file.write_bytes(seed + b"\n")
    public = nkeys.from_seed(bytearray(seeds[0])).public_key.decode()
    server = NatsServer(tmp_path / "nats", f"authorization: {{users: [{{nkey: {public}}}]}}")
    try:
        bus = Bus(BusOptions((server.url,), nkey=files[0]), "test")
        await bus.open()
        await bus.close()
        assert "check cluster.user, password, token, nkey" in await refusal(BusOptions((server.url,), nkey=files[1]))
    finally:
        server.kill()


async def test_no_password_goes_to_a_server_without_the_tls_that_is_wanted(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", 'authorization: {user: "bester", password: "sesame"}', jetstream=False)
    try:
        url = server.url.replace("nats://", "tls://")
        assert "the server has no TLS" in await refusal(
            BusOptions((url,), user="bester", password="sesame", times=BusTimes(connect_s=0.3))
        )
    finally:
        server.kill()


async def joins(bus: Bus) -> None:
    await bus.open()
    bus.subscribe("bester.node", lambda *_: None)
    await bus.check_permitted("bester.node")


@pytest.mark.parametrize(
    ("publish", "subscribe", "missing"),
    [
        ('["bester.>", "_INBOX.>"]', '">"', "$js.api.info"),
        ('["bester.>", "$JS.API.>", "_INBOX.>"]', '"bester.>"', "_inbox."),
        ('["$JS.API.>", "_INBOX.>"]', '">"', "bester.node"),
        ('">"', '["$JS.API.>", "_INBOX.>"]', "bester.node"),
    ],
)
async def test_what_nats_forbids_a_node_is_told(tmp_path: Path, publish: str, subscribe: str, missing: str) -> None:
    permissions = f"{{publish: {publish}, subscribe: {subscribe}}}"
    options = f"authorization: {{users: [{{user: bester, password: x, permissions: {permissions}}}]}}"
    server = NatsServer(tmp_path / "nats", options)
    times = BusTimes(permitted_s=0.3)
    bus = Bus(BusOptions((server.url,), user="bester", password="x", times=times), "test")
    try:
        with pytest.raises(BadConfiguration, match=r"NATS does not permit .*needs bester\.>") as error:
            await joins(bus)
        assert missing in error.value.message
    finally:
        await bus.close()
        server.kill()


def test_a_release_that_is_too_old_is_told() -> None:
    for good in ("2.12.0", "2.14.6-RC.1", "3.0.0", "", "devel"):
        checks.check_release(good)
    for old in ("2.11.11", "1.99.0"):
        with pytest.raises(BadConfiguration, match=rf"nats-server {old} is too old: cluster needs 2.12 or later"):
            checks.check_release(old)


@pytest.mark.parametrize(
    ("text", "refused", "advice"),
    [
        ("Authorization Violation", True, "cluster.user, password, token, nkey or credentials"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] ...", False, "cluster.ca, and the name and the end"),
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]", False, "cluster.certificate and key"),
        ("Connection refused", False, "cluster.nats"),
    ],
)
def test_what_to_look_at(text: str, refused: bool, advice: str) -> None:
    assert checks.what_to_check(text, refused).startswith(advice)
