"""HTTP responses in JSON, with one shape for all errors."""

from __future__ import annotations

from aiohttp import web

from bester.errors import BesterError
from bester.protocol.frames import encode_text

STATUS = {"authenticationFailed": 401, "authenticationRequired": 401, "notAllowed": 403, "throttled": 429}
"""The HTTP status of an error, by its code."""


def answer(value: object, status: int = 200) -> web.Response:
    """Returns a JSON response that no cache stores."""
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=bytes(encode_text(value)), status=status, content_type="application/json", headers=headers)


def refusal(status: int, code: str, message: str, temporary: bool = False) -> web.Response:
    """Returns an error response: ``{"ok": false, "error": {"code", "message", "temporary"}}``."""
    return answer({"ok": False, "error": {"code": code, "message": message.strip(), "temporary": temporary}}, status)


def refused(error: BesterError, status: int | None = None) -> web.Response:
    """Returns the response for one of the server's own errors; ``status`` overrides the status of its code."""
    if status is None:
        status = STATUS.get(error.code, 503 if error.temporary else 400)
    return refusal(status, error.code, error.message, error.temporary)
