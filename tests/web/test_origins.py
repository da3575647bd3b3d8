"""Which pages may talk to the server, whatever they say in ``Host`` and ``Origin`` (docs/web.md)."""

from __future__ import annotations

import aiohttp
import pytest
from tests.web.browsers import OWN, browsing

from bester.web.origins import is_own, is_rebound, parse_host


@pytest.mark.parametrize(
    ("host", "origin", "own"),
    [
        ("a.example", "https://a.example", True),
        ("A.example:8080", "http://a.EXAMPLE:8080", True),
        ("a.example:443", "https://a.example", True),  # as some proxies pass it on
        ("a.example:443", "http://a.example", False),
        ("a.example", "http://a.example:8080", False),
        ("[::1]:80", "http://[::1]:80", True),
        ("a.example", "https://b.example", False),
        ("a.example", "null", False),
        ("a.example", "ftp://a.example", False),
        ("a.example", "http://x@a.example", False),
        ("a.example", "http://a.example/", False),
        ("", "http://", False),
        ("http://[", "http://[", False),
    ],
)
def test_own_pages(host: str, origin: str, own: bool) -> None:
    assert is_own({"Host": host, "Origin": origin}) is own


def test_requests_without_an_origin() -> None:
    assert is_own({"Host": "a.example"})
    assert is_own({"Host": "a.example", "Sec-Fetch-Site": "same-origin"})
    assert not is_own({"Host": "a.example", "Sec-Fetch-Site": "same-site"})


@pytest.mark.parametrize("text", ["", ":80", "a b", "a:", "a:-1", "a:70000", "[a]", "[::1", "::1", "\udcff", "a\n"])
def test_a_host_that_is_none_is_refused(text: str) -> None:
    assert parse_host(text) is None


@pytest.mark.parametrize(
    ("host", "rebound"),
    [
        ("evil.example:8080", True),
        ("127.0.0.1.evil.example", True),
        ("", True),
        ("127.0.0.1:8080", False),
        ("192.0.2.1", False),
        ("localhost:8080", False),
        ("app.localhost", False),
        ("test.example", False),
    ],
)
def test_names_that_lead_here(host: str, rebound: bool) -> None:
    assert is_rebound({"Host": host, "Origin": f"http://{host}"}, {"test.example"}) is rebound
    assert not is_rebound({"Host": host}, {"test.example"})  # a program


async def test_a_page_whose_name_leads_here_gets_nothing() -> None:
    page = {"Host": "evil.example:8080", "Origin": "http://evil.example:8080"}
    async with browsing() as play:
        await play.sign_in()
        assert (await play.post("/api/command", {"type": "status"}, headers=OWN | page))[0] == 403
        assert (await play.post("/api/login", {"username": "x", "password": "y"}, headers=OWN | page))[0] == 403
        assert (await play.get("/metrics", headers={"Host": "evil.example:8080"}))[0] == 200  # who is signed in
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await play.socket(headers=page)
        assert caught.value.status == 403
        await play.socket(headers=page | {"X-Forwarded-For": "192.0.2.1"})  # a proxy of that name
    async with browsing(web={"origins": ["http://evil.example:8080"]}) as play:
        await play.sign_in()
        assert (await play.post("/api/command", {"type": "status"}, headers=OWN | page))[0] == 200
        await play.socket(headers=page)


async def test_a_listed_page_may_open_web_sockets_and_nothing_else() -> None:
    page = {"Origin": "https://app.example"}
    async with browsing(web={"origins": ["https://app.example"]}) as play:
        await play.socket(headers=page)
        status, answer = await play.post("/api/login", {"username": "x", "password": "y"}, headers=OWN | page)
        assert status == 403
        assert "a proxy before it must pass Host on" in answer["error"]["message"]
