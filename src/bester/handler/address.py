"""Where a handler attaches, and how it gets there: a Unix socket, a TLS listener, or its standard input and output.

::

    besterHandlers                             the path of the server's handler socket
    tls://user:token@host                      TLS, on port 2227; ``bester account token`` makes the token
    tls://host:2228?certificate=a.pem&key=a.key    with a certificate in place of an account
    tls://user:token@host?cafile=ca.pem        the server's certificate must be of an authority in this file
    tls://user:token@host?fingerprint=sha256:01...    its fingerprint, or its key's, must be this

Names and tokens are percent-encoded.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from bester import dialling
from bester.net.channel import Channel
from bester.net.keepalive import keep_alive
from bester.protocol.reports import ConnectError
from bester.timeouts import within
from bester.tls import verifying_context

DEFAULT_ADDRESS = "besterHandlers"
DEFAULT_PORT = 2227
CONNECT_S = 10.0
_SCHEME = "tls://"
_OPTIONS = ("cafile", "fingerprint", "certificate", "key")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}\Z")
_UNTRUSTED = frozenset({18, 19, 20, 21})
"""OpenSSL's codes for a certificate that is self-signed or has an unknown authority."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a handler attaches; its text never has the token."""

    path: str = ""
    """The handler socket, unless ``host`` or ``stdio`` is set."""
    stdio: str = ""
    """``lines`` or ``frames``: over standard input and output."""
    host: str = ""
    port: int = DEFAULT_PORT
    username: str = ""
    token: str = field(default="", repr=False)
    cafile: str | None = None
    fingerprint: str | None = None
    certificate: str | None = None
    key: str | None = None

    def __str__(self) -> str:
        if self.stdio:
            return "standard input and output"
        if not self.host:
            return self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.username}@" if self.username else ""
        return f"{_SCHEME}{user}{host}:{self.port}"

    @property
    def authentication(self) -> dict[str, str] | None:
        """What the attach message says to prove who the handler is."""
        return {"username": self.username, "token": self.token} if self.username else None


def find_address(given: str | os.PathLike[str] | None) -> Address:
    """Returns the address that is given, else the one in the environment, else that of the default socket.

    Raises:
        ValueError: the URL is wrong; the text says how, and never contains the token.
    """
    if given is None:
        stdio = os.environ.get("BESTER_STDIO", "")
        if stdio in ("lines", "frames"):
            return Address(stdio=stdio)
        given = os.environ.get("BESTER_HANDLERS", DEFAULT_ADDRESS)
    text = os.fspath(given)
    return _parse(text) if text.startswith(_SCHEME) else Address(path=text)


def _parse(url: str) -> Address:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its own text may contain the token
        raise ValueError("the handler's URL cannot be parsed: percent-encode [, ] and special letters in it") from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if options.keys() - set(_OPTIONS):
        raise ValueError(f"the handler's URL has an unknown option (allowed: {', '.join(_OPTIONS)})")
    if not parts.hostname or port == 0 or parts.path not in ("", "/") or parts.fragment:
        raise ValueError("the handler's URL must have the form tls://USER:TOKEN@HOST:PORT")
    if ("certificate" in options) is not ("key" in options):
        raise ValueError("in the handler's URL, certificate and key go together")
    pin = options.get("fingerprint")
    digits = pin.lower().removeprefix("sha256:").replace(":", "") if pin is not None else None
    if digits is not None and not _FINGERPRINT.match(digits):
        raise ValueError("a fingerprint must be sha256: and 64 hexadecimal digits")
    name, token = unquote(parts.username or ""), unquote(parts.password or "")
    if bool(name) is not bool(token):
        raise ValueError("the handler's URL must have a user and a token, or neither: tls://USER:TOKEN@HOST")
    return Address(
        host=parts.hostname,
        port=port or DEFAULT_PORT,
        username=name,
        token=token,
        cafile=options.get("cafile"),
        fingerprint=digits,
        certificate=options.get("certificate"),
        key=options.get("key"),
    )


async def connect(address: Address, make_channel: Callable[[bool], Channel]) -> Channel:
    """Connects; the caller owns the channel.

    Args:
        address: where to.
        make_channel: called once for each address that is tried; its argument says whether messages are lines.

    Raises:
        ConnectError: no server answers, or it is not the right one.
    """
    loop = asyncio.get_running_loop()
    try:
        if address.host:
            async with within(CONNECT_S):
                return await _secure(address, lambda: make_channel(False))
        if address.stdio:
            connected = socket.socket(fileno=os.dup(0))
            os.dup2(2, 1)  # what the program prints would be taken for answers
            _, channel = await loop.create_unix_connection(
                lambda: make_channel(address.stdio == "lines"), sock=connected
            )
        else:
            _, channel = await loop.create_unix_connection(lambda: make_channel(False), address.path)
        return channel
    except TimeoutError as error:
        raise ConnectError(f"{address}: no connection within {CONNECT_S:g} s", temporary=True) from error
    except ssl.SSLCertVerificationError as error:
        advice = "; name its authority with ?cafile=, or pin it with ?fingerprint="
        shown = advice if error.verify_code in _UNTRUSTED else ""
        raise ConnectError(f"{address}: TLS: {error.verify_message}{shown}", temporary=True) from error
    except ssl.SSLError as error:
        raise ConnectError(f"{address}: TLS: {error.reason or error}", temporary=True) from error
    except OSError as error:
        why = error.strerror or str(error)
        if not address.host and isinstance(error, FileNotFoundError | ConnectionRefusedError):
            why = "no server listens there; start it, or name its handler socket in BESTER_HANDLERS"
        raise ConnectError(f"{address}: {why}", temporary=True) from error


async def _secure(address: Address, make_channel: Callable[[], Channel]) -> Channel:
    context = _context(address)

    async def attempt(connected: socket.socket) -> Channel:
        keep_alive(connected)
        _, channel = await asyncio.get_running_loop().create_connection(
            make_channel, sock=connected, ssl=context, server_hostname=address.host
        )
        return channel

    channel = await dialling.dial(await dialling.addresses([(address.host, address.port)]), attempt)
    if address.fingerprint is not None:
        shown = channel.peer_certificate() or b""
        if address.fingerprint not in _fingerprints(shown):
            channel.abort()
            await channel.wait_closed()
            found = hashlib.sha256(shown).hexdigest()
            raise ConnectError(f"{address}: the server has another certificate, sha256:{found}", temporary=True)
    return channel


def _context(address: Address) -> ssl.SSLContext:
    context = verifying_context(address.cafile, address.certificate, address.key)
    if address.fingerprint is not None:  # which proves more than a name or an authority
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _fingerprints(certificate: bytes) -> tuple[str, str]:
    from cryptography import x509

    from bester.net.fingerprints import fingerprints

    try:
        return fingerprints(x509.load_der_x509_certificate(certificate))
    except ValueError:
        return hashlib.sha256(certificate).hexdigest(), ""
