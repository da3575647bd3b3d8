"""The console's back end: sign-in, the operator's commands, a stream of events.

Only accounts with the role ``admin`` can sign in. Browsers do not send the session's cookie with other sites' requests
(``SameSite=Strict``), and every request that changes state is a POST with the header ``X-Bester: 1``, which another
site's page cannot send without a CORS preflight.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from bester.clock import wall_time
from bester.errors import (
    AuthenticationRequired,
    BadArguments,
    BesterError,
    Internal,
    Malformed,
    NotAllowed,
    Overloaded,
    SlowConsumer,
)
from bester.protocol.messages import Authentication
from bester.protocol.strictjson import decode
from bester.server.admin.commands import ADMIN, CommandCall
from bester.server.web import WebServices
from bester.timeouts import within
from bester.web import snapshot
from bester.web.answers import answer, refused
from bester.web.feed import Feed, event
from bester.web.guard import Guard
from bester.web.sessions import LIFETIME_S, Sessions

log = logging.getLogger("bester.web")
T = TypeVar("T", bound=Struct)

MAX_WATCHERS = 50
READ_S = 10.0
"""How long a request's body may take to arrive."""
WRITE_S = 30.0
"""How long a client may take to read an event."""
LOOK_EVERY_S = 10.0
"""How often a stream of events checks that its session is still valid."""


MAX_SIGN_IN = 16 * 1024
MAX_COMMAND = 256 * 1024
"""The largest bodies, in bytes; a sign-in's is smaller because it comes before authentication."""
_NOT_OWN = (
    "requests need the header X-Bester: 1, and no other site's Origin; "
    "if this is the server's own page, a proxy before it must pass Host on, "
    "and a name that leads to this machine must be listed in network.web.origins"
)


class Credentials(Struct):
    """The body of a sign-in."""

    username: str
    password: str


class Command(Struct):
    """The body that names a built-in command."""

    type: str
    args: Raw = Raw(b"{}")


_credentials = msgspec.json.Decoder(Credentials)
_command = msgspec.json.Decoder(Command)


