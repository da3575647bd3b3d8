"""What certificates prove, and what must be proven before anything is sent (docs/protocol.md, section 8.5)."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.certificates import Papers, issued, self_signed

from bester.config import Config, parse
from bester.errors import BadConfiguration, ServerUnreachable, ServerUnverified
from bester.net.dial_peer import Unreachable, connect_peer, plan, shown_by
from bester.net.identity import Identities, presented, read_certificates
from bester.net.letters import letter
from bester.protocol.addresses import parse_address
from bester.tls import server_context


def config_of(base: Path, own: Papers | None = None, **federation: Any) -> Config:
    network = own.network if own is not None else {"tcp4": {"port": 0}}
    network = {key: value for key, value in network.items() if key != "types"}
    return parse(json.dumps({"server": {"name": "me.example"}, "network": network, "federation": federation}), base)


def letter_of(papers: Papers) -> bytes:
    """What a server with these papers presents, as DER."""
    pem = letter(read_certificates(Path(papers.certificate)))
    return x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)


def entry(papers: Papers, how: str, address: str = "192.0.2.1:1") -> dict[str, str]:
    """Returns an entry of ``federation.servers`` that pins in one of the ways."""
    pins = {
        "file": {"certificate": papers.certificate},
        "key": {"fingerprint": papers.fingerprints.key},
        "certificate": {"fingerprint": f"sha256:{papers.fingerprints.certificate}"},
    }
    return {"address": address} | pins[how]


# -- what a certificate proves -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["file", "key", "certificate"])
@pytest.mark.parametrize("presented", ["letter", "as it is"])
def test_a_pin(tmp_path: Path, how: str, presented: str) -> None:
    a, b = self_signed(tmp_path, "a.example"), self_signed(tmp_path, "b.example")
    identities = Identities(config_of(tmp_path, servers={"x.example": entry(a, how)}))
    show: Callable[[Papers], bytes] = letter_of if presented == "letter" else lambda papers: papers.der
    assert identities.proof(show(a)).names == ("x.example",)
    assert identities.proof(show(b)).names == ()
    a.renew()
    assert identities.proof(show(a)).names == (() if how == "certificate" else ("x.example",))


def test_one_who_encloses_the_certificate_of_another(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    a, b = issued(tmp_path, authority, "a.example"), self_signed(tmp_path, "b.example")
    servers = {"x.example": entry(a, "certificate")}
    identities = Identities(config_of(tmp_path, servers=servers, ca="ca.pem"))
    pem = letter([*read_certificates(Path(b.certificate)), *read_certificates(Path(a.certificate))])
    stolen = x509.load_pem_x509_certificate(pem.encode()).public_bytes(Encoding.DER)
    assert identities.proof(stolen).names == ()
    assert identities.proof(b.der, [a.der]).names == ()


def test_an_authority(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    identities = Identities(config_of(tmp_path, ca="ca.pem"))
    good = issued(tmp_path, authority, "a.example", "www.a.example")
    assert identities.proof(letter_of(good)).names == ("a.example", "www.a.example")
    assert identities.proof(good.der).names == ("a.example", "www.a.example")
    child = issued(tmp_path, authority.create_child_ca(), "c.example")
    assert identities.proof(letter_of(child)).names == ("c.example",)
    leaf, *above = (one.public_bytes(Encoding.DER) for one in read_certificates(Path(child.certificate)))
    assert identities.proof(leaf, above).names == ("c.example",)
    assert identities.proof(letter_of(issued(tmp_path, other, "b.example"))).names == ()
    assert identities.proof(letter_of(issued(tmp_path, authority, "old.example", expired=True))).names == ()
    assert identities.proof(letter_of(self_signed(tmp_path, "self.example"))).names == ()
    assert identities.proof(letter_of(issued(tmp_path, authority, "192.0.2.7"))).names == ()
    assert identities.proof(b"garbage").names == ()


def test_a_server_is_no_authority(tmp_path: Path) -> None:
    """Nor is a certificate from an authority whose extensions are few refused for that."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=tmp_path, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=mine", "-days", "9")
    for name, issuer in (("c.example", "ca"), ("d.example", "c.example")):
        (tmp_path / "extension").write_text(f"subjectAltName=DNS:{name}\n")
        openssl("req", *curve, "-keyout", f"{name}.key", "-out", "request", "-subj", f"/CN={name}")
        signing = ("-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key", "-CAcreateserial", "-days", "9")
        openssl("x509", "-req", "-in", "request", *signing, "-extfile", "extension", "-out", f"{name}.pem")
    identities = Identities(config_of(tmp_path, ca="ca.pem"))
    c, d = Papers(tmp_path, "c.example"), Papers(tmp_path, "d.example")
    assert identities.proof(letter_of(c)).names == ("c.example",)
    assert identities.proof(d.der, [c.der]).names == ()


