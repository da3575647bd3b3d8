"""One connection to NATS, which nats-py makes, loses and makes again, as the rest of a node sees it.

While it is down nothing is sent, and nothing is queued to be sent later: the caller is told at once
(:class:`~bester.bus.errors.BusDown`). The outcome of a request that was under way when it went down is unknown
(:class:`~bester.bus.errors.BusLost`).
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from bester.backoff import Backoff
from bester.bus.checks import NEEDED, check_release, check_secrets, is_denied, what_to_check
from bester.bus.errors import BusDown, BusLost, NoResponders
from bester.bus.options import BusOptions, connect_arguments, current_tls_context, without_password
from bester.bus.requests import Answer, PendingRequests
from bester.bus.subscription import MessageCallback, Subscription
from bester.errors import BadConfiguration
from bester.installation import how_to_add
from bester.timeouts import within

if TYPE_CHECKING:
    from bester.bus.wire import WireClient  # nats-py is optional: it is imported when a connection is opened

log = logging.getLogger("bester.bus")

MAX_PINGS = 2
"""How many pings in a row a server may leave unanswered."""
REQUEST_S = 5.0
SWEEP_S = 0.25
_STATUS = b"NATS/1.0 "
MAX_DENIED = 20
"""How many subjects that a node may not use are remembered."""
MAX_UNSENT_BYTES = 64 * 1024 * 1024
"""How much may wait for a NATS server that reads too slowly; beyond it, publishing is refused."""


class Fault(enum.Enum):
    """A failure that :meth:`Bus.fail` brings about."""

    DOWN = "down"
    """The connection counts as lost until :meth:`Bus.recover`."""
    DROPPED = "dropped"
    """The TCP connection breaks, and nats-py makes another one at once."""
    CRASHED = "crashed"
    """The TCP connection ends permanently, and nothing is said: as when the process dies."""
    SILENT = "silent"
    """Everything that this node publishes is lost until :meth:`Bus.recover`, and NATS sees a healthy connection: as
    when the process is stopped."""


class Bus:
    """The connection of one node.

    Args:
        options: where to connect to.
        name: this node's name, as the NATS server shows it to its operators.
    """

    def __init__(self, options: BusOptions, name: str) -> None:
        self.options = options
        self.name = name
        self.up = False
        """Whether anything can be sent now."""
        self.changed: list[Callable[[bool], None]] = []
        """Called with :attr:`up` each time that it has changed; not for the first connection and the end."""
        self.losses = 0
        """How often the connection was lost."""
        self._client: WireClient | None = None
        self._replacing: asyncio.Task[None] | None = None
        """Connects another client in place of one that will not connect again."""
        self._requests = PendingRequests()
        self.inbox = self._requests.inbox
        """The prefix of all reply subjects of this node."""
        self._waiting_until_up: dict[asyncio.Event, None] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False
        self._silent = False
        """Whether a test lets everything be lost that is published (:attr:`Fault.SILENT`)."""
        self._error = ""
        """The last error that nats-py reported."""
        self._denied: list[str] = []
        """The permission errors that NATS reported."""
        self._checking = False
        self._refused = asyncio.Event()
        """Set when a server refuses this node."""

    # -- from start to end ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connects.

        Raises:
            BadConfiguration: the package is missing, or no server can be reached or entered in time.
        """
        try:
            from bester.bus.connecting import CannotConnect, connect
            from bester.bus.wire import WireClient
        except ImportError as error:
            raise BadConfiguration(f"cluster needs a package that is missing: {how_to_add('cluster')}") from error
        check_secrets(self.options)
        client = WireClient(partial(current_tls_context, self.options))
        try:
            await connect(client, self._arguments(), self._refused, self.options.times.connect_s)
        except CannotConnect as error:
            refused = self._refused.is_set()
            text = self._error if refused else str(error)
            where = ", ".join(without_password(server) for server in self.options.servers)
            what = what_to_check(text, refused)
            raise BadConfiguration(f"NATS at {where} cannot be used: {text}; check {what}") from error
        self._client = client
        self.up = True
        self.subscribe(f"{self.inbox}.*", self._requests.answered)
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)
        try:
            check_release(client.release)
            await self.check_permitted("$JS.API.INFO")
        except BadConfiguration:
            await self.close()
            raise

    async def check_permitted(self, subject: str) -> None:
        """Checks that this node may send a request to a subject and receive its answer, whether or not one comes.

        Raises:
            BadConfiguration: NATS reported a permission error.
        """
        self._checking = True
        with suppress(BusDown, BusLost, NoResponders):
            await self.request(subject, b"", timeout_s=self.options.times.permitted_s)
        self._checking = False
        if self._denied:
            raise BadConfiguration(f"NATS does not permit what nodes do: {self._denied[0]}; {NEEDED}")

    async def close(self) -> None:
        """Sends what was published, and disconnects; the second time it does nothing."""
        self._closed = True
        self.up = False
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._requests.fail_all()
        replacing, self._replacing = self._replacing, None
        if replacing is not None:
            replacing.cancel()
            await asyncio.wait({replacing})
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _arguments(self) -> dict[str, Any]:
        times = self.options.times
        return {
            **connect_arguments(self.options),
            "name": self.name,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnected,
            "reconnected_cb": self._on_reconnected,
            "closed_cb": self._on_closed,
            "dont_randomize": True,  # the nearest server is named first
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": times.reconnect_s,
            "connect_timeout": 2,
            "ping_interval": times.ping_s,
            "max_outstanding_pings": MAX_PINGS,
            "pending_size": 2 * MAX_UNSENT_BYTES,
        }

    @property
    def last_error(self) -> str:
        """Why it is down, as far as nats-py knows; empty while it is up."""
        return "" if self.up else self._error

    # -- callbacks of nats-py ------------------------------------------------------------------------------------

    async def _on_error(self, error: Exception) -> None:
        if self._refused.is_set() and not self.up:
            return  # what follows is the end of that connection
        self._error = str(error) or type(error).__name__
        if is_denied(self._error) and self._error not in self._denied and len(self._denied) < MAX_DENIED:
            self._denied.append(self._error)
            if not self._checking:
                log.error("NATS denies a permission: %s; %s", self._error, NEEDED)
        if "authorization" in self._error.lower():
            self._refused.set()
            if self._client is not None and not self.up:
                self._replace_client()  # nats-py would try four times in a second
        log.debug("NATS: %s", self._error)

    async def _on_disconnected(self) -> None:
        self._set_down()

    async def _on_reconnected(self) -> None:
        self._set_up()

    async def _on_closed(self) -> None:
        self._replace_client()

    # -- up and down ---------------------------------------------------------------------------------------------

    def _set_down(self) -> None:
        if self._closed or not self.up:
            return
        self.up = False
        self.losses += 1
        log.warning("the connection to NATS is lost%s", f": {self._error}" if self._error else "")
        self._requests.fail_all()
        self._notify()

    def _set_up(self) -> None:
        if self._closed:
            return
        self.up = True
        self._error = ""
        self._refused.clear()
        log.info("connected to NATS again")
        for event in self._waiting_until_up:
            event.set()
        self._notify()

    def _notify(self) -> None:
        for callback in list(self.changed):
            try:
                callback(self.up)
            except Exception:
                log.exception("a change of the connection could not be handled")

    def _replace_client(self) -> None:
        """Connects another client where nats-py has given up, as it does when a server refuses this node."""
        if self._closed or self._replacing is not None or self._client is None:
            return
        self._error = str(self._client.last_error or "") or self._error
        self._set_down()
        self._replacing = asyncio.ensure_future(self._connect_again(self._client))

    async def _connect_again(self, before: WireClient) -> None:
        from bester.bus.connecting import CannotConnect, connect
        from bester.bus.wire import WireClient

        times = self.options.times
        backoff = Backoff(times.reconnect_s, times.refused_s, spread=(1.0, 1.0))
        try:
            await before.close()
        except Exception:
            log.debug("the old connection to NATS could not be closed", exc_info=True)
        while True:
            pause_s = backoff.next_s()
            log.warning("NATS refuses this node, which tries again in %g s: %s", pause_s, self._error)
            await asyncio.sleep(pause_s)
            client = WireClient(partial(current_tls_context, self.options))
            try:
                await connect(client, self._arguments(), self._refused, times.connect_s)
            except CannotConnect as error:
                self._error = str(error)
            except Exception as error:
                log.exception("the connection to NATS failed")
                self._error = type(error).__name__
            else:
                break
        client.take_over(before)
        self._client = client
        self._replacing = None
        self._set_up()

    async def wait_until_up(self, timeout_s: float) -> bool:
        """Waits until the connection is up, at most so long; returns whether it is."""
        if self.up or self._closed:
            return self.up
        event = asyncio.Event()
        self._waiting_until_up[event] = None
        try:
            async with within(timeout_s):
                await event.wait()
        except TimeoutError:
            pass
        finally:
            del self._waiting_until_up[event]
        return self.up

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)
        if self._client is not None and self._client.gave_up:
            self._replace_client()
        self._requests.expire(loop.time())

    # -- faults, for tests ---------------------------------------------------------------------------------------

    async def fail(self, fault: Fault) -> None:
        """Brings a failure about, for tests; the connection must be open."""
        assert self._client is not None
        if fault is Fault.DOWN:
            self._set_down()
        elif fault is Fault.DROPPED:
            await self._client.force_reconnect()
        elif fault is Fault.CRASHED:
            self._closed = True
            await self._client.close()
        else:
            self._silent = True

    def recover(self) -> None:
        """Ends :attr:`Fault.DOWN` or :attr:`Fault.SILENT`."""
        self._silent = False
        if not self.up:
            self._set_up()

    # -- messages ------------------------------------------------------------------------------------------------

    @property
    def max_payload(self) -> int:
        """The largest message that the NATS server takes, in bytes with its headers."""
        return self._client.max_payload if self._client is not None else 0

    def subscribe(self, subject: str, callback: MessageCallback, queue: str = "") -> Subscription:
        """Calls a plain function, which must not raise or block, with each message of a subject.

        The subscription lasts until :meth:`unsubscribe`, also over reconnections. Of a ``queue`` group only one member
        is called for each message.
        """
        assert self._client is not None
        return self._client.add_subscription(subject, callback, queue)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Ends a subscription; the second time it does nothing."""
        if self._client is not None:
            self._client.remove_subscription(subscription)

    def publish(self, subject: str, data: bytes, reply: str = "", headers: bytes = b"") -> None:
        """Sends a message at the end of this turn of the loop; it may be lost without notice.

        Raises:
            BusDown: the connection is down, or too much waits for it.
        """
        client = self._client
        if client is None or not self.up or client.unsent_bytes > MAX_UNSENT_BYTES:
            raise BusDown
        if not self._silent:
            client.send(subject, data, reply, headers)

    def request(
        self, subject: str, data: bytes, headers: bytes = b"", timeout_s: float = REQUEST_S
    ) -> asyncio.Future[Answer]:
        """Sends a message and returns the future of its answer.

        Many may be under way; they are sent in the order of the calls. The future raises ``NoResponders`` when nobody
        subscribes to the subject, ``BusLost`` when the outcome is unknown.

        Raises:
            BusDown: nothing was sent.
        """
        token = self._requests.new_token()
        self.publish(subject, data, f"{self.inbox}.{token}", headers)
        return self._requests.add(token, timeout_s)

    async def request_many(
        self, subject: str, data: bytes, timeout_s: float = REQUEST_S, limit: int = 0
    ) -> list[Answer]:
        """Sends a message that has several answers, the last of which has a status and no data.

        Args:
            subject, data: the message.
            timeout_s: how long to wait for the last answer.
            limit: how many may come without such a last one; 0: it always comes.

        Returns:
            all answers, the last one included.

        Raises:
            BusDown: nothing was sent.
            BusLost: not all came in time.
            NoResponders: nobody subscribes to the subject.
        """
        done = self._requests.add_multiple()
        found: list[Answer] = []

        def add(subject: str, reply: str, headers: bytes, data: bytes) -> None:
            found.append(Answer(headers, data, subject, reply))
            if (headers.startswith(_STATUS) or len(found) == limit) and not done.done():
                done.set_result(None)

        inbox = f"{self.inbox}.{self._requests.new_token()}.many"
        subscription = self.subscribe(inbox, add)
        try:
            self.publish(subject, data, inbox)
            async with within(timeout_s):
                await done
        except TimeoutError as error:
            raise BusLost("NATS did not answer in time") from error
        finally:
            self._requests.remove_multiple(done)
            self.unsubscribe(subscription)
        if found[-1].no_responders:
            raise NoResponders
        return found
