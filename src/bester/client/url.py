"""The URLs that clients connect to.

::

    bester://user:password@host:port          TCP
    besters://user:password@host:port         TLS; the certificate is checked against the system's authorities, or
      ?cafile=ca.pem                          against these, or
      ?fingerprint=sha256:0123...             it, or its key, must be exactly this one (hexadecimal, colons allowed)
    bester+unix:/path  bester+unix://user:password@/path

Names and passwords are percent-encoded. The password can be left out and given apart, so that it is in no URL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from bester.protocol.addresses import DEFAULT_PORT

_FINGERPRINT = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Target:
    """A server and who we are there."""

    username: str
    password: str | None = field(default=None, repr=False)
    host: str = ""
    port: int = DEFAULT_PORT
    path: str | None = None
    """A Unix socket, in place of host and port."""
    tls: bool = False
    cafile: str | None = None
    fingerprint: str | None = None
    """The SHA-256 of the server's certificate: 64 small hexadecimal digits."""

    def __str__(self) -> str:
        """The URL without the password."""
        if self.path is not None:
            return f"bester+unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'besters' if self.tls else 'bester'}://{self.username}@{host}:{self.port}"


def parse_url(
    url: str,
    username: str | None = None,
    password: str | None = None,
    cafile: str | None = None,
    fingerprint: str | None = None,
) -> Target:
    """Reads a URL; what is given apart wins over what is in it.

    Raises:
        ValueError: what is wrong with it; the text never has the password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        # What it says of the URL may have the password in it.
        raise ValueError("the URL cannot be read: is a [ or ], or a special letter, not percent-encoded?") from None
    if parts.scheme not in ("bester", "besters", "bester+unix"):
        raise ValueError(_no_url(url))
    credentials, at, _ = parts.netloc.rpartition("@")
    name, colon, secret = credentials.partition(":")
    options = _options(parts.query, parts.scheme)
    if parts.fragment:
        # Most often an unencoded "#" in a password.
        raise ValueError("a URL has no fragment: write # as %23")
    user = username if username is not None else options.pop("user", unquote(name) if at else "")
    given = password if password is not None else options.pop("password", unquote(secret) if colon else None)
    if not user:
        raise ValueError("no user: write it into the URL, bester://NAME@HOST, or give it apart")
    if parts.scheme == "bester+unix":
        if parts.netloc.rpartition("@")[2]:
            raise ValueError("a Unix socket has no host: write bester+unix:/path")
        if not parts.path:
            raise ValueError("the URL has no path")
        return Target(user, given, path=unquote(parts.path))
    pinned = fingerprint or options.get("fingerprint")
    if parts.scheme == "bester" and (pinned or cafile):
        raise ValueError("a certificate is only asked for on besters://")
    if parts.path not in ("", "/"):
        raise ValueError("the URL of a host has no path")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if not parts.hostname or port == 0:
        raise ValueError("the URL needs a host, and a port is a number from 1 to 65535")
    return Target(
        user,
        given,
        host=parts.hostname,
        port=DEFAULT_PORT if port is None else port,
        tls=parts.scheme == "besters",
        cafile=cafile or options.get("cafile"),
        fingerprint=normal_fingerprint(pinned) if pinned else None,
    )


_MAX_SHOWN = 80
_HOST = re.compile(r"([^][\s/?#:]+|\[[0-9a-fA-F:.]+\])(:\d+)?/?")


def _no_url(url: str) -> str:
    """Says what is wrong with a URL, of which it shows only what is surely no password."""
    place = url.rpartition("://")[2].rpartition("@")[2]
    if len(place) <= _MAX_SHOWN and _HOST.fullmatch(place):
        return f"{place!r} is no URL of a server: write bester://{place}, or besters://{place} for TLS"
    return "this is no URL of a server: it starts with bester://, besters:// (TLS) or bester+unix:"


_OPTIONS = {"bester": (), "besters": ("cafile", "fingerprint"), "bester+unix": ("user", "password")}


def _options(query: str, scheme: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS[scheme]:
            # Not its name: most often it is the rest of a password with an unencoded "?".
            allowed = " and ".join(_OPTIONS[scheme]) or "none"
            raise ValueError(f"the URL has an unknown option (of {scheme}: {allowed}); elsewhere write ? as %3F")
    return options


def normal_fingerprint(text: str) -> str:
    """Returns a fingerprint as 64 small hexadecimal digits.

    Raises:
        ValueError: not ``sha256:`` and 32 bytes in hexadecimal.
    """
    digits = text.lower().removeprefix("sha256:").replace(":", "")
    if not _FINGERPRINT.match(digits):
        raise ValueError("a fingerprint is sha256: and 64 hexadecimal digits")
    return digits
