"""The addresses of servers, as handlers write them."""

from __future__ import annotations

import pytest

from bester.errors import BadAddress
from bester.protocol.addresses import MAX_ADDRESS, Address, ServerName, TcpAddress, UnixAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address", "again"),
    [
        ("j.example:2223", TcpAddress("j.example", 2223), "j.example:2223"),
        ("127.0.0.1:1", TcpAddress("127.0.0.1", 1), "127.0.0.1:1"),
        ("h:065535", None, ""),
        ("h:00080", TcpAddress("h", 80), "h:80"),
        ("h:65535", TcpAddress("h", 65535), "h:65535"),
        ("[::1]:2223", TcpAddress("::1", 2223), "[::1]:2223"),
        ("[fe80::1%eth0]:2223", TcpAddress("fe80::1%eth0", 2223), "[fe80::1%eth0]:2223"),
        ("[::ffff:1.2.3.4]:5", TcpAddress("::ffff:1.2.3.4", 5), "[::ffff:1.2.3.4]:5"),
        ("unix:/run/bester", UnixAddress("/run/bester"), "unix:/run/bester"),
        ("unix:run/a b", UnixAddress("run/a b"), "unix:run/a b"),
        ("unix:/é", UnixAddress("/é"), "unix:/é"),
        ("unix::", UnixAddress(":"), "unix::"),
        ("J.Example", ServerName("j.example"), "j.example"),
        ("j.example.", ServerName("j.example"), "j.example"),
        ("_x-1", ServerName("_x-1"), "_x-1"),
        ("unix", ServerName("unix"), "unix"),
        (f"{'a' * 63}.b", ServerName(f"{'a' * 63}.b"), f"{'a' * 63}.b"),
    ],
)
def test_addresses(text: str, address: Address | None, again: str) -> None:
    if address is None:
        with pytest.raises(BadAddress):
            parse_address(text)
    else:
        assert parse_address(text) == address
        assert str(address) == again


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ":",
        ".",
        "a..b",
        ".a",
        "a b",
        "-a",
        "a.-b",
        "é.example",
        "a\n",
        "a\0",
        "a\u202e",
        "a\ud800",
        f"{'a' * 64}.b",
        ".".join(["a" * 62] * 5),
        "a:b:1",
        "::1",
        "::1:2223",
        "h:",
        "h:0",
        "h:65536",
        "h:-1",
        "h:+1",
        "h: 1",
        "h:1 ",
        "h:1_0",
        "h:٣",
        "h:²",
        "h:http",
        ":2223",
        "[]:1",
        "[::1]",
        "[::1]2223",
        "[::1]:",
        "[::1]:0",
        "[::1",
        "[1.2.3.4]:5",
        "[j.example]:5",
        "[::1::]:5",
        "unix:",
        "unix:/a\nb",
        "unix:" + "a" * 108,
        "unix:" + "é" * 54,
        "a" * (MAX_ADDRESS + 1),
        "http://j.example/",
        "user@j.example",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BadAddress):
        parse_address(text)


def test_the_longest_path() -> None:
    assert parse_address("unix:" + "a" * 107) == UnixAddress("a" * 107)
