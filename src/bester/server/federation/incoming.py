"""The links that other servers have opened, as federation sees them."""

from __future__ import annotations

from typing import Protocol

from bester.core.endpoint import Endpoint
from bester.errors import BesterError


class IncomingLink(Protocol):
    """Another server's link to this one."""

    @property
    def endpoint(self) -> Endpoint | None:
        """The other server in the exchange; None if the link has ended."""

    def goes_by(self, name: str) -> bool:
        """Whether this is the link of a server of that name, proven or not."""

    def fail(self, error: BesterError) -> None:
        """Ends the link, and says why."""
