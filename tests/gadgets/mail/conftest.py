"""What the tests of the gadget with real processes need."""

from __future__ import annotations

from tests.system.conftest import commands, folder, forking

__all__ = ["commands", "folder", "forking"]
