"""The protocols by which services know the other nodes of a cluster.

A service takes the small protocol that it needs through its constructor. :class:`Alone` implements all of them for a
server without a cluster, so that no service asks whether there is one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, Protocol

from bester.core.effects import AskRemote, Deposit, Recall, Share, TellHandler, TellNode, TellPart
from bester.core.exchange import Exchange
from bester.core.metrics import TypeMetrics
from bester.errors import BesterError

PresenceWatcher = Callable[[str, bool], None]
"""Takes an account's name, and whether its first session came or its last one went."""
Answer = Callable[[str, dict[str, Any]], Awaitable[Any]]
"""Takes a question's name and arguments, and returns this node's answer; raises a BesterError where it refuses it."""


class RemoteEffects(Protocol):
    """Carries out effects that may concern other nodes."""

    def deposit(self, effect: Deposit) -> bool:
        """Brings a message to sessions on other nodes; returns False if it goes to its account's mailbox at once."""

    def recall(self, effect: Recall) -> bool:
        """Asks the other nodes for a ``once`` message; returns False if only this node can know it."""

    def ask_handler(self, effect: AskRemote) -> None:
        """Asks a handler of another node."""

    def tell_handler(self, effect: TellHandler) -> None:
        """Tells another node more about what its handler was asked."""

    def tell_part(self, effect: TellPart) -> None:
        """Tells another node a part of an answer."""

    def share(self, effect: Share) -> None:
        """Brings a copy to an account's sessions on other nodes."""

    def tell(self, effect: TellNode) -> None:
        """Tells another node what became of what it asked for."""


class RemoteSessions(Protocol):
    """Accounts that may have sessions on other nodes."""

    async def meet(self, username: str) -> None:
        """Lets the other nodes know that a session of the account is about to be made here."""

    def arriving(self, username: str) -> AbstractContextManager[None]:
        """Lets other nodes tell this one of the account's mail, while a session is being made."""

    def counted_here(self) -> int:
        """Returns how many accounts have sessions here and are not counted by another node."""


class ServerPresence(Protocol):
    """Who is connected to the whole server."""

    async def usernames(self) -> list[str]:
        """Returns the accounts with sessions, sorted."""

    async def is_online(self, username: str) -> bool:
        """Whether an account has a session.

        Raises:
            BusDown: it has none here, and the other nodes cannot be asked.
        """

    async def watch(self, watcher: PresenceWatcher) -> list[str]:
        """Tells a watcher of each change until :meth:`unwatch`; returns who is connected now, sorted."""

    def unwatch(self, watcher: PresenceWatcher) -> None:
        """Ends :meth:`watch`."""


class Gathered:
    """What the nodes answered to a question."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        """The answers, by node."""
        self.errors: dict[str, BesterError] = {}
        """The errors of the nodes that refused the question."""
        self.missing: list[str] = []
        """The nodes that did not answer in time, sorted."""

    def value(self) -> list[tuple[str, Any]]:
        """Returns the answers by their nodes, sorted.

        Raises:
            BesterError: all that answered refused; then as one of them says.
        """
        if self.errors and not self.answers:
            raise self.errors[min(self.errors)]
        return sorted(self.answers.items())


class NodeFigures(NamedTuple):
    """The numbers of a node that only a cluster has."""

    nodes: int
    """Nodes that this one knows, itself included."""
    asked: int
    """Requests that went to handlers of other nodes."""
    brought: int
    """Messages that were brought to sessions on other nodes."""
    bus_losses: int


class Nodes(Protocol):
    """The nodes of this server, for operators."""

    name: str
    """This node's name; "" for a server without a cluster."""

    @property
    def bus_up(self) -> bool:
        """Whether the other nodes, and what all of them keep, can be reached."""

    @property
    def bus_why(self) -> str:
        """Why they can't be reached; "" if that is not known."""

    @property
    def others(self) -> Mapping[str, str]:
        """The other nodes' names, each with its release."""

    @property
    def figures(self) -> NodeFigures | None:
        """The numbers for metrics; None without a cluster."""

    def answer_with(self, answer: Answer) -> None:
        """Sets what answers questions for this node."""

    async def ask(
        self,
        question: str,
        args: dict[str, Any] | None = None,
        nodes: Iterable[str] | None = None,
        timeout_s: float | None = None,
    ) -> Gathered:
        """Asks nodes, this one among them, and returns what they say.

        Args:
            question: its name.
            args: its arguments.
            nodes: which ones; None: all.
            timeout_s: how long they may say nothing; None: as long as usual.
        """

    async def recent(self, question: str) -> Gathered:
        """As :meth:`ask`, for questions that come often: all nodes are asked at most twice a second."""

    async def holders(self) -> dict[str, str]:
        """Returns which node sends to which other server, by the server."""

    def served_elsewhere(self, metrics: TypeMetrics) -> TypeMetrics | None:
        """Returns what handlers of other nodes did of a type's requests; None if they had none."""