@pytest.mark.parametrize(
    ("names", "more", "good"),
    [
        (["DNS:b.example"], "", True),
        (["DNS:B.Example"], "", True),
        (["DNS:other.example", "DNS:b.example"], "", True),
        (["DNS:b.example"], "extendedKeyUsage=serverAuth", True),
        (["DNS:b.example"], "extendedKeyUsage=clientAuth", True),
        (["DNS:b.example"], "extendedKeyUsage=codeSigning", False),
        (["DNS:*.example"], "", False),
        (["DNS:other.example"], "", False),
        (["IP:192.0.2.1"], "", False),
        ([], "", False),
    ],
)
@pytest.mark.parametrize("sends", [True, False], ids=["connects", "is sent to"])
async def test_one_rule_in_both_directions(
    tmp_path: Path, names: list[str], more: str, good: bool, sends: bool
) -> None:
    """The name is among the DNS names, and neither a wildcard nor a common name is one."""
    papers = Papers(tmp_path, "b.example")
    made_by_openssl(tmp_path, papers, names, more)
    known: dict[str, Any] = {"ca": "ca.pem"}
    if sends:
        config = config_of(tmp_path, **known)
        for show in (letter_of(papers), papers.der):
            assert ("b.example" in Identities(config).proof(show).names) is good
        return
    async with listening(papers) as other:
        config = config_of(tmp_path, servers={"b.example": {"address": f"127.0.0.1:{other.port}"}}, **known)
        told: list[bool] = []
        connecting = connect_peer(
            parse_address("b.example"),
            config,
            Identities(config),
            Recorder,
            on_certificate=lambda _, proven: told.append(proven),
        )
        if good:
            made = await connecting
            assert made.name == "b.example"
            made.transport.close()
            await made.protocol.lost
        else:
            with pytest.raises(ServerUnverified, match=r"b\.example does not prove its name: .*certificate"):
                await connecting
        assert told == [good]


