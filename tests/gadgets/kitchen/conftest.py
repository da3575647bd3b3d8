"""Real processes: a broker, a server, and the gadget between them."""

from __future__ import annotations

from tests.system.conftest import commands, folder, forking

__all__ = ["commands", "folder", "forking"]
