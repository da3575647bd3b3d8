"""HTTP as bytes on a real socket: what those send who do not keep to it, and what is true of every answer."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from tests.waiting import PATIENCE_S

from bester.http import HEADERS

_STATUS = re.compile(rb"HTTP/(1\.[01]) (\d{3}) [ -~]*")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([ -~]*)")

LONE = b'"\\ud800"'
VALUES = [
    b"",
    b" ",
    b"\xff\xfe",
    b"caf\xe9",
    "\u20ac\u202e".encode(),
    b"\t",
    b",;=",
    b'"',
    b'"\\',
    b"%00",
    b"%ff%fe%ud800",
    b"../../etc/passwd",
    b"-1",
    b"+1",
    b"0x10",
    b"1" * 5000,
    b"9" * 30,
    b"\xd9\xa1",
    b"a" * 8000,
    b"[",
    b"http://[",
    b"http://[::1",
    b"http://a:b@c:d/",
    b"http://\xe2\x84\x80/",
    b"127.0.0.1:99999999999",
    b"[::1]:x",
    b"null",
    b"bytes=0-,-1,5-2",
    b'for="[::1]:x";proto=',
    b"websocket",
    b"Upgrade",
    b"13",
    b"dGhlIHNhbXBsZSBub25jZQ==",
    b"bester",
    b"gzip",
    b"chunked",
    b"100-continue",
    b"application/openmetrics-text; version=\xff; q=x",
    b"Bearer \xff",
    b"Basic \xff:",
    b"bester=\xff; __Host-bester=\xff",
    b'bester="\\777\\"; bester="',
    b"$Version=1; bester=x; =; ; a",
    b"v1,\xff v1,",
]
NAMES = [
    b"Host",
    b"Origin",
    b"Cookie",
    b"Authorization",
    b"Content-Length",
    b"Content-Type",
    b"Content-Encoding",
    b"Transfer-Encoding",
    b"Connection",
    b"Upgrade",
    b"Expect",
    b"Range",
    b"If-None-Match",
    b"If-Modified-Since",
    b"Accept",
    b"Accept-Encoding",
    b"Last-Event-ID",
    b"Forwarded",
    b"X-Forwarded-For",
    b"Sec-Fetch-Site",
    b"Sec-WebSocket-Key",
    b"Sec-WebSocket-Version",
    b"Sec-WebSocket-Protocol",
    b"Sec-WebSocket-Extensions",
    b"Idempotency-Key",
    b"Webhook-Id",
    b"Webhook-Timestamp",
    b"Webhook-Signature",
    b"Traceparent",
    b"X-Bester",
    b"X-\xff",
    b"",
]
BODIES = [
    b"",
    b"\xff",
    b"nonsense",
    b"null",
    b"[]",
    b'{"username": ' + LONE + b', "password": ' + LONE + b"}",
    b'{"username": "root", "password": ' + LONE + b"}",
    b'{"username": "root", "password": "\\u0000\xff"}',
    b'{"username": ' + b"9" * 5000 + b', "password": 1e999}',
    b'{"username": "a", "password": "b", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    b"[" * 100_000,
    b'{"type": ' + LONE + b', "args": {}}',
    b'{"type": "status", "args": {"x": ' + LONE + b"}}",
    b'{"type": "addAccount", "args": {"username": ' + LONE + b', "password": "x"}}',
    b'{"type": "kick", "args": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    b'{"type": "listAccounts", "args": {"limit": ' + b"9" * 5000 + b"}}",
    b'{"type": "listAccounts", "args": {"limit": 1e999}}',
    b'{"to": [' + LONE + b'], "data": ' + LONE + b"}",
    b'{"servers": ["\\u0000", "[::1"], "data": 1e999}',
]
METHODS = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI", b"get", b"\xff", b""]
VERSIONS = [b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"ICE/1.0", b""]

values = st.one_of(st.sampled_from(VALUES), st.binary(max_size=40))
fields = st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=5)


def requests(paths: list[bytes]) -> st.SearchStrategy[bytes]:
    """Returns what makes requests for these paths and for others, and what is none."""

    def request(
        method: bytes, path: bytes, version: bytes, given: list[tuple[bytes, bytes]], body: bytes, more: bytes
    ) -> bytes:
        head = [method + b" " + path + more + b" " + version]
        head += [name + b": " + value for name, value in [(b"Host", b"127.0.0.1"), (b"X-Bester", b"1"), *given]]
        if method in (b"POST", b"PUT"):
            head.append(b"Content-Length: %d" % len(body))
        return b"\r\n".join(head) + b"\r\n\r\n" + body

    odd = [b"*", b"//", b"/%2e%2e/%2e%2e/etc/passwd", b"/\xff", b"/%00", b"http://[", b"http://x:99999/", b"a:1", b""]
    made = st.builds(
        request,
        st.sampled_from(METHODS),
        st.sampled_from(paths + paths + odd),
        st.sampled_from(VERSIONS),
        fields,
        st.sampled_from(BODIES) | st.binary(max_size=50),
        st.sampled_from([b""] * 4 + [b"?" + b"a=%ff&" * 20, b"?" + b"x" * 9000, b"?%", b"#\xff"]),
    )
    return st.one_of(made, made, made, st.binary(max_size=200))


@dataclass
class Answer:
    """One answer."""

    version: bytes
    status: int
    headers: dict[str, str]
    body: bytes = b""
    behind: bytes = b""
    """What came behind it."""


class Asker:
    """Sends requests one after the other, on one connection for as long as the server lets it."""

    def __init__(self, port: int, patience_s: float = PATIENCE_S) -> None:
        self._port = port
        self._patience_s = patience_s
        self._connected: socket.socket | None = None

    def ask(self, sent: bytes) -> Answer | None:
        """Returns the answer to a request; None if it does not end in time, or is the beginning of a WebSocket."""
        if self._connected is None:
            self._connected = socket.create_connection(("127.0.0.1", self._port), timeout=self._patience_s)
        try:
            self._connected.sendall(sent)
            answer = self._read(sent.startswith(b"HEAD "))
        except (TimeoutError, ConnectionError):
            answer = None
        if answer is None or answer.headers.get("connection") == "close" or answer.version == b"1.0":
            self.close()
        return answer

    def close(self) -> None:
        if self._connected is not None:
            self._connected.close()
            self._connected = None

    def _read(self, is_head: bool) -> Answer | None:
        got = b""
        while True:
            got = self._read_more(got, lambda got: b"\r\n\r\n" in got)
            head, _, got = got.partition(b"\r\n\r\n")
            answer = read_head(head)
            if answer.status != 100:
                break
        if answer.status == 101 or answer.headers.get("transfer-encoding") == "chunked":
            return None
        if not (is_head or answer.status == 304):
            size = int(answer.headers["content-length"])
            got = self._read_more(got, lambda got: len(got) >= size)
            answer.body, got = got[:size], got[size:]
        answer.behind = got
        return answer

    def _read_more(self, got: bytes, enough: Callable[[bytes], bool]) -> bytes:
        assert self._connected is not None
        while not enough(got):
            more = self._connected.recv(65_536)
            if not more:
                assert not got, got
                raise ConnectionResetError("closed without an answer")
            got += more
        return got


def read_head(head: bytes) -> Answer:
    """Returns an answer from its head, which must be well-formed."""
    first, *lines = head.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    assert status, first
    headers: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        assert match, line
        name = match[1].decode().lower()
        assert name not in headers or name == "set-cookie", head
        headers[name] = match[2].decode()
    return Answer(status[1], int(status[2]), headers)


def check(answer: Answer) -> None:
    """Holds what is true of every answer of ours."""
    assert answer.status < 500 or answer.status == 503, answer
    for name, value in HEADERS.items():
        assert answer.headers.get(name.lower()) == value, answer
    for software in (b"aiohttp", b"Python", b"Traceback", b"multidict"):
        assert software not in answer.body, answer
        assert software.decode() not in str(answer.headers), answer


def nothing_failed(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody was surprised: nothing in the log says so."""
    bad = [one for one in caplog.records if one.levelno >= logging.ERROR or (one.exc_info and one.levelno > 20)]
    assert not bad, [f"{one.name}: {one.getMessage()} {one.exc_text}" for one in bad]