def made_by_openssl(folder: Path, papers: Papers, names: list[str], more: str, end: int = 9) -> None:
    """Writes an authority's certificate for a key, with the common name ``b.example``, and the authority, ca.pem."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=mine", "-days", "9")
    lines = [f"subjectAltName={','.join(names)}"] if names else []
    (folder / "extensions").write_text("\n".join([*lines, more, "basicConstraints=CA:FALSE", ""]))
    openssl("req", *curve, "-keyout", papers.key, "-out", "request", "-subj", "/CN=b.example")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", str(end))
    openssl("x509", "-req", "-in", "request", *signing, "-extfile", "extensions", "-out", papers.certificate)


def test_a_pin_is_stronger_than_an_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    pinned, certified = self_signed(tmp_path, "b.example"), issued(tmp_path, authority, "a.example", "www.a.example")
    servers = {"a.example": entry(pinned, "key")}
    identities = Identities(config_of(tmp_path, ca="ca.pem", servers=servers))
    assert identities.proof(letter_of(certified)).names == ("www.a.example",)
    assert identities.proof(letter_of(pinned)).names == ("a.example",)


def test_certificates_that_end(tmp_path: Path) -> None:
    own, soon, gone = (self_signed(tmp_path, f"{name}.example", days) for name, days in (("a", 99), ("b", 9), ("c", 0)))
    servers = {"b.example": entry(soon, "file"), "c.example": entry(gone, "file")}
    identities = Identities(config_of(tmp_path, own, servers=servers))
    assert [one.what for one in sorted(identities.expiries, key=lambda one: one.at)] == [
        "the pinned certificate of c.example",
        "the pinned certificate of b.example",
        "this server's own certificate a.example.pem",
    ]
    assert [one.fingerprints for one in identities.own] == [own.fingerprints]
    proof = identities.proof(letter_of(gone))  # what is pinned is the key, and a key does not end
    assert proof.names == ("c.example",)
    assert proof.shown is not None
    assert proof.shown.expires == identities.expiries[1].at
    assert proof.shown.fingerprints == gone.fingerprints


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    a, b = self_signed(tmp_path, "a.example"), self_signed(tmp_path, "b.example")
    config = config_of(tmp_path, a, servers={"b.example": entry(b, "file")})
    Path(b.certificate).write_text("garbage")
    with pytest.raises(BadConfiguration, match="not a PEM file"):
        Identities(config)
    Path(b.certificate).unlink()
    with pytest.raises(BadConfiguration, match="No such file"):
        Identities(config)
    b.write(Path(a.certificate).read_bytes())
    a.write(Path(a.certificate).read_bytes(), Path(b.key).read_bytes())
    with pytest.raises(BadConfiguration, match="own certificate cannot be used"):
        Identities(config)


# -- how a server is reached -------------------------------------------------------------------------------------------

PIN = "00" * 32
SERVERS: dict[str, Any] = {
    "pinned.example": {"address": "192.0.2.1:1", "fingerprint": PIN},
    "plain.example": {"address": "192.0.2.2:1", "tls": False},
    "secret.example": {"address": "192.0.2.3:1", "tls": True},
    "near.example": {"address": "unix:near", "fingerprint": PIN, "policy": "verified"},
    "nick": {"address": "pinned.example"},
    "trusted.example": {"address": "192.0.2.4:1", "policy": "open", "tls": False},
}


@pytest.mark.parametrize(
    ("address", "ca", "name", "proof", "tls", "refused"),
    [
        ("pinned.example", False, "pinned.example", "pin", True, False),
        ("pinned.example", True, "pinned.example", "pin", True, False),
        ("nick", False, "pinned.example", "pin", True, False),
        ("192.0.2.1:1", False, "pinned.example", "pin", True, False),
        ("plain.example", True, "plain.example", "", False, True),
        ("trusted.example", True, "trusted.example", "", False, False),
        ("secret.example", False, "secret.example", "", True, True),
        ("secret.example", True, "secret.example", "authority", True, False),
        ("near.example", True, "near.example", "", False, False),
        ("far.example", False, "far.example", "", False, True),
        ("far.example", True, "far.example", "authority", True, False),
        ("192.0.2.9:1", True, None, "", False, False),
        ("unix:near", True, "near.example", "", False, False),
        ("unix:far", True, None, "", False, False),
    ],
)
def test_a_plan(tmp_path: Path, address: str, ca: bool, name: str | None, proof: str, tls: bool, refused: bool) -> None:
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    more: dict[str, Any] = {"ca": "ca.pem"} if ca else {}
    planned = plan(parse_address(address), config_of(tmp_path, policy="verified", servers=SERVERS, **more).federation)
    assert (planned.name, planned.proof, planned.tls) == (name, proof, tls)
    if refused:
        with pytest.raises(ServerUnverified, match=f"{name} has nothing to prove its name with"):
            planned.check()
    else:
        planned.check()


class Recorder(asyncio.Protocol):
    """Writes as soon as it may, and keeps what it reads."""

    made = 0

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Recorder.made += 1
        cast(asyncio.Transport, transport).write(b"hello")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


class Listening:
    """A TLS server that keeps what it reads."""

    def __init__(self) -> None:
        self.read: list[bytes] = []
        self.names: list[tuple[str, ...]] = []
        self.heard = asyncio.Event()
        self.port = 0


@asynccontextmanager
async def listening(papers: Papers | None, known: Identities | None = None) -> AsyncIterator[Listening]:
    it = Listening()
    context = server_context(papers.certificate, papers.key) if papers is not None else None
    if known is not None and context is not None:
        known.serve(context)

    class One(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            shown, others = presented(transport)
            it.names.append(known.proof(shown, others).names if known is not None and shown is not None else ())

        def data_received(self, data: bytes) -> None:
            it.read.append(data)
            it.heard.set()

    server = await asyncio.get_running_loop().create_server(One, "127.0.0.1", 0, ssl=context)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()


@pytest.mark.parametrize("how", ["file", "key", "certificate", "authority"])
async def test_both_prove_their_names(tmp_path: Path, how: str) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    if how == "authority":
        a, b = issued(tmp_path, authority, "a.example"), issued(tmp_path, authority, "b.example")
        there: dict[str, Any] = {"ca": "ca.pem"}
    else:
        a, b = self_signed(tmp_path, "a.example"), self_signed(tmp_path, "b.example")
        there = {"servers": {"a.example": entry(a, how)}}
    async with listening(b, Identities(config_of(tmp_path, b, **there))) as other:
        address = f"127.0.0.1:{other.port}"
        if how == "authority":
            here: dict[str, Any] = {"ca": "ca.pem", "servers": {"b.example": {"address": address}}}
        else:
            here = {"servers": {"b.example": entry(b, how, address)}}
        config = config_of(tmp_path, a, policy="verified", **here)
        made = await connect_peer(parse_address("b.example"), config, Identities(config), Recorder)
        await asyncio.wait_for(other.heard.wait(), 20)
        assert (made.name, other.names, other.read) == ("b.example", [("a.example",)], [b"hello"])
        made.transport.close()
        await made.protocol.lost


@pytest.mark.parametrize("how", ["pin", "authority", "name"])
async def test_nothing_is_sent_to_another(tmp_path: Path, how: str) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    a, wanted = self_signed(tmp_path, "a.example"), self_signed(tmp_path, "b.example")
    impostor = issued(tmp_path, authority, "c.example") if how == "name" else self_signed(tmp_path, "c.example")
    async with listening(impostor) as other:
        address = f"127.0.0.1:{other.port}"
        if how == "pin":
            here: dict[str, Any] = {"servers": {"b.example": entry(wanted, "key", address)}}
        else:
            here = {"ca": "ca.pem", "servers": {"b.example": {"address": address}}}
        config = config_of(tmp_path, a, **here)
        before = Recorder.made
        with pytest.raises(ServerUnverified, match=r"b\.example does not prove its name: "):
            await connect_peer(parse_address("b.example"), config, Identities(config), Recorder)
        assert Recorder.made == before
        assert other.read == []


async def test_a_chain_that_is_sent(tmp_path: Path) -> None:
    """The authorities between are sent along, and are looked at, on every Python; at both ends."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    a, b = (issued(tmp_path, authority.create_child_ca(), f"{name}.example") for name in "ab")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(a.certificate, a.key)  # as it is, and no letter
    async with listening(b, Identities(config_of(tmp_path, b, ca="ca.pem"))) as other:
        config = config_of(tmp_path, ca="ca.pem", servers={"b.example": {"address": f"127.0.0.1:{other.port}"}})
        identities = Identities(config)
        identities.dialling = context
        made = await connect_peer(parse_address("b.example"), config, identities, Recorder)
        await asyncio.wait_for(other.heard.wait(), 20)
        assert (made.name, other.names) == ("b.example", [("a.example",)])
        made.transport.close()
        await made.protocol.lost


