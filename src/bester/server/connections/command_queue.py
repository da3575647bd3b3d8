"""The commands of one connection, carried out one after the other, in the order in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from bester.errors import Overloaded

C = TypeVar("C")
Command = TypeVar("Command", contravariant=True)


class CommandOwner(Protocol[Command]):
    """The connection that commands come on."""

    @property
    def ended(self) -> bool:
        """Whether nothing more is carried out."""

    def carry_out(self, command: Command) -> Coroutine[Any, Any, bytes]:
        """Carries out a command, and returns the frame that answers it."""

    def answer(self, frame: bytes) -> None:
        """Writes the answer to a command."""

    def commands_done(self) -> None:
        """Goes on, because no command waits any more."""


class CommandQueue(Generic[C]):
    """The commands that wait on one connection, with one task, as long as there are any.

    Args:
        owner: the connection.
        spawn: runs the task.
        most: how many commands may wait; None: the owner sees to it.
    """

    __slots__ = ("_most", "_owner", "_running", "_spawn", "_waiting")

    def __init__(
        self,
        owner: CommandOwner[C],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        most: int | None = None,
    ) -> None:
        self._owner = owner
        self._spawn = spawn
        self._most = most
        self._waiting: deque[C] = deque()
        self._running = False
        """Whether there is a task; one that answers takes what comes meanwhile, too."""

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, command: C) -> None:
        """Carries out a command after those before it.

        Raises:
            Overloaded: too many wait.
        """
        if self._most is not None and len(self._waiting) >= self._most:
            raise Overloaded(f"more than {self._most} commands are waiting")
        self._waiting.append(command)
        if not self._running:
            self._running = True
            self._spawn(self._carry_out_all())

    def clear(self) -> int:
        """Drops what waits, because the connection is gone; returns how many commands there were."""
        count = len(self._waiting)
        self._waiting.clear()
        return count

    async def _carry_out_all(self) -> None:
        owner = self._owner
        while self._waiting and not owner.ended:
            frame = await owner.carry_out(self._waiting[0])
            if self._waiting:  # else the connection was closed meanwhile
                self._waiting.popleft()
            if not owner.ended:
                owner.answer(frame)
        self._running = False
        if not owner.ended:
            owner.commands_done()
