"""URLs of servers."""

from __future__ import annotations

import pytest

from bester.client.url import parse_url

PRINT = "ab" * 32


def test_tcp() -> None:
    target = parse_url("bester://t:pw@j.example:2230")
    assert (target.username, target.password, target.host, target.port) == ("t", "pw", "j.example", 2230)
    assert not target.tls
    assert str(target) == "bester://t@j.example:2230"


def test_default_port_and_v6() -> None:
    target = parse_url("bester://t:pw@[::1]/")
    assert (target.host, target.port) == ("::1", 2223)
    assert str(target) == "bester://t@[::1]:2223"


def test_credentials_are_percent_decoded() -> None:
    target = parse_url("bester://t%40x:p%3A%2F%23@h")
    assert (target.username, target.password) == ("t@x", "p:/#")


def test_credentials_given_apart_win() -> None:
    target = parse_url("bester://x:y@h", "t", "secret")
    assert (target.username, target.password) == ("t", "secret")
    assert parse_url("bester://h", "t").password is None


def test_the_password_is_not_shown() -> None:
    target = parse_url("bester://t:hidden@h")
    assert "hidden" not in repr(target) + str(target)


@pytest.mark.parametrize(
    "url",
    ["bester+unix://t:p%20w@/run/b%20s", "bester+unix:/run/b%20s?user=t&password=p%20w"],
)
def test_unix(url: str) -> None:
    target = parse_url(url)
    assert (target.username, target.password, target.path) == ("t", "p w", "/run/b s")
    assert str(target) == "bester+unix:/run/b s"


def test_unix_with_credentials_apart() -> None:
    assert parse_url("bester+unix:sock", "t", "p").path == "sock"


def test_tls() -> None:
    colons = ":".join(["AB"] * 32)
    target = parse_url(f"besters://t:p@h?fingerprint=sha256:{colons}&cafile=ca.pem")
    assert (target.tls, target.fingerprint, target.cafile) == (True, PRINT, "ca.pem")
    assert str(target) == "besters://t@h:2223"
    assert parse_url("besters://t:p@h", fingerprint=PRINT, cafile="x").cafile == "x"


@pytest.mark.parametrize(
    "url",
    [
        "http://t:p@h",
        "bester://h",
        "bester://t:p@",
        "bester://t:p@h:0",
        "bester://t:p@h:x",
        "bester://t:p@h:70000",
        "bester://t:p@h/path",
        "bester://t:p@h?cafile=x",
        "besters://t:p@h?colour=red",
        "besters://t:p@h?fingerprint=sha256:12",
        "bester://t:p@h#x",
        "bester+unix://t:p@host/path",
        "bester+unix:?user=t",
    ],
)
def test_wrong(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_url(url)


def test_a_certificate_is_for_tls_only() -> None:
    with pytest.raises(ValueError, match="besters"):
        parse_url("bester://t:p@h", fingerprint=PRINT)


@pytest.mark.parametrize(
    "url",
    [
        "bester+unx:/p?user=t&password=geheim",
        "http+unix://t:geheim/p",
        "t:geheim",
        "t:geheim/",
        "bestr://t:geheim",
        "bestr://t:geheim:2223",
        "bestr://t:ge?heim",
        "bester://t:geheim\u2100@h",
        "bester://t:geheim[@h",
        "bester://[geheim]@h",
        "besters://t:p?geheim@h",
        "bester://t:p?geheim=1@h",
        "bester+unix:/p?geheim=1",
        "bester://t:geheim/x@h",
        "bester://t:geheim@h:x",
    ],
)
def test_what_is_said_has_no_password(url: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as raised:
        parse_url(url)
    assert "heim" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize("place", ["h", "h:2223", "a.example/", "[::1]", "[::1]:2223"])
@pytest.mark.parametrize("before", ["", "bestr://t:geheim@", "t:geheim@", "http://"])
def test_what_was_meant_is_shown(place: str, before: str) -> None:
    with pytest.raises(ValueError, match="is not the URL of a server") as raised:
        parse_url(before + place)
    assert f"write bester://{place}, or besters://{place} for TLS" in str(raised.value)
    assert "geheim" not in str(raised.value)