class Cluster(RemoteEffects, RemoteSessions, ServerPresence, Nodes, Protocol):
    """What a node needs of the others; federation has a port of its own (``federation/ports.py``)."""


class Alone:
    """A server without a cluster.

    Args:
        exchange: which has all sessions of the server.
        presence_watchers: is told of each change of presence.
    """

    name = ""
    bus_up = True
    bus_why = ""
    others: Mapping[str, str] = {}
    figures: NodeFigures | None = None

    def __init__(self, exchange: Exchange, presence_watchers: list[PresenceWatcher]) -> None:
        self._exchange = exchange
        self._presence_watchers = presence_watchers
        self._answer: Answer | None = None

    # -- effects -------------------------------------------------------------------------------------------------

    def deposit(self, effect: Deposit) -> bool:
        return False

    def recall(self, effect: Recall) -> bool:
        return False

    def ask_handler(self, effect: AskRemote) -> None:
        raise LookupError("there is no other node")

    def tell_handler(self, effect: TellHandler) -> None:
        raise LookupError("there is no other node")

    def tell_part(self, effect: TellPart) -> None:
        raise LookupError("there is no other node")

    def share(self, effect: Share) -> None:
        """No other node has sessions."""

    def tell(self, effect: TellNode) -> None:
        raise LookupError("there is no other node")

    # -- sessions ------------------------------------------------------------------------------------------------

    async def meet(self, username: str) -> None:
        """There is no other node."""

    @contextmanager
    def arriving(self, username: str) -> Iterator[None]:
        yield

    def counted_here(self) -> int:
        return len(self._exchange.presence.usernames())

    # -- presence ------------------------------------------------------------------------------------------------

    async def usernames(self) -> list[str]:
        return self._exchange.presence.usernames()

    async def is_online(self, username: str) -> bool:
        return self._exchange.presence.find(username) is not None

    async def watch(self, watcher: PresenceWatcher) -> list[str]:
        self._presence_watchers.append(watcher)
        return self._exchange.presence.usernames()

    def unwatch(self, watcher: PresenceWatcher) -> None:
        self._presence_watchers.remove(watcher)

    # -- questions -----------------------------------------------------------------------------------------------

    def answer_with(self, answer: Answer) -> None:
        self._answer = answer

    async def ask(
        self,
        question: str,
        args: dict[str, Any] | None = None,
        nodes: Iterable[str] | None = None,
        timeout_s: float | None = None,
    ) -> Gathered:
        gathered = Gathered()
        if self._answer is not None:
            try:
                gathered.answers[self.name] = await self._answer(question, args or {})
            except BesterError as error:
                gathered.errors[self.name] = error
        return gathered

    async def recent(self, question: str) -> Gathered:
        return await self.ask(question)

    async def holders(self) -> dict[str, str]:
        return {}

    def served_elsewhere(self, metrics: TypeMetrics) -> TypeMetrics | None:
        return None
