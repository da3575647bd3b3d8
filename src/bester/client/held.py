"""What guards hold until a client's account consents to it (docs/protocol.md, section 3.8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any


class HeldForConsent:
    """What is held for the account; :attr:`bester.Client.held`.

    Args:
        builtin: runs a built-in command (:meth:`bester.Client.builtin`), and raises as it does.
    """

    def __init__(self, builtin: Callable[..., Awaitable[Any]]) -> None:
        self._builtin = builtin

    async def list(self, after: int = 0, limit: int = 100) -> dict[str, Any]:
        """Returns what is held, oldest first, and whom the account trusts: ``held`` and ``trusted``."""
        return dict(await self._builtin("listHeld", after=after, limit=limit))

    async def release(
        self,
        ids: Sequence[int] | None = None,
        *,
        user: str | None = None,
        server: str | None = None,
        always: bool = False,
    ) -> int:
        """Consents to messages by their ids, or to all of a sender; returns to how many.

        Args:
            ids: those of messages that :meth:`list` returned.
            user, server: the sender, in place of ids: an account of the server, or another server.
            always: also consents to what the sender will send.
        """
        return await self._decide("release", ids, user, server, always=always)

    async def refuse(
        self, ids: Sequence[int] | None = None, *, user: str | None = None, server: str | None = None
    ) -> int:
        """Removes messages by their ids, or all of a sender, which is no longer trusted; returns how many."""
        return await self._decide("refuse", ids, user, server)

    async def _decide(
        self, command: str, ids: Sequence[int] | None, user: str | None, server: str | None, **more: Any
    ) -> int:
        chosen = list(ids) if ids is not None else None
        return int((await self._builtin(command, ids=chosen, user=user, server=server, **more))["messages"])
