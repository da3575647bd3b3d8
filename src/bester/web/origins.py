"""Which pages may talk to this server: browsers say in ``Origin`` where a page is from."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from aiohttp import web


def is_own(request: web.BaseRequest) -> bool:
    """Whether a request is from one of this server's own pages, or from no page at all.

    The host alone is compared: behind a proxy that does TLS the schemes differ.
    """
    origin = request.headers.get("Origin")
    if origin is None:
        return request.headers.get("Sec-Fetch-Site", "none") in ("same-origin", "none")
    return urlsplit(origin.lower()).netloc == request.headers.get("Host", "").lower() != ""


def is_allowed(request: web.BaseRequest, origins: Sequence[str]) -> bool:
    """Whether a request is from a page that may open WebSockets here."""
    return is_own(request) or "*" in origins or request.headers.get("Origin", "").lower() in origins
