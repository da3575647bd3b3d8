"""One connection to NATS: it is made, lost, and made again by nats-py; here is what the rest of a node sees of it.

While it is down nothing is sent, and nothing is kept to be sent later: who asks is told at once. What was asked when it
went down has an outcome that nobody knows (:class:`BusLost`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from bester.backoff import Backoff
from bester.bus.checks import NEEDED, check_release, check_secrets, is_denied, what_to_check
from bester.bus.entering import BusOptions, CannotEnter, arguments, context_of, enter, shown
from bester.errors import BadConfiguration, Overloaded
from bester.installation import how_to_add
from bester.timeouts import within

if TYPE_CHECKING:
    from bester.bus.wire import Heard, Listening, WireClient

log = logging.getLogger("bester.bus")

RECONNECT_S = 0.25
REFUSED_S = 10.0
"""The longest pause before it is tried again to enter where this node was not let in."""
PING_S = 1
MAX_PINGS = 2
"""A server that answers no ping for so many is left for another one."""
REQUEST_S = 5.0
SWEEP_S = 0.25
_STATUS = b"NATS/1.0 "
PERMITTED_S = 2.0
"""How long the answer to what nobody may forbid a node is waited for."""
MAX_DENIED = 20
"""How many subjects that a node may not use are remembered."""
MAX_UNSENT_BYTES = 64 * 1024 * 1024
"""What may wait for a NATS server that reads too slowly; beyond it, what is asked is refused."""


class BusDown(Overloaded):
    """NATS cannot be reached now, so nothing was sent."""

    def __init__(self) -> None:
        super().__init__("this server's nodes cannot reach each other now")


class BusLost(Exception):
    """The connection was lost, or no answer came in time: nobody knows what became of it."""


class NoResponders(Exception):
    """Nobody listens on that subject, as NATS itself says."""


class Answer(NamedTuple):
    """What came back for a request."""

    headers: bytes
    """The header block as it came, from ``NATS/1.0`` on; empty if there was none."""
    data: bytes
    subject: str = ""
    reply: str = ""


class Bus:
    """The connection of one node.

    Args:
        options: where to connect to.
        name: of this node, as the NATS server shows it to its operators.
    """

    def __init__(self, options: BusOptions, name: str) -> None:
        self.options = options
        self.name = name
        self.up = False
        """Whether anything can be sent now."""
        self.changed: list[Callable[[bool], None]] = []
        """Called with whether it is up, each time that this has changed; not for the first connection and the end."""
        self.losses = 0
        """How often the connection was lost."""
        self.inbox = f"_INBOX.{secrets.token_hex(8)}"
        """What the subjects for answers to this node begin with."""
        self._client: WireClient | None = None
        self._newer: asyncio.Task[None] | None = None
        """Makes another client, in place of one that connects no more."""
        self._waiting: dict[str, tuple[asyncio.Future[Answer], float]] = {}
        """Those that wait for an answer, by the last part of its subject, and until when."""
        self._waiting_for_up: set[asyncio.Event] = set()
        self._collecting: set[asyncio.Future[None]] = set()
        self._last_request = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._error = ""
        """The last thing that nats-py reported."""
        self._denied: list[str] = []
        """What NATS has forbidden."""
        self._checking = False
        self._refused = asyncio.Event()
        """Whether a server did not let us in."""

    # -- from start to end ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connects.

        Raises:
            BadConfiguration: the package is missing, or no server can be reached or entered in time.
        """
        try:
            from bester.bus.wire import WireClient
        except ImportError as error:
            raise BadConfiguration(f"cluster needs a package that is missing: {how_to_add('cluster')}") from error
        check_secrets(self.options)
        client = WireClient(partial(context_of, self.options))
        try:
            await enter(client, self._arguments(), self._refused)
        except CannotEnter as error:
            refused = self._refused.is_set()
            text = self._error if refused else str(error)
            where = ", ".join(shown(server) for server in self.options.servers)
            what = what_to_check(text, refused)
            raise BadConfiguration(f"NATS at {where} cannot be used: {text}; check {what}") from error
        self._client = client
        self.up = True
        self.listen(f"{self.inbox}.*", self._answered)
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        try:
            check_release(client.release)
            await self.check_permitted("$JS.API.INFO")
        except BadConfiguration:
            await self.close()
            raise

    async def check_permitted(self, subject: str) -> None:
        """Sees that this node may ask on a subject, and hear the answer; whether one comes is another matter.

        Raises:
            BadConfiguration: NATS has forbidden something.
        """
        self._checking = True
        with suppress(BusDown, BusLost, NoResponders):
            await self.request(subject, b"", timeout_s=PERMITTED_S)
        self._checking = False
        if self._denied:
            raise BadConfiguration(f"NATS does not permit what nodes do: {self._denied[0]}; {NEEDED}")

    async def close(self) -> None:
        """Sends what was published, and lets go; the second time it does nothing."""
        self._closed = True
        self.up = False
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._fail_all()
        newer, self._newer = self._newer, None
        if newer is not None:
            newer.cancel()
            await asyncio.wait({newer})
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _arguments(self) -> dict[str, Any]:
        return {
            **arguments(self.options),
            "name": self.name,
            "error_cb": self._failed,
            "disconnected_cb": self._disconnected,
            "reconnected_cb": self._reconnected,
            "closed_cb": self._ended,
            "dont_randomize": True,  # the first is the one that is near
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RECONNECT_S,
            "connect_timeout": 2,
            "ping_interval": PING_S,
            "max_outstanding_pings": MAX_PINGS,
            "pending_size": 2 * MAX_UNSENT_BYTES,
        }

    @property
    def why(self) -> str:
        """Why it is down, as far as nats-py knows; empty while it is up."""
        return "" if self.up else self._error

    async def _failed(self, error: Exception) -> None:
        if self._refused.is_set() and not self.up:
            return  # what follows is the end of that connection
        self._error = str(error) or type(error).__name__
        if is_denied(self._error) and self._error not in self._denied and len(self._denied) < MAX_DENIED:
            self._denied.append(self._error)
            if not self._checking:
                log.error("NATS refuses something: %s; %s", self._error, NEEDED)
        if "authorization" in self._error.lower():
            self._refused.set()
            if self._client is not None and not self.up:
                self._renew()  # nats-py would knock four times in a second
        log.debug("NATS: %s", self._error)

    async def _disconnected(self) -> None:
        self._lost()

    def _lost(self) -> None:
        if self._closed or not self.up:
            return
        self.up = False
        self.losses += 1
        log.warning("the connection to NATS is lost%s", f": {self._error}" if self._error else "")
        self._fail_all()
        self._tell(False)

    async def _reconnected(self) -> None:
        self._found()

    def _found(self) -> None:
        if self._closed:
            return
        self.up = True
        self._error = ""
        self._refused.clear()
        log.info("the connection to NATS is there again")
        self._tell(True)

    async def _ended(self) -> None:
        self._renew()

    def _renew(self) -> None:
        """nats-py connects no more, as when a server says that this node may not be there any longer: we go on."""
        if self._closed or self._newer is not None or self._client is None:
            return
        self._error = str(self._client.last_error or "") or self._error
        self._lost()
        self._newer = asyncio.ensure_future(self._renewed())

    async def _renewed(self) -> None:
        from bester.bus.wire import WireClient

        assert self._client is not None
        before, backoff = self._client, Backoff(RECONNECT_S, REFUSED_S, spread=(1.0, 1.0))
        try:
            await before.close()
        except Exception:
            log.debug("the old connection to NATS is left as it is", exc_info=True)
        while True:
            pause_s = backoff.next_s()
            log.warning("NATS does not let this node in, which is tried again in %g s: %s", pause_s, self._error)
            await asyncio.sleep(pause_s)
            client = WireClient(partial(context_of, self.options))
            try:
                await enter(client, self._arguments(), self._refused)
            except CannotEnter as error:
                self._error = str(error)
            except Exception as error:
                log.exception("NATS cannot be entered")
                self._error = type(error).__name__
            else:
                break
        client.take_over(before)
        self._client = client
        self._newer = None
        self._found()

    async def comes_back(self, timeout_s: float) -> bool:
        """Waits until the connection is up, for a time; returns whether it is."""
        if self.up or self._closed:
            return self.up
        back = asyncio.Event()
        self._waiting_for_up.add(back)
        try:
            async with within(timeout_s):
                await back.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting_for_up.discard(back)
        return self.up

    def _tell(self, up: bool) -> None:
        if up:
            for back in self._waiting_for_up:
                back.set()
        for callback in list(self.changed):
            try:
                callback(up)
            except Exception:
                log.exception("a change of the connection could not be handled")

    # -- sending and hearing -------------------------------------------------------------------------------------

    @property
    def max_payload(self) -> int:
        """The largest message that the NATS server takes, in bytes with its headers."""
        return self._client.max_payload if self._client is not None else 0

    def listen(self, subject: str, callback: Heard, queue: str = "") -> Listening:
        """Calls a plain function with each message of a subject, until :meth:`unlisten`; it must not raise or block.

        Of a ``queue`` group only one member is called for each message.
        """
        assert self._client is not None
        return self._client.listen(subject, callback, queue)

    def unlisten(self, listening: Listening) -> None:
        """Ends the interest."""
        if self._client is not None:
            self._client.unlisten(listening)

    def publish(self, subject: str, data: bytes, reply: str = "", headers: bytes = b"") -> None:
        """Sends a message, at the end of this turn of the loop; whether it arrives, nobody says.

        Raises:
            BusDown: the connection is down, or too much waits for it.
        """
        client = self._client
        if client is None or not self.up or client.unsent_bytes > MAX_UNSENT_BYTES:
            raise BusDown
        client.send(subject, data, reply, headers)

    def request(
        self, subject: str, data: bytes, headers: bytes = b"", timeout_s: float = REQUEST_S
    ) -> asyncio.Future[Answer]:
        """Sends a message and returns the future of its answer; many may be under way, and are sent in their order.

        The future raises ``NoResponders`` when nobody listens, ``BusLost`` when the outcome is unknown.

        Raises:
            BusDown: nothing was sent.
        """
        loop = asyncio.get_running_loop()
        self._last_request += 1
        token = str(self._last_request)
        self.publish(subject, data, f"{self.inbox}.{token}", headers)
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting[token] = (future, loop.time() + timeout_s)
        return future

    async def collect(self, subject: str, data: bytes, timeout_s: float = REQUEST_S, most: int = 0) -> list[Answer]:
        """Sends a message that is answered by several, the last of which has a status and no data of its own.

        Args:
            subject, data: the message.
            timeout_s: until the last answer.
            most: how many may come without such a last one; 0: it always comes.

        Returns:
            all of them, that last one included.

        Raises:
            BusDown: nothing was sent.
            BusLost: not all came in time.
            NoResponders: nobody listens.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        found: list[Answer] = []

        def hear(subject: str, reply: str, headers: bytes, data: bytes) -> None:
            found.append(Answer(headers, data, subject, reply))
            if (headers.startswith(_STATUS) or len(found) == most) and not done.done():
                done.set_result(None)

        self._last_request += 1
        inbox = f"{self.inbox}.{self._last_request}.many"
        listening = self.listen(inbox, hear)
        self._collecting.add(done)
        try:
            self.publish(subject, data, inbox)
            async with within(timeout_s):
                await done
        except TimeoutError as error:
            raise BusLost("NATS did not answer in time") from error
        finally:
            self._collecting.discard(done)
            self.unlisten(listening)
        if found[-1].headers.startswith(b"NATS/1.0 503"):
            raise NoResponders
        return found

    def _answered(self, subject: str, reply: str, headers: bytes, data: bytes) -> None:
        found = self._waiting.pop(subject[len(self.inbox) + 1 :], None)
        if found is None:
            return
        future = found[0]
        if future.done():
            return  # its asker was cancelled
        if headers.startswith(b"NATS/1.0 503"):
            future.set_exception(NoResponders())
        else:
            future.set_result(Answer(headers, data))

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)
        if self._client is not None and self._client.gave_up:
            self._renew()
        now = loop.time()
        for token, (future, deadline) in list(self._waiting.items()):
            if now >= deadline or future.done():
                del self._waiting[token]
                if not future.done():
                    future.set_exception(BusLost("NATS did not answer in time"))

    def _fail_all(self) -> None:
        waiting, self._waiting = self._waiting, {}
        pending: list[asyncio.Future[Any]] = [future for future, _ in waiting.values()]
        for future in [*pending, *self._collecting]:
            if not future.done():
                future.set_exception(BusLost("the connection to NATS was lost"))