class Console:
    """Serves ``/api/``."""

    def __init__(self, services: WebServices, guard: Guard) -> None:
        self._services = services
        self._runtime = services.runtime
        self._guard = guard
        self.sessions = Sessions(lambda: services.runtime.clock())
        self.feed = Feed(services)

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the console's routes to a router."""
        router.add_get("/api/session", self._session)
        router.add_get("/api/events", self._events, allow_head=False)
        for path, serve in (("login", self._login), ("logout", self._logout), ("command", self._command)):
            router.add_post(f"/api/{path}", self._from_own_pages(serve))

    def close(self) -> None:
        """Ends the streams of events."""
        self.feed.close()

    def _from_own_pages(
        self, serve: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Wraps ``serve`` to accept only requests from this server's own pages and from programs."""

        async def check(request: web.Request) -> web.Response:
            if request.headers.get("X-Bester") != "1" or not self._guard.is_own(request):
                return refused(NotAllowed(_NOT_OWN))
            return await serve(request)

        return check

    # -- signing in ------------------------------------------------------------------------------------------------

    @property
    def _cookie(self) -> str:
        return "__Host-bester" if self._guard.secure else "bester"

    async def signed_in(self, request: web.Request, *, used: bool = True) -> str | None:
        """Returns the admin that a request's session belongs to; None if there is no such session.

        Args:
            request: the request whose cookie names the session.
            used: whether the request counts as use, which postpones the session's expiry.
        """
        token = request.cookies.get(self._cookie)
        session = self.sessions.find(token, used=used) if token else None
        if session is None:
            return None
        assert token is not None
        stored = await self._services.admin.accounts.store.find(session.username)
        if stored is None or ADMIN not in stored.roles or stored.password_hash != session.password_hash:
            self.sessions.end(token)
            return None
        return session.username

    async def _admin(self, request: web.Request) -> str:
        """Returns the admin that a request's session belongs to.

        Raises:
            AuthenticationRequired: the request has no valid session.
        """
        username = await self.signed_in(request)
        if username is None:
            raise AuthenticationRequired("sign in first")
        return username

    async def _login(self, request: web.Request) -> web.Response:
        credentials = await _read(request, _credentials, MAX_SIGN_IN)
        remote = self._guard.remote(request)
        runtime, accounts = self._runtime, self._services.admin.accounts
        try:
            claim = Authentication(credentials.username, password=credentials.password)
            with accounts.checking() as login:
                account = await accounts.authenticate(claim, remote, login, opens=False)
                stored = await accounts.store.find(account.username)
                login.check()
            if stored is None or ADMIN not in stored.roles:
                raise NotAllowed("the console is for accounts of role admin")
        except BesterError as error:
            runtime.counts.logins_failed += 1
            log.info("a sign-in to the console from %s is refused: %s", remote.address, error.code)
            return refused(error)
        runtime.counts.logins += 1
        log.info("%s signed in to the console from %s", ascii(account.username), remote.address)
        token = self.sessions.begin(account.username, stored.password_hash)
        response = answer({"ok": True, "data": {"username": account.username, "expires": wall_time() + LIFETIME_S}})
        response.set_cookie(
            self._cookie,
            token,
            max_age=int(LIFETIME_S),
            path="/",
            httponly=True,
            samesite="Strict",
            secure=self._guard.secure,
        )
        return response

    async def _logout(self, request: web.Request) -> web.Response:
        token = request.cookies.get(self._cookie)
        if token:
            self.sessions.end(token)
        response = answer({"ok": True})
        response.del_cookie(self._cookie, path="/", httponly=True, samesite="Strict", secure=self._guard.secure)
        return response

    async def _session(self, request: web.Request) -> web.Response:
        return answer({"ok": True, "data": {"username": await self._admin(request)}})

    # -- commands ----------------------------------------------------------------------------------------------------

    async def _command(self, request: web.Request) -> web.Response:
        username = await self._admin(request)
        command = await _read(request, _command, MAX_COMMAND)
        log.info("%s runs %s from the console", ascii(username), ascii(command.type[:64]), extra={"account": username})
        # Runs without a session, as for the local operator: the console cannot run session commands such as logout.
        call = CommandCall(self._services.admin, None, self._guard.remote(request))
        try:
            data = await call.result(Raw(msgspec.json.encode({"command": command})))
        except BesterError as error:
            if error.__cause__ is not None and not isinstance(error, BadArguments):
                log.warning("a built-in command is refused: %s", error.inside)
            return refused(error, 200)
        except Exception:
            log.exception("a built-in command failed")
            return refused(Internal(), 200)
        missing = {"missing": sorted(call.status.missing)} if call.status.missing else {}
        return answer({"ok": True, "data": data} | missing)

    # -- events ------------------------------------------------------------------------------------------------------

    async def _events(self, request: web.Request) -> web.StreamResponse:
        await self._admin(request)
        if self.feed.watchers >= MAX_WATCHERS:
            raise Overloaded(f"at most {MAX_WATCHERS} may watch")
        headers = {"Cache-Control": "no-store", "Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        response = web.StreamResponse(headers=headers)
        self.feed.join()
        try:
            await response.prepare(request)
            await _write(response, b"retry: 2000\n\n" + event("history", await snapshot.history(self._services.admin)))
            looked = self._runtime.clock()
            while made := await self.feed.next():
                if self._runtime.clock() - looked >= LOOK_EVERY_S:
                    looked = self._runtime.clock()
                    if await self.signed_in(request, used=False) is None:
                        await _write(response, event("signedOut", {}))
                        break
                await _write(response, made)
        except TimeoutError:
            log.info("a watcher of the console's events does not read them")
            self._runtime.counts.refuse(SlowConsumer.code)
            if request.transport is not None:
                request.transport.abort()
        finally:
            self.feed.leave()
        return response


async def _write(response: web.StreamResponse, made: bytes) -> None:
    """Writes an event, and returns when the buffer has space for the next one.

    Raises:
        TimeoutError: the client has not read within :data:`WRITE_S`.
    """
    async with within(WRITE_S):
        await response.write(made)


async def _read(request: web.Request, decoder: msgspec.json.Decoder[T], max_bytes: int) -> T:
    """Reads and decodes a request's body.

    Raises:
        BadArguments: the body does not have the right form, or took longer than :data:`READ_S`.
        HTTPRequestEntityTooLarge: the body has more than ``max_bytes`` bytes.
    """
    body = bytearray()
    try:
        async with within(READ_S):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > max_bytes:
                    raise web.HTTPRequestEntityTooLarge(max_bytes, text=f"the body may have {max_bytes} bytes")
        return decode(decoder, bytes(body))
    except TimeoutError as error:
        raise BadArguments("the body did not come in time") from error
    except Malformed as error:
        raise BadArguments(error.message) from error
