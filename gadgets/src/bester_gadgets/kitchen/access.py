"""Decides who may see a device, and who may command it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from bester import ClientError, Informer
from bester.timeouts import within
from bester_gadgets.kitchen.asking import Principal
from bester_gadgets.kitchen.settings import ROLE, SERVER

KNOWN_FOR_S = 10.0
"""How long the roles of an account are remembered."""
MAX_KNOWN = 10_000
TIMEOUT_S = 5.0


class Unknown(Exception):
    """The server does not tell the roles of an account, now."""


class Access:
    """Compares who asks with the lists of the settings.

    Args:
        informer: tells the roles of accounts.
    """

    def __init__(self, informer: Informer, clock: Callable[[], float] = time.monotonic) -> None:
        self._informer = informer
        self._clock = clock
        self._roles: dict[str, tuple[float, frozenset[str]]] = {}

    async def may(self, who: Principal, allowed: Sequence[str]) -> bool:
        """Says whether somebody is among those that are allowed.

        Raises:
            Unknown: that depends on roles that are not known now.
        """
        if who.server:
            return SERVER + who.server in allowed
        # A username may look like a role or a server, so those words are never compared with it.
        if "accounts" in allowed or (who.user in allowed and not who.user.startswith((ROLE, SERVER))):
            return True
        wanted = {one.removeprefix(ROLE) for one in allowed if one.startswith(ROLE)}
        return bool(wanted) and not wanted.isdisjoint(await self._roles_of(who.user))

    async def _roles_of(self, user: str) -> frozenset[str]:
        known = self._roles.get(user)
        if known is not None and self._clock() - known[0] < KNOWN_FOR_S:
            return known[1]
        try:
            async with within(TIMEOUT_S):
                roles = frozenset(await self._informer.roles_of(user) or ())
        except (ClientError, TimeoutError) as error:
            raise Unknown("the server does not tell the roles of accounts now") from error
        self._roles.pop(user, None)
        if len(self._roles) >= MAX_KNOWN:
            del self._roles[next(iter(self._roles))]
        self._roles[user] = (self._clock(), roles)
        return roles
