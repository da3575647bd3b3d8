"""Serves static files: the console, the browser's client, and pages that other distributions add."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from bester.web.pages import not_found

ROOT = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".woff2": "font/woff2",
}
"""The content types by file extension; other files are not served."""
PACKED = frozenset({".css", ".html", ".js", ".json", ".svg", ".ts", ".txt"})
MIN_PACKED = 1024
INDEXES = {
    "": "console/index.html",
    "console": "console/index.html",
    "try": "try/index.html",
}
ALIASES = {"bester.js": "js/bester.js", "bester.d.ts": "js/bester.d.ts"}
"""Additional paths for some files."""


@dataclass(frozen=True)
class _File:
    version: tuple[int, int]
    body: bytes
    packed: bytes | None
    etag: str
    type: str


class Files:
    """Serves the files in a folder, and each page below its prefix.

    A file is read on first use, and again after it has changed.
    """

    def __init__(self, pages: Mapping[str, Path], root: Path = ROOT) -> None:
        self._root = root.resolve()
        self._pages = {prefix: folder.resolve() for prefix, folder in pages.items()}
        self._files: dict[str, _File] = {}

    async def serve(self, request: web.Request) -> web.Response:
        """Responds to GET and HEAD for a file."""
        path = request.match_info["path"]
        found = self._find(path)
        if found is None:
            raise web.HTTPNotFound(text=not_found(path.partition("/")[0], self._pages))
        headers = {"ETag": found.etag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        if found.etag in [
            tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")
        ]:
            return web.Response(status=304, headers=headers)
        headers["Content-Type"] = found.type
        if found.packed is not None and "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return web.Response(body=found.packed, headers=headers)
        return web.Response(body=found.body, headers=headers)

    def _find(self, path: str) -> _File | None:
        path = path.rstrip("/")
        path = INDEXES.get(path, path)
        if any(part in ("", ".", "..") or part.startswith(".") for part in path.split("/")) or "\0" in path:
            return None
        prefix, _, below = path.partition("/")
        if prefix in self._pages:
            return self._load(path, self._pages[prefix], below or "index.html")
        found = self._load(path, self._root, path)
        return self._load(path, self._root, ALIASES[path]) if found is None and path in ALIASES else found

    def _load(self, path: str, root: Path, within: str) -> _File | None:
        file = root / within
        type = TYPES.get(file.suffix)
        if type is None:
            return None
        try:
            file = file.resolve(strict=True)
            state = file.stat()
            if not file.is_relative_to(root) or not file.is_file():
                return None
            version = (state.st_mtime_ns, state.st_size)
            known = self._files.get(path)
            if known is None or known.version != version:
                body = file.read_bytes()
                packed = None
                if file.suffix in PACKED and len(body) >= MIN_PACKED:
                    packed = gzip.compress(body, mtime=0)
                etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
                known = self._files[path] = _File(version, body, packed, etag, type)
        except (OSError, ValueError):
            return None
        return known
