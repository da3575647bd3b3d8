"""Real processes: a server, the gadget, and what speaks HTTP."""

from __future__ import annotations

from tests.system.conftest import commands, folder, forking

__all__ = ["commands", "folder", "forking"]