async def test_tls_without_a_proof(tmp_path: Path) -> None:
    b = self_signed(tmp_path, "b.example")
    async with listening(b) as other:
        servers = {"b.example": {"address": f"127.0.0.1:{other.port}", "tls": True}}
        config = config_of(tmp_path, servers=servers)
        made = await connect_peer(parse_address("b.example"), config, Identities(config), Recorder)
        assert made.name is None
        assert made.transport.get_extra_info("ssl_object") is not None
        made.transport.close()
        await made.protocol.lost


async def test_what_is_not_reached(tmp_path: Path) -> None:
    b = self_signed(tmp_path, "b.example")
    async with listening(None) as plain:
        nobody = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
        gone = nobody.sockets[0].getsockname()[1]
        nobody.close()
        servers = {
            "plain.example": entry(b, "key", f"127.0.0.1:{plain.port}"),
            "gone.example": entry(b, "key", f"127.0.0.1:{gone}"),
        }
        config = config_of(tmp_path, connectTimeout=0.5, servers=servers)
        identities = Identities(config)

        async def failure(name: str, **more: Any) -> Unreachable:
            with pytest.raises(Unreachable) as caught:
                await connect_peer(parse_address(name), config, identities, Recorder, **more)
            return caught.value

        error = await failure("plain.example")  # it waits for a frame, and we for its part of the handshake
        assert (error.message, error.step) == ("no connection within 0.5 s", "connection")
        error = await failure("gone.example")
        assert (error.message, error.step) == ("the connection failed: Connection refused", "connection")
        assert (await failure("unix:nowhere")).message == "the connection failed: No such file or directory"
        with pytest.raises(ServerUnreachable, match="no answer within"):
            await shown_by(parse_address(f"127.0.0.1:{plain.port}"), "plain.example", 0.2)
        with pytest.raises(ServerUnreachable, match="has no certificate"):
            await shown_by(parse_address("unix:x"), "x.example", 1)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_who_completes_the_handshake(tmp_path: Path, version: ssl.TLSVersion) -> None:
    """With a letter, everybody; with a certificate as it is, one that is known; and whoever presents none.

    A file that is pinned is enough, whatever its certificate is made for, and even if it has expired.
    """
    a, b, c, old = (
        self_signed(tmp_path, f"{name}.example", 0 if name == "old" else 9) for name in ("a", "b", "c", "old")
    )
    web = Papers(tmp_path, "web.example")
    made_by_openssl(tmp_path, web, ["DNS:web.example"], "extendedKeyUsage=serverAuth")
    pinned = {papers.name: entry(papers, "file") for papers in (a, old, web)}
    known = Identities(config_of(tmp_path, b, servers=pinned))
    letters = tmp_path / "letter"
    letters.write_text(letter(read_certificates(Path(c.certificate))))
    async with listening(b, known) as other:

        async def names(*files: str) -> tuple[str, ...] | None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.minimum_version = context.maximum_version = version
            if files:
                context.load_cert_chain(*files)
            other.heard.clear()
            other.names.clear()
            try:
                transport, protocol = await asyncio.get_running_loop().create_connection(
                    Recorder, "127.0.0.1", other.port, ssl=context
                )
            except OSError:
                return None
            heard = asyncio.ensure_future(other.heard.wait())
            await asyncio.wait((heard, protocol.lost), return_when=asyncio.FIRST_COMPLETED, timeout=20)
            heard.cancel()
            transport.abort()
            return other.names[0] if other.names else None

        assert await names() == ()
        assert await names(str(letters), c.key) == ()
        for papers in (a, old, web):
            assert await names(papers.certificate, papers.key) == (papers.name,)
        assert await names(c.certificate, c.key) is None
