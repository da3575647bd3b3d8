"""A server: builds its services, and opens, reloads, drains and closes them."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bester.bus.connection import Bus
from bester.config import Config, ConfigError, HandlerConfig, ListenerConfig, changes_needing_restart, load, switched
from bester.core.metrics import Drop
from bester.errors import BadConfiguration, ShuttingDown
from bester.net.identity import Expiry, Identities
from bester.server.accounts.service import AccountService
from bester.server.admin.answers import answer
from bester.server.admin.recordings import Recordings
from bester.server.admin.services import AdminServices
from bester.server.admin.watch import Watch
from bester.server.cluster.node import ClusterNode, node_name
from bester.server.connections.connection import OpenConnections
from bester.server.connections.limits import ConnectionLimits
from bester.server.connections.services import Services
from bester.server.connections.stdio_handler import StdioConnection
from bester.server.effects import Effects
from bester.server.federation.federation import Federation
from bester.server.federation.ports import OnlyNode, PeerLeases
from bester.server.handlers.classic import ClassicCalls
from bester.server.handlers.descriptions import Descriptions
from bester.server.handlers.processes import Supervisor
from bester.server.held import HeldMessages
from bester.server.mailboxes import Mailboxes
from bester.server.ports import Alone, Cluster
from bester.server.runtime import Runtime
from bester.server.sockets import Sockets
from bester.server.stores import bus_options, make_leases, make_receipts, make_stores
from bester.server.telemetry.logs import set_up_log
from bester.server.telemetry.movements import Movements
from bester.server.telemetry.notify import Notifier
from bester.server.telemetry.rates import Rates
from bester.server.telemetry.receipts import Receipts
from bester.server.telemetry.storage import Storage
from bester.server.telemetry.tracing import Tracing
from bester.server.timekeeping import Timekeeping
from bester.server.web import MakeWeb, Web, WebServices

log = logging.getLogger("bester.server")

ACK_GRACE_S = 2.0
"""How long a server that stops waits for acknowledgements, before it puts the messages into the mailboxes."""
KEEP_S = 2.0
"""How long a server that stops waits for undelivered messages to be on disk."""


class Server:
    """One server, for one configuration.

    :meth:`start`, then :meth:`wait` until someone asks for its end, then :meth:`stop`.

    Args:
        config: the configuration.
        web: makes what serves a configured listener ``web``; called only if there is one.
        notifier: tells the service manager of the server's state; closed with the server.
        read: reads the configuration again, for a reload.
        shared: whether its TCP ports are those of other nodes on this machine, too.
    """

    def __init__(
        self,
        config: Config,
        web: MakeWeb | None = None,
        notifier: Notifier | None = None,
        read: Callable[[Path], Config] = load,
        shared: bool = False,
    ) -> None:
        self.config = config
        self._notifier = notifier or Notifier()
        self.runtime = runtime = Runtime(config)
        self._bus: Bus | None = None
        name = ""
        if config.cluster is not None:
            name = node_name(config.cluster)
            self._bus = Bus(bus_options(config.cluster), f"{config.server.name} {name}")
        account_store, self.messages = make_stores(config, runtime.store_lost, self._bus)
        self.mailboxes = Mailboxes(runtime, self.messages, account_store)
        self.held = HeldMessages(runtime, self.messages, account_store, shared=self._bus is not None)
        self.accounts = AccountService(runtime, account_store, self.mailboxes)
        self.timekeeping = Timekeeping(runtime, self.messages)
        self.supervisor = Supervisor(runtime, self._speak_to)
        self.descriptions = Descriptions(runtime)
        self.classic = ClassicCalls(runtime, self.supervisor)
        self.receipts = Receipts(runtime, make_receipts(config, runtime.steady.now, self._bus, name))
        self.node: ClusterNode | None = None
        self.cluster: Cluster = Alone(runtime.exchange, runtime.presence_watchers)
        relays: PeerLeases = OnlyNode()
        if self._bus is not None:
            leases = make_leases(config, self._bus)
            self.node = ClusterNode(runtime, self._bus, name, self.messages, leases, self.mailboxes, self.accounts)
            self.cluster, relays = self.node, self.node.relays
            self.accounts.on_changed(self.node.end_sessions)
            self.mailboxes.on_stored(self.node.stored)
        self.federation = Federation(runtime, self.messages, relays)
        self.rates = Rates(runtime, self.mailboxes, self.federation, self.cluster)
        self.storage = Storage(runtime, account_store, self.messages)
        self.tracing = Tracing(runtime)
        self.movements = Movements(self.receipts)
        self.connections = OpenConnections(runtime)
        self.limits = ConnectionLimits(runtime)
        self.admin = AdminServices(
            runtime=runtime,
            cluster=self.cluster,
            messages=self.messages,
            accounts=self.accounts,
            mailboxes=self.mailboxes,
            held=self.held,
            federation=self.federation,
            supervisor=self.supervisor,
            descriptions=self.descriptions,
            classic=self.classic,
            connections=self.connections,
            limits=self.limits,
            receipts=self.receipts,
            rates=self.rates,
            storage=self.storage,
            tracing=self.tracing,
            recordings=Recordings(runtime),
            listener_expiries=self._listener_expiries,
            reload=self.reload,
        )
        self.cluster.answer_with(partial(answer, self.admin))
        self.watch = Watch(self.admin)
        self.watch.changed.append(self._notifier.status)
        self.services = Services(
            runtime=runtime,
            connections=self.connections,
            limits=self.limits,
            accounts=self.accounts,
            mailboxes=self.mailboxes,
            federation=self.federation,
            cluster=self.cluster,
            descriptions=self.descriptions,
            admin=self.admin,
        )
        self._read = read
        self._shared = shared
        self._make_web = web
        self.sockets = Sockets(self.services, shared)
        self._reloading = asyncio.Lock()
        self._started = asyncio.Event()
        self._register()

    def _speak_to(self, handler: HandlerConfig, gone: Callable[[], None]) -> StdioConnection:
        return StdioConnection(self.services, handler, gone)

    def _register(self) -> None:
        """Registers what services do at the end of a turn, in a sweep, and at a reload."""
        runtime = self.runtime
        runtime.on_problems(self.watch.look_soon)
        self.effects = Effects(runtime, self.classic, self.federation, self.mailboxes, self.held, self.cluster)
        runtime.at_turn_end(self.effects.flush)
        for sweep in (
            self.classic.sweep,
            self.limits.sweep,
            self.mailboxes.sweep,
            self.held.sweep,
            self.receipts.sweep,
            self.tracing.sweep,
            self.timekeeping.sweep,
            self.connections.sweep,
        ):
            runtime.on_sweep(sweep)
        if self.node is not None:
            runtime.at_turn_end(self.node.flush)
            runtime.on_sweep(self.node.sweep)
        for reconfigure in (
            self.supervisor.reconfigure,
            self.descriptions.reconfigure,
            self.federation.reconfigure,
            self.held.reconfigure,
            self.connections.reconfigure,
        ):
            runtime.on_reload(reconfigure)
        self.supervisor.reconfigure()

    # -- start ---------------------------------------------------------------------------------------------------

    async def start(self, say: Callable[[str], None] = lambda line: None) -> None:
        """Opens everything; ``say`` is told of each address, and when the server is ready.

        Raises:
            BadConfiguration: something cannot be opened; what was opened is closed again.
        """
        try:
            await self._open(say)
        except BaseException:
            await self._close()
            raise

    async def start_unless_stopped(self, say: Callable[[str], None]) -> bool:
        """As :meth:`start`, but gives up as soon as someone asks for the server's end; returns whether it runs.

        Raises:
            BadConfiguration: something cannot be opened; what was opened is closed again.
        """
        starting = asyncio.create_task(self.start(say))
        stopping = asyncio.create_task(self.runtime.stop_asked.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting})
        if starting.cancelled():
            return False
        starting.result()
        return True

    async def _open(self, say: Callable[[str], None]) -> None:
        runtime = self.runtime
        config = self.config
        self.federation.trust.use(await asyncio.to_thread(Identities, config))  # other nodes may let this one send soon
        if self._bus is not None and self.node is not None:
            await self._bus.open()
            await self.node.open()
        await self.messages.open()
        await self.timekeeping.open()
        await self.accounts.open()
        await self.held.open()
        if self.node is not None:
            await self.node.leases.open()
        self.receipts.open()
        if config.tracing is not None:
            self.tracing.open(config.tracing)
        await self.federation.open()  # before anything can come that would overtake what is on disk
        self.sockets.open_local(config, say)
        runtime.start_sweeping()
        await self.supervisor.apply(config.served_types())
        await self.sockets.open_listeners(config, self._serve_web, say)
        self.rates.start()
        runtime.spawn(self.watch.run())
        # What exists now stays: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        runtime.started_up = True
        self._started.set()
        say(f"{config.server.name} is ready")
        self._notifier.ready(f"{config.server.name} is ready")

    def _serve_web(self, configured: ListenerConfig) -> Web:
        if self._make_web is None:
            raise BadConfiguration("network.web: this program cannot serve it; besterd can")
        services = WebServices(
            runtime=self.runtime,
            admin=self.admin,
            connections=self.services,
            movements=self.movements,
            watch=self.watch,
            silent_listeners=self.sockets.silent,
        )
        return self._make_web(services, configured)

    def _listener_expiries(self) -> list[Expiry]:
        return self.sockets.expiries()

    async def wait(self) -> None:
        """Returns when the server's end has been asked for."""
        await self.runtime.stop_asked.wait()

    # -- reload --------------------------------------------------------------------------------------------------

    async def reload(self) -> dict[str, object]:
        """Reads the configuration file again, and switches to it without losing a connection.

        Returns:
            ``restartNeeded``: the keys that differ and take effect only at the next start; ``warnings``.

        Raises:
            BadConfiguration: the file is wrong; nothing has changed.
        """
        async with self._reloading:
            with self._notifier.reloading():
                return await self._reload()

    async def _reload(self) -> dict[str, object]:
        if self.config.path is None:
            raise BadConfiguration("the server was started without a configuration file")
        new = await asyncio.to_thread(self._read, self.config.path)
        waiting = changes_needing_restart(self.config, new)
        config = switched(self.config, new)
        identities = await asyncio.to_thread(Identities, config)
        renewed = await asyncio.to_thread(self.sockets.contexts, config, identities)
        self.config = config
        set_up_log(new.log.level, new.log.format, self._log_node())
        self.runtime.reconfigure(config)
        self.federation.judge(identities)
        self.connections.judge()
        for listener, context in renewed:
            listener.renew(context)
        await self.supervisor.apply(self.config.served_types())
        self.watch.look_soon()
        for line in new.warnings:
            log.warning("configuration: %s", line)
        if waiting:
            log.warning("configuration: these take effect at the next start: %s", ", ".join(waiting))
        log.info("the configuration has been reloaded")
        return {"restartNeeded": waiting, "warnings": list(new.warnings)}

    def _log_node(self) -> str:
        """Returns this node's name for a log that it shares with other nodes."""
        cluster = self.config.cluster
        return (cluster.node or "") if self._shared and cluster is not None else ""

    def reload_soon(self) -> None:
        """Starts :meth:`try_reload` in a task."""
        self.runtime.spawn(self.try_reload())

    async def try_reload(self) -> None:
        """Reloads when the server has started, and logs what is wrong with the configuration."""
        await self._started.wait()
        try:
            await self.reload()
        except ConfigError as error:
            log.error("the configuration was not reloaded; nothing has changed")
            for line in str(error).splitlines():
                log.error("configuration: %s", line.strip())
        except BadConfiguration as error:
            log.error("the configuration was not reloaded; nothing has changed: %s", error.inside)

    # -- stop ----------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Drains and closes: takes no new connections or messages, and lets others finish for a limited time."""
        runtime = self.runtime
        runtime.stopping = True
        self.sockets.close_listeners()
        runtime.exchange.admission.draining = True
        if self.node is not None:
            self.node.leave()
        log.info("stopping: %d messages are under way", runtime.exchange.reports.under_way)
        timeout_s = self.config.limits.drain_timeout if not runtime.failed else 0.0
        self._notifier.stopping(timeout_s)
        grace_s = min(ACK_GRACE_S, timeout_s)
        await runtime.quiet(grace_s)
        runtime.turn().deliveries.give_up_waiting()
        self.federation.stop()
        runtime.end_turn()
        await runtime.quiet(timeout_s - grace_s)
        if runtime.exchange.reports.under_way:
            log.warning("stopping: %d messages did not finish in time", runtime.exchange.reports.under_way)
        await self._close()
        runtime.exchange.batch.counters.drops.count(Drop.MESSAGE_UNFINISHED, runtime.exchange.reports.under_way)

    async def _close(self) -> None:
        runtime = self.runtime
        await self.federation.close()
        runtime.end_turn()
        for connection in list(self.connections.all):
            connection.fail(ShuttingDown())
        await self.connections.all_closed(timeout_s=0.5)
        if self.sockets.web is not None:
            await self.sockets.web.close()
        self.rates.stop()
        runtime.stop_sweeping()
        self.sockets.close()
        await self.supervisor.stop()
        if not runtime.failed:
            await self.mailboxes.finish(timeout_s=KEEP_S)
        for connection in list(self.connections.all):
            connection.transport.abort()
        self.classic.close()
        await runtime.end_tasks()
        await self.connections.all_closed(timeout_s=1.0)
        await self.accounts.close()
        await self.timekeeping.close()
        await self.messages.close()
        if self.node is not None:
            await self.node.leases.close()
        await self.receipts.close()
        await self.tracing.close()
        if self._bus is not None:
            if self.node is not None:
                self.node.left()
            await self._bus.close()
        self._notifier.close()
