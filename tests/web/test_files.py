"""Static files, and what every answer has."""

from __future__ import annotations

import asyncio
import gzip
import os
import sys
from pathlib import Path

import pytest
import yarl
from tests.web.browsers import browsing

import bester
from bester.web import files, site


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is served in place of the package's own."""
    folder = tmp_path / "static"
    (folder / "console").mkdir(parents=True)
    (folder / "try").mkdir()
    (folder / "console" / "index.html").write_text("<!doctype html><title>console</title>")
    (folder / "try" / "index.html").write_text("<!doctype html><title>try</title>")
    (folder / "bester.js").write_text("// the client\n" * 200)
    (folder / ".hidden.js").write_text("hidden")
    (folder / "notes.py").write_text("no kind that is served")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<!doctype html><title>page</title>")
    (tmp_path / "page" / "page.js").write_text("// of the page")
    (tmp_path / "page" / "link.txt").symlink_to(tmp_path / "secret.txt")
    monkeypatch.setattr(files.Files.__init__, "__defaults__", (folder,))
    monkeypatch.setattr(site, "find_pages", lambda: {"added": tmp_path / "page"})
    return folder


async def test_files_are_served_packed_and_not_sent_twice(root: Path) -> None:
    async with browsing() as play:
        titles = {"/": "console", "/console/": "console", "/try": "try", "/try/index.html": "try", "/added/": "page"}
        for path, title in titles.items():
            status, text, headers = await play.get(path)
            assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
            assert f"<title>{title}</title>" in text
        async with play.http.get(f"{play.url}/bester.js", auto_decompress=False) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(await response.read()) == (root / "bester.js").read_bytes()
            etag = response.headers["ETag"]
        status, _, headers = await play.get("/bester.js", headers={"Accept-Encoding": "identity"})
        assert (status, headers.get("Content-Encoding")) == (200, None)
        assert (await play.get("/bester.js", headers={"If-None-Match": f'"x", W/{etag}'}))[:2] == (304, "")
        (root / "bester.js").write_text("// changed")
        assert (await play.get("/bester.js", headers={"If-None-Match": etag}))[:2] == (200, "// changed")


@pytest.mark.parametrize(
    "path",
    [
        "/nothing.js",
        "/.hidden.js",
        "/notes.py",
        "/link.txt",
        "/..%2fsecret.txt",
        "/console/..%2f..%2fsecret.txt",
        "/%00.js",
        "//x.js",
        "/added/link.txt",
        "/added/nothing.js",
        "/added/..%2fsecret.txt",
    ],
)
async def test_nothing_else_is_served(root: Path, path: str) -> None:
    async with browsing() as play, play.http.get(yarl.URL(play.url + path, encoded=True)) as response:
        assert response.status == 404


async def test_a_page_is_served_below_its_prefix(root: Path) -> None:
    async with browsing() as play:
        assert (await play.get("/added/page.js"))[:2] == (200, "// of the page")
        assert (await play.get("/page.js"))[0] == 404
        status, text, _ = await play.get("/chat")
        assert (status, "comes with bester-gadgets" in text) == (404, True)


async def test_every_answer_is_strict(root: Path) -> None:
    async with browsing() as play:
        for path in ("/", "/bester.js", "/nothing", "/healthz", "/metrics", "/api/session", "/api/nothing", "/ws"):
            _, _, headers = await play.get(path)
            policy = headers["Content-Security-Policy"].split("; ")
            assert policy[0] == "default-src 'none'"
            assert "frame-ancestors 'none'" in policy
            assert not any("unsafe" in part for part in policy)
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers["Server"] == "bester"


async def test_the_daemon_alone_knows_neither_aiohttp_nor_nats() -> None:
    """A server without the listener, and without a cluster, starts without what they need."""
    known = "', '.join({'aiohttp', 'nats'} & {*sys.modules})"
    script = f"import sys, bester.server.server, bester.cli.besterd; sys.exit({known} or 0)"
    environment = os.environ | {"PYTHONPATH": str(Path(bester.__file__).parents[1])}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, env=environment)
    assert await process.wait() == 0
