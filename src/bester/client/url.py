"""The URLs that clients connect to.

::

    bester://user:password@host:port          TCP
    besters://user:password@host:port         TLS; the certificate is checked against the system's authorities, or
      ?cafile=ca.pem                          against these, or
      ?fingerprint=sha256:0123...             its fingerprint, or its key's, must be this (hexadecimal, colons allowed)
    bester+unix:/path  bester+unix://user:password@/path

Names and passwords are percent-encoded. The password can be given separately, so that no URL contains it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from bester.protocol.addresses import DEFAULT_PORT

_FINGERPRINT = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Target:
    """A server and our account there."""

    username: str
    password: str | None = field(default=None, repr=False)
    host: str = ""
    port: int = DEFAULT_PORT
    path: str | None = None
    """A Unix socket, instead of host and port."""
    tls: bool = False
    cafile: str | None = None
    fingerprint: str | None = None
    """The SHA-256 of the server's certificate: 64 lower-case hexadecimal digits."""

    def __str__(self) -> str:
        """Returns the URL without the password."""
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
    """Parses a URL; values given separately override those in the URL.

    Raises:
        ValueError: the URL is wrong; the text says how, and never contains the password.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        # Its own text may contain the password.
        raise ValueError("the URL cannot be parsed: percent-encode [, ] and special letters in it") from None
    if parts.scheme not in ("bester", "besters", "bester+unix"):
        raise ValueError(_no_url(url))
    credentials, at, _ = parts.netloc.rpartition("@")
    name, colon, secret = credentials.partition(":")
    options = _options(parts.query, parts.scheme)
    if parts.fragment:
        # Most often an unencoded "#" in a password.
        raise ValueError("a URL must not have a fragment: write # as %23")
    user = username if username is not None else options.pop("user", unquote(name) if at else "")
    given = password if password is not None else options.pop("password", unquote(secret) if colon else None)
    if not user:
        raise ValueError("the user is missing: write it into the URL, bester://NAME@HOST, or give it separately")
    if parts.scheme == "bester+unix":
        if parts.netloc.rpartition("@")[2]:
            raise ValueError("the URL of a Unix socket must not have a host: write bester+unix:/path")
        if not parts.path:
            raise ValueError("the URL has no path")
        return Target(user, given, path=unquote(parts.path))
    pinned = fingerprint or options.get("fingerprint")
    if parts.scheme == "bester" and (pinned or cafile):
        raise ValueError("fingerprint and cafile are only for besters://")
    if parts.path not in ("", "/"):
        raise ValueError("the URL of a host must not have a path")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if not parts.hostname or port == 0:
        raise ValueError("the URL needs a host, and a port must be a number from 1 to 65535")
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
    """Returns what is wrong with a URL; shows only a part of it that cannot be a password."""
    place = url.rpartition("://")[2].rpartition("@")[2]
    if len(place) <= _MAX_SHOWN and _HOST.fullmatch(place):
        return f"{place!r} is not the URL of a server: write bester://{place}, or besters://{place} for TLS"
    return "this is not the URL of a server, which starts with bester://, besters:// (TLS) or bester+unix:"


_OPTIONS = {"bester": (), "besters": ("cafile", "fingerprint"), "bester+unix": ("user", "password")}


def _options(query: str, scheme: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS[scheme]:
            # The text does not show the name: most often it is the rest of a password with an unencoded "?".
            allowed = " and ".join(_OPTIONS[scheme]) or "none"
            raise ValueError(f"the URL has an unknown option ({scheme} allows: {allowed}); elsewhere write ? as %3F")
    return options


def normal_fingerprint(text: str) -> str:
    """Returns a fingerprint as 64 lower-case hexadecimal digits.

    Raises:
        ValueError: the text is not ``sha256:`` and 32 bytes in hexadecimal.
    """
    digits = text.lower().removeprefix("sha256:").replace(":", "")
    if not _FINGERPRINT.match(digits):
        raise ValueError("a fingerprint must be sha256: and 64 hexadecimal digits")
    return digits
