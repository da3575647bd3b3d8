"""Incoming: ``POST /push/NAME`` pushes into Bester what the hook NAME may send, and answers with the report.

Who calls proves to be the hook by its token, or signs; only then a request takes one of the places for what is carried
out. A signed request is taken once: its id is remembered for as long as its timestamp is good, and what was signed
before this process started is refused, since it may have been taken then.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import math
import ssl
import time
from collections.abc import Awaitable
from typing import Any, Protocol

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from bester import ClientError, Command, Report, SendClients, SendServers
from bester.accepting import Acceptor, bound
from bester.clock import elapsed, wall_time
from bester.errors import BesterError, Malformed
from bester.http import ProtocolFactory, add_headers
from bester.protocol import names
from bester.protocol.addresses import parse_address
from bester.protocol.strictjson import decode
from bester.timeouts import within
from bester_gadgets.rates import Rates
from bester_gadgets.settings import reason
from bester_gadgets.webhook import signing
from bester_gadgets.webhook.connections import FOR_EACH_SLOT, Connections
from bester_gadgets.webhook.remembering import Conflict, Full, Outcome, Remembered
from bester_gadgets.webhook.settings import Listen, Push

log = logging.getLogger("bester.webhook")

MAX_RECIPIENTS = 1000
RETRY_AFTER_S = 5
UNPROVEN = 401
STATUS = {
    "unknownAccount": 404,
    "notAllowed": 403,
    "badAddress": 400,
    "throttled": 429,
    "overloaded": 429,
    "serverRefused": 502,
    "serverUnverified": 502,
}
"""By the code of a bad report; what is not here is 503 where it is temporary, and else 422."""


class _Refusal(Exception):
    """A request that is not executed."""

    def __init__(self, status: int, code: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.outcome = Outcome(
            status,
            {
                "status": "bad",
                "error": {"code": code, "message": message, "temporary": retry_after_s is not None},
            },
            math.ceil(retry_after_s) if retry_after_s is not None else None,
        )


class _Message(Struct, forbid_unknown_fields=True):
    """The body of a request."""

    data: Raw = Raw(b"null")
    to: list[str] | None = None
    servers: list[str] | None = None
    type: str | None = None
    transient: bool = False


_message = msgspec.json.Decoder(_Message)
_anything = msgspec.json.Decoder(Raw)


class Pushing(Protocol):
    """Pushes as :meth:`bester.Handler.push` does."""

    def __call__(self, command: list[Command], *, type: str, timeout: float) -> Awaitable[Report]:
        """Pushes; see there."""
        ...


class _Taker:
    """One hook: who is it, how much may it, what does it want."""

    def __init__(self, hook: Push, remembered: int) -> None:
        self.hook = hook
        self.token = hook.token.get_secret_value().encode() if hook.token is not None else None
        self.keys = hook.keys
        self.rates = Rates(hook.rate, hook.burst)
        self.remembered = Remembered(remembered, 0.0 if self.token is not None else 2.0 * signing.TOLERANCE_S)
        self.types = hook.types or [str(hook.type)]
        self.servers = hook.servers if hook.servers == "any" else {parse_address(one): one for one in hook.servers}

    def commands(self, body: bytes) -> tuple[str, list[Command]]:
        """Returns what a request wants sent, and as which type.

        Raises:
            _Refusal: it is not of the form, or more than this hook may.
        """
        try:
            if self.hook.raw:
                decode(_anything, body)
                message = _Message(Raw(body))
            else:
                message = decode(_message, body)
        except Malformed as error:
            raise _Refusal(400, "malformed", error.message) from error
        if message.type is None and len(self.types) > 1:
            raise _Refusal(400, "badArguments", f"type: wanted is one of {', '.join(self.types)}")
        type = message.type if message.type is not None else self.types[0]
        if type not in self.types:
            raise _Refusal(403, "notAllowed", f"type: this hook may send {', '.join(self.types)}")
        fixed = message.to is None and message.servers is None
        to = self._accounts(message.to, fixed)
        servers = self._addresses(message.servers, fixed)
        if not to and not servers:
            raise _Refusal(400, "badArguments", "to or servers: wanted is a list of recipients")
        transient = message.transient or self.hook.transient
        commands: list[Command] = []
        if to:
            commands.append(SendClients(to, message.data, type, transient))
        if servers:
            commands.append(SendServers(servers, message.data, type, transient))
        return type, commands

    def _accounts(self, wanted: list[str] | None, fixed: bool) -> list[str]:
        allowed = self.hook.to
        if fixed or wanted is None:
            return list(allowed) if fixed and allowed != "any" else []
        _count(wanted)
        for name in wanted:
            if allowed != "any" and _canonical(name) not in allowed:
                raise _Refusal(403, "notAllowed", "to: this hook may not send to everyone of these")
        return wanted

    def _addresses(self, wanted: list[str] | None, fixed: bool) -> list[str]:
        allowed = self.servers
        if fixed or wanted is None:
            return list(allowed.values()) if fixed and isinstance(allowed, dict) else []
        _count(wanted)
        try:
            parsed = [parse_address(one) for one in wanted]
        except BesterError as error:
            raise _Refusal(400, error.code, f"servers: {error.message}") from error
        if isinstance(allowed, dict) and not all(one in allowed for one in parsed):
            raise _Refusal(403, "notAllowed", "servers: this hook may not send to all of these")
        return wanted


def _count(wanted: list[str]) -> None:
    if len(wanted) > MAX_RECIPIENTS:
        raise _Refusal(400, "badArguments", f"at most {MAX_RECIPIENTS} recipients")


def _canonical(name: str) -> str:
    try:
        return names.username(name)
    except BesterError:
        return ""


class Endpoint:
    """The HTTP endpoint.

    Args:
        listen: where.
        hooks: who may call.
        push: tells the server.
        tls: for ``https://``; None: ``http://``.
    """

    def __init__(self, listen: Listen, hooks: dict[str, Push], push: Pushing, tls: ssl.SSLContext | None) -> None:
        self._listen = listen
        self._push = push
        self._tls = tls
        self._takers = {name: _Taker(hook, listen.remembered) for name, hook in hooks.items()}
        self._began = elapsed()
        self._busy = 0
        self._connections: Connections
        self.port = 0
        """The one that was opened."""

    async def run(self) -> None:
        """Serves until it is cancelled; then finishes what is under way.

        Raises:
            OSError: the port cannot be opened; the text says which and why.
        """
        listen = self._listen
        app = web.Application(middlewares=[self._guard])
        app.on_response_prepare.append(add_headers)
        app.router.add_post("/push/{name}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=listen.timeout)
        await runner.setup()
        assert runner.server is not None
        where = f"{listen.address}:{listen.port}"
        answering = ProtocolFactory(
            f"webhook on {where}", runner.server, _unanswered, auto_decompress=False, lingering_time=1.0
        )
        self._connections = Connections(
            FOR_EACH_SLOT * listen.max_requests, listen.max_per_address, listen.timeout, answering
        )
        acceptors: list[Acceptor] = []
        try:
            try:
                sockets = await bound(listen.address, listen.port)
            except OSError as error:
                raise OSError(f"listen: {where} cannot be listened on: {reason(error)}") from error
            self.port = sockets[0].getsockname()[1]
            welcome = self._connections.welcome
            acceptors = [
                Acceptor(one, f"webhook on {where}", welcome, tls=self._tls, handshake_timeout_s=listen.timeout)
                for one in sockets
            ]
            for acceptor in acceptors:
                acceptor.open()
            scheme = "https" if self._tls is not None else "http"
            log.info("listening on %s://%s:%d/push/", scheme, listen.address, self.port)
            await self._connections.watch()
        finally:
            for acceptor in acceptors:
                acceptor.close()
            await runner.cleanup()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Turns every failure into JSON, without anything of the inside."""
        connection = self._connections.of.get(request.protocol)
        if connection is None:  # it was just ended
            return web.Response(status=503)
        connection.since = time.monotonic()
        try:
            response: web.StreamResponse = await handler(request)
            return response
        except _Refusal as refusal:
            response = _response(refusal.outcome)
            if refusal.outcome.status == UNPROVEN:
                response.force_close()
            return response
        except web.HTTPException as error:
            allow = {"allow": error.headers["allow"]} if "allow" in error.headers else {}
            return _response(
                _Refusal(error.status, "notFound", "there is POST /push/NAME, and nothing else").outcome, allow
            )
        except (ConnectionError, web.RequestPayloadError):
            raise  # who asked is gone, or did not keep to HTTP: that is for the conversation
        except Exception:
            log.exception("a request failed")
            return _response(_Refusal(500, "internal", "something failed inside; the log says what").outcome)
        finally:
            connection.proven = False
            connection.since = time.monotonic()

    async def _answer(self, request: web.Request) -> web.Response:
        return _response(await self._take(request))

    async def _take(self, request: web.Request) -> Outcome:
        taker = self._takers.get(request.match_info["name"])
        if taker is None or taker.token is not None:
            self._check_token(request, taker)
        assert taker is not None
        if taker.token is None:
            self._check_headers(request)
        body = await self._read(request, taker.hook.max_body)
        key = (
            request.headers.get("idempotency-key")
            if taker.token is not None
            else self._check_signed(request, taker, body)
        )
        if self._busy >= self._listen.max_requests:
            raise _Refusal(503, "overloaded", "too many requests at once", RETRY_AFTER_S)
        self._connections.of[request.protocol].proven = True
        self._busy += 1
        try:
            return await self._carry_out(taker, key, body)
        finally:
            self._busy -= 1

    async def _carry_out(self, taker: _Taker, key: str | None, body: bytes) -> Outcome:
        if key is not None and not 1 <= len(key) <= signing.MAX_ID:
            raise _Refusal(400, "badArguments", f"an idempotency key has 1 to {signing.MAX_ID} characters")
        wait_s = taker.rates.take("")
        if wait_s:
            raise _Refusal(429, "throttled", "more than this hook may send", wait_s)
        type, commands = taker.commands(body)
        if key is None:
            return await self._pushed(type, commands)
        try:
            return await taker.remembered.once(key, hashlib.sha256(body).digest(), lambda: self._pushed(type, commands))
        except Conflict as error:
            raise _Refusal(422, "idConflict", "another body was sent with this key") from error
        except Full as error:
            raise _Refusal(429, "overloaded", "too many requests are remembered", RETRY_AFTER_S) from error

    def _check_token(self, request: web.Request, taker: _Taker | None) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        token = given.strip().encode(errors="surrogateescape")
        wanted = taker.token if taker is not None and taker.token is not None else None
        # A name that there is not takes as long, and is told the same, as a token that is wrong.
        right = hmac.compare_digest(token, wanted if wanted is not None else b"\0" * len(token))
        if scheme.lower() != "bearer" or wanted is None or not right:
            raise _Refusal(UNPROVEN, "authenticationFailed", "no such hook, or not its token or signature")

    def _check_headers(self, request: web.Request) -> None:
        """Refuses what cannot be signed, before its body is read."""
        try:
            signing.read_headers(request.headers, wall_time())
        except signing.BadSignature as error:
            raise self._unproven(request, error) from error

    def _unproven(self, request: web.Request, error: signing.BadSignature) -> _Refusal:
        log.info("%s: %s", request.path, error)
        return _Refusal(UNPROVEN, "authenticationFailed", "no such hook, or not its token or signature")

    def _check_signed(self, request: web.Request, taker: _Taker, body: bytes) -> str:
        now_s = wall_time()
        try:
            id, stamp_s = signing.verify(taker.keys, request.headers, body, now_s)
        except signing.BadSignature as error:
            raise self._unproven(request, error) from error
        # What was taken before is not remembered. The start is where the clock, as it is set now, would have had it.
        if stamp_s < int(now_s - (elapsed() - self._began)):
            raise _Refusal(503, "unavailable", "signed before this endpoint was started: sign it anew", 1)
        return id

    async def _read(self, request: web.Request, most: int) -> bytes:
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise _Refusal(415, "malformed", "content-encoding: only identity is taken")
        too_large = _Refusal(413, "tooLarge", f"the body may have {most} bytes")
        if (request.content_length or 0) > most:
            raise too_large
        body = bytearray()
        try:
            async with within(self._listen.timeout):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > most:
                        raise too_large
        except TimeoutError as error:
            raise _Refusal(408, "frameTimeout", "the body did not arrive in time", 1) from error
        return bytes(body)

    async def _pushed(self, type: str, commands: list[Command]) -> Outcome:
        try:
            report = await self._push(commands, type=type, timeout=self._listen.timeout)
        except (ClientError, TimeoutError) as error:
            message = "no report from the server; what became of the message is not known"
            log.warning("%s: %s", message, error)
            return _Refusal(503, "unavailable", message, RETRY_AFTER_S).outcome
        return outcome_of(report)


def outcome_of(report: Report) -> Outcome:
    """Returns what a report is over HTTP."""
    body: dict[str, Any] = {"status": "good" if report.good else "bad"}
    if report.error is not None:
        body["error"] = report.error.as_json()
    body["results"] = [one.as_json() for one in report.results]
    if report.good:
        return Outcome(200, body)
    error = report.error
    temporary = error is not None and error.temporary
    status = STATUS.get(error.code if error is not None else "", 503 if temporary else 422)
    return Outcome(status, body, RETRY_AFTER_S if temporary else None)


def _unanswered(status: int) -> web.Response:
    code, text = (
        ("malformed", "the request cannot be read") if status < 500 else ("internal", "something failed inside")
    )
    return _response(_Refusal(status, code, text).outcome)


def _response(outcome: Outcome, headers: dict[str, str] | None = None) -> web.Response:
    headers = dict(headers or {})
    if outcome.retry_after_s is not None:
        headers["retry-after"] = str(outcome.retry_after_s)
    text = json.dumps(outcome.body, ensure_ascii=False, separators=(",", ":")) + "\n"
    return web.Response(status=outcome.status, text=text, content_type="application/json", headers=headers)
